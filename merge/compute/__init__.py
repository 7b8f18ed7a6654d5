"""How to compute: device, precision, progress, cancelling, running out of memory. Knows nothing about LoRAs."""
