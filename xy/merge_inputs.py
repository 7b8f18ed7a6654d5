"""The inputs of XY nodes that merge any number of LoRAs by any mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.methods.registry import DELTA_MODES, using_density, using_seed
from ..nodes.inputs import density_input, growing_loras, mode_input, rank_input
from ..nodes.stack import stack_input, stacked_loras
from .axis_inputs import compute_inputs
from .sweep_parameters import ALL_MODES


def merge_inputs(seed: str = "seed") -> dict[str, tuple]:
    """The required inputs of a merge; ``seed`` is the name of the node's input for the merge's seed."""
    modes, about = mode_input(ALL_MODES, "concat")
    in_svd = list(DELTA_MODES)
    uses = {"density": using_density(modes), seed: using_seed(modes), "svd_rank": in_svd, "svd_conv_rank": in_svd}
    rank = (
        "Rank of the results of _svd modes in linear layers and 1x1 convolutions. 0 uses the largest rank among the "
        "inputs."
    )
    conv_rank = "The same for larger convolutions. 0 uses the largest rank among the inputs."
    return {
        "mode": (modes, about | {"uses": uses}),
        "density": density_input(),
        "svd_rank": rank_input(32, 0, rank),
        "svd_conv_rank": rank_input(0, 0, conv_rank),
        **compute_inputs(),
    }


def lora_stack_input() -> tuple[str, dict]:
    return stack_input("A LoRA stack, from this pack or another. Its LoRAs are merged after lora1, lora2, ...")


def connected_loras(loras: Mapping[str, Any], lora_stack: object) -> list[Lora]:
    """The LoRAs of the growing inputs, then those of the stack. Raises LoraError if there are none."""
    connected = growing_loras(loras) + stacked_loras(lora_stack)
    if not connected:
        raise LoraError(
            "No LoRA is connected. Connect PM Load LoRA to lora1 (an input for the next LoRA then appears), or a "
            "LoRA stack to lora_stack."
        )
    return connected
