"""Changes the strengths of LoRAs before they are merged.

    average        w_t / sum of |w_t|, for the model and the text encoder apart
    equal energy   w_t * n / N_t, where N_t is the norm of the whole LoRA at strength 1 and n their geometric mean

Block weights are multiplied in afterwards: they are no part of the sum of strengths, but count in a LoRA's norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..adapters.base import Lora
from ..compute.context import Compute
from .lora_norm import lora_norm
from .options import AS_GIVEN, AVERAGE


def with_weights(loras: Sequence[Lora], rule: str, compute: Compute) -> list[Lora]:
    """The LoRAs with the strengths that a rule of options.WEIGHT_RULES gives them."""
    if rule == AS_GIVEN:
        return list(loras)
    if rule == AVERAGE:
        model = sum(abs(lora.strength_model) for lora in loras) or 1.0
        clip = sum(abs(lora.strength_clip) for lora in loras) or 1.0
        return [lora.with_strengths(1 / model, 1 / clip) for lora in loras]
    used = [lora for lora in loras if lora.strength_model or lora.strength_clip]
    norms = {id(lora): lora_norm(lora, compute) for lora in used}
    logs = [math.log(norm) for lora in used if (norm := norms[id(lora)]) > 0]
    mean = math.exp(sum(logs) / len(logs)) if logs else 1.0
    factors = [mean / norms[id(lora)] if norms.get(id(lora), 0.0) > 0 else 1.0 for lora in loras]
    return [lora.with_strengths(factor, factor) for lora, factor in zip(loras, factors, strict=True)]
