"""XY: PM LoRA Files."""

from __future__ import annotations

from collections.abc import Sequence

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..nodes import comfy_bridge
from ..nodes.files_read import FilesRead
from ..nodes.inputs import XY_CATEGORY, lora_input, require_lora, strength_input
from ..nodes.stack import ALL_FOLDERS, folders
from .axis_inputs import MAX_STEPS
from .capsule import XY, Axis, axis
from .cell import Cell
from .file_list import FILE_ORDERS, chosen_files
from .lora_axes import WHERE_TO
from .sweep import GivenLora, LoraFile, Sweep
from .values import distinct_labels


class PlotFiles:
    DESCRIPTION = (
        "An axis for an XY plot with another LoRA file in each cell: the epochs of a training run, say, or the LoRAs "
        "of a folder, each alone or on top of the LoRA that is connected to base."
    )
    CATEGORY = XY_CATEGORY
    SEARCH_ALIASES = ["xy plot", "lora epochs", "compare checkpoints", "compare loras", "training run", "power merge"]
    RETURN_TYPES = (XY,)
    RETURN_NAMES = ("X",)
    OUTPUT_TOOLTIPS = (f"The files. {WHERE_TO}",)
    FUNCTION = "plot"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "files": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "dynamicPrompts": False,
                        "placeholder": "all of the folder, or one file a line: my_lora-00000*",
                        "tooltip": "The files, one a line, with or without folder and ending. * stands for any text, "
                        "? for a single character. Empty: all files of the folder.",
                    },
                ),
                "folder": (
                    folders(comfy_bridge.lora_names()),
                    {
                        "default": ALL_FOLDERS,
                        "tooltip": "The folder, inside ComfyUI's loras folders. Subfolders are included; / means all.",
                    },
                ),
                "order": (
                    list(FILE_ORDERS),
                    {
                        "default": "name",
                        "tooltip": "The order of the folder's files, or of those that fit the same line. name: "
                        "step-500 comes before step-1000.",
                    },
                ),
                "limit": (
                    "INT",
                    {"default": 0, "min": 0, "max": 1000, "tooltip": "The maximum number of files. 0 takes all."},
                ),
                "strength_model": strength_input("Strength of every file in the model."),
                "strength_clip": strength_input("Strength of every file in the text encoder."),
            },
            "optional": {
                "base": lora_input("A LoRA that is in every cell: each file is merged with it by concat, exactly."),
            },
        }

    @classmethod
    def IS_CHANGED(
        cls,
        files: str | None = None,
        folder: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        **_: object,
    ) -> str:
        if files is None or folder is None or order is None or limit is None:  # it comes from a link
            return f"{_listings.changes()} changes"
        return str(_listing((files, folder, order, limit)))

    def plot(
        self,
        files: str = "",
        folder: str = ALL_FOLDERS,
        order: str = "name",
        limit: int = 0,
        strength_model: float = 1.0,
        strength_clip: float = 1.0,
        base: Lora | None = None,
    ) -> tuple[Axis]:
        _listings.note((files, folder, order, limit))
        names = chosen_files(files, folder, order, limit)
        if len(names) > MAX_STEPS:
            raise LoraError(f"{len(names)} files fit; at most {MAX_STEPS} go on an axis. Set a limit.")
        below = [] if base is None else [GivenLora(require_lora(base, "base"))]
        sources = [LoraFile(name, strength_model, strength_clip) for name in names]
        for source in sources:
            _require_lora_file(source)
        sweep = Sweep([*below, *sources], Cell("concat"), device="auto", dtype="float32", concat_of_one=False)
        first = len(below) + 1
        taken = [{"taken": (*range(1, first), number)} for number in range(first, first + len(sources))]
        sweep.check(taken)
        return (axis(sweep, zip(taken, distinct_labels(_names(sources)), strict=True)),)


def _listing(query: tuple[str, str, str, int]) -> object:
    """The chosen files with their states, or the message of an error, which the node itself then raises."""
    try:
        return [(name, comfy_bridge.file_state(name)) for name in chosen_files(*query)]
    except LoraError as error:
        return str(error)


_listings = FilesRead(_listing)


def _require_lora_file(source: LoraFile) -> None:
    """Raise LoraError if it is damaged or isn't a LoRA. It came with a folder or a pattern, so it may be unwanted."""
    try:
        source.lora()
    except LoraError as error:
        raise LoraError(
            f"{error} Or leave it out: list the other files, or a pattern that fits them, in files."
        ) from None


def _names(sources: Sequence[LoraFile]) -> list[str]:
    """The names of the files, with their endings where they differ in nothing else."""
    names = [source.name for source in sources]
    files = [source.file.replace("\\", "/") for source in sources]
    return [file if names.count(name) > 1 else name for name, file in zip(names, files, strict=True)]
