"""What a run was made on, in a few words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def described(processes: int) -> str:
    cores = f"{processes} {'processes' if processes != 1 else 'process'} of one thread, {os.cpu_count()} cores"
    return f"{_processor()} ({cores}), torch {torch.__version__.partition('+')[0]}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
