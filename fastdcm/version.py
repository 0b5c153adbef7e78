"""The version of fastdcm: the one place, installed or not; pyproject.toml reads it from here. Imports nothing."""

__version__ = "0.1.0"
