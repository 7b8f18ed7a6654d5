"""A stand-in for an accelerator: it computes on the CPU and raises errors where the real device would.

Inside ``StandIn(limits)``, a tensor moved to the device becomes an ``OnDevice``: a CPU tensor that claims to be on the
device. Every torch call on one is checked for tensors of two devices, ``out`` on another device, numpy, types that the
device can't store, and operators that it lacks, even those that a torch function uses internally.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from lora_pack.merge.compute import devices
from lora_pack.tests.devices.limits import FLOATS, Limits
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")


class ProcessEnds(BaseException):
    """Stands for a crash of the process, which nothing could catch."""


class OnDevice(Tensor):
    """A tensor that claims to be on a device. Its numbers are on the CPU."""

    limits: Limits

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return _call(function, arguments, options or {}, None)


class StandIn(TorchFunctionMode):
    """Makes torch believe in a device.

    ``calls`` counts the operators that ran on it; ``before`` is called before each and may raise one of the device's
    errors. ``moved`` lists the type and number of elements of each tensor that crossed between CPU and device.
    """

    def __init__(self, limits: Limits, before: Callable[[str], None] = lambda operator: None) -> None:
        super().__init__()
        self.limits, self.before, self.calls = limits, before, Counter[str]()
        self.moved: list[tuple[torch.dtype, int]] = []

    def __enter__(self) -> StandIn:
        devices._has_float64_algebra.cache_clear()  # another stand-in may have the same device name
        return super().__enter__()

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return _call(function, arguments, options or {}, self)


class _Operators(TorchDispatchMode):
    """Checks each operator that runs on the device, and the types of its tensors."""

    def __init__(self, limits: Limits, mode: StandIn | None) -> None:
        super().__init__()
        self.limits, self.mode = limits, mode

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = function._schema.name.split("::")[1]
        if self.mode is not None:
            self.mode.before(name)
        if name in self.limits.lacks:
            raise NotImplementedError(
                f"The operator 'aten::{name}' is not currently implemented for the {self.limits.device.type} device."
            )
        result = function(*arguments, **(options or {}))
        for tensor in _tensors((arguments, options, result)):
            _require_stored(tensor.dtype, self.limits)
        if self.mode is not None:
            self.mode.calls[name] += 1
        return result


def _call(function: Any, arguments: Any, options: dict[str, Any], mode: StandIn | None) -> Any:
    name = getattr(function, "__name__", "")
    if name == "__get__" and isinstance(arguments[0], OnDevice):
        name = getattr(function.__self__, "__name__", "")
        special = _PROPERTIES.get(name)
    else:
        special = _SPECIAL.get(name)
    if name in _RUNS_NOTHING:
        with torch._C.DisableTorchFunctionSubclass():
            return function(*arguments, **options)
    limits = mode.limits if mode is not None else _on_device((arguments, options))[0].limits
    if special is not None:
        return special(function, arguments, options, limits, mode)
    if "device" in options:
        return _make(function, arguments, dict(options), limits, mode)
    if not _on_device((arguments, options)):
        with torch._C.DisableTorchFunctionSubclass():
            return function(*arguments, **options)
    _require_one_device((arguments, options), limits)
    return _run(function, arguments, options, limits, mode)


def _run(function: Any, arguments: Any, options: Any, limits: Limits, mode: StandIn | None) -> Any:
    """Run the function on the underlying CPU tensors; its results are on the device."""
    known: dict[int, OnDevice] = {}
    plain = _mapped((arguments, options), lambda tensor: _plain(tensor, known))
    with torch._C.DisableTorchFunctionSubclass(), _Operators(limits, mode):
        result = function(*plain[0], **plain[1])
    # for an in-place operation return the tensor that was passed in
    return _mapped(result, lambda tensor: known[id(tensor)] if id(tensor) in known else _claimed(tensor, limits))


def _require_one_device(values: Any, limits: Limits) -> None:
    """All tensors must be on one device. torch lets some operators take a scalar tensor on the CPU; not here."""
    for tensor in _tensors(values):
        if not isinstance(tensor, OnDevice):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {limits.device} and "
                "cpu!"
            )


def _require_stored(dtype: torch.dtype, limits: Limits) -> None:
    if dtype in limits.deadly:
        raise ProcessEnds(f"{limits.device} with {dtype}")
    if dtype in FLOATS and dtype not in limits.floats or dtype.is_complex:
        raise TypeError(f"Trying to convert {dtype} to the {limits.device.type} backend but it has no such type.")


# --- functions with special rules ---


def _to(function: Any, arguments: Any, options: dict[str, Any], limits: Limits, mode: StandIn | None) -> Tensor:
    """Moves and conversions. To be safe with every version, moving from or to a type that the device can't store is
    refused even if the call changes device and type at once."""
    tensor, *others = arguments
    device, dtype = options.get("device"), options.get("dtype")
    for other in others:
        if isinstance(other, torch.dtype):
            dtype = other
        elif isinstance(other, str | torch.device):
            device = other
        elif isinstance(other, Tensor):
            device, dtype = other.device, other.dtype
    here = _device(tensor, limits)
    there = here if device is None else _named(device, limits)
    dtype = tensor.dtype if dtype is None else dtype
    for place in (here, there):
        if place != CPU:
            _require_stored(tensor.dtype, limits)
            _require_stored(dtype, limits)
    if mode is not None and (here, there) != (CPU, CPU):
        mode.before("_to_copy")
        if here != there:
            mode.moved.append((tensor.dtype, tensor.numel()))
    plain = _plain(tensor, {})
    with torch._C.DisableTorchFunctionSubclass():
        moved = plain.to(dtype, copy=bool(options.get("copy")) or here != there)
    if there == CPU:
        return moved
    return tensor if moved is plain else _claimed(moved, limits)


def _cpu(function: Any, arguments: Any, options: dict[str, Any], limits: Limits, mode: StandIn | None) -> Tensor:
    return _to(function, (arguments[0], CPU), {}, limits, mode)


def _copy(function: Any, arguments: Any, options: dict[str, Any], limits: Limits, mode: StandIn | None) -> Tensor:
    """copy_ is the only operator that takes tensors of two devices."""
    target, source = arguments[:2]
    if _device(target, limits) == CPU == _device(source, limits):
        with torch._C.DisableTorchFunctionSubclass():
            return function(*arguments, **options)
    for tensor in (target, source):
        _require_stored(tensor.dtype, limits)
    if mode is not None:
        mode.before("copy_")
        if _device(target, limits) != _device(source, limits):
            mode.moved.append((source.dtype, source.numel()))
    with torch._C.DisableTorchFunctionSubclass():
        _plain(target, {}).copy_(_plain(source, {}))
    return target


def _set_item(function: Any, arguments: Any, options: dict[str, Any], limits: Limits, mode: StandIn | None) -> None:
    """Assigning to a part of a tensor on another device is a copy_."""
    target, place, value = arguments
    if isinstance(value, Tensor) and isinstance(value, OnDevice) != isinstance(target, OnDevice):
        _copy(function, (target[place], value), {}, limits, mode)
        return
    if isinstance(target, OnDevice):
        _require_one_device((arguments, options), limits)
        _run(function, arguments, options, limits, mode)
        return
    with torch._C.DisableTorchFunctionSubclass():
        function(*arguments, **options)


def _no_numpy(function: Any, arguments: Any, options: dict[str, Any], limits: Limits, mode: StandIn | None) -> Any:
    if isinstance(arguments[0], OnDevice):
        raise TypeError(f"can't convert {limits.device} device type tensor to numpy.")
    with torch._C.DisableTorchFunctionSubclass():
        return function(*arguments, **options)


def _make(function: Any, arguments: Any, options: dict[str, Any], limits: Limits, mode: StandIn | None) -> Tensor:
    """Functions that create tensors on the device named by ``device``."""
    device = options.pop("device")
    there = _named(device, limits) if device is not None else _first_device(arguments, limits)
    generator = options.get("generator")
    if generator is not None and generator.device.type != there.type:
        raise RuntimeError(f"Expected a '{there.type}' device type for generator but found '{generator.device.type}'")
    plain = _mapped(arguments, lambda tensor: _plain(tensor, {}))
    if there == CPU:
        with torch._C.DisableTorchFunctionSubclass():
            return function(*plain, **options, device=CPU)
    return _run(function, plain, options, limits, mode)


_SPECIAL: dict[str, Callable[..., Any]] = {
    "to": _to,
    "cpu": _cpu,
    "copy_": _copy,
    "__setitem__": _set_item,
    "numpy": _no_numpy,
    "__array__": _no_numpy,
}
_PROPERTIES: dict[str, Callable[..., Any]] = {
    "device": lambda function, arguments, options, limits, mode: limits.device,
    "is_cuda": lambda function, arguments, options, limits, mode: limits.device.type == "cuda",
    "is_mps": lambda function, arguments, options, limits, mode: limits.device.type == "mps",
    "is_cpu": lambda function, arguments, options, limits, mode: False,
}
# Functions and properties that run no operator and give no tensor: most of what the core asks of one.
_RUNS_NOTHING = frozenset({"shape", "dtype", "ndim", "requires_grad", "is_sparse", "nbytes", "itemsize"}) | frozenset(
    {"size", "stride", "dim", "numel", "element_size", "is_contiguous", "is_floating_point", "is_complex"}
)


# --- tensors and devices ---


def _named(device: Any, limits: Limits) -> torch.device:
    """The device with a name; only this one and the CPU exist."""
    named = torch.device(device)
    if named.type == "cpu":
        return CPU
    if (named.type, named.index or 0) != (limits.device.type, limits.device.index):
        raise RuntimeError(f"There is no device {named} here, only {limits.device}.")
    return limits.device


def _device(tensor: Tensor, limits: Limits) -> torch.device:
    return limits.device if isinstance(tensor, OnDevice) else CPU


def _first_device(values: Any, limits: Limits) -> torch.device:
    return limits.device if _on_device(values) else CPU


def _claimed(tensor: Tensor, limits: Limits) -> OnDevice:
    with torch._C.DisableTorchFunctionSubclass():
        claimed = tensor.as_subclass(OnDevice)  # shares the memory
    claimed.limits = limits
    return claimed


def _plain(tensor: Tensor, known: dict[int, OnDevice]) -> Tensor:
    """The underlying CPU tensor; ``known`` records which tensor on the device it belongs to."""
    if not isinstance(tensor, OnDevice):
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        plain = tensor.as_subclass(Tensor)
    known[id(plain)] = tensor
    return plain


def _mapped(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(_mapped(value, change) for value in values))
    if isinstance(values, list | tuple):
        parts = [_mapped(value, change) for value in values]
        if isinstance(values, list):
            return parts
        return tuple(parts) if type(values) is tuple else type(values)(parts)
    if isinstance(values, dict):
        return {key: _mapped(value, change) for key, value in values.items()}
    return values


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple | dict):
            found += _tensors(value)
    return found


def _on_device(values: Any) -> list[OnDevice]:
    return [tensor for tensor in _tensors(values) if isinstance(tensor, OnDevice)]
