"""HiDream I1: double and single blocks with experts. ComfyUI, diffusers and trainers have the original's paths.

HiDream O1: a Qwen3-VL that works on pixels. The official paths begin with `model.`, and musubi-tuner and
DiffSynth-Studio write them so; ComfyUI leaves it out. diffusers doesn't have the model.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import CLIP_G, LLAMA, clip_l, t5

I1_TABLE = """
double_stream_blocks.{b}.block.
    attn1.[to_q|to_k|to_v|to_out|to_q_t|to_k_t|to_v_t|to_out_t] : w,w =
    attn1.[q_rms_norm|k_rms_norm|q_rms_norm_t|k_rms_norm_t] =
    adaLN_modulation.1 : 12w,w =
    ff_t.[w1|w3] : h,w =
    ff_t.w2 : w,h =
single_stream_blocks.{b}.block.
    attn1.[to_q|to_k|to_v|to_out] : w,w =
    attn1.[q_rms_norm|k_rms_norm] =
    adaLN_modulation.1 : 6w,w =
[double_stream_blocks|single_stream_blocks].{b}.block.ff_i.
    shared_experts.[w1|w3] : s,w =
    shared_experts.w2 : w,s =
    experts.{n}.[w1|w3] : h,w =
    experts.{n}.w2 : w,h =
    gate =
caption_projection.{n}.linear =
x_embedder.proj =
t_embedder.timestep_embedder.[linear_1|linear_2] =
p_embedder.pooled_embedder.[linear_1|linear_2] =
final_layer.[linear|adaLN_modulation.1] =
"""

O1_LINES = """
language_model.layers.{{b}}. = {alias}language_model.layers.{{b}}.
    self_attn.[q_proj|o_proj] : w,w {is}
    self_attn.[k_proj|v_proj] : k,w {is}
    self_attn.[q_norm|k_norm] {is}
    mlp.[gate_proj|up_proj] : 3w,w {is}
    mlp.down_proj : w,3w {is}
    [input_layernorm|post_attention_layernorm] {is}
visual.blocks.{{b}}. = {alias}visual.blocks.{{b}}.
    attn.qkv : 3v,v {is}
    attn.proj : v,v {is}
    mlp.linear_fc1 : f,v {is}
    mlp.linear_fc2 : v,f {is}
    [norm1|norm2] {is}
language_model.[embed_tokens|norm] {is} {alias}language_model.[embed_tokens|norm]
visual.[patch_embed.proj|pos_embed] {is} {alias}visual.[patch_embed.proj|pos_embed]
visual.merger.[norm|linear_fc1|linear_fc2] {is} {alias}visual.merger.[norm|linear_fc1|linear_fc2]
x_embedder.[proj1|proj2] {is} {alias}x_embedder.[proj1|proj2]
t_embedder1.mlp.[0|2] {is} {alias}t_embedder1.mlp.[0|2]
final_layer2.linear {is} {alias}final_layer2.linear
"""

HIDREAM_I1 = Architecture(
    name="HiDream I1",
    table=I1_TABLE,
    sizes={"w": 2560, "h": 6912, "s": 3584},
    encoders=(
        clip_l(),
        CLIP_G,
        t5("te3", ("lora_te3_",), "text_encoder_3."),
        LLAMA,
    ),
    blocks={"double_stream_blocks": 16, "single_stream_blocks": 32},
    prefixes=(*GENERIC, "transformer.", "lycoris_"),
)
HIDREAM_O1 = Architecture(
    name="HiDream O1",
    table=O1_LINES.format_map({"is": "=", "alias": ""}) + O1_LINES.format_map({"is": "<", "alias": "model."}),
    sizes={"w": 4096, "k": 1024, "v": 1152, "f": 4304},
    blocks={"language_model.layers": 36, "visual.blocks": 27},
)
