"""How a file was made: the recipe, and the metadata that other programs read."""
