"""PM Reference Pictures."""

from __future__ import annotations

from typing import Any

from ..merge.errors import LoraError
from ..nodes.inputs import XY_CATEGORY, GrowingInputs, growing_lora_input
from ..nodes.stack import stack_input, stack_state
from ..nodes.trigger_words import words_of
from . import comfy_sampling
from .axis_inputs import strength_input
from .cell import Cell
from .grid import draw_grid, first_latent
from .grid_axis import GridAxis
from .grid_inputs import grid_inputs, noise_seed_input
from .grid_run import Inputs
from .live_grid import PageNode
from .merge_inputs import connected_loras
from .reference_prompts import labels_of, prompts_of, reference_plan, report
from .references import PlottedLora, left_out, require_strength
from .sampling import Sampling
from .sweep import GivenLora, Sweep
from .upstream import settings_before
from .values import distinct_labels

NAME = "PM Reference Pictures"
DEFAULT_PICTURES = 4


class ReferencePictures:
    DESCRIPTION = (
        "Samples the pictures that scores are measured against: some without LoRAs, then as many of each LoRA alone, "
        "with the prompt that it was trained for. Connect them to references of PM XY Grid or PM Find Strengths."
    )
    CATEGORY = XY_CATEGORY
    SEARCH_ALIASES = ["lora references", "reference images", "lora samples", "power merge"]
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("references", "report")
    OUTPUT_TOOLTIPS = (
        "All pictures as one batch: without LoRAs, then of each LoRA alone. Connect it to references of PM XY Grid or "
        "PM Find Strengths.",
        "A line for each kind of picture with its prompt. Connect it to Preview as Text.",
    )
    OUTPUT_NODE = True
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        shared = grid_inputs()
        required = shared["required"]
        sampling = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
        return {
            "required": {
                **{name: required[name] for name in ("model", "vae", "latent_image")},
                "prompts": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "dynamicPrompts": True,
                        "placeholder": "a line for each LoRA: the prompt it was trained for",
                        "tooltip": "A line for each LoRA, in their order: the prompt that it was trained for, with its "
                        "trigger words. A LoRA without a line takes the trigger words of its file.",
                    },
                ),
                "negative": required["negative"],
                "pictures": (
                    "INT",
                    {
                        "default": DEFAULT_PICTURES,
                        "min": 1,
                        "max": 64,
                        "tooltip": "The number of pictures of each kind: without LoRAs, and of each LoRA alone. "
                        "Several show what a LoRA adds to any picture rather than to one.",
                    },
                ),
                "seed": noise_seed_input(
                    "The seed of the first picture of each kind; each further picture takes the next one."
                ),
                **{name: required[name] for name in sampling},
                "strength": strength_input(
                    1.0,
                    "The strength of each LoRA alone; multiplies its own. Scores near 1 show every LoRA as strongly "
                    "as it does here.",
                ),
            },
            "optional": GrowingInputs(
                {
                    "clip": (
                        "CLIP",
                        {"tooltip": "The text encoder, which encodes the prompts with each LoRA applied."},
                    ),
                    "lora_stack": stack_input(
                        "A LoRA stack, from this pack or another. Its LoRAs come after lora1, lora2, ..."
                    ),
                    # the last socket: the front end appends lora2, lora3, ... after it
                    "lora1": growing_lora_input(
                        "A LoRA of the plot or the search, in the same order as there. Connecting it adds an input "
                        "for the next one."
                    ),
                }
            ),
            "hidden": shared["hidden"],
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> int:
        return stack_state(inputs)

    def sample(
        self,
        model: Any,
        vae: Any,
        latent_image: dict[str, Any],
        prompts: str,
        negative: str,
        pictures: int,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        strength: float,
        clip: Any = None,
        lora_stack: object = None,
        prompt: Any = None,
        extra_pnginfo: Any = None,
        node: str | None = None,
        **loras: object,
    ) -> dict[str, Any]:
        connected = connected_loras(loras, lora_stack)
        if clip is None:
            raise LoraError("No text encoder is connected, so the prompts can't be encoded. Connect clip.")
        if strength == 0:
            raise LoraError(
                "strength is 0: every LoRA alone would look like none. Set it to the LoRAs' usual strength."
            )
        names = distinct_labels([lora.name for lora in connected])
        # applied as a plot with the default device and dtype applies them, so that it finds the kept pictures
        sweep = Sweep([GivenLora(lora) for lora in connected], Cell("concat"), device="auto", dtype="float32")
        off = [position for position in range(len(connected)) if not sweep.takes_part(position + 1)]
        of_loras = prompts_of(prompts, names, lambda position: words_of(connected[position]), off)
        require_strength(of_loras)
        base = Sampling(seed, steps, cfg, sampler_name, scheduler, denoise, "", negative)
        plan = reference_plan(base, of_loras, pictures)
        numbers = [position + 1 for position in range(len(connected)) if position not in off]
        alone = [PlottedLora(sweep, number, strength).alone() for number in numbers]
        axes = GridAxis([None] * pictures), GridAxis([None, *alone])
        texts = {"positive": None, "negative": None}
        inputs = Inputs(model, clip, vae, first_latent(latent_image), texts, settings_before(node))
        shown = PageNode.of(node, extra_pnginfo)
        labels = labels_of(plan, [one.name for one in of_loras])
        sheet, references, state, _ = draw_grid(inputs, *axes, labels, plan, shown, told=NAME)
        text = report(of_loras, pictures, [left_out(names[position]) for position in off])
        ui = comfy_sampling.show(sheet, prompt, extra_pnginfo)
        return {"ui": ui | {"xy_grid": [state], "text": [text]}, "result": (references, text)}
