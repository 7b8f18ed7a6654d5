"""PM XY Grid's loop with stand-ins for models and sampling: which calls it makes, in which order and how often."""

from __future__ import annotations

import gc
import uuid
import weakref
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lora_pack.merge.errors import LoraError


class Model:
    """A model that records the patches applied to it."""

    alive: weakref.WeakSet[Model] = weakref.WeakSet()

    def __init__(self, applied: tuple[str, ...] = ()) -> None:
        self.applied = applied

    def clone(self) -> Model:
        cloned = Model(self.applied)
        Model.alive.add(cloned)
        return cloned

    def patched(self, by: str) -> Model:
        cloned = self.clone()
        cloned.applied += (by,)
        return cloned


class Clip:
    """A text encoder with an id for its patches, as in ComfyUI."""

    layer_idx = None

    def __init__(self, patches_uuid: uuid.UUID) -> None:
        self.patcher = SimpleNamespace(patches_uuid=patches_uuid)

    def clone(self) -> Clip:
        return Clip(self.patcher.patches_uuid)


class OtherPacksCapsule:
    """A capsule of another pack. With ``encoder`` it also patches the text encoder."""

    def __init__(self, name: str, log: list[str], encoder: bool = False, result: Any = None) -> None:
        self.name, self.log, self.encoder, self.result = name, log, encoder, result
        self.partner: Any = None

    def getLabel(self) -> str:
        return f"{self.name}\nlabel"

    def set_x_capsule(self, capsule: Any) -> None:
        self.log.append(f"{self.name}.set_x {getattr(capsule, 'name', capsule)}")

    def pre_define_model(self, model: Model, clip: Clip, vae: Any) -> tuple[Model, Clip, Any]:
        assert_alone(model)
        self.log.append(f"{self.name}.pre_define")
        return model.patched(self.name), Clip(uuid.uuid4()) if self.encoder else clip, vae

    def get_result(self, model: Any, clip: Any, vae: Any) -> Any:
        self.log.append(f"{self.name}.get_result")
        return self.result

    def set_result(self, image: torch.Tensor, latent: dict[str, Any]) -> None:
        self.log.append(f"{self.name}.set_result {tuple(image.shape)} {latent['by']}")


def assert_alone(model: Model) -> None:
    gc.collect()
    assert {other for other in Model.alive if other.applied} <= {model}, "another patched model is still alive"


class Runs:
    """The pack's grid, recording what ComfyUI would have sampled and which texts it would have encoded."""

    def __init__(self, grid: ModuleType, axis: ModuleType, run: ModuleType, sampling: Any) -> None:
        self.grid, self.axis, self.run, self.base = grid, axis, run, sampling
        self.sampled: list[tuple[tuple[str, ...], int, Any]] = []
        self.encoded: list[str] = []

    def inputs(self, **given: Any) -> Any:
        texts = {"positive": None, "negative": None} | given
        return self.run.Inputs(Model(), Clip(uuid.uuid4()), "vae", {"samples": torch.zeros(1, 4, 8, 8)}, texts)

    def draw(self, x: Any, y: Any, inputs: Any = None, **given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = inputs or self.inputs(**given)
        axes = self.axis.read_axis("X", x), self.axis.read_axis("Y", y)
        labels = tuple(axis.labels(self.base) for axis in axes)
        return self.grid.draw_grid(inputs, *axes, labels, self.axis.samplings(self.base, *axes))[:2]


@pytest.fixture
def runs(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Runs:
    from lora_pack.xy import comfy_sampling, grid, grid_axis, grid_run
    from lora_pack.xy.sampling import Sampling

    runs = Runs(grid, grid_axis, grid_run, Sampling(2**64 - 1, 2, 7.0, "euler", "normal", 1.0, "a cat", "bad"))

    def encode(clip: Clip, text: str) -> str:
        runs.encoded.append(text)
        return f"{text} by {clip.patcher.patches_uuid}"

    def sample(model: Model, sampling: Any, positive: Any, negative: Any, latent: Any) -> dict[str, Any]:
        assert_alone(model)
        runs.sampled.append((model.applied, sampling.seed, positive.partition(" by")[0]))
        return latent | {"by": model.applied}

    monkeypatch.setattr(comfy_sampling, "encode", encode)
    monkeypatch.setattr(comfy_sampling, "sample", sample)
    monkeypatch.setattr(
        comfy_sampling, "decode", lambda vae, latent: torch.full((1, 16, 16, 3), len(runs.sampled) / 100)
    )
    return runs


def capsules(*values: Any) -> tuple[str, list[Any]]:
    return "XY_Capsule", list(values)


SEEDS = ("Seeds++ Batch", [0, 1, 2])


@pytest.mark.parametrize("swap", [False, True])
def test_a_capsule_is_applied_once_for_all_seeds(runs: Runs, swap: bool):
    log: list[str] = []
    axis = capsules(OtherPacksCapsule("p", log), OtherPacksCapsule("q", log))
    _, cells = runs.draw(*((SEEDS, axis) if swap else (axis, SEEDS)))
    seeds = [2**64 - 1, 0, 1]  # seeds wrap around to 0
    assert [entry[:2] for entry in runs.sampled] == [((name,), seed) for name in "pq" for seed in seeds]
    assert log.count("p.pre_define") == log.count("q.pre_define") == 1
    numbers = [round(float(cell.mean()) * 100) for cell in cells]
    assert numbers == ([1, 2, 3, 4, 5, 6] if swap else [1, 4, 2, 5, 3, 6])  # row by row
    # on X, next to seeds, it isn't asked for results, because it couldn't tell the rows apart
    assert (("p.get_result" in log), ("p.set_result" in str(log))) == (swap, swap)


def test_capsules_of_other_packs_are_called_as_by_efficiency(runs: Runs):
    log: list[str] = []
    runs.draw(capsules(OtherPacksCapsule("p", log)), capsules(OtherPacksCapsule("q", log)))
    assert log == ["q.set_x p", "q.pre_define", "q.get_result", "q.set_result (1, 16, 16, 3) ('q',)"]


@pytest.mark.parametrize("ours_on_x", [True, False])
def test_our_capsule_and_another_packs_are_both_applied(runs: Runs, ours_on_x: bool):
    from lora_pack.xy.capsule import Capsule

    class Sweep:
        def apply(self, model: Model, clip: Clip, settings: dict[str, Any]) -> tuple[Model, Clip]:
            return model.patched(f"ours {settings}"), clip

    ours: Any = Capsule(Sweep(), {"rank": 1}, "rank 1", 0)  # type: ignore[arg-type]
    other = OtherPacksCapsule("p", [])
    x, y = (ours, other) if ours_on_x else (other, ours)
    runs.draw(capsules(x), capsules(y))
    applied = ("ours {'rank': 1}", "p")
    assert [entry[0] for entry in runs.sampled] == [applied if ours_on_x else applied[::-1]]


def test_a_capsules_result_replaces_sampling(runs: Runs):
    ready = torch.full((1, 16, 16, 3), 0.4)  # 102 / 255
    _, cells = runs.draw(capsules(OtherPacksCapsule("p", [], result=(ready, {})), OtherPacksCapsule("q", [])), None)
    assert torch.equal(cells[:1], ready) and [entry[0] for entry in runs.sampled] == [("q",)]


def test_each_text_is_encoded_once_per_text_encoder(runs: Runs):
    words = ("Positive Prompt S/R", [("cat", None), ("cat", "dog")])
    runs.draw(capsules(OtherPacksCapsule("p", []), OtherPacksCapsule("q", [])), words)
    assert sorted(runs.encoded) == ["a cat", "a dog", "bad"]
    assert [entry[2] for entry in runs.sampled] == ["a cat", "a dog"] * 2
    runs.encoded.clear()
    runs.draw(capsules(OtherPacksCapsule("p", [], encoder=True), OtherPacksCapsule("q", [], encoder=True)), words)
    assert sorted(runs.encoded) == ["a cat", "a cat", "a dog", "a dog", "bad", "bad"]
    runs.encoded.clear()
    runs.draw(SEEDS, None, negative="given")
    assert runs.encoded == ["a cat"]


def test_replacements_on_both_axes_are_chained(runs: Runs):
    runs.base = replace(runs.base, positive="a cat on a mat")
    x = ("Positive Prompt S/R", [("cat", None), ("cat", "dog")])
    runs.draw(x, ("Positive Prompt S/R", [("dog", None), ("dog", "fox")]))
    assert {entry[2] for entry in runs.sampled} == {"a cat on a mat", "a dog on a mat", "a fox on a mat"}


def test_labels_name_the_values(runs: Runs):
    axis = runs.axis.read_axis
    labels = {
        "Steps": ([4], "4 steps"),
        "CFG Scale": ([7.0], "cfg 7"),
        "Denoise": ([0.25], "denoise 0.25"),
        "Sampler": ([("heun", None)], "heun"),
        "Scheduler": (["karras"], "karras"),
        "Negative Prompt S/R": ([("bad", "worse")], "worse"),
        "XY_Capsule": ([OtherPacksCapsule("p", [])], "p label"),
    }
    for kind, (values, label) in labels.items():
        assert axis("X", (kind, values)).labels(runs.base) == [label]
    assert axis("X", ("Sampler", [("heun", "karras")])).labels(runs.base) == ["heun, karras"]
    assert axis("X", None).labels(runs.base) == []


def test_long_prompts_that_differ_in_the_middle_have_different_labels(runs: Runs):
    prompts = [f"{'a very long prompt ' * 10}{colour}{' and so on' * 10}" for colour in ("red", "blue")]
    axis = runs.axis.read_axis("X", ("Positive Prompt S/R", [("cat", None), *(("cat", one) for one in prompts)]))
    red, blue = axis.labels(runs.base)[1:]
    assert "red" in red and "blue" in blue and max(len(red), len(blue)) <= 120


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (("Checkpoint", [("a", None, None)]), "X is an axis of type Checkpoint, which PM XY Grid can't plot"),
        (("XY_Capsule", []), "The axis connected to X has no values"),
        (("XY_Capsule", ["text"]), "X contains a str, which isn't an XY capsule: it has no getLabel"),
        ("text", "X: expected an XY axis, got str"),
    ],
)
def test_invalid_axes_are_refused(runs: Runs, axis: Any, message: str):
    with pytest.raises(LoraError, match=message):
        runs.draw(axis, None)


def test_cells_of_different_sizes_are_refused(runs: Runs):
    other = OtherPacksCapsule("p", [], result=(torch.zeros(1, 8, 8, 3), {}))
    with pytest.raises(LoraError, match="different sizes"):
        runs.draw(capsules(OtherPacksCapsule("q", []), other), None)


class OurSweep:
    """A sweep whose merges are told apart by their settings."""

    def apply(self, model: Model, clip: Clip, settings: dict[str, Any]) -> tuple[Model, Clip]:
        return model.patched(str(settings)), clip

    def identity(self, settings: dict[str, Any]) -> tuple[object, ...]:
        return tuple(sorted(settings.items()))


SWEEP = OurSweep()


def ours(setting: str, *values: float) -> tuple[str, list[Any]]:
    from lora_pack.xy.capsule import axis

    return axis(SWEEP, [({setting: value}, f"{setting} {value}") for value in values])  # type: ignore[arg-type]


def test_a_longer_axis_samples_only_its_new_cells(runs: Runs):
    inputs = runs.inputs()
    _, first = runs.draw(ours("a", 0, 1), ours("b", 0), inputs=inputs)
    assert len(runs.sampled) == 2
    _, again = runs.draw(ours("a", 1, 2, 0), ours("b", 0), inputs=inputs)
    assert [entry[0] for entry in runs.sampled[2:]] == [("{'a': 2, 'b': 0}",)]
    assert torch.equal(first[0], again[2]) and torch.equal(first[1], again[0])
    runs.draw(ours("b", 0), ours("a", 0, 1), inputs=inputs)  # flipped
    assert len(runs.sampled) == 3


@pytest.mark.parametrize("changed", ["model", "clip", "vae", "latent", "seed", "prompt", "conditioning"])
def test_cells_of_other_inputs_are_sampled_again(runs: Runs, changed: str):
    inputs = runs.inputs()
    axes = ours("a", 0, 1), None
    runs.draw(*axes, inputs=inputs)
    if changed == "model":
        inputs = replace(inputs, model=Model())
    elif changed == "clip":
        inputs = replace(inputs, clip=Clip(uuid.uuid4()))
    elif changed == "vae":
        inputs = replace(inputs, vae="other")
    elif changed == "latent":
        inputs = replace(inputs, latent={"samples": torch.ones(1, 4, 8, 8)})
    elif changed == "conditioning":
        inputs = replace(inputs, conditioning={"positive": None, "negative": [[torch.ones(1, 3), {}]]})
    else:
        runs.base = replace(runs.base, **({"seed": 5} if changed == "seed" else {"positive": "a dog"}))
    runs.draw(*axes, inputs=inputs)
    assert len(runs.sampled) == 4


def test_equal_latents_and_conditionings_of_another_run_are_the_same(runs: Runs):
    inputs = runs.inputs()
    for _ in range(2):
        inputs = replace(inputs, latent={"samples": torch.zeros(1, 4, 8, 8)})
        runs.draw(ours("a", 0, 1), None, inputs=replace(inputs, conditioning=dict.fromkeys(inputs.conditioning)))
    assert len(runs.sampled) == 2


def test_cells_of_other_packs_capsules_are_never_taken_from_earlier_runs(runs: Runs):
    inputs, axis = runs.inputs(), capsules(OtherPacksCapsule("p", []))
    runs.draw(axis, None, inputs=inputs)
    runs.draw(axis, None, inputs=inputs)
    assert len(runs.sampled) == 2


def test_a_stopped_run_goes_on_where_it_stopped(runs: Runs, monkeypatch: pytest.MonkeyPatch):
    inputs, axis = runs.inputs(), ours("a", 0, 1, 2)
    sample = runs.run.comfy_sampling.sample

    def stop_at_third(*given: Any) -> dict[str, Any]:
        if len(runs.sampled) == 2:
            raise KeyboardInterrupt
        return sample(*given)

    monkeypatch.setattr(runs.run.comfy_sampling, "sample", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        runs.draw(axis, None, inputs=inputs)
    monkeypatch.setattr(runs.run.comfy_sampling, "sample", sample)
    runs.draw(axis, None, inputs=inputs)
    assert [entry[0] for entry in runs.sampled] == [(f"{{'a': {n}}}",) for n in range(3)]


def test_kept_cells_stay_within_their_bytes_and_go_with_their_model(comfy: ModuleType):
    from lora_pack.xy.kept_cells import KeptCells, inputs_key

    model, kept = Model(), KeptCells(kept_bytes=3 * 12)
    common = inputs_key(model, None, "vae", {}, {})
    assert common is not None
    keys: list[Any] = [(common, None, (number,)) for number in range(4)]
    for key in keys[:3]:
        kept.put(key, torch.zeros(2, 2, 3, dtype=torch.uint8))
    kept.get(keys[0])
    kept.put(keys[3], torch.zeros(2, 2, 3, dtype=torch.uint8))
    assert [kept.get(key) is not None for key in keys] == [True, False, True, True]
    del model
    gc.collect()
    kept.forget_unreachable()
    assert [kept.get(key) for key in keys] == [None] * 4


def test_pictures_in_bytes_are_what_comfyui_saves(runs: Runs):
    image = torch.linspace(-0.1, 1.1, 999).reshape(1, 37, 9, 3)
    saved = (255.0 * image.numpy()).clip(0, 255).astype("uint8")
    in_bytes = runs.run.in_bytes(image)
    assert (in_bytes.numpy() == saved[0]).all()
    assert torch.equal(runs.run.in_bytes(runs.run.in_floats(in_bytes)[None]), in_bytes)


@pytest.mark.parametrize(
    ("text", "place"), [("", None), ("  ", None), ("2,1", (1, 0)), (" 3 , 2 ", (2, 1)), ("1;2", (0, 1))]
)
def test_a_pick_is_a_column_and_a_row_from_1(comfy: ModuleType, text: str, place: tuple[int, int] | None):
    from lora_pack.xy.pick import read_pick

    assert read_pick(text, 3, 2) == place


@pytest.mark.parametrize("text", ["4,1", "1,3", "0,1", "2", "best", "1,2,3", "-1,2"])
def test_a_pick_that_is_no_cell_is_refused_with_its_text(comfy: ModuleType, text: str):
    from lora_pack.xy.pick import read_pick

    with pytest.raises(LoraError, match=f"pick is '{text}', which is no cell of this grid of 3 x 2"):
        read_pick(text, 3, 2)
    with pytest.raises(LoraError, match="no cell of this grid of 3 x 2"):
        read_pick("9" * 5000 + ",1", 3, 2)  # more digits than Python reads


def test_a_cell_without_a_lora_of_this_pack_has_nothing_to_pick(runs: Runs):
    from lora_pack.xy.pick import picked_lora

    seeds = runs.axis.read_axis("X", SEEDS)
    foreign = runs.axis.read_axis("Y", capsules(OtherPacksCapsule("p", [])))
    alone = runs.axis.read_axis("Y", None)
    with pytest.raises(LoraError, match="2,1 has no LoRA to pick: its axes change only the sampling"):
        picked_lora(None, None, seeds, alone, (1, 0))
    with pytest.raises(LoraError, match="1,1 has no LoRA to pick: one of its axes is from another pack"):
        picked_lora(None, None, seeds, foreign, (0, 0))


def test_the_time_left_is_estimated_from_the_steps_so_far(comfy: ModuleType):
    from lora_pack.xy.pace import Pace, duration

    now = 100.0
    pace = Pace(lambda: now)
    pace.begins()
    assert pace.seconds_for(20) is None
    now = 110.0
    pace.finished(20)
    assert pace.seconds_for(60) == 30
    assert [duration(seconds) for seconds in (12.4, 600, 12_000)] == ["12 s", "10 min", "3 h 20 min"]


def test_more_cells_than_allowed_are_refused_with_their_number(comfy: ModuleType):
    from lora_pack.xy.grid import _require_allowed

    with pytest.raises(LoraError, match="has 102400 cells, but max_cells allows 400"):
        _require_allowed(320 * 320, 400)
    _require_allowed(400, 400)
