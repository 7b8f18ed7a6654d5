"""A whole run on a tiny base: LoRAs, merges, judges, results and the page, in the order of the study."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence import __main__ as program
    from benchmarks.evidence import autoencoder, base, glyphs, mmdit, report, results, settings, study, units
    from benchmarks.evidence.cases import INDEPENDENT, REPORT
finally:
    sys.path.remove(str(ROOT))

TINY = study.Scale("tiny", judge_steps=2, lora_steps=1, rounds=1, pairs=1, modes=("ties_svd",))


@pytest.fixture
def without_fonts(monkeypatch: pytest.MonkeyPatch):
    """Noise instead of letters: here nothing needs to be learned."""

    def render(character: str, font: str, variant: int = 0) -> np.ndarray:
        shape = (glyphs.SIZE, glyphs.SIZE)
        return np.random.RandomState(sum(map(ord, character + font)) + variant).rand(*shape).astype(np.float32)

    monkeypatch.setattr(glyphs, "render", render)


def tiny_base() -> base.Base:
    torch.manual_seed(0)
    encoder = autoencoder.Encoder(torch.randn(16, 64) / 8, torch.zeros(16))
    return base.Base(mmdit.MMDiT(1).eval(), encoder, autoencoder.Decoder(4))


def test_a_run_evaluates_every_setting_and_writes_a_page(without_fonts: None, tmp_path: Path):
    a_study = study.Study(tmp_path / "run", TINY, tiny_base)
    # the judges, the base and the first pairs, as a run that was stopped has them; then the report of those
    for stage, _ in zip(a_study.stages(), range(3), strict=False):
        units.work_through(stage, time.time() + 300)
    about = {"scale": "tiny", "machine": "", "minutes": 0, "known": 0.0, "fonts": 1, "letters": 1, "lora_steps": 1}
    right = {"character": 0.0, "font": 0.0}
    found = results.collect(a_study.files(), about | {"judges": right, "truth": right})
    merged = {one.setting for one in found.evaluations if (one.stratum, one.half) == (INDEPENDENT, REPORT)}
    assert merged == {"concat", "ties_svd", "ties_svd+sum"}
    page, *images = report.write(found, tmp_path / "evidence.md")
    assert "`ties_svd`" in page.read_text("utf-8") and len(images) == 3
    assert not list((tmp_path / "run").rglob("*.claim"))


def test_every_unit_has_a_file_of_its_own_and_what_it_needs_is_made_before_or_with_it(
    without_fonts: None, tmp_path: Path
):
    made: set[Path] = set()
    for stage in study.Study(tmp_path, study.FULL, tiny_base).stages():
        files = [unit.file for unit in stage]
        assert len(set(files)) == len(files)
        made |= set(files)
        assert all(need in made for unit in stage for need in unit.needs)


def test_one_method_is_benchmarked_beside_the_sum():
    options = program._parser().parse_args(["--method", "ties"])
    assert program._scale(options).modes == ("ties", "ties_svd")


def test_an_unknown_method_is_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match="no method 'tyes'"):
        program._scale(program._parser().parse_args(["--method", "tyes"]))


def test_every_mode_of_the_strata_exists():
    assert {setting.mode for setting in settings.of_strata()} <= set(settings.MODES)
