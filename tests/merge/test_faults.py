"""Faults while files are written: killed processes, full disks, missing permissions, two writers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.tests.merge.test_files import ENDINGS, names
from lora_pack.tests.support.makers import LINEAR, TEXT, fingerprint, make_lora

ROOT = Path(__file__).resolve().parents[2]
ENDING = ".power-merger.tmp"
OLD, NEXT = "a.safetensors", "a_00002.safetensors"

needs_fork = pytest.mark.skipif(
    sys.platform != "linux", reason="forks a process that has loaded torch for each kill, which is safe only on Linux"
)


def start_saving(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "tests" / "support" / "saving.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> list[str]:
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return printed.splitlines()


def reports(*arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(start_saving(*arguments))]


def listed(files: dict[str, str]) -> dict[str, str]:
    """The files that ComfyUI lists."""
    return {name: content for name, content in files.items() if name.lower().endswith(ENDINGS)}


# Killed


@pytest.fixture(scope="module")
def killed_saves(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return reports("points", tmp_path_factory.mktemp("killed"))


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("way", ["keep, links", "keep, no links", "overwrite, links", "overwrite, no links"])
def test_a_save_killed_at_any_point_leaves_the_old_file_or_the_new_one(way: str, killed_saves: list[dict[str, Any]]):
    overwrite, links = "overwrite" in way, "no links" not in way
    before, *killed, whole = (run for run in killed_saves if run["in"] == way)
    assert len(killed) >= 20 and all(run["killed"] for run in killed) and not whole["killed"]
    old, new = before["files"], whole["files"]
    assert list(new) == [OLD] if overwrite else sorted(new) == [OLD, NEXT]
    empty = 0
    for run in killed:
        shown = listed(run["files"])
        leftovers = run["files"].keys() - shown.keys()
        assert len(leftovers) <= 1 and all(name.startswith(f".{OLD}.") for name in leftovers), run
        if shown == old | {NEXT: "empty"}:
            empty += 1
        else:
            assert shown in (old, new), run
    # Without hard links an empty file takes the name just before the rename: no call does both at once.
    assert empty <= (0 if links or overwrite else 1)
    assert any(run["files"] == old for run in killed)
    assert any(len(run["files"]) > len(listed(run["files"])) for run in killed), "no kill hit the write itself"


@needs_fork
@pytest.mark.slow
def test_a_file_is_whole_whenever_its_writer_is_killed(tmp_path: Path):
    first, second, *killed = reports("moments", tmp_path, 60)
    assert len(killed) == 60 and all(run["killed"] for run in killed)
    for run in killed:
        assert listed(run["files"]) in (first["files"], second["files"])
    assert len(names(tmp_path)) > 5, "a kill during a write leaves its temporary file"
    save(make_lora(1), tmp_path / OLD, overwrite=True)
    assert len(names(tmp_path)) > 5, "young temporary files may still be in use"
    for path in tmp_path.iterdir():
        os.utime(path, (time.time(), time.time() - 25 * 3600))
    save(make_lora(2), tmp_path / "b.safetensors")
    assert names(tmp_path) == [OLD, "b.safetensors"]


def test_save_removes_only_old_temporary_files_of_its_own(tmp_path: Path):
    ours = tmp_path / f".b.safetensors.0123abcd{ENDING}"
    others = ["b.safetensors", ".hidden", "a.tmp", ".a.tmp", ".b.safetensors.0123abcd.tmp", f"b.0123abcd{ENDING}"]
    others += [f".b.0123abcd{ENDING}x", f".b.0123abcdef{ENDING}", f".b.0123ABCD{ENDING}", f".0123abcd{ENDING}"]
    for path in (ours, *(tmp_path / name for name in others)):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    folder = tmp_path / f".c.0123abcd{ENDING}"
    folder.mkdir()
    os.utime(folder, (0, 0))
    young = tmp_path / f".d.0123abcd{ENDING}"
    young.write_bytes(b"x")
    others += [folder.name, young.name]
    if os.utime in os.supports_follow_symlinks:
        link = tmp_path / f".e.0123abcd{ENDING}"
        link.symlink_to(tmp_path / "b.safetensors")
        os.utime(link, (0, 0), follow_symlinks=False)
        others.append(link.name)
    save(make_lora(1), tmp_path / OLD)
    assert names(tmp_path) == sorted([*others, OLD])


# Refused by the system


def assert_refused(path: Path, reason: str, overwrite: bool = False) -> None:
    """The message names the reason, the file, the folder and what to check; the folder is unchanged."""
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    lora = make_lora(1, shapes={LINEAR: (700, 900), TEXT: (800, 600)})
    with pytest.raises(LoraError) as caught:
        save(lora, path, overwrite=overwrite)
    message = str(caught.value)
    assert reason.lower() in message.lower() and path.name in message and path.parent.name in message
    assert message.endswith(".") and "Check" in message
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_save_reports_the_limit_on_file_size(overwrite: bool, tmp_path: Path):
    """As with a quota or a file system's limit; also stands for a full disk where none can be mounted."""
    resource = pytest.importorskip("resource", reason="Windows has no limit to the size of files")
    save(make_lora(2), tmp_path / OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert_refused(tmp_path / OLD, os.strerror(27), overwrite)  # EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_saves(tmp_path / OLD)


@pytest.mark.parametrize("overwrite", [False, True])
def test_save_reports_a_full_disk(overwrite: bool, small_disk: Path):
    save(make_lora(2), small_disk / OLD)
    assert_refused(small_disk / OLD, "no space left", overwrite)
    assert_saves(small_disk / OLD)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "loras"
    folder.mkdir()
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("needs Linux, to mount a small disk in memory")
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def assert_saves(path: Path) -> None:
    """The fault left nothing in the process either: the next save works."""
    lora = make_lora(3, shapes={LINEAR: (14, 11)}, name=path.stem)
    loaded = load(save(lora, path, overwrite=True))
    assert fingerprint(replace(loaded, metadata={})) == fingerprint(lora)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Outside pytest's own folders, which only root may enter."""
    folder = Path(tempfile.mkdtemp(prefix="loras-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def without_root() -> Iterator[None]:
    """As the user nobody for a while, since root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


needs_permissions = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")


@needs_permissions
@pytest.mark.parametrize("overwrite", [False, True])
def test_save_reports_a_read_only_folder(overwrite: bool, open_folder: Path):
    save(make_lora(2), open_folder / OLD)
    open_folder.chmod(0o555)
    with without_root():
        assert_refused(open_folder / OLD, "permission denied", overwrite)
        with pytest.raises(LoraError, match="b.safetensors can't be written into new: Permission.*Check"):
            save(make_lora(2), open_folder / "new" / "b.safetensors")


@needs_permissions
def test_load_reports_missing_permission(open_folder: Path):
    for name in ("a.safetensors", "a.pt"):
        path = open_folder / name
        path.write_bytes(b"secret")
        path.chmod(0)
        with (
            without_root(),
            pytest.raises(LoraError, match=rf"{name} can't be read from {open_folder.name}: Permission"),
        ):
            load(path)


@pytest.mark.parametrize("name", ["a.safetensors/b.safetensors", "a.safetensors/b/c.safetensors"])
def test_save_reports_a_file_where_a_folder_should_be(name: str, tmp_path: Path):
    save(make_lora(2), tmp_path / OLD)
    with pytest.raises(LoraError, match=f"{Path(name).name} can't be written into {Path(name).parent.name}: .*Check"):
        save(make_lora(1), tmp_path / name)
    assert names(tmp_path) == [OLD]


# Two writers at once


@pytest.mark.slow
def test_two_processes_saving_to_one_name_lose_nothing(tmp_path: Path):
    count, folder = 20, tmp_path / "loras"
    processes = {seed: start_saving("many", folder, seed, count) for seed in (1, 2)}
    written = {seed: output(process) for seed, process in processes.items()}
    assert sorted(written[1] + written[2]) == names(folder)
    assert names(folder) == [OLD, *(f"a_{number:05}.safetensors" for number in range(2, 2 * count + 1))]
    for seed, files in written.items():
        assert len({(folder / name).read_bytes() for name in files}) == 1, "each file was written whole by one process"
        (module,) = load(folder / files[0]).modules.values()
        assert module.scale == (8.0 + seed % 2) / 8
