"""What fastdcm costs: suites for single stages, and whole programs beside each other."""
