"""The optional compiled modules; everything else about the package is in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            name,
            [source],
            extra_compile_args=["-O3", "-std=c11", "-D_DEFAULT_SOURCE", "-D_FILE_OFFSET_BITS=64"],
            py_limited_api=True,
            optional=True,  # without a compiler the modules beside them do the same in Python, slower
        )
        for name, source in (
            ("fastdcm.scan._walk", "fastdcm/scan/_walk.c"),
            ("fastdcm.pixels._frames", "fastdcm/pixels/_frames.c"),
            ("fastdcm.pixels._rle", "fastdcm/pixels/_rle.c"),
            ("fastdcm.store._cut", "fastdcm/store/_cut.c"),
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
