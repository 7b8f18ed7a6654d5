"""The examples' thumbnails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
from tools import draw_schemes as d
assert d.card("SVD merge and resize").size == (640, 360)
assert d.card("XY plot of modes (Efficiency)").tobytes() != d.card("XY plot of modes").tobytes(), "pack not named"
assert len({d.cat(a, b).tobytes() for a in (0, 0.5, 1) for b in (0, 0.5, 1)}) == 9, "strengths look alike"
kept = [int((d.merged_squares(mode, 0.2).abs() > 1e-3).sum()) for mode in ("add", "ties", "magnitude_prune")]
assert kept[0] == 49 and 0 < kept[1] <= kept[2] < 49, kept
assert len({d.truncated(rank).tobytes() for rank in (1, 2, 4, 8)}) == 4
"""


def test_schemes_show_what_they_are_about():
    """In a process of its own: the tool loads the core under the name that it has in a checkout."""
    run = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
