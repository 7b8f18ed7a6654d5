"""Kandinsky 5: the video models Lite and Pro and the image model, one table in three sizes.

ComfyUI's model has diffusers' paths, and ComfyUI maps them bare and under `transformer.` as well.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import clip_l, qwen25_7b

TABLE = """
[text_transformer_blocks|visual_transformer_blocks].{b}.
    self_attention.[to_query|to_key|to_value|out_layer] : w,w =
    self_attention.[query_norm|key_norm] =
    feed_forward.in_layer : 4w,w =
    feed_forward.out_layer : w,4w =
visual_transformer_blocks.{b}.cross_attention.
    [to_query|to_key|to_value|out_layer] : w,w =
    [query_norm|key_norm] =
text_transformer_blocks.{b}.text_modulation.out_layer : 6w,t =
visual_transformer_blocks.{b}.visual_modulation.out_layer : 9w,t =
time_embeddings.[in_layer|out_layer] =
[text_embeddings|pooled_text_embeddings].[in_layer|norm] =
visual_embeddings.in_layer =
out_layer.modulation.out_layer : 2w,t =
out_layer.out_layer =
"""


def kandinsky5(name: str, width: int, time: int, text_blocks: int, visual_blocks: int) -> Architecture:
    """``time``: the width of the time embedding, the input of the modulation."""
    return Architecture(
        name=name,
        family="Kandinsky 5",
        table=TABLE,
        sizes={"w": width, "t": time},
        encoders=(qwen25_7b(nameless=True), clip_l()),
        blocks={"visual_transformer_blocks": visual_blocks, "text_transformer_blocks": text_blocks},
        prefixes=(*GENERIC, "", "transformer."),
    )


KANDINSKY5_LITE = kandinsky5("Kandinsky 5 Lite", 1792, 512, 2, 32)
KANDINSKY5_PRO = kandinsky5("Kandinsky 5 Pro", 4096, 1024, 4, 60)
KANDINSKY5_IMAGE = kandinsky5("Kandinsky 5 Image", 2560, 512, 2, 50)
