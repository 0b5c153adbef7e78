"""A store to arrays and geometry."""
