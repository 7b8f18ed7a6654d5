"""`run.py demo`: merges two LoRAs in a real ComfyUI, into a file and a picture."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

from . import workflows
from .comfy_server import Prompt, Server, prepare_base, start
from .environment import ROOT, Environment
from .workflows import Link, node

BASE = ROOT / ".demo"
GENERATED = {
    "demo_a.safetensors": ["--small", "--rank", "8", "--dtype", "float16", "--seed", "1"],
    "demo_b.safetensors": ["--small", "--rank", "4", "--dtype", "float32", "--seed", "2"],
}
LORA_EXTENSIONS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def run_demo(environment: Environment, files: list[Path]) -> None:
    check_files(files)
    prepare_base(BASE, ROOT)
    python, comfyui = environment.comfyui_python, environment.comfyui
    _generate(python, BASE / "models" / "checkpoints" / workflows.CHECKPOINT, "make_checkpoint.py", [str(comfyui)])
    if files:
        names = copy_in(files, BASE / "models" / "loras")
    else:
        for name, options in GENERATED.items():
            _generate(python, BASE / "models" / "loras" / name, "make_lora.py", [], options)
        names = list(GENERATED)

    print(f"Starting ComfyUI ({comfyui}) with the pack on the CPU", flush=True)
    server = start(comfyui, python, BASE, log_file=BASE / "server.log")
    try:
        print(f"Merging {' and '.join(Path(name).name for name in names)} with ties_svd, density 0.5", flush=True)
        outputs = server.run(demo_prompt(names))
        _report(server, server.loras / outputs["save"]["text"][0], server.images(outputs, "picture")[0])
    finally:
        server.stop()
        print("ComfyUI is stopped.", flush=True)


def demo_prompt(names: list[str]) -> Prompt:
    """Loaders -> SVD merge -> resize -> a saved LoRA, and a picture by the small checkpoint with it applied."""
    loaders = {
        f"load{number}": node("PM LoRA Loader", lora_name=name, strength_model=1.0, strength_clip=1.0, lbw="")
        for number, name in enumerate(names, 1)
    }
    links: dict[str, Link] = {f"lora{number}": [f"load{number}", 0] for number in range(1, len(names) + 1)}
    settings = {"device": "cpu", "dtype": "float32"}
    merger = node("PM LoRA SVD Merger", **links, mode="ties_svd", density=0.5, svd_rank=8, svd_conv_rank=0, **settings)
    return {
        **loaders,
        "merge": merger,
        "resize": node("PM LoRA Resizer", lora=["merge", 0], new_rank=4, **settings),
        "save": node("PM LoRA Save", lora=["resize", 0], file_name="merged", extension="safetensors", overwrite=True),
        **workflows.checkpoint(),
        "apply": node("PM LoRA Apply", model=workflows.MODEL, lora=["resize", 0], clip=workflows.CLIP),
        **workflows.picture(["apply", 0], ["apply", 1], prefix="merged"),
    }


def check_files(files: list[Path]) -> None:
    """Exit with a message if a file is missing or of the wrong type, before anything is installed or started."""
    for file in files:
        if not file.is_file():
            raise SystemExit(f"There is no file {file}. Give paths of LoRA files, or none to use generated ones.")
        if file.suffix.lower() not in LORA_EXTENSIONS:
            raise SystemExit(f"{file} is not a LoRA file: expected {', '.join(LORA_EXTENSIONS)}.")


def copy_in(files: list[Path], loras: Path) -> list[str]:
    """Copy the user's files into a loras folder and return the names ComfyUI lists them under.

    Files are numbered, since two from different folders may have the same name.
    """
    folder = loras / "given"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = []
    for number, file in enumerate(files, 1):
        name = os.path.join("given", f"{number}_{file.name}")  # ComfyUI lists names with the system's separator
        shutil.copyfile(file, loras / name)
        names.append(name)
    return names


def describe_lora(file: Path) -> str:
    """Modules, ranks and size, read from the file's header only: the Python running this may not have torch."""
    with open(file, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    ranks = {value["shape"][0] for name, value in header.items() if re.search(r"lora_(down|A)\.", name)}
    modules = sum(bool(re.search(r"lora_(down|A)\.", name)) for name in header)
    rank = "/".join(str(rank) for rank in sorted(ranks))
    return f"{modules} modules, rank {rank}, {file.stat().st_size / 1e6:.1f} MB"


def _generate(python: Path, out: Path, tool: str, before: list[str], after: list[str] | None = None) -> None:
    if out.exists():
        return
    print(f"Generating {out}", flush=True)
    unfinished = out.with_suffix(".unfinished")
    subprocess.run([str(python), str(ROOT / "tools" / tool), *before, str(unfinished), *(after or [])], check=True)
    unfinished.replace(out)


def _report(server: Server, lora: Path, picture: Path) -> None:
    print(f"Merged LoRA  {lora}\n             {describe_lora(lora)}")
    print(f"Picture      {picture}")
    for line in re.findall(r"\d+ of \d+ modules applied", server.log())[-1:]:
        print(f"             {line}, on a small random model with part of SD 1.5's modules", flush=True)
