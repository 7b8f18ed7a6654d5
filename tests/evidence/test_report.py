"""docs/evidence.md is what the shipped results say: no figure in it is typed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence import plots, report, results, summary
    from benchmarks.evidence.cases import ALONE, CHOOSE, INDEPENDENT, REPORT
    from benchmarks.evidence.results import Evaluation, Results
finally:
    sys.path.remove(str(ROOT))


def an_evaluation(setting: str, pair: str, both: float, half: str = REPORT, stratum: str = INDEPENDENT) -> Evaluation:
    right = round(both * 16)
    digits = tuple([1] * right + [0] * (16 - right))
    loras = ("ampersand_r8_a4_kohya_both_s0_i0:1", "gravitas_r8_a4_kohya_both_s0_i1:1")
    return Evaluation(stratum, half, pair, 0, loras, setting, digits, digits, 0.2, 0.75, 0.1)


def some_results(rates: dict[str, float], half: str = REPORT) -> Results:
    evaluations = [
        an_evaluation(setting, pair, rate, half)
        for setting, rate in rates.items()
        for pair in ("a+b", "c+d", "e+f", "g+h", "i+j")
    ]
    about = {"scale": "full", "machine": "a machine", "minutes": 5, "judges": {"character": 0.9, "font": 0.8}}
    about |= {"fonts": 14, "letters": 22, "lora_steps": 400}
    about["truth"] = about["judges"]
    return Results(about | {"known": 0.9}, tuple(evaluations))


def test_the_page_and_its_plots_are_made_of_the_shipped_results(tmp_path: Path):
    shipped = results.read(report.RESULTS)
    for path in report.write(shipped, tmp_path / "evidence.md"):
        committed = report.PAGE.parent / path.relative_to(tmp_path)
        assert committed.read_text("utf-8") == path.read_text("utf-8"), f"{committed.name}: run the report again"


def test_results_are_the_same_after_writing(tmp_path: Path):
    before = some_results({"concat": 0.75, "ties_svd": 0.5})
    results.write(before, tmp_path / "results.json")
    after = results.read(tmp_path / "results.json")
    assert after.about == before.about and set(after.evaluations) == set(before.evaluations)


def test_a_row_is_compared_with_the_sum_on_the_same_pairs():
    found = summary.row(some_results({"concat": 0.75, "ties_svd": 0.5}), INDEPENDENT, REPORT, "ties_svd")
    assert found is not None
    assert (found.both.mean, found.to_sum.mean, found.to_sum.pairs) == (0.5, -0.25, 5)


def test_a_setting_without_the_sum_on_its_pairs_has_no_row():
    assert summary.row(some_results({"ties_svd": 0.5}), INDEPENDENT, REPORT, "ties_svd") is None


def test_both_is_normalised_by_what_the_loras_reach_alone():
    alone = [
        replace(an_evaluation("alone", name, rate, stratum=ALONE), loras=(f"{name}:1",))
        for name, rate in (("ampersand_r8_a4_kohya_both_s0_i0", 1.0), ("gravitas_r8_a4_kohya_both_s0_i1", 0.5))
    ]
    found = some_results({"concat": 0.25})
    with_alone = replace(found, evaluations=(*found.evaluations, *alone))
    row = summary.row(with_alone, INDEPENDENT, REPORT, "concat")
    assert row is not None and row.normalised == pytest.approx(0.5)


def test_settings_are_chosen_on_the_half_for_choosing_alone():
    choosing = some_results({"concat": 0.5, "ties_svd": 0.25, "ties_svd+d0.8+sum": 0.75}, CHOOSE)
    reporting = some_results({"concat": 0.5, "ties_svd": 1.0, "ties_svd+d0.8+sum": 0.0})
    joined = replace(choosing, evaluations=(*choosing.evaluations, *reporting.evaluations))
    assert summary.chosen_settings(joined) == {"concat": "concat", "ties_svd": "ties_svd+d0.8+sum"}


def test_a_difference_is_bold_and_a_tie_is_called_one():
    page = report.markdown(some_results({"concat": 0.75, "ties_svd": 0.25, "iso_svd": 0.75}))
    lines = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    assert "**-50" in lines["`ties_svd`"]
    assert "no difference" in lines["`iso_svd`"]


def test_a_run_that_was_stopped_early_says_what_it_lacks():
    page = report.markdown(some_results({"concat": 0.75}))
    assert "This run didn't reach it." in page


def test_a_plot_holds_every_point():
    curve = plots.Panel("mode", [plots.Point(x, x / 2, x / 2, x / 2) for x in (0.5, 1.0, 1.5)])
    svg = plots.draw("title <&>", "strength", [curve], None)
    assert svg.count("<circle") == 3 and "title &lt;&amp;&gt;" in svg
