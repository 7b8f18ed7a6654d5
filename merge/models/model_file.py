"""A model's file: where its tensors are, and which weights of the model they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import LoraError
from ..io import safetensors_file
from ..io.atomic_write import refusals_named
from ..io.paths import folder_name
from ..io.safetensors_file import StoredTensor
from ..names import (
    Architecture,
    StoredPart,
    Target,
    architecture_of_file,
    encoder_prefix,
    parts_of_file,
    resolve,
    structured,
)

ENDINGS = (".safetensors", ".sft")
_LORA_ENDINGS = (".lora_down.weight", ".lora_A.weight", ".lora_down.default.weight", ".hada_w1_a", ".lokr_w1")


@dataclass(frozen=True)
class Part:
    """A module's parameter in a stored tensor: which rows of the tensor hold it, and which weight it is."""

    stored: StoredPart
    target: Target

    @property
    def weight(self) -> tuple[str, str]:
        """The canonical name of the weight, and "weight" or "bias"."""
        return self.target.weight, self.stored.parameter


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The header of a model's file. ``parts`` has the keys of the diffusion model and the text encoders."""

    path: Path
    tensors: Mapping[str, StoredTensor]  # in the order of their data
    metadata: Mapping[str, str]
    architecture: Architecture | None
    parts: Mapping[str, tuple[Part, ...]]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def read_model(path: Path) -> ModelFile:
    """Read the header of a checkpoint, a diffusion model or a text encoder; no tensor is read before it is used.

    Raises LoraError if the file is missing, damaged, not safetensors, or a LoRA.
    """
    with refusals_named(f"{path.name} can't be read from {folder_name(path.parent)}", "Check the file and its folder."):
        if not path.is_file():
            raise LoraError(f"There is no file {path.name} in {folder_name(path.parent)}. Choose another.")
        if path.suffix.lower() not in ENDINGS:
            kind = "quantised by llama.cpp" if path.suffix.lower() == ".gguf" else "not safetensors"
            raise LoraError(f"{path.name} is {kind}: models are read as .safetensors only. Choose such a copy of it.")
        tensors, metadata = safetensors_file.index(path)
    if any(key.endswith(_LORA_ENDINGS) for key in tensors):
        raise LoraError(f"{path.name} is a LoRA. Choose a checkpoint, a diffusion model or a text encoder.")
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    architecture = architecture_of_file(shapes)
    return ModelFile(path, tensors, metadata, architecture, _parts(tensors, architecture))


def with_names_of(model: ModelFile, architecture: Architecture | None) -> ModelFile:
    """The same file, if its architecture is unknown with its keys resolved by this one's names."""
    if architecture is None or model.architecture is not None:
        return model
    architecture = structured(architecture, {key: tensor.shape for key, tensor in model.tensors.items()})
    return ModelFile(model.path, model.tensors, model.metadata, architecture, _parts(model.tensors, architecture))


def matrix_shape(shape: tuple[int, ...], transposed: bool = False) -> tuple[int, int]:
    """A parameter's rows and columns: a vector is one column, a number one row of it."""
    rows, columns = (shape[0] if shape else 1), math.prod(shape[1:])
    return (columns, rows) if transposed else (rows, columns)


def _parts(tensors: Mapping[str, StoredTensor], architecture: Architecture | None) -> dict[str, tuple[Part, ...]]:
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    stored = parts_of_file(shapes, architecture, encoder_prefix(shapes, architecture))
    return {key: tuple(Part(one, resolve(one.name, architecture)) for one in parts) for key, parts in stored.items()}
