"""PM Find Strengths' loop with stand-ins for models and sampling: what it samples, shows, keeps and reports."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.tests.support.oracles import scores as oracle

BEST = 0.7, 0.45


class Model:
    """A model that knows the settings that were applied to it."""

    def __init__(self, applied: Mapping[str, Any] | None = None) -> None:
        self.applied = applied
        self.patches_uuid = uuid.uuid4()

    def clone(self) -> Model:
        return self


class Clip:
    """A text encoder that nothing changes."""

    patcher = SimpleNamespace(patches_uuid=1)
    layer_idx = None

    def clone(self) -> Clip:
        return self


class Sweep:
    """Two LoRAs, red and green, that add their colour; past BEST they destroy the picture."""

    def __init__(self, *names: str, only: int = 0) -> None:
        self.names = names
        self.only = only  # the LoRA of a sweep of one

    def alone(self, number: int) -> Sweep:
        return Sweep(*self.names, only=number)

    def name(self, number: int) -> str:
        return self.names[number - 1]

    def apply(self, model: Model, clip: Any, settings: Mapping[str, Any]) -> tuple[Model, Any]:
        return Model({f"alone {self.only}": settings["strength 1"]} if self.only else settings), clip

    def identity(self, settings: Mapping[str, Any]) -> tuple[object, ...]:
        return (self.names, self.only, *sorted(settings.items()))


def paint(red: float, green: float, merged: bool, light: float = 0.0) -> torch.Tensor:
    """A row for each of the two colours, and one for the damage that a merge past BEST does."""
    damage = 2 * (max(0.0, red - BEST[0]) + max(0.0, green - BEST[1])) if merged else 0.0
    picture = torch.zeros(1, 8, 8, 3)
    for channel, amount in enumerate((red, green, damage)):
        picture[0, channel, :, channel] = min(1.0, 0.4 * amount) + light
    picture[0, 7] = 0.9
    return picture


class Searches:
    def __init__(self, comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        from lora_pack.xy import comfy_sampling, grid_run, kept_cells, sampling, search, strength_search

        self.module, self.search, self.run = strength_search, search, grid_run
        self.sampling = sampling.Sampling(100, 4, 7.0, "euler", "normal", 1.0, "a", "b")
        self.sampled: list[tuple[Mapping[str, Any] | None, int]] = []
        self.shown: list[str] = []
        self.stop_at = 10**9
        # a memory of its own
        monkeypatch.setattr(kept_cells.KEPT, "_pictures", {})
        texts = {"positive": None, "negative": None}
        self.inputs = grid_run.Inputs(Model(), Clip(), Model(), {"samples": torch.zeros(1, 4, 8, 8)}, texts)
        self.encoded: list[str] = []
        monkeypatch.setattr(comfy_sampling, "encode", lambda clip, text: self.encoded.append(text) or text)
        monkeypatch.setattr(comfy_sampling, "sample", self.sample)
        monkeypatch.setattr(comfy_sampling, "decode", lambda vae, latent: latent["picture"])

    def sample(self, model: Model, sampling: Any, positive: Any, negative: Any, latent: Any) -> dict[str, Any]:
        import comfy.model_management

        if len(self.sampled) >= self.stop_at:
            raise comfy.model_management.InterruptProcessingException()
        self.sampled.append((model.applied, sampling.seed))
        settings = model.applied or {}
        merged = "strength 1" in settings
        strengths = [settings.get(f"{'strength' if merged else 'alone'} {number}", 0.0) for number in (1, 2)]
        picture = paint(*strengths, merged=merged, light=0.02 * (sampling.seed - 100))
        return {"samples": latent["samples"], "picture": picture}

    def start(self, budget: int = 40, names: tuple[str, ...] = ("red", "green"), **settings: Any) -> Any:
        return self.module.StrengthSearch(
            self.inputs,
            Sweep(*names),
            dict(enumerate(names, 1)),
            self.sampling,
            lambda picture: picture.flatten(),
            self.search.Search(len(names), 0.0, 1.0, budget),
            show=lambda picture, caption: self.shown.append(caption),
            **settings,
        )


@pytest.fixture
def searches(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Searches:
    return Searches(comfy, monkeypatch)


def test_the_best_strengths_are_found_within_the_budget(searches: Searches):
    running = searches.start()
    running.run()

    def worth(red: float, green: float) -> float:
        pictures = (paint(red, green, True), *(paint(a, b, False) for a, b in ((0, 0), (1, 0), (0, 1))))
        picture, none, *alone = (one.double().numpy().ravel() for one in pictures)
        return oracle.score(picture, none, alone)

    steps = [step / 25 for step in range(26)]
    peak = max(worth(red, green) for red in steps for green in steps)
    assert worth(*running.best()) > peak - 0.03 > worth(1, 1) + 0.1
    assert len(searches.sampled) == len(searches.shown) == running.seen <= 40
    assert searches.encoded == ["a", "b"]  # the LoRAs leave the text encoder as it is
    seeds = {seed for _, seed in searches.sampled}
    assert seeds == {100, 101, 102}
    # references first, the same for every seed
    alone = [applied for applied, _ in searches.sampled[:9]]
    assert alone == [None, {"alone 1": 1.0}, {"alone 2": 1.0}] * 3
    assert searches.shown[:3] == ["no LoRA", "red alone", "green alone"]
    assert searches.shown[9].startswith("1.00 / 1.00: ")
    place = running.places[running.best()]
    assert searches.shown[place].startswith(" / ".join(f"{strength:.2f}" for strength in running.best()))


def test_the_report_lists_every_point_and_ends_with_the_best(searches: Searches):
    running = searches.start(20)
    running.run()
    lines = running.report().splitlines()
    assert len([line for line in lines if line.startswith("red ")]) == len(running.search.scores)
    best = running.best()
    assert lines[-1].startswith(f"best: red {best[0]:.2f}, green {best[1]:.2f}: score 0.")
    assert lines[0].startswith("red 1.00, green 1.00: score ")


def test_a_stop_ends_with_the_best_so_far_and_the_next_run_samples_only_the_rest(searches: Searches):
    searches.stop_at = 15
    running = searches.start(30)
    running.run()
    assert running.stopped and running.seen == 15 and running.best() in running.pictures
    assert "stopped after 15 of 30 pictures; the next run goes on from here" in running.report().splitlines()
    searches.stop_at = 10**9
    again = searches.start(30)
    again.run()
    assert len(searches.sampled) == again.seen <= 30 and not again.stopped
    assert len({(str(applied), seed) for applied, seed in searches.sampled}) == len(searches.sampled)


def test_the_doubt_of_other_strengths_is_not_told_for_those_seen_with_fewer_seeds(searches: Searches):
    plan = searches.search.plan(30, 2)
    searches.stop_at = 3 * plan.seeds + plan.points + 1
    running = searches.start(30)
    running.run()
    assert sorted(map(len, running.search.scores.values()))[-2:] == [1, 2]
    assert running.best() == running.search.start
    start = running.search.scores[running.best()]
    assert running.report().splitlines()[-1] == f"best: red 1.00, green 1.00: score {start[0]:.3f}"


def test_a_range_of_negative_strengths_is_measured_against_the_lowest(searches: Searches):
    running = searches.start(20, names=("red", "green"))
    running.search = searches.search.Search(2, -1.0, 0.0, 20)
    with pytest.raises(LoraError, match="red and green alone look like no LoRA"):
        running.run()  # these LoRAs have no negative colours
    assert [applied for applied, _ in searches.sampled] == [None, {"alone 1": -1.0}, {"alone 2": -1.0}]


def test_the_report_says_why_pictures_are_left_and_that_one_seed_tells_little(searches: Searches):
    lone = searches.start(200, names=("red",))
    lone.run()
    assert f"ended after {lone.seen} of 200 pictures: the range has no other strengths" in lone.report().splitlines()
    small = searches.start(8)
    small.run()
    assert small.search.plan.seeds == 1 and small.best() != small.search.highest()
    assert (
        small.report()
        .splitlines()[-2]
        .endswith("so that stays. A larger budget sees several seeds, and can tell smaller differences")
    )
    large = searches.start(40)
    large.run()
    assert "ended after" not in large.report() and "larger budget" not in large.report()


def test_a_stop_before_the_first_score_stops_the_prompt(searches: Searches):
    import comfy.model_management

    searches.stop_at = 5
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        searches.start().run()


def test_a_lora_without_effect_is_told_before_the_budget_is_spent(searches: Searches):
    with pytest.raises(LoraError, match="grey alone looks like no LoRA to the image encoder"):
        searches.start(names=("red", "green", "grey")).run()
    assert len(searches.sampled) == 4


def test_one_lora_can_be_searched_too(searches: Searches):
    running = searches.start(12, names=("red",))
    running.run()
    assert 0 <= running.best()[0] <= 1 and running.seen <= 12


def test_given_references_cost_nothing_and_no_lora_is_sampled_alone(searches: Searches):
    pictures = [paint(a, b, False, light) for a, b in ((0, 0), (1, 0), (0, 1)) for light in (0.0, 0.05)]
    running = searches.start(20, given=torch.cat(pictures))
    running.search = searches.search.Search(2, 0.0, 1.0, 20, given=True)
    running.run()
    assert all("strength 1" in (applied or {}) for applied, _ in searches.sampled)
    assert running.seen <= 20 and sum(map(len, running.search.scores.values())) == running.seen > 17
    none, *alone = [[one.double().numpy().ravel() for one in pictures[first : first + 2]] for first in (0, 2, 4)]
    point = next(iter(running.search.scores))
    picture = running.pictures[point].double().numpy().ravel()
    assert running.search.scores[point][0] == pytest.approx(oracle.score(picture, none, alone), abs=1e-9)


def test_sampled_references_are_called_the_weaker_ones(searches: Searches):
    running = searches.start(20)
    running.run()
    assert "Scores say more with references" in running.report()


@pytest.mark.parametrize("given", [False, True])
def test_a_black_reference_is_refused_before_the_budget_is_spent(
    searches: Searches, monkeypatch: pytest.MonkeyPatch, given: bool
):
    pictures = [paint(a, b, False) for a, b in ((0, 0), (1, 0), (0, 1))]
    pictures[2] = torch.full_like(pictures[2], float("nan")) if not given else torch.zeros_like(pictures[2])
    from lora_pack.xy import comfy_sampling

    monkeypatch.setattr(comfy_sampling, "decode", lambda vae, latent: pictures[len(searches.sampled) - 1])
    with pytest.raises(LoraError, match="No scores: the picture of green alone is black, as it is if .* gives NaN"):
        searches.start(20, given=torch.cat(pictures) if given else None).run()
    assert len(searches.sampled) == (0 if given else 3)
