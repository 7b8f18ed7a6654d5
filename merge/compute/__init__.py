"""Where numbers are computed and how precisely: devices, TF32, progress, full memory. Knows nothing of LoRAs."""
