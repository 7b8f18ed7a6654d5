"""Merge methods: pure functions on tensors, and their registry. Knows nothing about LoRAs or files.

registry.py is the table of methods; each is a sparsifier (sparsify.py) and a consensus (consensus.py).
"""
