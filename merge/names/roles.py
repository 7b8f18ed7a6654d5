"""What a weight does in its block: `self q`, `cross out`, `ff in`, `conv`, ... read from its path, for any model.

Roles group the weights of all blocks into the rows of a table, so names that mean the same share a role. The words of
joint attention are kept apart by stream (`img q`, `txt q`). Paths are flat: those of ComfyUI's own model.
"""

from __future__ import annotations

import re
from functools import lru_cache

OTHER = "other"

_TXT = re.compile(r"txt|context_block|ff_context|add_[qkv]_proj|to_add_out|_y$")
_IMG = re.compile(r"img|x_block|vid_|_vid|_x$")
_CROSS = re.compile(r"attn2|cross_att|crossattention|attend", re.IGNORECASE)
_SELF = re.compile(r"attn1|self_att|selfattention", re.IGNORECASE)
_ATTENTION = re.compile(r"att|injector", re.IGNORECASE)

# The first that matches the path counts.
_PARTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("mod", re.compile(r"(^|_)(mod[CX]?|\w*modulation|adaLN|adaln|ada|scale_shift)(_|$)")),
    (
        "norm",
        re.compile(
            r"(^|_)([qk]?norm\d?|prenorm|postnorm|layernorm|layer_norm\d?|ln_?[qk]?\d?|gamma|beta)(_|$)|norm$",
            re.IGNORECASE,
        ),
    ),
    ("qkv", re.compile(r"(^|_)(to_|w)?qkv(_proj)?(_[xy]|_\d)?(_all|_txt|_vid)?$", re.IGNORECASE)),
    ("kv", re.compile(r"(^|_)(to_)?kv(_proj|_linear)?$")),
    ("q", re.compile(r"(^|_)((to_|linear_|w\d?)?q|(to_)?query)(_proj|_lin|_linear)?(_\d)?$|_q_img$")),
    ("k", re.compile(r"(^|_)((to_|linear_|w\d?)?k|(to_)?key)(_proj|_lin|_linear)?(_\d)?$|_k_img$")),
    ("v", re.compile(r"(^|_)((to_|linear_|w\d?)?v|(to_)?value)(_proj|_lin|_linear)?(_\d)?$|_v_img$")),
    ("linear1", re.compile(r"(^|_)linear1$")),
    ("linear2", re.compile(r"(^|_)linear2$")),
    ("time", re.compile(r"emb_layers|(^|_)(mapper|time|timestep|t_embedder|guidance|vector_in)", re.IGNORECASE)),
    (
        "ff out",
        re.compile(
            r"(ff|mlp|ffn|feed_forward|dense|experts?|channelwise)\w*_(2|4|fc2|w2|wo|down|down_proj|layer2|out|proj_out)(_all|_txt|_vid)?$"
            r"|(^|_)(fc2|ff_out)$|(output|point_conv)_(dense|conv)$",
            re.IGNORECASE,
        ),
    ),
    (
        "ff in",
        re.compile(
            r"(^|_)(ff|mlp|ffn|feed_forward|densereludense|experts?|channelwise|intermediate)(_|$)|(^|_)fc1$", re.I
        ),
    ),
    ("proj in", re.compile(r"(^|_)proj_in$")),
    ("conv", re.compile(r"in_layers|out_layers|skip_connection|conv|depthwise|(^|_)op$", re.IGNORECASE)),
)
_OUT = re.compile(
    r"(^|_)(to_|w\d?)?(out|o|proj|output|add_out|attn_out|proj_out|linear_out|out_layer)(_proj)?"
    r"(_\d|_dense|_[xyt]|_all|_txt|_vid)?$"
)
_PROJ_OUT = re.compile(r"(^|_)proj_out$")

_ATTENTION_PARTS = ("q", "k", "v", "qkv", "kv", "out")
_REST = ("linear1", "linear2", "proj in", "proj out", "conv", "time", "mod", "norm")
_ORDER = (*_ATTENTION_PARTS, "ff in", "ff out", *_REST)


@lru_cache(maxsize=50_000)
def role_of(path: str) -> str:
    """The role of the weight at a flat path."""
    part = next((part for part, pattern in _PARTS if pattern.search(path)), None)
    if part is None and _ATTENTION.search(path) and _OUT.search(path):
        part = "out"
    elif part is None:
        part = "proj out" if _PROJ_OUT.search(path) else OTHER
    if part == OTHER:
        return OTHER
    stream = "txt " if _TXT.search(path) else "img " if _IMG.search(path) else ""
    if part not in _ATTENTION_PARTS:
        return stream + part if part in ("ff in", "ff out", "mod") else part
    kind = "" if "x_block" in path else "cross " if _CROSS.search(path) else "self " if _SELF.search(path) else ""
    return f"{stream}{kind}{part}"


def role_order(role: str) -> tuple[int, int, int, int]:
    """Sorts roles as they are read: attention (self, then cross; image, then text), feed-forward, and the rest."""
    stream = 1 if role.startswith("img ") else 2 if role.startswith("txt ") else 0
    rest = role.removeprefix("img ").removeprefix("txt ")
    kind = 2 if rest.startswith("cross ") else 1 if rest.startswith("self ") else 0
    part = rest.removeprefix("cross ").removeprefix("self ")
    place = _ORDER.index(part) if part in _ORDER else len(_ORDER)
    group = 0 if part in _ATTENTION_PARTS else 1 if part in ("ff in", "ff out") else 2
    return (group, kind, stream, place) if group < 2 else (group, 0, place, stream)
