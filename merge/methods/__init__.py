"""Merge methods: pure functions on tensors, and their registry. Knows nothing about LoRAs or files."""
