"""Pictures drawn with Pillow: data in, picture out. Imports nothing else of the pack."""
