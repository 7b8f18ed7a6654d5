"""The names in PEFT's style against diffusers' own checkpoint converters, if diffusers is installed.

The converter gets ComfyUI's weights with numbered rows. The numbers in each converted tensor then show which rows of
which weight it consists of.
"""

from __future__ import annotations

from fractions import Fraction
from types import ModuleType

import pytest
import torch
from lora_pack.merge.names import ARCHITECTURES, RowRange, Target, resolve, style_name, style_names
from lora_pack.tests.comfy import empty_models
from torch import Tensor

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
CONVERTERS = {
    "SD 3 Medium": "convert_sd3_transformer_checkpoint_to_diffusers",
    "SD 3.5 Medium": "convert_sd3_transformer_checkpoint_to_diffusers",
    "SD 3.5 Large": "convert_sd3_transformer_checkpoint_to_diffusers",
    "Flux": "convert_flux_transformer_checkpoint_to_diffusers",
    "Chroma": "convert_chroma_transformer_checkpoint_to_diffusers",
    "Flux 2": "convert_flux2_transformer_checkpoint_to_diffusers",
    "HunyuanVideo": "convert_hunyuan_video_transformer_to_diffusers",
    "Wan image": "convert_wan_transformer_to_diffusers",
    "Wan VACE": "convert_wan_transformer_to_diffusers",
    "Z-Image": "convert_z_image_transformer_checkpoint_to_diffusers",
    "Lumina 2": "convert_lumina2_to_diffusers",
    "LTX-Video": "convert_ltx_transformer_checkpoint_to_diffusers",
    "LTX 2": "convert_ltx2_transformer_to_diffusers",
}
# diffusers converts HunyuanVideo from its original names; ComfyUI changed these
ORIGINAL = (
    ("img_attn.norm.query_norm.", "img_attn_q_norm."),
    ("img_attn.norm.key_norm.", "img_attn_k_norm."),
    ("txt_attn.norm.query_norm.", "txt_attn_q_norm."),
    ("txt_attn.norm.key_norm.", "txt_attn_k_norm."),
    ("norm.query_norm.", "q_norm."),
    ("norm.key_norm.", "k_norm."),
    ("_mod.lin.", "_mod.linear."),
    (".modulation.lin.", ".modulation.linear."),
    ("_attn.qkv.", "_attn_qkv."),
    ("_attn.proj.", "_attn_proj."),
    ("mlp.0.", "mlp.fc1."),
    ("mlp.2.", "mlp.fc2."),
    ("c_embedder.in_layer", "c_embedder.linear_1"),
    ("c_embedder.out_layer", "c_embedder.linear_2"),
    *((f"{where}.in_layer", f"{where}.mlp.0") for where in ("time_in", "guidance_in", "t_embedder")),
    *((f"{where}.out_layer", f"{where}.mlp.2") for where in ("time_in", "guidance_in", "t_embedder")),
)
SPAN = 100_000  # more than any weight has rows


def numbered(number: int, shape: tuple[int, ...], narrow: bool) -> Tensor:
    """A weight whose values number its rows; ``narrow`` saves memory, since only the rows matter."""
    rows = torch.arange(shape[0], dtype=torch.float64) + number * SPAN
    return rows if len(shape) < 2 else rows[:, None].expand(-1, 2 if narrow else shape[1])


def target_of(value: Tensor, weights: list[tuple[str, int]]) -> Target:
    """The weight and rows that a converted tensor consists of."""
    column = value if value.ndim == 1 else value[:, 0]
    number = int(column[0]) // SPAN
    weight, rows = weights[number]
    first, last = int(column[0]) - number * SPAN, int(column[-1]) - number * SPAN
    if len(column) == rows and first == rows // 2:
        return Target(weight, swapped=True)
    return Target(weight, RowRange(Fraction(first, rows), Fraction(last + 1, rows)))


@pytest.mark.parametrize("name", CONVERTERS)
def test_peft_names_are_those_of_diffusers_converter(comfy: ModuleType, name: str):
    pytest.importorskip("diffusers")
    from diffusers.loaders import single_file_utils

    model = empty_models.model(comfy, name)
    if model is None:
        pytest.skip(f"This ComfyUI has no {name}.")
    architecture = BY_NAME[empty_models.MODELS[name][0]]
    state: dict[str, Tensor] = {}
    weights: list[tuple[str, int]] = []
    for key, value in model.state_dict().items():
        path = key.removeprefix("diffusion_model.")
        stem = path.rsplit(".", 1)[0]
        narrow = not stem.endswith(("context_embedder", "x_embedder", "cap_embedder"))
        written = path if not path.endswith(".scale") or name != "HunyuanVideo" else f"{stem}.weight"
        for own, original in ORIGINAL if name == "HunyuanVideo" else ():
            written = written.replace(own, original)
        renamed = stem.endswith(("query_norm", "key_norm")) or "layer.norms." in stem
        if name.startswith(("Flux", "Chroma")) and renamed:
            written = f"{stem}.scale"  # as the checkpoint has it
        state[written] = numbered(len(weights), tuple(value.shape), narrow) if value.ndim else torch.zeros(1)
        weights.append(("model:" + stem.replace(".", "_"), value.shape[0] if value.ndim else 1))
    converted = getattr(single_file_utils, CONVERTERS[name])(state, config={})
    found = {
        key.removesuffix(".weight"): target_of(v, weights) for key, v in converted.items() if key.endswith(".weight")
    }
    assert len(found) > 300
    assert {path: resolve("transformer." + path, architecture) for path in found} == found
    assert {path: style_name(target, architecture, "peft") for path, target in found.items()} == {
        path: "transformer." + path for path in found
    }
    for weight in {target.weight for target in found.values()}:
        names = style_names(weight, architecture, "peft")
        assert names and all(name.removeprefix("transformer.") in found for name, _ in names)
