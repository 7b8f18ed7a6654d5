"""Where and how precisely to compute: devices, TF32, progress, running out of memory. Knows nothing of LoRAs."""
