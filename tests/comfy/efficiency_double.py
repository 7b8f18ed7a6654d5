"""A double of KSampler (Efficient): the calls it makes for an XY plot, without loading a model.

Written from a description of its behaviour. Axes are the values of XY sockets: None, or (type, values).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

CAPSULE = "XY_Capsule"
NOTHING = ("Nothing", [""])
# With these types prompts are encoded in every cell; with others, only in the first cell of a column.
ENCODED_EACH_TIME = ("Positive Prompt S/R", "Negative Prompt S/R", "Clip Skip", CAPSULE)

Encode = Callable[[Any], Any]
# samples a cell from the model, the encoded prompts, and the values of axes that aren't capsules
Sample = Callable[[Any, Any, dict[str, Any]], Any]


@dataclass
class Plot:
    column_labels: list[str] = field(default_factory=list)
    row_labels: list[str] = field(default_factory=list)
    cells: dict[tuple[int, int], Any] = field(default_factory=dict)  # by (column, row)


def plot(x: Any, y: Any, model: Any, clip: Any, vae: Any, encode: Encode, sample: Sample, flip: bool = False) -> Plot:
    """One run of the sampler with XY Plot's script; ``flip`` is XY Plot's XY_flip."""
    if flip:
        x, y = y, x
    x, y = x or NOTHING, y or NOTHING
    turned = x[0] == "Nothing" and y[0] != "Nothing"
    if turned:
        x, y = y, x
    (x_type, x_values), (y_type, y_values) = x, y
    x_values, y_values = x_values.copy(), y_values.copy()
    x_labels: list[str] = []
    y_labels: list[str] = []
    results: dict[tuple[int, int], Any] = {}
    prompts = None
    current_model, current_clip = model, clip
    for column, x_value in enumerate(x_values):
        _label(x_type, x_value, x_labels, len(x_values))
        if y_type == "Nothing":
            if x_type == CAPSULE:
                current_model, current_clip = _clones(model, clip)
                current_model, current_clip, vae = x_value.pre_define_model(current_model, current_clip, vae)
            prompts = encode(current_clip)
            capsule = x_value if x_type == CAPSULE else None
            results[column, 0] = _result(capsule, current_model, current_clip, vae, prompts, sample, {x_type: x_value})
            continue
        for row, y_value in enumerate(y_values):
            if CAPSULE in (x_type, y_type):
                current_model, current_clip = _clones(model, clip)
            if x_type == y_type == CAPSULE:
                y_value.set_x_capsule(x_value)
            _label(y_type, y_value, y_labels, len(y_values))
            if y_type == CAPSULE:
                current_model, current_clip, vae = y_value.pre_define_model(current_model, current_clip, vae)
            elif x_type == CAPSULE:
                current_model, current_clip, vae = x_value.pre_define_model(current_model, current_clip, vae)
            if row == 0 or y_type in ENCODED_EACH_TIME:
                prompts = encode(current_clip)
            capsule = y_value if y_type == CAPSULE else None
            values = {x_type: x_value, y_type: y_value}
            results[column, row] = _result(capsule, current_model, current_clip, vae, prompts, sample, values)
    if turned:
        return Plot(y_labels, x_labels, {(row, column): result for (column, row), result in results.items()})
    return Plot(x_labels, y_labels, results)


def _clones(model: Any, clip: Any) -> tuple[Any, Any]:
    return model.clone(), None if clip is None else clip.clone()


def _label(kind: str, value: Any, labels: list[str], count: int) -> None:
    text = value.getLabel() if kind == CAPSULE else f"{kind}: {value}"
    assert isinstance(text, str) and "\n" not in text, "drawing the plot fails with such a label"
    if kind != "Nothing" and len(labels) < count:
        labels.append(text)


def _result(capsule: Any, model: Any, clip: Any, vae: Any, prompts: Any, sample: Sample, values: dict[str, Any]) -> Any:
    if capsule is not None:
        given = capsule.get_result(model, clip, vae)
        if given is not None:
            return given[0]
    others = {kind: value for kind, value in values.items() if kind not in (CAPSULE, "Nothing")}
    image = sample(model, prompts, others)
    if capsule is not None:
        capsule.set_result(image, {"samples": image})
    return image
