"""Which DICOM tag becomes which entry of a BIDS sidecar.

Names and units are those of the BIDS standard, else those that dcm2niix gave to the same tag. No names, ids, dates,
descriptions, institutions or serial numbers: what is not in this table is not written.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Field(NamedTuple):
    """One entry of the sidecar."""

    name: str
    tag: str
    kind: Literal["number", "numbers", "text", "texts"]
    scale: float = 1.0
    modalities: tuple[str, ...] = ()
    """Empty: all."""


MR, CT, PT = ("MR",), ("CT",), ("PT",)
MS = 1e-3
FIELDS = (
    Field("Modality", "00080060", "text"),
    Field("MagneticFieldStrength", "00180087", "number", 1, MR),
    Field("ImagingFrequency", "00180084", "number", 1, MR),
    Field("Manufacturer", "00080070", "text"),
    Field("ManufacturersModelName", "00081090", "text"),
    Field("BodyPart", "00180015", "text"),
    Field("PatientPosition", "00185100", "text"),
    Field("SoftwareVersions", "00181020", "text"),
    Field("MRAcquisitionType", "00180023", "text", 1, MR),
    Field("ScanningSequence", "00180020", "text", 1, MR),
    Field("SequenceVariant", "00180021", "text", 1, MR),
    Field("ScanOptions", "00180022", "text"),
    Field("SequenceName", "00180024", "text", 1, MR),
    Field("ImageType", "00080008", "texts"),
    Field("SeriesNumber", "00200011", "number"),
    Field("AcquisitionNumber", "00200012", "number"),
    Field("SliceThickness", "00180050", "number"),
    Field("SAR", "00181316", "number", 1, MR),
    Field("NumberOfAverages", "00180083", "number", 1, MR),
    Field("EchoNumber", "00180086", "number", 1, MR),
    Field("RepetitionTime", "00180080", "number", MS, MR),
    Field("InversionTime", "00180082", "number", MS, MR),
    Field("FlipAngle", "00181314", "number", 1, MR),
    Field("ReceiveCoilName", "00181250", "text", 1, MR),
    Field("PercentPhaseFOV", "00180094", "number", 1, MR),
    Field("PercentSampling", "00180093", "number", 1, MR),
    Field("EchoTrainLength", "00180091", "number", 1, MR),
    Field("PhaseEncodingSteps", "00180089", "number", 1, MR),
    Field("ParallelReductionFactorInPlane", "00189069", "number", 1, MR),
    Field("ParallelReductionFactorOutOfPlane", "00189155", "number", 1, MR),
    Field("ParallelAcquisitionTechnique", "00189078", "text", 1, MR),
    Field("PixelBandwidth", "00180095", "number", 1, MR),
    Field("InPlanePhaseEncodingDirectionDICOM", "00181312", "text", 1, MR),
    Field("KVP", "00180060", "number", 1, CT),
    Field("ConvolutionKernel", "00181210", "text"),
    Field("ExposureTime", "00181150", "number", MS, CT),
    Field("XRayTubeCurrent", "00181151", "number", 1, CT),
    Field("XRayExposure", "00181152", "number", 1, CT),
    Field("GantryDetectorTilt", "00181120", "number", 1, CT),
    Field("RadionuclidePositronFraction", "00181076", "number", 1, PT),
    Field("InjectedRadioactivity", "00181074", "number", 1e-6, PT),
    Field("RadionuclideHalfLife", "00181075", "number", 1, PT),
    Field("DoseCalibrationFactor", "00541322", "number", 1, PT),
    Field("Units", "00541001", "text", 1, PT),
    Field("DecayCorrection", "00541102", "text", 1, PT),
    Field("AttenuationCorrectionMethod", "00541101", "text", 1, PT),
    Field("RandomsCorrectionMethod", "00541100", "text", 1, PT),
    Field("ScatterCorrectionMethod", "00541105", "text", 1, PT),
    Field("ReconstructionMethod", "00541103", "text", 1, PT),
    Field("ImageOrientationPatientDICOM", "00200037", "numbers"),
)
