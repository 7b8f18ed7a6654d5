"""SeedVR2 3B and 7B: video restoration. ComfyUI has them since 0.33; their own paths are the only ones in use.

3B's last blocks have one weight, `all`, for both video and text.
"""

from __future__ import annotations

from ..model import Architecture

TABLE = """
blocks.{b}.
    attn.proj_qkv.[vid|txt|all] : 3w,w
    attn.proj_out.[vid|txt|all] : w,w
    attn.[norm_q|norm_k].[vid|txt|all]
    attn.rope.rope.freqs!
    mlp.[vid|txt|all].[proj_in|proj_in_gate] : h,w
    mlp.[vid|txt|all].proj_out : w,h
    ada.[vid|txt|all].[attn|mlp]_[shift|scale|gate]!
vid_in.proj
txt_in
emb_in.[proj_in|proj_hid]
emb_in.proj_out : 6w,w
vid_out.proj
vid_out_norm
vid_out_ada.[out_shift|out_scale]!
[positive_conditioning|negative_conditioning]!
"""


def seedvr2(name: str, width: int, hidden: int, blocks: int) -> Architecture:
    return Architecture(
        name=name, family="SeedVR2", table=TABLE, sizes={"w": width, "h": hidden}, blocks={"blocks": blocks}
    )


SEEDVR2_3B = seedvr2("SeedVR2 3B", 2560, 6912, 32)
SEEDVR2_7B = seedvr2("SeedVR2 7B", 3072, 12288, 36)
