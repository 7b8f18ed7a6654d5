"""The merge core: torch and numpy, never ComfyUI. `python -m merge` is its command line."""
