"""Merging LoRAs: the core, on torch alone. `python -m merge` is its command line."""
