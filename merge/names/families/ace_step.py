"""ACE-Step and ACE-Step 1.5 (and XL): music.

ACE-Step's paths are the same everywhere, and ComfyUI maps them bare as well. The paths of 1.5 begin with `decoder.`,
but its trainers and diffusers have only the decoder, without that word. ComfyUI maps the trainers' names
(`base_model.model.layers.0...`, `lycoris_layers_0...`), not those of diffusers. The pairs come from diffusers'
converter (scripts/convert_ace_step_to_diffusers.py).
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import UMT5_BASE, language_model

TABLE = """
transformer_blocks.{b}.
    attn.[to_q|to_k|to_v|to_out.0] : w,w =
    cross_attn.[to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out] : w,w =
    ff.inverted_conv.conv : 5w,w =
    ff.depth_conv.conv =
    ff.point_conv.conv : w,6400 =
    scale_shift_table!
timestep_embedder.[linear_1|linear_2] =
t_block.1 =
[speaker_embedder|genre_embedder|lyric_embs|lyric_proj] =
lyric_encoder.embed.out.[0|1] =
lyric_encoder.after_norm =
lyric_encoder.encoders.{n}.
    self_attn.[linear_q|linear_k|linear_v|linear_out|linear_pos] : 1024,1024 =
    self_attn.[pos_bias_u|pos_bias_v]!
    feed_forward.[w_1|w_2] =
    [norm_ff|norm_mha] =
projectors.{n}.[0|2|4] =
proj_in.early_conv_layers.[0|1|2] =
final_layer.linear =
final_layer.scale_shift_table!
"""
ACE_STEP = Architecture(
    name="ACE-Step",
    table=TABLE,
    sizes={"w": 2560},
    encoders=(UMT5_BASE,),
    blocks={"transformer_blocks": 24},
    prefixes=(*GENERIC, ""),
)

# q: rows of the queries, h: width of the MLP
DECODER = """
mapped under:
decoder.layers.{b}.[self_attn|cross_attn]. = layers.{b}.[self_attn|cross_attn].
    q_proj : q,w = to_q
    [k_proj|v_proj] : 1024,w = [to_k|to_v]
    o_proj : w,q = to_out.0
    [q_norm|k_norm] = [norm_q|norm_k]
decoder.[proj_in.1|proj_out.1] = [proj_in_conv|proj_out_conv]
mapped under: base_model.model. lycoris_
decoder.layers.{b}. = layers.{b}.
    [self_attn|cross_attn].[q_proj|k_proj|v_proj|o_proj|q_norm|k_norm] <
    mlp.[gate_proj|up_proj] : h,w =
    mlp.down_proj : w,h =
    [self_attn_norm|cross_attn_norm|mlp_norm] =
    scale_shift_table!
decoder.[time_embed|time_embed_r]. = [time_embed|time_embed_r].
    [linear_1|linear_2|time_proj] =
decoder.[condition_embedder|norm_out] = [condition_embedder|norm_out]
decoder.[proj_in.1|proj_out.1] < [proj_in.1|proj_out.1]
decoder.scale_shift_table!
"""
# The encoders of text and sound have the same width in XL.
LAYER = """
    self_attn.[q_proj|o_proj] : 2048,2048
    self_attn.[k_proj|v_proj] : 1024,2048
    self_attn.[q_norm|k_norm]
    mlp.[gate_proj|up_proj] : 6144,2048
    mlp.down_proj : 2048,6144
    [input_layernorm|post_attention_layernorm]
"""
AROUND = f"""
encoder.[lyric_encoder|timbre_encoder].layers.{{n}}.{LAYER}
tokenizer.attention_pooler.layers.{{n}}.{LAYER}
detokenizer.layers.{{n}}.{LAYER}
encoder.text_projector
encoder.[lyric_encoder|timbre_encoder].[embed_tokens|norm]
encoder.timbre_encoder.special_token!
tokenizer.audio_acoustic_proj
tokenizer.attention_pooler.[embed_tokens|norm]
tokenizer.attention_pooler.special_token!
tokenizer.quantizer.[project_in|project_out]
detokenizer.[embed_tokens|norm|proj_out]
detokenizer.special_tokens!
null_condition_emb!
"""


def ace_step15(name: str, width: int, queries: int, hidden: int, blocks: int) -> Architecture:
    return Architecture(
        name=name,
        family="ACE-Step 1.5",
        table=DECODER + AROUND,
        sizes={"w": width, "q": queries, "h": hidden},
        encoders=(
            language_model("qwen3_06b", width=1024),
            # the model that plans the song, 2B or 4B: the names that both are mapped under don't say which
            language_model(
                "qwen3_2b",
                diffusers_prefix="",
                component="te",
                width=(2048, 2560),
                nameless=True,
                other_names=("qwen3_4b",),
            ),
        ),
        blocks={"decoder.layers": blocks},
    )


ACE_STEP_15 = ace_step15("ACE-Step 1.5", 2048, 2048, 6144, 24)
ACE_STEP_15_XL = ace_step15("ACE-Step 1.5 XL", 2560, 4096, 9728, 32)
