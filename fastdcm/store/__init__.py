"""Values to the files of a store."""
