"""Whatever a file or a text holds, its reader returns a value or raises a LoraError: no other error, no hang, no
excessive memory.

FUZZ_EXAMPLES=20000 draws that many examples for each property instead of a few hundred.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from lora_pack.merge.adapters.base import Lora, Replacement
from lora_pack.merge.block_weights.apply import with_block_weights
from lora_pack.merge.compute.context import no_cancel
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.merge.formats import FAMILIES, from_state_dict, peft_config, to_state_dict, unsupported
from lora_pack.merge.io import safetensors_file
from lora_pack.merge.lazy import LazyTensor
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES
from lora_pack.merge.provenance.metadata import ADAPTER_METADATA
from lora_pack.merge.provenance.recipe import KEY, recipe_text
from lora_pack.tests.support.bad_files import framed
from lora_pack.tests.support.makers import LINEAR, TEXT, examples, make_lora, state_dict, tensor_bytes
from torch import Tensor

MANY = int(os.environ.get("FUZZ_EXAMPLES", 0))
LONGEST = 5.0  # seconds of computing for one example
MOST_MEMORY = 2**30  # more than before, for all examples of a property

T = TypeVar("T")


def tries(few: int) -> hypothesis.settings:
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return hypothesis.settings(examples(max(few, MANY)), suppress_health_check=unhurried)  # type: ignore[arg-type]


def value_or_refusal(read: Callable[[], T]) -> T | None:
    """The value read, or None if it is refused with a LoraError. Anything else fails the test."""
    began = time.process_time()
    try:
        return read()
    except LoraError as error:
        assert str(error).isprintable() and len(str(error)) < 2500
        return None
    finally:
        assert time.process_time() - began < LONGEST


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    before = peak_memory()
    yield
    assert peak_memory() - before < MOST_MEMORY


def peak_memory() -> int:
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


FOLDER = tempfile.TemporaryDirectory()


def loaded(data: bytes, ending: str = ".safetensors") -> Lora | None:
    path = Path(FOLDER.name) / f"file{ending}"  # not removed: a loaded LoRA reads its factors when they are used
    path.write_bytes(data)
    return value_or_refusal(lambda: load(path))


def tensors_in(data: bytes) -> dict[str, Tensor] | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        path.write_bytes(data)
        return value_or_refusal(lambda: read_all(path))


def read_all(path: Path) -> dict[str, Tensor]:
    stored, _ = safetensors_file.index(path)
    return dict(zip(stored, safetensors_file.read(list(stored.values())), strict=True))


def assert_usable(lora: Lora) -> None:
    """The LoRA has shapes and deltas, and can be written and read again or is refused."""
    for adapter in lora.modules.values():
        assert adapter.rank >= 0 and all(size > 0 for size in adapter.weight_shape)
        if not adapter.needs_base and not isinstance(adapter, Replacement):
            assert adapter.dense().shape[0] == adapter.weight_shape[0]
    tensors = value_or_refusal(lambda: to_state_dict(lora))
    if tensors is not None:
        file = io.BytesIO()
        safetensors_file.write(file, lazy(tensors), lora.metadata, no_cancel)
        again = tensors_in(file.getvalue())
        assert again is not None and again.keys() == tensors.keys()
        assert all(tensor_bytes(again[name]) == tensor_bytes(tensor) for name, tensor in tensors.items())
        assert value_or_refusal(lambda: from_state_dict(again, "again", lora.metadata)) is not None


# safetensors


def lazy(tensors: dict[str, Tensor]) -> dict[str, LazyTensor]:
    return {key: LazyTensor.of(tensor) for key, tensor in tensors.items()}


def good_file(**texts: str) -> bytes:
    file = io.BytesIO()
    safetensors_file.write(
        file, lazy(state_dict(make_lora(1, shapes={LINEAR: (3, 2), TEXT: (2, 2)}, ranks=[1]))), texts, no_cancel
    )
    return file.getvalue()


GOOD = good_file(ss_title="a", ss_network_dim="1")
HEADER_END = 8 + struct.unpack("<Q", GOOD[:8])[0]
HEADER: dict[str, Any] = json.loads(GOOD[8:HEADER_END])
DATA = GOOD[HEADER_END:]
KEYS = [key for key in HEADER if key != "__metadata__"]

lengths = st.one_of(st.integers(0, 200), st.sampled_from([2**31, 2**32, 10**8, 10**8 + 1, 2**63, 2**64 - 1]))


def test_the_undamaged_file_loads():
    lora = loaded(GOOD)
    assert lora is not None and list(lora.modules) == [LINEAR, TEXT]


@tries(300)
@given(st.one_of(st.binary(max_size=200), st.builds(framed, st.binary(max_size=100), st.binary(), lengths)))
def test_load_refuses_random_bytes(data: bytes):
    assert loaded(data) is None


def flipped(data: bytes, places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in places:
        changed[place % len(changed)] = value
    return bytes(changed)


places = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4)
in_the_header = st.lists(
    st.tuples(st.integers(0, HEADER_END - 1), st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789-.,:"[]{} '))),
    min_size=1,
    max_size=3,
)


@tries(400)
@given(st.one_of(places, in_the_header))
def test_a_file_with_changed_bytes_is_usable_or_refused(changes: list[tuple[int, int]]):
    lora = loaded(flipped(GOOD, changes))
    if lora is not None:
        assert_usable(lora)


@tries(300)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, len(GOOD)), st.binary(max_size=20))
def test_a_file_with_lost_or_added_bytes_is_refused(start: int, stop: int, added: bytes):
    """The size in the header and that of the file no longer agree."""
    start, stop = max(8, min(start, stop)), max(8, start, stop)
    changed = GOOD[:start] + added + GOOD[stop:]
    if len(changed) != len(GOOD):
        assert loaded(changed) is None
    assert loaded(GOOD[: start - 1]) is None


@tries(100)
@given(st.sampled_from(list(HEADER)), st.integers(0, len(HEADER)), st.sampled_from(list(HEADER)))
def test_a_header_with_a_key_twice_is_refused(key: str, place: int, like: str):
    pairs = list(HEADER.items())
    pairs.insert(place, (key, HEADER[like]))
    text = ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in pairs)
    assert loaded(framed(f"{{{text}}}".encode(), DATA)) is None


sizes = st.one_of(
    st.integers(0, 12), st.sampled_from([-1, 2**31, 2**40, 2**62, 2**63, 2**64, 1.0, True, None, "1", []])
)
offsets = st.one_of(st.integers(0, 48).map(lambda n: 4 * n), st.integers(0, len(DATA) + 4), sizes)
dtypes = st.sampled_from([*safetensors_file.DTYPES, "F32", "F32", "F32", "F4", "f32", "", None, 32])
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": dtypes,
        "shape": st.one_of(st.lists(sizes, max_size=6), json_values),
        "data_offsets": st.one_of(st.lists(offsets, min_size=2, max_size=2), json_values),
    }
)


@st.composite
def fitting_headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Tensors of any type and shape, one after another, some with the wrong size."""
    header: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(st.one_of(st.sampled_from(KEYS), st.text(max_size=8)), unique=True, max_size=6)):
        shape = draw(st.lists(st.one_of(st.integers(0, 4), st.sampled_from([1, 2**62])), max_size=5))
        dtype = draw(st.sampled_from([*safetensors_file.DTYPES]))
        size = math.prod(shape) * safetensors_file.DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += min(size, 10**4)
    return header, draw(st.binary(min_size=4, max_size=4)) * (position // 4) + bytes(position % 4)


@st.composite
def odd_headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """The good header with entries replaced, or changed in one field."""
    header = dict(HEADER)
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from([*KEYS, "__metadata__", "new"]))
        if key in KEYS and draw(st.booleans()):
            header[key] = HEADER[key] | draw(st.sampled_from([0, 1, 2]).flatmap(one_field))
        else:
            header[key] = draw(st.one_of(entries, json_values))
    return header, DATA


def one_field(number: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = {"dtype": dtypes, "shape": st.lists(sizes, max_size=3), "data_offsets": st.lists(offsets, max_size=3)}
    name = list(fields)[number]
    return fields[name].map(lambda value: {name: value})


@tries(500)
@given(st.one_of(fitting_headers(), odd_headers()))
def test_any_header_is_read_exactly_or_refused(drawn: tuple[dict[str, Any], bytes]):
    header, data = drawn
    file = framed(header, data)
    found = tensors_in(file)
    if found is not None:
        assert list(found) == sorted(found, key=lambda name: header[name]["data_offsets"])
        assert set(found) == set(header) - {"__metadata__"}
        assert sum(tensor.nbytes for tensor in found.values()) == len(data)
        for name, tensor in found.items():
            begin, end = header[name]["data_offsets"]
            assert tensor_bytes(tensor) == data[begin:end]
            assert tuple(tensor.shape) == tuple(header[name]["shape"])
        lora = loaded(file)
        if lora is not None:
            assert_usable(lora)


# Pickles


def saved(content: object, *, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


PICKLES = {
    ending: saved(state_dict(make_lora(1, shapes={LINEAR: (3, 2)}, ranks=[1])), old=old)
    for ending, old in ((".pt", False), (".ckpt", True))
}


def with_program(program: bytes) -> bytes:
    """The good archive with another pickle in it and a correct checksum."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(PICKLES[".pt"])) as good, zipfile.ZipFile(file, "w") as changed:
        for entry in good.infolist():
            changed.writestr(entry, program if entry.filename.endswith("data.pkl") else good.read(entry))
    return file.getvalue()


with zipfile.ZipFile(io.BytesIO(PICKLES[".pt"])) as archive:
    PROGRAM = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))


@tries(200)
@given(st.sampled_from([*PICKLES]), places, st.integers(0, 10**6))
def test_a_damaged_pickle_is_usable_or_refused(ending: str, changes: list[tuple[int, int]], end: int):
    data = PICKLES[ending]
    for changed in (flipped(data, changes), data[: end % len(data)]):
        assert_read_quietly(changed, ending)


@tries(200)
@given(st.one_of(places.map(lambda changes: flipped(PROGRAM, changes)), st.binary(max_size=60)))
def test_a_changed_pickle_program_is_usable_or_refused(program: bytes):
    assert_read_quietly(with_program(program), ".pt")


@tries(100)
@given(st.binary(max_size=100))
def test_random_bytes_as_a_pickle_are_refused(data: bytes):
    assert_read_quietly(data, ".bin")


def assert_read_quietly(data: bytes, ending: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about files that it then refuses
        lora = loaded(data, ending)
    if lora is not None:
        assert_usable(lora)


# State dicts

SUFFIXES = [suffix for family in FAMILIES for suffix in family.SUFFIXES] + [".alpha"]
ODD_SUFFIXES = [*unsupported.OF_ENDING, ".weight", "", ".lora_C.weight", ".diff_m", ".lora_magnitude_vector.x.weight"]
PREFIXES = [
    LINEAR,
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    "lora_unet_double_blocks_0_img_attn_qkv",
    "transformer.transformer_blocks.0.attn.to_q",
    "lora_unet_double_blocks_" + "9" * 5000 + "_img_attn_qkv",
    TEXT,
    "img_in",
    "single_blocks.0.norm.key_norm.scale",
    "double_blocks.0.processor.qkv_lora1",
    "lora_unet__blocks_0_self_attn_q",
    "",
    ".",
    "\n\x1b",
    "bundle_emb.word",
]
ALL_DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
ALL_DTYPES += [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64]
shapes = st.one_of(
    st.sampled_from([(2, 2), (2, 2), (2, 2, 1, 1), (2, 2, 3, 3), (), (1,), (2,), (3, 2), (2, 3), (0, 2), (2, 0)]),
    st.lists(st.integers(0, 3), max_size=6).map(tuple),
    st.sampled_from([1, 9, 53, 70]).map(lambda count: (1,) * count),
    st.sampled_from([(0, 2), (2, 0), (2, 2, 0, 3), (2, 2, 3, 3), (2, 2, 2), (2, 2, 2, 2, 2)]),
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(shapes)
    dtype = draw(st.sampled_from(ALL_DTYPES[:1] * 8 + ALL_DTYPES))
    value = draw(st.sampled_from([1.0, 1.0, 1.0, 2.0, -3.0, 0.0, 6e4, 1e30, 1e300, math.nan, math.inf]))
    if not dtype.is_floating_point and not dtype.is_complex:
        value = 1 if abs(value) > 100 or not math.isfinite(value) else value
    return torch.full(shape, value, dtype=torch.float64).to(dtype)


SQUARE, POINT, KERNEL = (2, 2), (2, 2, 1, 1), (2, 2, 3, 3)
HADA = dict.fromkeys((".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"), SQUARE)
WHOLE: list[dict[str, tuple[int, ...]]] = [
    {".lora_up.weight": SQUARE, ".lora_down.weight": SQUARE, ".alpha": ()},
    {".lora_B.weight": SQUARE, ".lora_A.weight": SQUARE},
    {".lora_up.weight": POINT, ".lora_mid.weight": KERNEL, ".lora_down.weight": POINT, ".alpha": ()},
    {".lora_up.weight": SQUARE, ".lora_down.weight": SQUARE, ".reshape_weight": (2,)},
    {".lora_up.weight": SQUARE, ".lora_down.weight": SQUARE, ".dora_scale": (2, 1)},
    HADA | {".alpha": ()},
    HADA | {".hada_t1": KERNEL, ".hada_t2": KERNEL},
    {".lokr_w1": SQUARE, ".lokr_w2": SQUARE, ".alpha": ()},
    {".lokr_w1": SQUARE, ".lokr_w2": KERNEL},
    {".lokr_w1": SQUARE, ".lokr_w2_a": SQUARE, ".lokr_w2_b": SQUARE, ".alpha": ()},
    {".lokr_w1_a": SQUARE, ".lokr_w1_b": SQUARE, ".lokr_w2_a": SQUARE, ".lokr_w2_b": SQUARE, ".lokr_t2": KERNEL},
    {".diff": SQUARE, ".diff_b": (2,)},
    {".w_norm": (2,), ".b_norm": (2,)},
    {".set_weight": (2,)},
    {".a1.weight": SQUARE, ".a2.weight": SQUARE, ".b1.weight": SQUARE, ".b2.weight": SQUARE},
    {".oft_blocks": (1, 2, 2), ".rescale": (2,)},
    {".lora_A.weight": SQUARE, ".lora_B.weight": SQUARE, ".lora_magnitude_vector": (2,)},
]


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, Tensor]:
    """Complete modules of any family, with up to two tensors missing, odd or added."""
    found: dict[str, Tensor] = {}
    for prefix in draw(st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=2)):
        module = {prefix + suffix: torch.ones(shape) for suffix, shape in draw(st.sampled_from(WHOLE)).items()}
        for change in draw(st.lists(st.sampled_from(["odd", "odd", "lost", "more"]), max_size=2)):
            key = draw(st.sampled_from([*module])) if module else prefix + ".alpha"
            if change == "lost":
                module.pop(key, None)
            elif change == "odd":
                module[key] = draw(tensors())
            else:
                module[prefix + draw(st.sampled_from([*SUFFIXES, *ODD_SUFFIXES]))] = draw(tensors())
        found |= module
    return found


@tries(1500)
@given(state_dicts())
def test_any_state_dict_is_usable_or_refused(drawn: dict[str, Tensor]):
    lora = value_or_refusal(lambda: from_state_dict(drawn, "file"))
    if lora is not None:
        assert_usable(lora)


options = st.sampled_from([*peft_config.OPTIONS, "peft_type", "init_lora_weights", "bias", "use_dora", *["r"] * 5])
numbers = st.one_of(st.integers(-1, 9), st.floats(), st.sampled_from([10**400, -(10**400), True, 1.7e308]))
patterns = st.dictionaries(st.sampled_from(["x", "^x", ".*x", "(x+)+", "[", "", "x" * 3000]), numbers, max_size=3)
values = st.one_of(
    st.sampled_from([True, False, None, 2, "LORA", "LOHA", "pissa"]), numbers, json_values, patterns, patterns
)
prefixes = st.sampled_from(["unet.", "unet.", "unet.", "", ".", "transformer."])
headers = st.dictionaries(st.tuples(prefixes, options).map("".join), values, max_size=5)
UNET_X = {"unet.x.lora_B.weight": torch.ones(3, 2), "unet.x.lora_A.weight": torch.ones(2, 3)}


@tries(500)
@example(json.dumps({"unet.use_rslora": True, "unet.lora_alpha": 1.7e308}))
@example(json.dumps({"unet.r": 2, "unet.lora_alpha": 1, "unet.alpha_pattern": {"": 2}}))
@given(st.one_of(headers.map(json.dumps), st.text(), st.integers(0, 10**5).map(lambda depth: "[" * depth)))
def test_any_peft_metadata_gives_a_finite_scale(text: str):
    lora = from_state_dict(UNET_X, "file", {ADAPTER_METADATA: text})
    assert math.isfinite(lora.modules["unet.x"].scale)


@tries(500)
@given(
    st.one_of(
        st.dictionaries(options, values, max_size=5).map(json.dumps).map(str.encode),
        st.binary(max_size=50),
        st.integers(0, 10**5).map(lambda depth: b"[" * depth),
    )
)
def test_any_adapter_config_gives_a_finite_scale_or_is_refused(content: bytes):
    config = value_or_refusal(lambda: peft_config.from_file(content, "file", "0"))
    if config is not None:
        lora = value_or_refusal(lambda: from_state_dict(UNET_X, "file", config=config))
        assert lora is None or math.isfinite(lora.modules["unet.x"].scale)


# Texts

words = ["%", ",", ":", "=", "-", " ", "\n", ".", "+", "e", "in", "mid", "out", "default", "base", "0", "1", "9", "0.5"]
words += ["nan", "inf", "R", "SD-ALL", "１", "\x00", "é", "1" * 5000]
pieces = st.tuples(st.sampled_from(words), st.sampled_from([1, 1, 1, 2, 17])).map(lambda piece: piece[0] * piece[1])
notation = st.lists(pieces, max_size=8).map("".join)


@example("1" * 30_000 + "x")
@example("%in=" + "1" * 30_000 + "x")
@tries(200)
@given(st.one_of(notation, notation.map("%".__add__), notation.map("1,".__add__)))
def test_any_block_weights_are_finite_or_refused(spec: str):
    lora = value_or_refusal(lambda: with_block_weights(make_lora(1), spec, {"SD-ALL": "1" + ",1" * 16, "BAD": spec}))
    assert lora is None or all(math.isfinite(module.block_weight) for module in lora.modules.values())


@tries(300)
@given(st.lists(st.sampled_from([*FACTOR_MODES, *DELTA_MODES, "ADD", ",", ";", " ", "\n", "\t", "tie", "é", "_svd"])))
def test_any_list_of_modes_is_read_or_refused(comfy: ModuleType, parts: list[str]):
    from lora_pack.xy.lora_axes import mode_names

    text = "".join(parts)
    named = list(dict.fromkeys(re.findall(r"[^\s,;]+", text.lower())))
    good = bool(named) and all(name in (*FACTOR_MODES, *DELTA_MODES) for name in named)
    assert value_or_refusal(lambda: mode_names(text)) == (named if good else None)


@tries(200)
@given(st.one_of(st.text(), json_values.map(json.dumps)), st.text(), st.floats())
def test_any_recipe_of_an_input_is_kept_in_the_new_recipe(made: str, name: str, strength: float):
    lora = Lora(name, {}, strength, strength, {KEY: made})
    told = json.loads(recipe_text("merge", {"density": strength}, [lora]))
    assert told["inputs"][0]["name"] == name
    assert ("made" in told["inputs"][0]) == bool(made)
