"""Bytes of frames to values."""
