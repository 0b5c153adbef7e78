"""Files to header fields to a columnar instance index."""
