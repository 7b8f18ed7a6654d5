"""Describes the machine that the numbers were measured on."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import psutil
import torch


def describe(device: str, threads: int = 0) -> str:
    """One line, without host name or date."""
    cores = psutil.cpu_count(logical=False)
    logical = psutil.cpu_count() or 0
    parts = [
        _processor(),
        f"{cores} cores, {logical} hardware threads" if cores else f"{logical} hardware threads",
        f"{threads or torch.get_num_threads()} threads used",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    if torch.device(device).type == "cuda":
        parts.append(torch.cuda.get_device_name(torch.device(device)))
    return ", ".join(parts)


def _processor() -> str:
    try:
        if sys.platform == "linux":
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
                if line.startswith("model name"):
                    return " ".join(line.split(":", 1)[1].split())
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine()
