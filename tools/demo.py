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
EVIDENCE = ROOT / "benchmarks" / "evidence" / "base"
# A character and a font that the evidence benchmark's base has never seen, and a LoRA for each.
EXAMPLES = ["question-mark.safetensors", "luckiest-guy.safetensors"]
EXAMPLE_TEXT = "sign ? in luckiest guy"
TEXT_ENCODER_MODULE = "benchmarks.evidence.text_encoder"
LORA_EXTENSIONS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def run_demo(environment: Environment, files: list[Path]) -> None:
    check_files(files)
    prepare_base(BASE, ROOT)
    python, comfyui = environment.comfyui_python, environment.comfyui
    if files:
        make_checkpoint = [str(ROOT / "tools" / "make_checkpoint.py"), str(comfyui)]
        _generate(python, BASE / "models" / "checkpoints" / workflows.CHECKPOINT, make_checkpoint)
        prompt = demo_prompt(copy_in(files, BASE / "models" / "loras"))
    else:
        _generate(python, BASE / "models" / "text_encoders" / workflows.TEXT_ENCODER, ["-m", TEXT_ENCODER_MODULE])
        copy_example(BASE / "models")
        prompt = example_prompt()

    print(f"Starting ComfyUI ({comfyui}) with the pack on the CPU", flush=True)
    server = start(comfyui, python, BASE, log_file=BASE / "server.log")
    try:
        names = [Path(name).name for name in (EXAMPLES if not files else map(str, files))]
        print(f"Merging {' and '.join(names)} with {prompt['merge']['inputs']['mode']}", flush=True)
        outputs = server.run(prompt)
        random = "a small random model with part of SD 1.5's modules"
        model = random if files else f'a small model that draws "{EXAMPLE_TEXT}"'
        saved = server.loras / outputs["save"]["text"][0]
        _report(server, saved, server.images(outputs, "picture")[0], model)
    finally:
        server.stop()
        print("ComfyUI is stopped.", flush=True)


def demo_prompt(names: list[str]) -> Prompt:
    """Loaders -> SVD merge -> resize -> a saved LoRA, and a picture by the small checkpoint with it applied."""
    return {
        **merge_prompt(names, mode="ties_svd", merged_rank=8, saved_rank=4),
        **workflows.checkpoint(),
        "apply": node("PM LoRA Apply", model=workflows.MODEL, lora=["resize", 0], clip=workflows.CLIP),
        **workflows.picture(["apply", 0], ["apply", 1], prefix="merged"),
    }


def example_prompt() -> Prompt:
    """The same with the shipped LoRAs: the picture shows what both have taught the evidence benchmark's base."""
    return {
        **merge_prompt(EXAMPLES, mode="add_svd", merged_rank=16, saved_rank=12),
        **workflows.glyph_base(),
        "apply": node("PM LoRA Apply", model=workflows.GLYPH_MODEL, lora=["resize", 0], clip=workflows.GLYPH_CLIP),
        **workflows.glyph(EXAMPLE_TEXT, ["apply", 0], ["apply", 1], prefix="merged"),
    }


def merge_prompt(names: list[str], *, mode: str, merged_rank: int, saved_rank: int) -> Prompt:
    loaders = {
        f"load{number}": node("PM LoRA Loader", lora_name=name, strength_model=1.0, strength_clip=1.0, lbw="")
        for number, name in enumerate(names, 1)
    }
    links: dict[str, Link] = {f"lora{number}": [f"load{number}", 0] for number in range(1, len(names) + 1)}
    settings = {"device": "cpu", "dtype": "float32"}
    ranks = {"svd_rank": merged_rank, "svd_conv_rank": 0}
    return {
        **loaders,
        "merge": node("PM LoRA SVD Merger", **links, mode=mode, density=0.5, **ranks, **settings),
        "resize": node("PM LoRA Resizer", lora=["merge", 0], new_rank=saved_rank, **settings),
        "save": node("PM LoRA Save", lora=["resize", 0], file_name="merged", extension="safetensors", overwrite=True),
    }


def copy_example(models: Path) -> None:
    """Copy the base and its two LoRAs into ComfyUI's models folder."""
    copies = [(EVIDENCE / "model.safetensors", models / "diffusion_models" / workflows.GLYPH_MODEL_FILE)]
    copies += [(EVIDENCE / "vae.safetensors", models / "vae" / workflows.GLYPH_VAE_FILE)]
    copies += [(EVIDENCE / "loras" / name, models / "loras" / name) for name in EXAMPLES]
    for source, target in copies:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


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


def _generate(python: Path, out: Path, command: list[str]) -> None:
    """Make a file with a Python program that takes its path last."""
    if out.exists():
        return
    print(f"Generating {out}", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_suffix(".unfinished")
    subprocess.run([str(python), *command, str(unfinished)], check=True, cwd=ROOT)
    unfinished.replace(out)


def _report(server: Server, lora: Path, picture: Path, model: str) -> None:
    print(f"Merged LoRA  {lora}\n             {describe_lora(lora)}")
    print(f"Picture      {picture}")
    for line in re.findall(r"\d+ of \d+ modules applied", server.log())[-1:]:
        print(f"             {line}, on {model}", flush=True)
