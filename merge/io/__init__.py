"""Bytes on disk: safetensors files, hashes, whole-or-nothing writes, safe paths. Knows nothing of LoRAs."""
