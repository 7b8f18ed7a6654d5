"""Wan 2.1 and 2.2. ComfyUI maps their own paths alone; diffusers and its trainers write attn1, attn2 and ffn.net.

The pairs are those of diffusers' converter of the checkpoint. VACE, camera control, S2V, HuMo and Animate are the same
model with more around it.
"""

from __future__ import annotations

from ..model import Architecture, Rule, renamed
from ..patterns import expand
from .encoders import t5

BLOCK = "blocks.{b}."
ATTENTIONS = "[self_attn|cross_attn].[q|k|v|o|norm_q|norm_k]"
IN_BLOCK = (ATTENTIONS, "cross_attn.[k_img|v_img|norm_k_img]", "ffn.[0|2]", "norm3")
WEIGHTS = (
    *(BLOCK + path for path in IN_BLOCK),
    "patch_embedding",
    "text_embedding.[0|2]",
    "time_embedding.[0|2]",
    "time_projection.1",
    "head.head",
    "img_emb.proj.[0|1|3|4]",
    "ref_conv",
)
MORE = (
    # VACE
    *("vace_blocks.{n}." + path for path in IN_BLOCK),
    "vace_blocks.{n}.[before_proj|after_proj]",
    "vace_patch_embedding",
    # camera control
    "control_adapter.conv",
    "control_adapter.residual_blocks.{n}.[conv1|conv2]",
    # S2V
    "trainable_cond_mask",
    "cond_encoder",
    "casual_audio_encoder.encoder.[conv1_local|conv1_global|conv2|conv3].conv",
    "casual_audio_encoder.encoder.final_linear",
    "audio_injector.injector.{n}.[q|k|v|o|norm_q|norm_k]",
    "audio_injector.injector_adain_layers.{n}.linear",
    "frame_packer.[proj|proj_2x|proj_4x]",
    # HuMo
    BLOCK + "audio_cross_attn_wrapper.audio_cross_attn.[q|k|v|o|norm_q|norm_k]",
    BLOCK + "audio_cross_attn_wrapper.norm1_audio",
    "audio_proj.[audio_proj_glob_1|audio_proj_glob_2|audio_proj_glob_3|audio_proj_glob_norm].layer",
    # Animate
    "pose_patch_embedding",
    "motion_encoder.enc.net_app.convs.{n}.[conv1|conv2|skip].{m}",
    "motion_encoder.enc.net_app.convs.{n}",
    "motion_encoder.enc.net_app.convs.{n}.{m}",
    "motion_encoder.enc.fc.{n}",
    "motion_encoder.dec.direction",
    "face_adapter.fuser_blocks.{n}.[linear1_kv|linear1_q|linear2|q_norm|k_norm]",
    "face_encoder.[conv1_local|conv2|conv3].conv",
    "face_encoder.out_proj",
)
IN_THEIR_BLOCK = (
    *(
        (f"{theirs}.to_{x}", f"{own}.{x}")
        for theirs, own in (("attn1", "self_attn"), ("attn2", "cross_attn"))
        for x in "qkv"
    ),
    ("attn1.to_out.0", "self_attn.o"),
    ("attn2.to_out.0", "cross_attn.o"),
    ("attn1.norm_q", "self_attn.norm_q"),
    ("attn1.norm_k", "self_attn.norm_k"),
    ("attn2.norm_q", "cross_attn.norm_q"),
    ("attn2.norm_k", "cross_attn.norm_k"),
    ("attn2.add_k_proj", "cross_attn.k_img"),
    ("attn2.add_v_proj", "cross_attn.v_img"),
    ("attn2.norm_added_k", "cross_attn.norm_k_img"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("norm2", "norm3"),  # diffusers numbers its norms in the order of use
)
RULES: list[Rule] = [
    *renamed(IN_THEIR_BLOCK, BLOCK, BLOCK),
    *renamed(IN_THEIR_BLOCK, "vace_blocks.{n}.", "vace_blocks.{n}."),
    *renamed(
        (("proj_in", "before_proj"), ("proj_out", "after_proj")),
        "vace_blocks.{n}.",
        "vace_blocks.{n}.",
    ),
    *renamed(
        (
            ("patch_embedding", "patch_embedding"),
            ("vace_patch_embedding", "vace_patch_embedding"),
            ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
            ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
            ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
            ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
            ("condition_embedder.time_proj", "time_projection.1"),
            ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
            ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
            ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
            ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
            ("proj_out", "head.head"),
        )
    ),
]


def wan(name: str, width: int, hidden: int, blocks: int, more: tuple[str, ...] = MORE) -> Architecture:
    attention = expand(BLOCK + "[self_attn|cross_attn].[q|k|v|o]", BLOCK + "cross_attn.[k_img|v_img]")
    return Architecture(
        name=name,
        kin="Wan",
        size=width,
        weights=(*WEIGHTS, *more),
        rules=tuple(RULES),
        encoders=(t5("te1", (), "text_encoder.", name="umt5xxl"),),
        blocks={"blocks": blocks},
        shapes={
            **dict.fromkeys(attention, (width, width)),
            BLOCK + "ffn.0": (hidden, width),
            BLOCK + "ffn.2": (width, hidden),
        },
    )


WAN_14B = wan("Wan 2.1/2.2 14B", 5120, 13824, 40)
WAN_1_3B = wan("Wan 2.1 1.3B", 1536, 8960, 30)
WAN_5B = wan("Wan 2.2 5B", 3072, 14336, 30)
