"""CogVideoX 2B and 5B, with 5B's successors (1.5, image to video, Fun inpainting), which differ in their ends.

ComfyUI has it since 0.33, with paths of its own, and maps no others: it loads nothing from the existing LoRAs, which
all have diffusers' names. The pairs come from the code of the two models (comfy/ldm/cogvideo,
transformer_cogvideox_3d). Nothing is fused or swapped.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import t5

TABLE = """
blocks.{b}. = transformer_blocks.{b}.
    [q|k|v|attn_out] : w,w = attn1.[to_q|to_k|to_v|to_out.0]
    [norm_q|norm_k] = attn1.[norm_q|norm_k]
    ff_proj : 4w,w = ff.net.0.proj
    ff_out : w,4w = ff.net.2
    [norm1|norm2].linear : 6w,512 =
    [norm1|norm2].norm =
[time|ofs]_embedding_[linear_1|linear_2] = [time|ofs]_embedding.[linear_1|linear_2]
patch_embed.[proj|text_proj] =
patch_embed.pos_embedding!
norm_final =
norm_out.[linear|norm] =
proj_out =
"""


def cogvideox(name: str, width: int, blocks: int) -> Architecture:
    return Architecture(
        name=name,
        family="CogVideoX",
        table=TABLE,
        sizes={"w": width},
        encoders=(t5("te1", ("lora_te1_",), "text_encoder.", nameless=True),),
        blocks={"blocks": blocks},
    )


COGVIDEOX_2B = cogvideox("CogVideoX 2B", 1920, 30)
COGVIDEOX_5B = cogvideox("CogVideoX 5B", 3072, 42)
