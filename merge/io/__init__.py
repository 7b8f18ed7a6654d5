"""Bytes on disk: safetensors files, hashes, atomic writes, safe paths. Knows nothing about LoRAs."""
