"""Loading and saving LoRA files: a save writes the whole file or none, and never replaces another unasked."""

from __future__ import annotations

import os
import pickle
import re
import stat
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import safetensors.torch
import torch
from lora_pack.merge import files
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.io import safetensors_file
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.tests.support import oracle
from lora_pack.tests.support.faults import Fault, Stopped, no_hard_links, points
from lora_pack.tests.support.makers import (
    LINEAR,
    SHAPES,
    TEXT,
    at,
    down_of,
    each_module,
    fingerprint,
    make_lora,
    of_modules,
    state_dict,
    up_of,
    with_factors,
)
from torch import Tensor

ENDINGS = (".safetensors", ".sft", ".pt", ".pth", ".bin", ".ckpt", ".pt2", ".pkl")  # those that ComfyUI lists


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def deltas(lora: Lora) -> dict[str, np.ndarray]:
    """The delta of each module at the LoRA's strengths."""
    return {name: part.strength * oracle.delta(part) for name, (part,) in oracle.parts([lora]).items()}


def assert_same_deltas(found: Lora, expected: Lora) -> None:
    assert (found.strength_model, found.strength_clip) == (1.0, 1.0)
    assert list(found.modules) == list(deltas(expected))
    for name, delta in deltas(expected).items():
        assert oracle.distance(deltas(found)[name], delta) < 1e-6, name


# Reading


@pytest.mark.parametrize("ending", [".safetensors", ".sft", ".SAFETENSORS"])
def test_load_reads_safetensors_files(ending: str, tmp_path: Path):
    lora = make_lora(1, name="ünï 日本", dtype=torch.float16, alphas=[2.0, 0.5])
    path = tmp_path / f"ünï 日本{ending}"
    safetensors.torch.save_file(state_dict(lora), path, {"ss_network_dim": "4"})
    loaded = load(path)
    assert loaded.name == "ünï 日本"
    assert dict(loaded.metadata) == {"ss_network_dim": "4"}
    assert load(path, "another name").name == "another name"
    in_order = replace(lora, modules={name: lora.modules[name] for name in loaded.modules}, metadata=loaded.metadata)
    assert fingerprint(loaded) == fingerprint(in_order)


def test_load_reads_factors_only_when_they_are_used(tmp_path: Path):
    """Nothing keeps the file open or mapped, so it can be replaced; a changed file is refused."""
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    safetensors.torch.save_file(state_dict(make_lora(1)), path)
    safetensors.torch.save_file(state_dict(make_lora(2)), other)
    lora = load(path)
    assert not any(isinstance(value, Tensor) for module in lora.modules.values() for value in vars(module).values())
    fingerprint(lora)
    if sys.platform == "linux":
        assert str(path) not in Path("/proc/self/maps").read_text()
        assert str(path) not in [os.path.realpath(handle) for handle in Path("/proc/self/fd").iterdir()]
    os.utime(other, ns=(1, 1))
    os.replace(other, path)
    with pytest.raises(LoraError, match="a.safetensors has changed"):
        merge_factors([lora], "ties")
    path.unlink()
    with pytest.raises(LoraError, match="a.safetensors is gone"):
        merge_factors([lora], "ties")


def test_load_reads_converted_tensors_at_once(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    tensors = state_dict(make_lora(1))
    tensors["lora_unet_norm.diff"] = torch.ones(3)
    tensors["lora_unet_core.lora_up.weight"] = torch.ones(4, 2)
    tensors["lora_unet_core.lora_down.weight"] = torch.ones(2, 3, 1, 1)
    tensors["lora_unet_core.lora_mid.weight"] = torch.ones(2, 2, 3, 3)
    safetensors.torch.save_file(tensors, path)
    lora = load(path)
    path.unlink()
    assert torch.equal(lora.modules["lora_unet_norm"].dense(), torch.ones(3))
    assert lora.modules["lora_unet_core"].dense().shape == (4, 27)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_load_reads_pickles_of_plain_weights(ending: str, old: bool, nested: bool, tmp_path: Path):
    lora = make_lora(1, name="a", dtype=torch.bfloat16)
    tensors = state_dict(lora)
    path = tmp_path / f"a{ending}"
    torch.save({"state_dict": tensors} if nested else tensors, path, _use_new_zipfile_serialization=not old)
    loaded = load(path)
    assert fingerprint(loaded) == fingerprint(lora)
    for module in loaded.modules.values():
        assert up_of(module).untyped_storage().nbytes() == up_of(module).nbytes, "a view would keep the whole file"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "boom")


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".CKPT"])
@pytest.mark.parametrize("version", ["2.4.0", "2.5.1+cu124", "2.9.1", "2.9.0a0+git1"])
def test_load_opens_no_pickle_with_an_unsafe_torch(
    ending: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "PICKLES_SAFE_SINCE", (2, 10))
    monkeypatch.setattr(torch, "__version__", version)
    path = tmp_path / f"a{ending}"
    torch.save(state_dict(make_lora(1)), path)

    def opened(*_: object, **__: object) -> NoReturn:
        pytest.fail("the file was opened")

    for place, name in ((Path, "open"), (Path, "read_bytes"), (torch, "load"), (zipfile, "is_zipfile")):
        monkeypatch.setattr(place, name, opened)
    with pytest.raises(LoraError, match=rf"^a\{ending} is a pickle.* torch {re.escape(version)} .*as \.safetensors"):
        load(path)


@pytest.mark.parametrize("version", ["2.10.0", "2.14.1+cpu", "3.0.0"])
def test_load_reads_pickles_with_a_safe_torch_and_safetensors_with_any(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "PICKLES_SAFE_SINCE", (2, 10))
    monkeypatch.setattr(torch, "__version__", version)
    torch.save(state_dict(make_lora(1)), tmp_path / "a.pt")
    assert load(tmp_path / "a.pt").modules
    monkeypatch.setattr(torch, "__version__", "2.4.0")
    assert load(save(make_lora(1), tmp_path / "a.safetensors")).modules


@pytest.mark.parametrize("ending", [".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize("form", ["pickle", "torch", "torch, old", "safetensors"])
def test_load_runs_no_program_in_a_pickle(ending: str, form: str, tmp_path: Path):
    target, path = tmp_path / "boom", tmp_path / f"bomb{ending}"
    content = {"lora_unet_x.lora_up.weight": Bomb(target)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif form == "safetensors":
        path = path.with_suffix(".safetensors")
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(LoraError, match="bomb"):
        load(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(content))
    assert target.exists(), "the bomb works"


def zipped(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("something.txt", content)

    return write


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "a web page": lambda path: path.write_text("<!DOCTYPE html><html>404</html>"),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "a list": lambda path: torch.save([torch.ones(2)], path),
    "a tensor": lambda path: torch.save(torch.ones(2), path),
    "text inside": lambda path: torch.save({"lora_unet_x.lora_up.weight": "text"}, path),
    "another archive": zipped(b"text"),
    "half a pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2)[:-3]),
    "a checkpoint": lambda path: torch.save({"model.diffusion_model.out.2.weight": torch.ones(2, 2)}, path),
}


@pytest.mark.parametrize("write", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".bin"])
def test_load_refuses_files_that_are_not_loras(write: Callable[[Path], object], ending: str, tmp_path: Path):
    path = tmp_path / f"broken{ending}"
    write(path)
    with pytest.raises(LoraError, match="broken"):
        load(path)


def test_load_refuses_a_file_cut_off_at_any_byte(tmp_path: Path):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    safetensors.torch.save_file(state_dict(make_lora(1, shapes={LINEAR: (4, 3)})), whole)
    data = whole.read_bytes()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(LoraError, match="broken"):
            load(path)


def test_load_refuses_missing_files_and_folders(tmp_path: Path):
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("missing.safetensors", "missing.pt", "folder.safetensors"):
        with pytest.raises(LoraError, match=name.split(".")[0]):
            load(tmp_path / name)


# Writing


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.float32])
def test_save_and_load_keep_every_bit(dtype: torch.dtype | None, tmp_path: Path):
    lora = make_lora(1, name="a", alphas=[2.0, None, -1.0], metadata={"b": "2", "a": "1"})
    path = save(lora, tmp_path / "a.safetensors", dtype)
    assert path == tmp_path / "a.safetensors"
    assert names(tmp_path) == ["a.safetensors"]
    loaded = load(path)
    assert {"a": "1", "b": "2"}.items() <= loaded.metadata.items()
    cast = each_module(
        lora,
        lambda m: with_factors(m, up=up_of(m).to(dtype or m.up.dtype), down=down_of(m).to(dtype or m.up.dtype)),
    )
    assert fingerprint(loaded) == fingerprint(replace(cast, metadata=loaded.metadata))
    assert set(safetensors.torch.load_file(path)) == set(state_dict(lora))


def test_save_bakes_in_strengths_and_block_weights(tmp_path: Path):
    weights = {LINEAR: 0.5, TEXT: -2.0}
    lora = each_module(
        make_lora(1, alphas=[3.0], strength_model=-0.3, strength_clip=4.0),
        lambda m: replace(m, block_weight=weights.get(m.name, 1.0)),
    )
    assert_same_deltas(load(save(lora, tmp_path / "a.safetensors")), lora)


def test_save_leaves_out_modules_of_weight_0(tmp_path: Path):
    lora = each_module(make_lora(1), lambda m: replace(m, block_weight=0.0 if m.name == LINEAR else 1.0))
    loaded = load(save(at(lora, 1.0, 0.0), tmp_path / "a.safetensors"))
    assert list(loaded.modules) == [name for name in SHAPES if name not in (LINEAR, TEXT)]


@pytest.mark.parametrize("lora", [of_modules([], "nothing"), at(make_lora(1, name="nothing"), 0.0)])
def test_save_refuses_an_empty_lora(lora: Lora, tmp_path: Path):
    with pytest.raises(LoraError, match="nothing"):
        save(lora, tmp_path / "a.safetensors")
    assert names(tmp_path) == []


def test_save_leaves_no_file_when_values_overflow_the_dtype(tmp_path: Path):
    lora = of_modules([LoraModule.of(LINEAR, torch.full((4, 2), 1e5), torch.ones(2, 3), 2.0)])
    with pytest.raises(LoraError, match=LINEAR):
        save(lora, tmp_path / "a.safetensors", torch.float16)
    assert names(tmp_path) == []


def test_save_gives_the_same_bytes_whatever_the_order_of_metadata(tmp_path: Path):
    lora = make_lora(1, metadata={key: key for key in "hgfedcba"})
    again = replace(lora, metadata=dict(reversed(lora.metadata.items())))
    first, second = (save(x, tmp_path / "a.safetensors") for x in (lora, again))
    assert first != second
    assert first.read_bytes() == second.read_bytes()


def test_save_appends_a_number_instead_of_overwriting(tmp_path: Path):
    path = tmp_path / "merged.safetensors"
    path.write_bytes(b"mine")
    (tmp_path / "merged_00003.safetensors").write_bytes(b"mine too")
    written = [save(make_lora(s), path) for s in (1, 2, 3)]
    assert [p.name for p in written] == [f"merged_0000{i}.safetensors" for i in (2, 4, 5)]
    assert path.read_bytes() == b"mine"
    assert (tmp_path / "merged_00003.safetensors").read_bytes() == b"mine too"
    for seed, p in zip((1, 2, 3), written, strict=True):
        assert_same_deltas(load(p), make_lora(seed))


def test_save_with_overwrite_replaces_the_file(tmp_path: Path):
    path = tmp_path / "merged.safetensors"
    for seed in (1, 2):
        assert save(make_lora(seed), path, overwrite=True) == path
        assert_same_deltas(load(path), make_lora(seed))
    assert names(tmp_path) == ["merged.safetensors"]


def test_save_does_not_replace_a_folder(tmp_path: Path):
    path = tmp_path / "merged.safetensors"
    path.mkdir()
    assert save(make_lora(1), path).name == "merged_00002.safetensors"
    with pytest.raises(LoraError, match="can't be written"):
        save(make_lora(1), path, overwrite=True)
    assert names(tmp_path) == ["merged.safetensors", "merged_00002.safetensors"]


def test_save_makes_missing_folders(tmp_path: Path):
    path = save(make_lora(1), tmp_path / "styles" / "new" / "a.safetensors")
    assert path.is_file()
    assert names(tmp_path) == ["styles", "styles/new", "styles/new/a.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_saved_files_have_the_permissions_of_the_umask(tmp_path: Path):
    mask = os.umask(0o022)
    try:
        path = save(make_lora(1), tmp_path / "a.safetensors")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("overwrite", [False, True])
def test_save_never_writes_through_a_link(overwrite: bool, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"not yours")
    loras = tmp_path / "loras"
    loras.mkdir()
    for name, target in (("a.safetensors", outside), ("b.safetensors", tmp_path / "nowhere")):
        (loras / name).symlink_to(target)
        path = save(make_lora(1), loras / name, overwrite=overwrite)
        assert not path.is_symlink() and path.parent == loras
    assert outside.read_bytes() == b"not yours"
    assert not (tmp_path / "nowhere").exists()


# Faults while writing


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt, MemoryError])
def test_a_save_stopped_at_any_point_leaves_the_folder_unchanged(
    overwrite: bool, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(safetensors_file, "WRITE_BYTES", 100)
    path = tmp_path / "a.safetensors"
    save(make_lora(1), path)
    before = path.read_bytes()

    def checked(fault: Fault) -> Callable[[], None]:
        def check() -> None:
            assert not [n for n in names(tmp_path) if n != "a.safetensors" and n.endswith(ENDINGS)], "half a file shows"
            fault()

        return check

    never = Fault()
    elsewhere = save(make_lora(2), tmp_path / "b" / "b.safetensors", check=checked(never))
    elsewhere.unlink()
    elsewhere.parent.rmdir()
    for n in points(never.calls):
        with pytest.raises(error):
            save(make_lora(2), path, overwrite=overwrite, check=checked(Fault(error, at=n)))
        assert names(tmp_path) == ["a.safetensors"]
        assert path.read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_rename_leaves_the_folder_unchanged(overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in a folder that turned read-only, or with a file held open on Windows."""
    path = tmp_path / "a.safetensors"
    save(make_lora(1), path)
    before = path.read_bytes()
    for call in ("link", "rename", "replace"):
        monkeypatch.setattr(os, call, Fault(PermissionError("no"), at=1, lasting=True))
    with pytest.raises(LoraError, match="can't be written"):
        save(make_lora(2), path, overwrite=overwrite)
    assert names(tmp_path) == ["a.safetensors"]
    assert path.read_bytes() == before


def test_save_appends_a_number_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on FAT and some network shares."""
    monkeypatch.setattr(os, "link", no_hard_links)
    written = [save(make_lora(s), tmp_path / "a.safetensors") for s in (1, 2, 3)]
    assert names(tmp_path) == ["a.safetensors", "a_00002.safetensors", "a_00003.safetensors"]
    for seed, path in zip((1, 2, 3), written, strict=True):
        assert_same_deltas(load(path), make_lora(seed))


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("call", ["link", "rename", "replace"])
def test_save_does_not_overwrite_a_file_made_at_the_last_moment(
    links: bool, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another program may take the name between our last look and the call that creates the file."""
    path = tmp_path / "a.safetensors"
    real = no_hard_links if call == "link" and not links else getattr(os, call)
    taken = []

    def somebody_is_faster(source: Path, target: Path, **options: object) -> None:
        if Path(target) == path and not path.exists():
            path.write_bytes(b"somebody else's")
            taken.append(path)
        real(source, target, **options)

    if not links:
        monkeypatch.setattr(os, "link", no_hard_links)
    monkeypatch.setattr(os, call, somebody_is_faster)
    written = save(make_lora(1), path)
    assert_same_deltas(load(written), make_lora(1))
    if taken:
        assert path.read_bytes() == b"somebody else's"
        assert written != path


@pytest.mark.parametrize("links", [True, False])
def test_simultaneous_saves_get_different_names(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not links:
        monkeypatch.setattr(os, "link", no_hard_links)
    start = threading.Barrier(8)
    written: dict[int, Path] = {}

    def work(seed: int) -> None:
        lora = make_lora(seed, shapes={LINEAR: (14, 11)})
        start.wait()
        written[seed] = save(lora, tmp_path / "a.safetensors")

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(written.values())) == 8
    assert names(tmp_path) == sorted(path.name for path in written.values())
    for seed, path in written.items():
        assert_same_deltas(load(path), make_lora(seed, shapes={LINEAR: (14, 11)}))


def test_save_does_not_change_the_lora(tmp_path: Path):
    lora = make_lora(1, strength_model=0.5)
    before = fingerprint(lora)
    save(lora, tmp_path / "a.safetensors", torch.float16)
    assert fingerprint(lora) == before


def test_save_writes_tensors_larger_than_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(safetensors_file, "WRITE_BYTES", 333)
    lora = make_lora(1, shapes={LINEAR: (90, 130)})
    tensors: dict[str, Tensor] = safetensors.torch.load_file(save(lora, tmp_path / "a.safetensors"))
    assert torch.equal(tensors[f"{LINEAR}.lora_up.weight"], up_of(lora.modules[LINEAR]))
