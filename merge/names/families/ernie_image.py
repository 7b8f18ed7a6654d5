"""ERNIE-Image: one list of layers that share one modulation. ComfyUI's model has diffusers' paths."""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import language_model

TABLE = """
layers.{b}.
    self_attention.[to_q|to_k|to_v|to_out.0] : w,w =
    self_attention.[norm_q|norm_k] =
    mlp.[gate_proj|up_proj] : 3w,w =
    mlp.linear_fc2 : w,3w =
    [adaLN_sa_ln|adaLN_mlp_ln] =
adaLN_modulation.1 : 6w,w =
x_embedder.proj =
text_proj =
time_embedding.[linear_1|linear_2] =
final_norm.linear : 2w,w =
final_linear =
"""

ERNIE_IMAGE = Architecture(
    name="ERNIE-Image",
    table=TABLE,
    sizes={"w": 4096},
    encoders=(language_model("ministral3_3b", width=3072, kohya=True),),
    blocks={"layers": 36},
    prefixes=(*GENERIC, "transformer."),
)
