"""Draws the real merges of README and help pages: pictures of the evidence benchmark's base with its shipped LoRAs.

    python -m tools.draw_merges            # all
    python -m tools.draw_merges Resizer    # those whose names contain this

The concept is a question mark, the styles are the fonts Luckiest Guy and Pacifico. The base has seen neither, and no
LoRA has seen the one in the other: see benchmarks/evidence/base/README.md. Every merge, truncation and patched model is
made by the pack's own command line, and ComfyUI draws the same pictures from the same seed.
"""
