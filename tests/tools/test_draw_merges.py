"""The pictures of real merges: what each subject's functions draw, from the shipped base and LoRAs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELP = ROOT / "web" / "docs" / "pictures"
CODE = """
import json, torch
torch.set_num_threads(1)
from tools.draw_merges import modes, ranks, readme, saved, search, strengths
from tools.draw_merges.__main__ import pictures
from tools.draw_merges.drawing import CONCEPT, STYLE, drawn

def look(*loras):
    return list(drawn(loras)[0].tobytes())

drawings = {
    "strengths": strengths.loader((0, 1)),
    "modes": modes.xy_sweep((1,)),
    "ranks": ranks.extract((2,)),
    "saved": saved.sampling((0,)),
    "search": search.search(5),
    "readme": readme.strip(),
}
print(json.dumps({
    "files": [str(file) for file in pictures()],
    "sizes": {subject: drawing.size for subject, drawing in drawings.items()},
    "looks": {
        "base": look(),
        "concept at 0": look(f"{CONCEPT}:0"),
        "concept": look(CONCEPT),
        "both": look(CONCEPT, STYLE),
        "merged": look(*strengths.both(1, 1)),
    },
    "nothing": strengths.both(0, 0),
    "best": search.searched(5).best(),
    "measured": saved.measured(CONCEPT, STYLE)["loras"][0]["name"],
}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """In a process of its own: the tool loads the core under the name that it has in a checkout."""
    run = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def apart(a: list[int], b: list[int]) -> int:
    """The largest difference of two pictures' pixels."""
    return max(abs(one - other) for one, other in zip(a, b, strict=True))


@pytest.mark.parametrize("subject", ["strengths", "modes", "ranks", "saved", "search", "readme"])
def test_a_subject_draws_its_pictures(found: dict[str, Any], subject: str):
    width, height = found["sizes"][subject]
    assert width == (860 if subject == "readme" else 600)
    assert height > 100


def test_every_result_picture_has_a_function_and_every_function_a_picture(found: dict[str, Any]):
    files = {Path(file) for file in found["files"]}
    assert {file for file in files if file.suffix == ".webp"} == set(HELP.glob("*_result.webp"))
    assert all(file.is_file() for file in files)


def test_pictures_show_the_loras_at_their_strengths(found: dict[str, Any]):
    looks = found["looks"]
    assert looks["concept at 0"] == looks["base"]
    assert apart(looks["concept"], looks["base"]) > 100
    assert apart(looks["merged"], looks["both"]) <= 2
    assert found["nothing"] == []


def test_the_search_and_the_measurements_are_the_packs_own(found: dict[str, Any]):
    assert all(0 <= strength <= 1 for strength in found["best"])
    assert found["measured"] == "question-mark"
