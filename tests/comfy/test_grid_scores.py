"""Scores of whole plots: which references a plot needs, which cells share a score, and what the report says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.tests.support.oracles import scores as oracle
from lora_pack.tools.make_lora import small_modules, write_lora

Pictures = dict[tuple[int, int], torch.Tensor]


class Plots:
    """The pack's modules, and plots of the LoRAs "red", "green" and "blue"."""

    def __init__(self, folder: Path) -> None:
        from lora_pack.xy import capsule, cell, grid_axis, grid_scores, references, sampling, sweep

        self.capsule, self.cell, self.sweep = capsule, cell, sweep
        self.grid_axis, self.scores, self.references = grid_axis, grid_scores, references
        self.base = sampling.Sampling(5, 2, 4.0, "euler", "normal", 1.0, "a", "b")
        self.sampling = sampling
        for seed, name in enumerate(("red", "green", "blue")):
            write_lora(folder / f"{name}.safetensors", rank=1, seed=seed, modules=small_modules())
        self.files = {name: load(folder / f"{name}.safetensors", name) for name in ("red", "green", "blue")}

    def sweep_of(self, *names: str) -> Any:
        sources = [self.sweep.GivenLora(self.files[name]) for name in names]
        return self.sweep.Sweep(sources, self.cell.Cell("concat"), device="cpu", dtype="float32")

    def axis(self, sweep: Any, setting: str, *values: Any) -> Any:
        return self.grid_axis.read_axis(
            "X", self.capsule.axis(sweep, [({setting: value}, f"{setting} {value}") for value in values])
        )

    def seeds(self, *values: int) -> Any:
        return self.grid_axis.read_axis("Y", ("Seeds++ Batch", list(values)))

    def nothing(self) -> Any:
        return self.grid_axis.read_axis("Y", None)

    def plan(self, x: Any, y: Any) -> Any:
        return self.grid_axis.samplings(self.base, x, y)


@pytest.fixture
def plots(comfy: ModuleType, tmp_path: Path) -> Plots:
    return Plots(tmp_path)


def test_a_plot_of_two_strengths_is_measured_against_each_lora_at_its_largest(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    x, y = plots.axis(sweep, "strength 1", 0.0, 0.4, 0.8), plots.axis(sweep, "strength 2", -1.0, 0.5)
    found = plots.references.references_of(x, y, plots.plan(x, y))
    assert [(lora.name, lora.strength) for lora in found.loras] == [("red", 0.8), ("green", 0.5)]
    assert set(found.of_cell.values()) == {(0, 1)} and found.samplings == (plots.base,)
    assert set(found.cells) == {(0, 0), (1, 0), (2, 0)}
    for lora, name, strength in zip(found.loras, ("red", "green"), (0.8, 0.5), strict=True):
        alone = lora.alone()
        merged = alone.sweep.lora(alone.settings, None, None)
        assert merged.modules.keys() == plots.files[name].modules.keys()
        for key, module in merged.modules.items():
            expected = strength * plots.files[name].modules[key].dense()
            assert torch.allclose(module.dense(), expected, atol=1e-6), name


def test_strengths_that_no_axis_changes_are_1_and_axes_multiply(plots: Plots):
    sweep = plots.sweep_of("red", "green", "blue")
    x, y = plots.axis(sweep, "strength 1", 0.5, 0.6), plots.axis(sweep, "all strengths", 0.5, 2.0)
    found = plots.references.references_of(x, y, plots.plan(x, y))
    assert [lora.strength for lora in found.loras] == [1.2, 2.0, 2.0]
    x = plots.axis(sweep, "strength 2", -0.5, -1.0)
    found = plots.references.references_of(x, plots.nothing(), plots.plan(x, plots.nothing()))
    assert [lora.strength for lora in found.loras] == [1.0, -1.0, 1.0]
    x = plots.axis(sweep, "strength 2", 0.0)
    found = plots.references.references_of(x, plots.nothing(), plots.plan(x, plots.nothing()))
    assert found.names == ["red", "blue"] and found.of_cell == {(0, 0): (0, 1)}


def test_the_loras_of_both_axes_count_and_every_seed_has_references(plots: Plots):
    first, second = plots.sweep_of("red", "green"), plots.sweep_of("blue")
    x, y = plots.axis(first, "strength 1", 0.0, 1.0), plots.axis(second, "strength 1", 0.0, 1.0)
    assert plots.references.references_of(x, y, plots.plan(x, y)).names == ["red", "green", "blue"]
    seeds = plots.seeds(0, 1, 2)
    found = plots.references.references_of(x, seeds, plots.plan(x, seeds))
    assert [sampling.seed for sampling in found.samplings] == [5, 6, 7] and len(found.cells) == 9


def test_plots_that_cannot_be_scored_say_why(plots: Plots):
    why = plots.scores.why_unscored
    seeds = plots.seeds(0, 1)
    found = plots.references.references_of(plots.nothing(), seeds, plots.plan(plots.nothing(), seeds))
    assert why(found, None) == "No scores: no axis merges LoRAs."
    sweep = plots.sweep_of("red", "green")
    files = plots.axis(sweep, "taken", (1,), (2,))
    found = plots.references.references_of(files, plots.nothing(), plots.plan(files, plots.nothing()))
    assert why(found, None).startswith("No scores: every cell has one LoRA alone")
    x = plots.axis(sweep, "strength 1", 0.0, 1.0)
    found = plots.references.references_of(x, plots.nothing(), plots.plan(x, plots.nothing()))
    assert why(found, None) is None and why(found, [torch.zeros(1)] * 3) is None
    with pytest.raises(LoraError, match="references has 2 pictures; this plot needs 3.*in this order: red, green"):
        why(found, [torch.zeros(1)] * 2)


def test_files_on_top_of_a_base_are_each_measured_with_their_own_references(plots: Plots):
    sweep = plots.sweep_of("red", "green", "blue")
    x = plots.axis(sweep, "taken", (1, 2), (1, 3))
    found = plots.references.references_of(x, plots.nothing(), plots.plan(x, plots.nothing()))
    assert found.of_cell == {(0, 0): (0, 1), (1, 0): (0, 2)} and plots.scores.why_unscored(found, None) is None


def colours(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def by_colour(picture: torch.Tensor) -> torch.Tensor:
    return picture.flatten()


def scored(
    plots: Plots, x: Any, y: Any, look: Callable[[tuple[int, int]], torch.Tensor], none: Any, *alone: Any
) -> Any:
    """Scores of cells that look as told, with references that look the same for every seed."""
    plan = plots.plan(x, y)
    found = plots.references.references_of(x, y, plan)
    references = {place: (none, *alone)[place[0]] for place in found.cells}
    cells = {place: look(place) for place in plan}
    settings = plots.scores.settings_of(x, y, plan)
    return plots.scores.score_grid(by_colour, found, references, cells, plan, settings)


BASE, RED, GREEN = colours(1, 0, 0, 0.2), colours(1, 0.3, 0, 0.2), colours(1, 0, 0.3, 0.2)


def mixed(red: float, green: float, damage: float = 0.0) -> torch.Tensor:
    return BASE + red * (RED - BASE) + green * (GREEN - BASE) + colours(0, 0, 0, damage)


def test_the_cell_that_shows_both_undamaged_is_the_best(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    strengths = [0.0, 0.5, 1.0]
    x, y = plots.axis(sweep, "strength 1", *strengths), plots.axis(sweep, "strength 2", *strengths)
    found = scored(plots, x, y, lambda at: mixed(at[0] / 2, at[1] / 2), BASE, RED, GREEN)
    assert found.best == (2, 2) and found.conclusion() == ["best: 3,3"]
    assert found.text((0, 0)) == "score 0.000" and found.text((2, 2)).startswith("score 0.9")
    # too much of both destroys the picture
    found = scored(plots, x, y, lambda at: mixed(at[0] / 2, at[1] / 2, 0.4 * (sum(at) == 4)), BASE, RED, GREEN)
    assert found.best in ((1, 2), (2, 1)) and found.conclusion()[0].startswith("as good, within the doubt: ")


def test_over_seeds_a_merge_has_one_score_with_its_doubt(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    x, y = plots.axis(sweep, "strength 1", 0.0, 0.5, 1.0), plots.seeds(0, 1, 2)
    noise = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)) * 0.02
    found = scored(plots, x, y, lambda at: mixed(at[0] / 2 + float(noise[at]), 1 + float(noise[at])), BASE, RED, GREEN)
    assert found.verdict.doubt > 0
    assert {found.text((2, row)) for row in range(3)} == {found.text((2, 0))} and " +- 0.0" in found.text((2, 0))
    assert found.best[0] == 2 and found.scores[found.best] == max(found.scores[2, row] for row in range(3))
    flat = scored(plots, x, y, lambda at: mixed(0.5 + 4 * float(noise[at]), 1), BASE, RED, GREEN)
    assert flat.best is None and flat.conclusion() == ["no difference"]


def test_equal_cells_make_no_difference_with_a_single_seed_too(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    x = plots.axis(sweep, "mode", "concat", "add")
    found = scored(plots, x, plots.nothing(), lambda at: mixed(0.8, 0.8), BASE, RED, GREEN)
    assert found.best is None and found.conclusion() == ["no difference"]


def test_a_lora_without_effect_leaves_no_scores_and_two_alike_a_warning(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    x = plots.axis(sweep, "strength 1", 0.5, 1.0)
    found = scored(plots, x, plots.nothing(), lambda at: mixed(1, 0), BASE, RED, 2 * BASE)
    assert found.scores == {} and found.best is None and found.text((0, 0)) == ""
    assert found.conclusion() == [
        "No scores: green alone looks like no LoRA to the image encoder. Raise its strength, or use a prompt in which "
        "it shows."
    ]
    found = scored(plots, x, plots.nothing(), lambda at: mixed(at[0] / 2, 0), BASE, RED, RED)
    assert found.conclusion()[0].startswith("red and green alone look the same to the image encoder")
    assert found.conclusion()[-1] == "best: 2,1"


def test_a_black_reference_leaves_no_scores(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    x = plots.axis(sweep, "strength 1", 0.5, 1.0)
    found = scored(plots, x, plots.nothing(), lambda at: mixed(1, 1), BASE, RED, torch.zeros_like(GREEN))
    assert found.scores == {} and found.best is None
    (remark,) = found.conclusion()
    assert remark.startswith(
        "No scores: the picture of green alone is black, as it is if the model or the VAE gives NaN"
    )


def test_cells_without_a_score_are_told_from_those_that_have_one(plots: Plots):
    sweep = plots.sweep_of("red", "green", "blue")
    x = plots.axis(sweep, "taken", (1, 2), (1, 3))
    found = scored(plots, x, plots.nothing(), lambda at: mixed(1, 1), BASE, RED, GREEN, 2 * BASE)
    assert list(found.scores) == [(0, 0)]
    assert found.conclusion()[0].startswith("No scores for some cells: blue alone looks like no LoRA")


def told(picture: torch.Tensor, *references: torch.Tensor | list[torch.Tensor]) -> float:
    """The oracle's score; a list holds several pictures of one kind."""

    def vectors(of: torch.Tensor | list[torch.Tensor]) -> Any:
        return [one.flatten().numpy() for one in of] if isinstance(of, list) else of.flatten().numpy()

    none, *alone = map(vectors, references)
    return oracle.score(vectors(picture), none, alone)


def test_the_references_of_all_seeds_are_averaged(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    x, y = plots.axis(sweep, "strength 1", 0.5, 1.0), plots.seeds(0, 1)
    plan = plots.plan(x, y)
    found = plots.references.references_of(x, y, plan)
    cells = {at: mixed((at[0] + 1) / 2, 1) for at in plan}
    by_seed = colours(0, 0, 0, 0.1)  # what one seed adds to every reference, and the other takes away
    noisy = {at: (BASE, RED, GREEN)[at[0]] + (by_seed if at[1] else -by_seed) for at in found.cells}
    scores = plots.scores.score_grid(by_colour, found, noisy, cells, plan, plots.scores.settings_of(x, y, plan)).scores
    of_both_seeds = [[noisy[column, row] for row in (0, 1)] for column in range(3)]
    assert scores[0, 0] == scores[0, 1] == pytest.approx(told(cells[0, 0], *of_both_seeds), abs=1e-12)
    assert scores[0, 0] != pytest.approx(told(cells[0, 0], *(noisy[column, 0] for column in range(3))), abs=1e-3)


def test_several_given_references_of_each_lora_are_averaged(plots: Plots):
    sweep = plots.sweep_of("red", "green")
    x = plots.axis(sweep, "strength 1", 0.5, 1.0)
    plan = plots.plan(x, plots.nothing())
    found = plots.references.references_of(x, plots.nothing(), plan)
    for count in (3, 6, 9):
        assert plots.scores.why_unscored(found, [BASE] * count) is None
    for count in (0, 2, 4, 7):
        with pytest.raises(LoraError, match=f"references has {count} pictures; this plot needs 3, or 3 times as many"):
            plots.scores.why_unscored(found, [BASE] * count)
    red = [mixed(1, 0, 0.2), mixed(1, 0, -0.1)]
    references = {(0, 0): BASE, (1, 0): torch.cat(red), (2, 0): GREEN}
    settings = plots.scores.settings_of(x, plots.nothing(), plan)
    scores = plots.scores.score_grid(by_colour, found, references, {(1, 0): mixed(1, 1)}, plan, settings).scores
    assert scores[1, 0] == pytest.approx(told(mixed(1, 1), BASE, red, GREEN), abs=1e-12)
