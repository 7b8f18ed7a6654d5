"""Block weights (lbw): their notation, the layouts of blocks, applying them. Knows nothing of files or merging."""
