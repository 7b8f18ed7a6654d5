"""Model files (checkpoints and diffusion models): adding LoRAs to one, and the difference of two as a LoRA.

Files are read and written tensor by tensor, so a model takes no more memory than its largest tensor.
"""
