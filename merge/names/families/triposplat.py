"""TripoSplat: Gaussian splats from images. ComfyUI has it since 0.33 and maps its own paths only."""

from __future__ import annotations

from ..model import Architecture

BLOCK = """
    attn.qkv : 3w,w
    attn.out : w,w
    attn.[q_norm|k_norm].gamma!
    mlp.mlp.0 : 4w,w
    mlp.mlp.2 : w,4w
    shift_table!
"""
LAYER = """
    norm
    [gate_map|content_map] : 128,w
    final_map
    [freqs_0|freqs_1|freqs_2]!
"""
TABLE = f"""
blocks.{{b}}.{BLOCK}
[noise_refiner|context_refiner].{{n}}.{BLOCK}
    [norm1|norm2]
repo_layers.{{n}}.{LAYER}
[noise_repo_layers|context_repo_layers].{{n}}.{LAYER}
[t_embedder|cam_refiner].mlp.[0|2]
adaLN_modulation.1 : 6w,w
[input_layer|out_layer|cam_out_layer|cond_embedder|cond_embedder2]
shift_table!
"""
TRIPOSPLAT = Architecture(name="TripoSplat", table=TABLE, sizes={"w": 1024}, blocks={"blocks": 24})
