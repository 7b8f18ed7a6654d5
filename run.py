#!/usr/bin/env python3
"""Everything a contributor runs. Requires only Python 3.10 or newer; installs what it needs into .venv.

    python run.py demo [FILE ...]     merge two generated LoRAs, or the given ones, in a real ComfyUI
    python run.py comfyui [ARGS ...]  start ComfyUI with the pack and print its address
    python run.py test                lint, check types, run every test, in several processes
    python run.py test --core         only the core, in less than a minute: no lint, no ComfyUI, no browser
    python run.py test ARGS ...       only pytest, with these arguments, in one process
    python run.py test --efficiency PATH   test the XY nodes with this copy of efficiency-nodes-comfyui
    python run.py test --device cuda       check the core on this machine's GPU (or mps, xpu): results, memory, times;
                                           requires a Python with torch, numpy and safetensors; installs nothing
    python run.py bench [ARGS ...]    compare time, memory and accuracy with other tools; --help lists the options
    python run.py bench scaling [ARGS ...]   measure how time and memory grow
    python run.py evidence [ARGS ...] measure how much of a concept and a style merges keep; --quick takes five minutes

It uses the ComfyUI at COMFYUI_PATH (run by COMFYUI_PYTHON, or by the Python found next to it), else the one whose
custom_nodes contains this folder, else one from the package index.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - tell users of an older one
    sys.exit(f"Python 3.10 or newer is required, this is {sys.version.split()[0]}.")

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tools.comfy_server import PACK_FOLDER, free_port, is_free, prepare_base
from tools.demo import BASE, check_files, run_demo
from tools.environment import ROOT, Environment, prepare
from tools.find_comfyui import find_comfyui, python_of


def demo(args: list[str]) -> int:
    files = [Path(arg).absolute() for arg in args]
    check_files(files)
    run_demo(prepare(), files)
    return 0


CORE = ["-m", "not (slow or fuzz or comfy)", "tests/merge"]


def test(args: list[str]) -> int:
    if "--device" in args:
        return check_device(args)
    environment = prepare(tests=True)
    python = str(environment.python)
    everything, core = not args, "--core" in args
    if core:
        args = [*CORE, *(arg for arg in args if arg != "--core")]
    # What the fixtures in tests/comfy start. Relative paths on the command line mean the repository.
    variables = os.environ | {
        "COMFYUI_PATH": str(environment.comfyui),
        "COMFYUI_PYTHON": str(environment.comfyui_python),
    }
    if "--efficiency" in args:
        at = args.index("--efficiency")
        if len(args) < at + 2 or not Path(args[at + 1], "efficiency_nodes.py").is_file():
            raise SystemExit("--efficiency needs the folder of efficiency-nodes-comfyui.")
        variables["EFFICIENCY_NODES_PATH"] = str(Path(args[at + 1]).absolute())
        args = [*args[:at], *args[at + 2 :]] or ["tests/comfy/test_xy_efficiency.py"]
    if everything or core:
        # One more than cores, since those that talk to a ComfyUI wait half of their time. More than four would wait
        # for those two, and each takes a gigabyte.
        cores = os.cpu_count() or 1
        processes = min(cores + 1, 4)
        args = ["-n", str(processes), "--dist", "loadfile", *args]
        variables.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    checks = {
        "ruff check": ["ruff", "check"],
        "ruff format --check": ["ruff", "format", "--check"],
        "pyright": ["pyright", "--pythonpath", python],
    }
    failed = []
    for name, check in checks.items() if everything else ():
        print(f"$ {name}", flush=True)
        if subprocess.run([python, "-m", *check], cwd=ROOT).returncode:
            failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}; see above. Running the tests anyway.", flush=True)
    code = subprocess.run([python, "-m", "pytest", *args], cwd=ROOT, env=variables).returncode
    return code or (1 if failed else 0)


def check_device(args: list[str]) -> int:
    """Run tests/cuda/check.py with the first Python whose torch can use the device."""
    name = "".join(args[args.index("--device") + 1 :][:1])
    if not name:
        raise SystemExit("--device needs a name: cuda, xpu, mps, or cpu for a dry run.")
    code = (
        "import sys\ntry:\n import numpy, safetensors, torch\n"
        f" torch.ones(2, device={name!r}).sum().item()\n"
        "except Exception as error:\n sys.exit(str(error).splitlines()[0][:200])"
    )
    reasons = []
    for python in (find_comfyui(ROOT).python, Path(sys.executable), python_of(ROOT / ".venv")):
        if python is None or not python.is_file():
            continue
        tried = subprocess.run([str(python), "-c", code], cwd=ROOT, capture_output=True, text=True)
        if tried.returncode == 0:
            return subprocess.run([str(python), str(ROOT / "tests" / "cuda" / "check.py"), *args], cwd=ROOT).returncode
        reasons.append(f"  {python}: {tried.stderr.strip().splitlines()[-1]}")
    print(f"No Python found whose torch can use the device {name}:", *reasons, sep="\n")
    return 1


def bench(args: list[str]) -> int:
    environment = prepare(bench=True)
    # The benchmark runs in the repository; relative paths refer to the folder that run.py was started in.
    args = [str(Path(arg).absolute()) if Path(arg).is_file() else arg for arg in args]
    return subprocess.run([str(environment.python), "-m", "benchmarks", *args], cwd=ROOT).returncode


def evidence(args: list[str]) -> int:
    # It needs nothing that ComfyUI doesn't: torch, safetensors, numpy and Pillow.
    return subprocess.run([str(prepare().python), "-m", "benchmarks.evidence", *args], cwd=ROOT).returncode


def comfyui(args: list[str]) -> int:
    environment = prepare()
    command = [str(environment.comfyui_python), str(environment.comfyui / "main.py"), *_pack_arguments(environment)]
    if "--port" not in args:
        args = ["--port", str(8188 if is_free(8188) else free_port()), *args]
    if "--cpu" not in args and not _has_accelerator(environment):
        args = ["--cpu", *args]
    print(f"ComfyUI will be at http://127.0.0.1:{args[args.index('--port') + 1]} (Ctrl+C ends it)", flush=True)
    return subprocess.run([*command, *args], cwd=environment.comfyui).returncode


def _pack_arguments(environment: Environment) -> list[str]:
    """Arguments that load the pack. The user's own ComfyUI stays unchanged; the one from the index works in .demo."""
    prepare_base(BASE, ROOT)
    if not environment.users_own:
        return ["--base-directory", str(BASE), "--database-url", "sqlite:///:memory:"]
    installed = environment.comfyui / "custom_nodes"
    if installed.is_dir() and any(entry.resolve() == ROOT.resolve() for entry in installed.iterdir()):
        return []
    config = BASE / "extra_model_paths.yaml"
    config.write_text(json.dumps({PACK_FOLDER: {"custom_nodes": str(BASE / "custom_nodes")}}), "utf-8")
    return ["--extra-model-paths-config", str(config)]


def _has_accelerator(environment: Environment) -> bool:
    code = "import sys, torch; sys.exit(not (torch.cuda.is_available() or torch.backends.mps.is_available()"
    code += " or hasattr(torch, 'xpu') and torch.xpu.is_available()))"
    return subprocess.run([str(environment.comfyui_python), "-c", code]).returncode == 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo,
    "comfyui": comfyui,
    "test": test,
    "bench": bench,
    "evidence": evidence,
}


def main() -> int:
    verb, *args = sys.argv[1:] or ["help"]
    if verb not in VERBS:
        print((__doc__ or "").strip())
        return 0 if verb in ("help", "-h", "--help") else 2
    # so that a SIGTERM also stops the servers that were started, like Ctrl+C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return VERBS[verb](args)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
