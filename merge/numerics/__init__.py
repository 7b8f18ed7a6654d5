"""Linear algebra: truncated SVDs, Gram matrices, finite checks, buffers. Knows nothing about files or names.

Which SVD: sum_svd.py for sums of low-rank factors, dense_svd.py for dense deltas; both begin with a table of routes.
"""
