"""The search for strengths, on landscapes whose best point is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.merge.errors import LoraError

Score = Callable[[Sequence[float], int], float]


@pytest.fixture
def search(comfy: ModuleType) -> Any:
    from lora_pack.xy import search

    return search


def run(running: Any, score: Score, stop_after: int = 10**9) -> list[Any]:
    """All trials of a search, or the first few."""
    asked, trials = [], running.trials()
    trial = next(trials)
    try:
        while len(asked) < stop_after:
            asked.append(trial)
            trial = trials.send(score(trial.strengths, trial.seed))
    except StopIteration:
        pass
    return asked


def hill(*top: float, noise: float = 0.0) -> Score:
    """A smooth hill, with an offset for each seed and noise for each picture."""

    def score(strengths: Sequence[float], seed: int) -> float:
        distance = np.square(np.array(strengths) - top).sum()
        place = [seed, *(round(1000 * one) + 10_000 for one in strengths)]
        return float(1 - distance + 0.1 * np.sin(seed) + noise * np.random.default_rng(place).normal())

    return score


@pytest.mark.parametrize("top", [(0.62, 0.33), (0.8, 1.0), (1.0, 1.0), (0.0, 0.47), (0.7, 0.4, 0.9), (0.55,)])
def test_the_best_point_is_found(search: Any, top: tuple[float, ...]):
    running = search.Search(len(top), 0.0, 1.0, 40)
    run(running, hill(*top))
    assert running.best() == pytest.approx(top, abs=0.05)


@pytest.mark.parametrize("high", [1.0, 1.5])
def test_the_search_beats_a_grid_of_as_many_pictures(search: Any, high: float):
    """Two LoRAs, 40 pictures: three of them references for a grid of 6 x 6."""
    lost: list[float] = []
    lost_by_grid: list[float] = []
    steps = np.linspace(0, high, 6)
    for number in range(24):
        top = np.random.default_rng(number).uniform(0.1, high, 2)
        score = hill(*top, noise=0.03)
        running = search.Search(2, 0.0, high, 40)
        run(running, score)
        on_grid = max(itertools.product(steps, steps), key=lambda point: score(point, 0))
        lost.append(np.square(np.array(running.best()) - top).sum())
        lost_by_grid.append(np.square(np.array(on_grid) - top).sum())
    assert np.mean(lost) < 0.6 * np.mean(lost_by_grid)


@pytest.mark.parametrize("loras", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("budget", [11, 16, 40, 100, 233])
def test_references_count_in_the_budget_which_is_never_exceeded(search: Any, loras: int, budget: int):
    running = search.Search(loras, -0.5, 1.5, budget)
    trials = run(running, hill(*[0.5] * loras))
    seeds = {trial.seed for trial in trials}
    pictures = len(trials) + len(seeds) * (loras + 1)
    assert pictures <= budget
    # one LoRA has only so many strengths that are worth a picture
    assert pictures > budget - len(seeds) or loras == 1
    assert len(set(trials)) == len(trials), "a picture is asked for twice"
    for trial in trials:
        assert all(-0.5 <= strength <= 1.5 for strength in trial.strengths)
        assert all(strength == round(strength, 2) for strength in trial.strengths)


@pytest.mark.parametrize("budget", [2, 7, 20, 40])
def test_given_references_leave_the_whole_budget_to_points(search: Any, budget: int):
    running = search.Search(2, 0.0, 1.5, budget, given=True)
    trials = run(running, hill(0.5, 0.5))
    assert budget - running.plan.seeds < len(trials) <= budget


def test_strength_1_is_tried_first_or_the_largest_allowed(search: Any):
    assert run(search.Search(2, 0.0, 1.5, 20), hill(0, 0))[0] == search.Trial((1.0, 1.0), 0)
    assert run(search.Search(2, 0.0, 0.6, 20), hill(0, 0))[0].strengths == (0.6, 0.6)


def test_a_range_without_positive_strengths_starts_at_minus_1(search: Any):
    for low, high, start, largest in ((-1, 0, -1, -1), (-2, -0.5, -1, -2), (-0.5, 0, -0.5, -0.5), (-1, 0.5, 0.5, 0.5)):
        running = search.Search(2, low, high, 20)
        assert (running.start, running.largest) == ((start, start), largest)


@pytest.mark.parametrize(("low", "high", "budget", "distinct"), [(0.0, 1.0, 400, 101), (0.999, 1.0, 40, 11)])
def test_a_budget_beyond_the_strengths_that_a_range_has_ends(
    search: Any, low: float, high: float, budget: int, distinct: int
):
    running = search.Search(1, low, high, budget)
    asked = run(running, lambda strengths, seed: -abs(strengths[0] - low))
    assert len(running.scores) == len({trial.strengths for trial in asked}) <= distinct
    assert running.highest()[0] == pytest.approx(low, abs=(high - low) / 50)


def test_better_points_are_seen_with_more_seeds(search: Any):
    running = search.Search(2, 0.0, 1.0, 40)
    score = hill(0.3, 0.6)
    trials = run(running, score)
    plan = running.plan
    first = [trial.strengths for trial in trials[: plan.points]]
    again = [trial.strengths for trial in trials if trial.seed == 1][: -(-plan.points // 2)]
    by_merit = sorted(first, key=lambda point: -score(point, 0))
    # the start is seen with all seeds too, because the best is compared with it
    assert again == [*by_merit[: len(again) - 1], running.start]
    assert {trial.seed for trial in trials} == {0, 1, 2}
    assert len(running.scores[running.best()]) == 3


def test_a_stopped_search_knows_its_best_and_goes_on_to_the_same_end(search: Any):
    score = hill(0.6, 0.3, noise=0.05)
    whole = search.Search(2, 0.0, 1.0, 30)
    trials = run(whole, score)
    for stop_after in (0, 1, 7, len(trials) - 1):
        stopped = search.Search(2, 0.0, 1.0, 30)
        assert run(stopped, score, stop_after) == trials[:stop_after]
        seen = {trial.strengths for trial in trials[:stop_after]}
        assert stopped.best() in seen if seen else stopped.best() is None
        assert (stopped.verdict() is None) == (not seen)
    assert run(search.Search(2, 0.0, 1.0, 30), score) == trials


def test_the_start_stays_unless_others_are_better_beyond_doubt(search: Any):
    moved = 0
    for number in range(60):
        running = search.Search(2, 0.0, 1.5, 40)
        random = np.random.default_rng(number)
        run(running, lambda strengths, seed, random=random: float(0.1 * random.normal()))
        moved += running.best() != running.start
        assert running.start in running.scores and len(running.scores[running.start]) == 3
    assert moved <= 6, "5 % by chance are 3 of 60"
    assert running.highest() != running.start
    for noise in (0.0, 0.03, 0.08):
        running = search.Search(2, 0.0, 1.5, 40)
        run(running, hill(0.5, 0.4, noise=noise))
        assert running.best() == running.highest() != running.start


def test_a_sharp_peak_that_no_quadratic_fits_is_better_too(search: Any):
    running = search.Search(2, 0.0, 1.0, 40)
    run(running, lambda strengths, seed: float(np.exp(-30 * np.square(np.array(strengths) - (0.4, 0.6)).sum())))
    assert running.best() == running.highest() != running.start


def test_scheffes_test_is_rarely_wrong_about_the_highest_of_all_points(comfy: ModuleType):
    from lora_pack.xy.quadratic import Observations, fit

    wrong = 0
    for number in range(200):
        random = np.random.default_rng(number)
        at = random.uniform(size=(30, 2))
        seen = Observations(at, np.arange(30) % 3, random.normal(size=30))
        surface = fit(seen, at[0])
        highest = at[np.argmax(surface.at(at))]
        wrong += surface.is_higher(highest, at[0], 0.95)
    assert wrong <= 12


def test_a_fit_finds_the_coefficients_and_their_error(comfy: ModuleType):
    """Against numpy's own least squares, with an offset for each seed."""
    from lora_pack.xy.quadratic import Observations, fit

    random = np.random.default_rng(0)
    at, seeds = random.uniform(size=(200, 2)), np.arange(200) % 2
    x, y = (at - 0.5).T
    terms = np.stack([np.ones(200), x, y, x * x, x * y, y * y, seeds], axis=1)
    true = np.array([0.3, 1.0, -2.0, 0.5, 0.25, -1.5, 0.4])
    scores = terms @ true + 0.1 * random.normal(size=200)
    surface = fit(Observations(at, seeds, scores), np.full(2, 0.5))
    found, residual, *_ = np.linalg.lstsq(terms, scores, rcond=None)
    covariance = float(residual[0]) / (200 - 7) * np.linalg.inv(terms.T @ terms)
    assert surface.freedom == 200 - 7
    np.testing.assert_allclose(surface.coefficients, found[:6], atol=2e-3)
    np.testing.assert_allclose(surface.covariance, covariance[:6, :6], rtol=0.01, atol=1e-6)


def test_a_flat_landscape_has_no_best_point(search: Any):
    running = search.Search(2, 0.0, 1.0, 40)
    random = np.random.default_rng(0)
    run(running, lambda strengths, seed: float(random.normal() * 0.1))
    assert running.verdict().best is None and running.verdict().doubt > 0


def test_points_are_short_to_write_in_small_ranges_too(search: Any):
    running = search.Search(2, 0.5, 0.6, 30)
    run(running, hill(0.55, 0.57))
    assert running.best() == pytest.approx((0.55, 0.57), abs=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((2, 1.0, 1.0, 40), r"min_strength \(1\) must be below max_strength \(1\)"),
        ((2, 0.0, 1.0, 4), "The budget is 4 pictures; 2 LoRAs need 5 or more: 3 to compare with"),
        ((1, 0.0, 1.0, 3), "1 LoRA needs 4 or more"),
    ],
)
def test_impossible_searches_are_refused(search: Any, settings: tuple[Any, ...], message: str):
    with pytest.raises(LoraError, match=message):
        search.Search(*settings)


def test_the_search_leaves_torchs_random_state_alone(search: Any):
    before = torch.get_rng_state()
    run(search.Search(3, 0.0, 1.0, 30), hill(0.3, 0.4, 0.5))
    assert torch.equal(before, torch.get_rng_state())
