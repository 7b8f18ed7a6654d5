"""PM Find Strengths."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..merge.merging.options import AS_GIVEN, OF_THE_MODE
from ..merge.methods.density import require_density
from ..merge.methods.registry import method_of
from ..nodes.inputs import (
    LORA,
    XY_CATEGORY,
    GrowingInputs,
    growing_lora_input,
    seed_input,
)
from ..nodes.merge_options import merge_options, options_input, rule_inputs
from ..nodes.stack import stack_state
from . import comfy_sampling
from .axis_inputs import strength_input
from .cell import Cell
from .embeddings import embedder
from .grid import first_latent
from .grid_inputs import grid_inputs, noise_seed_input, references_input
from .grid_run import Inputs
from .live_grid import PageNode
from .merge_inputs import connected_loras, lora_stack_input, merge_inputs
from .references import check_given, left_out, require_strength
from .sampling import Sampling
from .search import Search
from .search_view import SearchView
from .strength_search import StrengthSearch
from .sweep import GivenLora, Sweep
from .upstream import settings_before
from .values import distinct_labels

DEFAULT_BUDGET = 40

# How many searches were stopped. A stopped one isn't finished, so the same prompt must run it again.
_stopped = 0


class FindStrengths:
    DESCRIPTION = (
        "Finds the strengths at which a merge shows all of its LoRAs best: samples pictures at ever better strengths, "
        "scored by an image encoder, until the budget is spent. Stop it at any time: it gives the best so far."
    )
    CATEGORY = XY_CATEGORY
    SEARCH_ALIASES = ["auto tune loras", "optimize lora strengths", "best lora weights", "power merge"]
    RETURN_TYPES = (LORA, "IMAGE", "STRING")
    RETURN_NAMES = ("lora", "best picture", "report")
    OUTPUT_TOOLTIPS = (
        "The merged LoRA with the best strengths, at strength 1.",
        "The picture with the best strengths, with the first seed.",
        "A line for each of the strengths that were tried, with its score. Connect it to Preview as Text.",
    )
    OUTPUT_NODE = True
    FUNCTION = "find"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        shared = grid_inputs()
        required, optional = dict(shared["required"]), shared["optional"]
        required["seed"] = noise_seed_input(
            "The first noise seed. Strengths that do well are seen with the two seeds after it too."
        )
        return {
            "required": {
                **required,
                "clip_vision": (
                    "CLIP_VISION",
                    {"tooltip": "The image encoder that scores the pictures: CLIP vision, SigLIP or DINO."},
                ),
                "budget": (
                    "INT",
                    {
                        "default": DEFAULT_BUDGET,
                        "min": 4,
                        "max": 10_000,
                        "tooltip": "The number of pictures to sample, including those without LoRAs and of each LoRA "
                        "alone that the others are compared with.",
                    },
                ),
                "min_strength": strength_input(0.0, "The lowest strength to try."),
                "max_strength": strength_input(
                    1.0,
                    "The highest strength to try. Each LoRA alone at this strength is what to come close to; at "
                    "min_strength if no strength is above 0.",
                ),
                **merge_inputs(seed="merge_seed"),
            },
            "optional": GrowingInputs(
                {
                    **{name: optional[name] for name in ("clip", "positive_cond", "negative_cond")},
                    "lora_stack": lora_stack_input(),
                    "options": options_input(),
                    "references": references_input("the node"),
                    # the last socket: the front end appends lora2, lora3, ... after it
                    "lora1": growing_lora_input(
                        "A LoRA of the merge. Its own strengths multiply those that are found. Connecting it adds an "
                        "input for the next one."
                    ),
                    "merge_seed": seed_input(),
                    **rule_inputs(),
                }
            ),
            "hidden": shared["hidden"],
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> str:
        return f"{stack_state(inputs)} {_stopped}"

    def find(
        self,
        model: Any,
        vae: Any,
        latent_image: dict[str, Any],
        positive: str,
        negative: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        clip_vision: Any,
        budget: int,
        min_strength: float,
        max_strength: float,
        mode: str,
        density: float,
        svd_rank: int,
        svd_conv_rank: int,
        device: str,
        dtype: str,
        clip: Any = None,
        positive_cond: Any = None,
        negative_cond: Any = None,
        lora_stack: object = None,
        options: object = None,
        references: Tensor | None = None,
        merge_seed: int = 0,
        strength_rule: str = OF_THE_MODE,
        weights: str = AS_GIVEN,
        prompt: Any = None,
        extra_pnginfo: Any = None,
        node: str | None = None,
        **loras: object,
    ) -> dict[str, Any]:
        global _stopped
        require_density([method_of(mode)], density)
        connected = connected_loras(loras, lora_stack)
        chosen = merge_options(strength_rule, weights, options)
        ranks = {"svd_rank": svd_rank, "svd_conv_rank": svd_conv_rank}
        defaults = Cell.of(mode, chosen, density=density, seed=merge_seed, **ranks)
        sweep = Sweep([GivenLora(lora) for lora in connected], defaults, device=device, dtype=dtype)
        sweep.check()
        names = dict(enumerate(distinct_labels([lora.name for lora in connected]), 1))
        searched = {number: name for number, name in names.items() if sweep.takes_part(number)}
        require_strength(searched)
        if references is not None:
            named = list(searched.values())
            check_given(len(references), named, "this search", "Or disconnect it, and the node samples them.")
        search = Search(len(searched), min_strength, max_strength, budget, given=references is not None)
        sampling = Sampling(seed, steps, cfg, sampler_name, scheduler, denoise, positive, negative)
        conditioning = {"positive": positive_cond, "negative": negative_cond}
        inputs = Inputs(model, clip, vae, first_latent(latent_image), conditioning, settings_before(node))
        view = SearchView(PageNode.of(node, extra_pnginfo), budget, sampling)
        running = StrengthSearch(
            *(inputs, sweep, searched, sampling, embedder(clip_vision), search, view.begins, view.finished, references)
        )
        running.remarks += [left_out(name) for number, name in names.items() if number not in searched]
        try:
            running.run()
        except BaseException:
            view.stopped()
            raise
        _stopped += running.stopped
        best, report = running.best(), running.report()
        merged = sweep.lora(running.settings(best), model, clip)
        ui = comfy_sampling.show(view.picture(running.places[best]), prompt, extra_pnginfo)
        ui |= {"xy_grid": [view.state(running.stopped)], "text": [report]}
        return {"ui": ui, "result": (merged, running.pictures[best], report)}
