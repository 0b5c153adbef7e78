"""The pipeline and everything that runs it."""
