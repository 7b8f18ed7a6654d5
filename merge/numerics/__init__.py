"""Linear algebra: SVDs of factors and dense deltas, finite checks, buffers. Knows nothing about files or names."""
