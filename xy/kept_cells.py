"""Finished cells, kept from run to run: a plot that has them already doesn't sample them again."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .capsule import Capsule, merges_of
from .comfy_sampling import embeddings_in
from .sampling import Sampling

# The cells that were used last are kept while all of them fit in this many bytes; a help page says how many that is.
KEPT_BYTES = 1024**3


@dataclass(frozen=True)
class InputsKey:
    """What all cells of a plot have in common: objects by identity, tensors and values by a hash."""

    objects: tuple[weakref.ref[Any], ...]
    contents: str

    @property
    def is_gone(self) -> bool:
        """Whether one of the objects doesn't exist any more, so that no plot can have this key."""
        return any(reference() is None for reference in self.objects)


Merges = tuple[Any, ...]
CellKey = tuple[InputsKey, Sampling, tuple[object, ...], Merges]


class KeptCells:
    """Pictures (height, width, 3) in bytes by what they were sampled from, at most ``kept_bytes`` in all."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._pictures: dict[CellKey, Tensor] = {}  # most recently used last

    def get(self, key: CellKey | None) -> Tensor | None:
        if key is None or key not in self._pictures:
            return None
        picture = self._pictures[key] = self._pictures.pop(key)
        return picture

    def put(self, key: CellKey | None, picture: Tensor) -> None:
        """Keep a picture; None, of a cell that can't be recognised, isn't kept."""
        if key is None:
            return
        self._pictures.pop(key, None)
        self._pictures[key] = picture
        size = sum(one.nbytes for one in self._pictures.values())
        while size > self._kept_bytes and self._pictures:
            size -= self._pictures.pop(next(iter(self._pictures))).nbytes

    def forget_unreachable(self) -> None:
        """Drop the cells of models that have been unloaded or patched anew."""
        self._pictures = {key: picture for key, picture in self._pictures.items() if not key[0].is_gone}


# Of all grids of all workflows. ComfyUI runs one node at a time.
KEPT = KeptCells()


def inputs_key(
    model: Any,
    clip: Any,
    vae: Any,
    latent: Mapping[str, Any],
    conditioning: Mapping[str, Any],
    before: str = "",
) -> InputsKey | None:
    """The key of a plot's inputs; None if they can't be recognised in a later run.

    ComfyUI gives a node the same model, text encoder and VAE objects in every run until something before the node
    changes; a patch makes a new object. Some nodes change an object in place instead; ``before`` tells what came before
    (upstream.settings_before).
    """
    objects: list[weakref.ref[Any]] = []
    digest = hashlib.sha256()

    def refer(value: Any) -> object:
        """A value without the objects that have no plain contents, such as control nets: they count by identity."""
        if isinstance(value, Mapping):
            return {key: refer(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [refer(one) for one in value]
        if isinstance(value, Tensor):
            return [refer(one) for one in value.unbind()] if value.is_nested else value
        if value is None or isinstance(value, (str, int, float, bool)):
            return value
        objects.append(weakref.ref(value))
        return type(value).__name__

    try:
        parts: list[object] = [refer(one) for one in (model, clip, vae, latent, conditioning)]
        # of a model that was patched without making a new object
        patchers = (model, getattr(clip, "patcher", None), getattr(vae, "patcher", None))
        parts += [str(getattr(patcher, "patches_uuid", None)) for patcher in patchers]
        _add(digest, [*parts, str(getattr(clip, "layer_idx", None)), before])
        hash(tuple(objects))
    except TypeError:  # an object without weak references, or without a hash
        return None
    return InputsKey(tuple(objects), digest.hexdigest())


def merges_key(x_capsule: Any, y_capsule: Any) -> Merges | None:
    """The identities of a cell's merges; None if an axis is of another pack, whose settings nobody knows."""
    capsules = [capsule for capsule in (x_capsule, y_capsule) if capsule is not None]
    if not all(isinstance(capsule, Capsule) for capsule in capsules):
        return None
    return tuple(sweep.identity(settings) for sweep, settings in merges_of(x_capsule, y_capsule))


def cell_key(
    inputs: InputsKey | None,
    merges: Merges | None,
    sampling: Sampling,
    conditioning: Mapping[str, Any],
    embeddings: Callable[[str], object] = embeddings_in,
) -> CellKey | None:
    """The key of a cell with these merges; None if it can't be recognised in a later run.

    ``embeddings`` gives the state of the embeddings that a text names.
    """
    if inputs is None or merges is None:
        return None
    texts = [prompt for prompt, given in conditioning.items() if given is None]
    unused = {prompt: "" for prompt in conditioning if prompt not in texts}
    return inputs, replace(sampling, **unused), tuple(embeddings(getattr(sampling, prompt)) for prompt in texts), merges


def _add(digest: Any, value: Any) -> None:
    """Update a hash with tensors and plain values."""
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)} ".encode())
        plain = value.detach().to("cpu").contiguous().reshape(-1)
        if plain.numel():  # an empty tensor can't be viewed as bytes
            digest.update(plain.view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        digest.update(b"{")
        for key, one in value.items():
            _add(digest, key)
            _add(digest, one)
        digest.update(b"}")
    elif isinstance(value, (list, tuple)):
        digest.update(b"[")
        for one in value:
            _add(digest, one)
        digest.update(b"]")
    else:
        digest.update(f"{value!r},".encode())
