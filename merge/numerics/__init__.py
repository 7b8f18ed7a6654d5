"""Linear algebra: SVDs of factors and of dense deltas, finite checks, buffers. Knows nothing of files or names."""
