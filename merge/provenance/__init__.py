"""How a file was made: recipes and metadata. Knows nothing about tensors."""
