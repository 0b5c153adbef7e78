"""Hospital DICOM exports to chunked Zarr stores."""
