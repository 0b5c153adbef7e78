"""The optional compiled element walk; everything else about the package is in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "fastdcm.scan._walk",
            ["fastdcm/scan/_walk.c"],
            extra_compile_args=["-O3", "-std=c11", "-D_DEFAULT_SOURCE", "-D_FILE_OFFSET_BITS=64"],
            py_limited_api=True,
            optional=True,  # without a compiler fastdcm.scan.walk_python does the same in Python, slower
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
