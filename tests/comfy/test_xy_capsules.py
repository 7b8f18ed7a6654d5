"""The XY nodes' capsules, called as by KSampler (Efficient), on a real ComfyUI model in this process.

A "picture" here is the patches of the model and the text encoder. It must be identical, bit for bit, to those of the
merge node and PM Apply LoRA with the same settings.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.tests.comfy.efficiency_double import Plot, plot
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import CHECKPOINT

Axis = tuple[str, list[Any]]
Picture = dict[str, list[Any]]

# few modules, because the tests make many merges
A, B = "capsules/a.safetensors", "capsules/b.safetensors"
MERGER = {"mode": "concat", "density": 1.0, "device": "cpu", "dtype": "float32"}
SEEDS: Axis = ("Seeds++ Batch", [0, 1])
PROMPTS: Axis = ("Positive Prompt S/R", [("cat", None), ("cat", "dog")])
STRENGTHS = {
    "lora_a": A,
    "lora_b": B,
    "mode": "concat",
    "density": 1.0,
    "device": "cpu",
    "dtype": "float32",
    "min_strength": -0.5,
    "max_strength": 1.5,
    "apply_strength": "model + clip",
    "steps": 2,
}
MODES = {
    "lora_a": A,
    "lora_b": B,
    "modes": "add, dare_linear",
    "min_density": 0.3,
    "max_density": 0.8,
    "density_steps": 2,
    "device": "cpu",
    "dtype": "float32",
}
RANKS = {
    "lora_a": A,
    "lora_b": B,
    "mode": "add_svd",
    "density": 1.0,
    "min_rank": 1,
    "max_rank": 12,
    "rank_steps": 2,
    "device": "cpu",
    "dtype": "float32",
}


class Pack:
    """The pack's nodes in this process, and a small model to plot with."""

    def __init__(self, xy: ModuleType, nodes: ModuleType, model: Any, clip: Any) -> None:
        self.xy, self.nodes = xy.NODE_CLASSES, nodes.NODE_CLASSES
        self.model, self.clip, self.vae = model, clip, object()

    def strengths(self, **settings: Any) -> tuple[Axis, Axis]:
        return self.xy["XY: PM LoRA Strengths"]().plot(**STRENGTHS | settings)

    def modes(self, **settings: Any) -> tuple[Axis, Axis]:
        return self.xy["XY: PM LoRA Modes"]().plot(**MODES | settings)

    def ranks(self, **settings: Any) -> Axis:
        return self.xy["XY: PM LoRA SVD Rank"]().plot(**RANKS | settings)[0]

    def plot(self, x: Axis | None, y: Axis | None, flip: bool = False) -> Plot:
        """A cell is (patches of the model, patches of the text encoder that its prompts are encoded with, others)."""

        def sample(model: Any, prompts: Picture, others: dict[str, Any]) -> tuple[Picture, Picture, dict[str, Any]]:
            return contents(model.patches), prompts, others

        return plot(x, y, self.model, self.clip, self.vae, lambda clip: contents(clip.patcher.patches), sample, flip)

    def merged(
        self, a: float | tuple[float, float], b: float | tuple[float, float], mode: str = "concat", **settings: Any
    ) -> tuple[Picture, Picture]:
        """The picture from the loaders, the merge node and PM Apply LoRA."""
        model, clip = self.apply(self.model, self.clip, self.merge(a, b, mode, **settings))
        return contents(model.patches), contents(clip.patcher.patches)

    def merge(self, a: float | tuple[float, float], b: float | tuple[float, float], mode: str, **settings: Any) -> Any:
        loras = {"lora1": self.load(A, a), "lora2": self.load(B, b)}
        merger = "PM LoRA SVD Merger" if mode.endswith("_svd") else "PM LoRA Merger"
        settings = {"density": 1.0, "device": "cpu", "dtype": "float32"} | settings
        return self.nodes[merger]().merge(mode=mode, **settings, **loras)["result"][0]

    def load(self, name: str, strength: float | tuple[float, float] = 1.0) -> Any:
        for_model, for_clip = strength if isinstance(strength, tuple) else (strength, strength)
        return self.nodes["PM LoRA Loader"]().load_lora(name, for_model, for_clip)[0]

    def apply(self, model: Any, clip: Any, lora: Any) -> tuple[Any, Any]:
        applied = self.nodes["PM LoRA Apply"]().apply_merged_lora(model=model.clone(), clip=clip.clone(), lora=lora)
        return applied["result"]


def contents(patches: dict[str, Any]) -> Picture:
    """Patches as comparable plain values: strengths, and a hash of each tensor."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            data = value.contiguous().numpy().tobytes()
            return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(data).hexdigest()}"
        if hasattr(value, "weights"):
            return plain(value.weights)
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    return {key: plain(list(added)) for key, added in patches.items()}


def few_modules() -> list[tuple[str, int, int, bool]]:
    """Some of the U-Net, some of the text encoder."""
    modules = small_modules()
    return modules[:6] + modules[-6:]


@pytest.fixture(scope="module")
def pack(comfy: ModuleType, server: Server) -> Iterator[Pack]:
    import comfy.sd
    import folder_paths
    from lora_pack import nodes, xy

    folder_paths.add_model_folder_path("loras", str(server.loras))
    (server.loras / "capsules").mkdir(exist_ok=True)
    write_lora(server.loras / A, rank=8, seed=1, modules=few_modules())
    write_lora(server.loras / B, rank=4, seed=2, dtype=torch.float32, modules=few_modules())
    loaded = comfy.sd.load_checkpoint_guess_config(str(server.checkpoints / CHECKPOINT), output_vae=False)
    with torch.inference_mode():  # as ComfyUI runs nodes
        yield Pack(xy, nodes, loaded[0], loaded[1])


def pairs(cells: dict[tuple[int, int], Any]) -> dict[tuple[int, int], tuple[Picture, Picture]]:
    return {place: cell[:2] for place, cell in cells.items()}


def test_a_cell_merges_both_axes_strengths(pack: Pack):
    x, y = pack.strengths()
    found = pack.plot(x, y)
    assert found.column_labels == ["a -0.50", "a 1.50"] and found.row_labels == ["b -0.50", "b 1.50"]
    values = (-0.5, 1.5)
    assert pairs(found.cells) == {(i, j): pack.merged(values[i], values[j]) for i in (0, 1) for j in (0, 1)}


def test_flipped_axes_and_swapped_wires_give_the_same_cells(pack: Pack):
    x, y = pack.strengths()
    values = (-0.5, 1.5)
    expected = {(i, j): pack.merged(values[j], values[i]) for i in (0, 1) for j in (0, 1)}
    flipped, crossed = pack.plot(x, y, flip=True), pack.plot(y, x)
    assert pairs(flipped.cells) == pairs(crossed.cells) == expected
    assert flipped.column_labels == crossed.column_labels == ["b -0.50", "b 1.50"]


@pytest.mark.parametrize("on_x", [True, False], ids=["X alone", "Y alone"])
def test_an_unconnected_axis_leaves_its_lora_at_1(pack: Pack, on_x: bool):
    of_a, of_b = pack.strengths()
    for axis, merged in ((of_a, lambda s: pack.merged(s, 1.0)), (of_b, lambda s: pack.merged(1.0, s))):
        found = pack.plot(axis, None) if on_x else pack.plot(None, axis)
        places = [(0, 0), (1, 0)] if on_x else [(0, 0), (0, 1)]
        assert pairs(found.cells) == dict(zip(places, map(merged, (-0.5, 1.5)), strict=True))


@pytest.mark.parametrize("on_x", [True, False])
@pytest.mark.parametrize("overridden", [True, False])
def test_with_the_same_lora_twice_a_single_axis_shows_it_once(pack: Pack, on_x: bool, overridden: bool):
    """At strength 0 the model is unpatched; there is no second copy of the LoRA at 1."""
    given = pack.load(A)
    settings = {"lora_a_override": given, "lora_b_override": given} if overridden else {"lora_a": A, "lora_b": A}
    x, y = pack.strengths(**settings, min_strength=0.0, max_strength=0.5)
    found = pairs((pack.plot(x, None) if on_x else pack.plot(None, y)).cells)
    half = pack.nodes["PM LoRA Merger"]().merge(**MERGER, lora1=pack.load(A, 0.5))["result"][0]
    model, clip = pack.apply(pack.model, pack.clip, half)
    assert list(found.values()) == [({}, {}), (contents(model.patches), contents(clip.patcher.patches))]


def test_with_the_same_lora_twice_both_axes_add_up(pack: Pack):
    found = pairs(pack.plot(*pack.strengths(lora_b=A, min_strength=0.5, max_strength=0.5, steps=1)).cells)
    twice = pack.nodes["PM LoRA Merger"]().merge(**MERGER, lora1=pack.load(A, 0.5), lora2=pack.load(A, 0.5))
    model, clip = pack.apply(pack.model, pack.clip, twice["result"][0])
    assert list(found.values()) == [(contents(model.patches), contents(clip.patcher.patches))]


def test_loras_of_one_name_have_different_labels(pack: Pack, server: Server):
    twin = "capsules/deep/a.safetensors"
    (server.loras / twin).parent.mkdir(exist_ok=True)
    (server.loras / twin).write_bytes((server.loras / A).read_bytes())
    x, y = pack.strengths(lora_b=twin)
    assert [x[1][0].getLabel(), y[1][0].getLabel()] == ["capsules/a -0.50", "capsules/deep/a -0.50"]


def test_equal_files_with_different_names_are_two_loras(pack: Pack, server: Server):
    twin = "capsules/twin.safetensors"
    (server.loras / twin).write_bytes((server.loras / A).read_bytes())
    x, _ = pack.strengths(lora_b=twin, min_strength=0.0, max_strength=0.0, steps=1)
    assert pairs(pack.plot(x, None).cells) != {(0, 0): ({}, {})}


def test_one_output_on_both_axes(pack: Pack):
    x, _ = pack.strengths()
    cells = pairs(pack.plot(x, x).cells)
    assert cells == {(i, j): pack.merged((-0.5, 1.5)[j], 1.0) for i in (0, 1) for j in (0, 1)}


@pytest.mark.parametrize("other", [SEEDS, PROMPTS], ids=["seeds", "prompts"])
def test_next_to_an_axis_of_another_type_the_other_lora_stays_at_1(pack: Pack, other: Axis):
    x, _ = pack.strengths()
    expected = [pack.merged(-0.5, 1.0), pack.merged(1.5, 1.0)]
    for swap in (False, True):
        found = pack.plot(other, x) if swap else pack.plot(x, other)
        for (column, row), cell in found.cells.items():
            ours, others = (row, column) if swap else (column, row)
            assert cell == (*expected[ours], {other[0]: other[1][others]})


def test_cached_capsules_can_be_rewired(pack: Pack):
    x, y = pack.strengths()
    before = pairs(pack.plot(x, y).cells)
    alone = pairs(pack.plot(None, y).cells)
    assert alone == {(0, 0): pack.merged(1.0, -0.5), (0, 1): pack.merged(1.0, 1.5)}
    beside_seeds = pack.plot(SEEDS, y).cells
    assert {place: cell[:2] for place, cell in beside_seeds.items() if place[0] == 0} == alone
    assert pairs(pack.plot(y, x).cells) == {(j, i): cell for (i, j), cell in before.items()}
    assert pairs(pack.plot(x, y).cells) == before


class OtherPacksCapsule:
    """A capsule of another pack, which adds a patch of its own."""

    def __init__(self, key: str, value: float) -> None:
        self.key, self.value = key, value
        self.partner: Any = None

    def getLabel(self) -> str:
        return f"other {self.value}"

    def set_x_capsule(self, capsule: Any) -> None:
        self.partner = capsule

    def pre_define_model(self, model: Any, clip: Any, vae: Any) -> tuple[Any, Any, Any]:
        model.add_patches({self.key: (torch.full((1,), self.value),)})
        return model, clip, vae

    def get_result(self, model: Any, clip: Any, vae: Any) -> None:
        if self.partner is not None:
            assert isinstance(self.partner.x, int)  # as Inspire's reads it

    def set_result(self, image: Any, latent: Any) -> None:
        pass


def test_another_packs_capsule_is_applied_too(pack: Pack):
    key = next(iter(pack.model.model.state_dict()))
    other: Axis = ("XY_Capsule", [OtherPacksCapsule(key, value) for value in (0.25, 0.75)])
    _, y = pack.strengths()
    found = pack.plot(other, y)
    for (column, row), (of_model, of_clip, _) in found.cells.items():
        changed = dict(of_model)
        other_patch = changed.pop(key)
        assert other_patch == contents({key: [(1.0, (torch.full((1,), (0.25, 0.75)[column]),), 1.0, None, None)]})[key]
        assert (changed, of_clip) == pack.merged(1.0, (-0.5, 1.5)[row])
    pack.plot(y, other)  # KSampler (Efficient) then calls only the other one, which must not fail on ours


def test_axes_of_two_of_our_nodes_are_both_applied(pack: Pack):
    x, y = pack.strengths()[0], pack.modes()[1]
    cells = pairs(pack.plot(x, y).cells)
    assert pack.strengths()[1][1][0].sweep is not y[1][0].sweep
    for (column, row), cell in cells.items():
        model, clip = pack.apply(pack.model, pack.clip, pack.merge((-0.5, 1.5)[column], 1.0, "concat"))
        second = pack.merge(1.0, 1.0, "add", density=(0.3, 0.8)[row])
        model, clip = pack.apply(model, clip, second)
        assert cell == (contents(model.patches), contents(clip.patcher.patches))


def test_a_cell_merges_with_its_mode_and_density(pack: Pack):
    x, y = pack.modes(seed=7)
    found = pack.plot(x, y)
    assert found.column_labels == ["add", "dare_linear"] and found.row_labels == ["density 0.30", "density 0.80"]
    modes, densities = ("add", "dare_linear"), (0.3, 0.8)
    expected = {(i, j): pack.merged(1.0, 1.0, modes[i], density=densities[j], seed=7) for i in (0, 1) for j in (0, 1)}
    assert pairs(found.cells) == expected
    assert pairs(pack.plot(x, None).cells) == {(i, 0): expected[i, 1] for i in (0, 1)}
    assert pairs(pack.plot(y, None).cells) == {(j, 0): expected[0, j] for j in (0, 1)}
    assert expected[0, 0] == expected[0, 1] and expected[1, 0] != expected[1, 1]


def test_svd_modes_use_the_larger_input_rank(pack: Pack):
    x, _ = pack.modes(modes="ties_svd")
    expected = pack.merged(1.0, 1.0, "ties_svd", density=0.8, svd_rank=0, svd_conv_rank=0)
    assert pairs(pack.plot(x, None).cells) == {(0, 0): expected}


@pytest.mark.parametrize("mode", ["add_svd", "dare_ties_svd", "add"])
def test_a_cell_truncates_to_its_rank(pack: Pack, mode: str):
    x = pack.ranks(mode=mode, density=0.9, seed=3)
    found = pack.plot(x, None)
    assert found.column_labels == ["rank 1", "rank 12"]
    settings = {"mode": mode.removesuffix("_svd") + "_svd", "density": 0.9, "seed": 3}
    expected = {
        (i, 0): pack.merged(1.0, 1.0, svd_rank=rank, svd_conv_rank=rank, **settings) for i, rank in enumerate((1, 12))
    }
    assert pairs(found.cells) == expected


@pytest.mark.parametrize("part", ["model", "clip"])
def test_apply_strength_limits_the_merge_to_one_part(pack: Pack, part: str):
    x, y = pack.strengths(apply_strength=part, min_strength=0.5, steps=1)
    strength = (0.5, 0.0) if part == "model" else (0.0, 0.5)
    cells = pairs(pack.plot(x, y).cells)
    assert cells == {(0, 0): pack.merged(strength, strength)}
    assert bool(cells[0, 0][0]) == (part == "model") and bool(cells[0, 0][1]) == (part == "clip")


def test_an_overrides_own_strengths_multiply_the_plots(pack: Pack):
    x, y = pack.strengths(lora_a_override=pack.load(B, (0.5, 2.0)), steps=1, min_strength=0.5)
    found = pack.plot(x, y)
    assert found.column_labels == ["b 0.50"]
    loras = {"lora1": pack.load(B, (0.25, 1.0)), "lora2": pack.load(B, 0.5)}
    merged = pack.nodes["PM LoRA Merger"]().merge("concat", 1.0, "cpu", "float32", **loras)["result"][0]
    model, clip = pack.apply(pack.model, pack.clip, merged)
    assert pairs(found.cells) == {(0, 0): (contents(model.patches), contents(clip.patcher.patches))}


def test_the_given_model_and_clip_are_not_modified(pack: Pack):
    x, y = pack.strengths()
    capsule = y[1][1]
    capsule.set_x_capsule(x[1][0])
    model, clip, vae = capsule.pre_define_model(pack.model, pack.clip, pack.vae)
    assert vae is pack.vae and model is not pack.model and clip is not pack.clip
    assert not pack.model.patches and not pack.clip.patcher.patches


def test_a_capsule_works_without_a_text_encoder(pack: Pack):
    x, _ = pack.strengths()
    model, clip, _ = x[1][0].pre_define_model(pack.model, None, None)
    assert clip is None and contents(model.patches) == pack.merged(-0.5, 1.0)[0]


def test_strength_0_on_both_axes_leaves_the_model_unpatched(pack: Pack):
    x, y = pack.strengths(min_strength=0.0, steps=1)
    assert pairs(pack.plot(x, y).cells) == {(0, 0): ({}, {})}


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, pack: Pack) -> dict[str, int]:
    """Counts file loads and merges."""
    from lora_pack.xy import cell, sweep

    counted = {"load": 0, "merge_factors": 0, "merge_deltas": 0}

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(sweep, "load", counting("load", sweep.load))
    for name in ("merge_factors", "merge_deltas"):
        monkeypatch.setattr(cell, name, counting(name, getattr(cell, name)))
    return counted


@pytest.mark.parametrize("flip", [False, True])
def test_modes_without_density_are_merged_once_and_files_loaded_once(pack: Pack, count: dict[str, int], flip: bool):
    x, y = pack.modes(modes="add, ties, concat, add_svd, dare_ties")
    pack.plot(x, y, flip)
    assert count == {"load": 2, "merge_factors": 1 + 2 + 1 + 2, "merge_deltas": 1}


def test_an_axis_of_seeds_reuses_the_merges(pack: Pack, count: dict[str, int]):
    x, _ = pack.strengths()
    pack.plot(x, SEEDS)
    pack.plot(SEEDS, x)
    assert count == {"load": 2, "merge_factors": 2, "merge_deltas": 0}


def test_a_changed_file_is_reloaded(pack: Pack, server: Server, count: dict[str, int]):
    path = server.loras / "changing.safetensors"
    write_lora(path, rank=2, seed=5, modules=few_modules())
    x, _ = pack.strengths(lora_b="changing.safetensors", steps=1, min_strength=1.0)
    before = pack.plot(x, None).cells
    write_lora(path, rank=2, seed=6, modules=few_modules())
    os.utime(path, ns=(1, 1))  # the file system's clock may be too coarse to see the change
    after = pack.plot(x, None).cells
    assert before != after and count["load"] == 3
    changed = pack.xy["XY: PM LoRA Strengths"].IS_CHANGED
    assert changed(lora_a=A, lora_b="changing.safetensors") != changed(lora_a=A)


def test_the_cache_evicts_large_merges_those_with_density_first(pack: Pack):
    from lora_pack.xy.cell import Cell
    from lora_pack.xy.kept import KeptMerges

    lora = pack.merge(1.0, 1.0, "ties")  # a concat has no tensors of its own
    kept = KeptMerges(kept_bytes=1)
    made: list[str] = []

    def get(mode: str, density: float) -> None:
        kept.get(Cell(mode, density=density), lambda: made.append(f"{mode} {density}") or lora)

    for density in (0.2, 0.4, 0.6):
        for mode in ("add", "ties"):
            get(mode, density)
    assert made == ["add 0.2", "ties 0.2", "ties 0.4", "ties 0.6"]  # add ignores density and is evicted last
    get("ties", 0.6)
    get("ties", 0.4)
    assert made[4:] == ["ties 0.4"]
    kept.clear()
    get("add", 0.2)
    assert made[5:] == ["add 0.2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_strength": 1.0, "max_strength": 0.5}, r"min_strength \(1\) is above max_strength \(0.5\)"),
        ({"steps": 0}, "0 steps"),
        ({"mode": "tie"}, "no merge mode 'tie'.*dare_linear"),
        ({"lora_b": "torn.safetensors"}, "torn"),
        ({"lora_b": "wide.safetensors"}, "capsules/a and wide are not for the same model"),
    ],
)
def test_invalid_settings_and_files_are_refused(pack: Pack, server: Server, settings: dict[str, Any], message: str):
    (server.loras / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    wide = [(name, 2 * rows, columns, conv) for name, rows, columns, conv in few_modules()]
    write_lora(server.loras / "wide.safetensors", rank=1, modules=wide)
    with pytest.raises(LoraError, match=message):
        pack.strengths(**settings)


@pytest.mark.parametrize(
    ("modes", "message"),
    [
        ("add, tie", "Unknown mode: tie. The modes are add,.*ties_svd"),
        (" , ", "No modes to plot. List one or more of add"),
    ],
)
def test_unknown_or_missing_modes_are_refused(pack: Pack, modes: str, message: str):
    with pytest.raises(LoraError, match=message):
        pack.modes(modes=modes)


def test_modes_may_differ_in_case_separators_and_repeats(pack: Pack):
    from lora_pack.xy.lora_axes import mode_names

    assert mode_names("Add,ties;\n dare_linear , add,") == ["add", "ties", "dare_linear"]
    assert mode_names("add，ties；dare_linear、add") == ["add", "ties", "dare_linear"]  # Chinese keyboards


def test_a_list_of_values_replaces_the_even_range(pack: Pack):
    def labels(axis: Axis) -> list[str]:
        return [capsule.getLabel() for capsule in axis[1]]

    x, y = pack.strengths(values="0.4, 0.7, 1")
    assert labels(x) == ["a 0.40", "a 0.70", "a 1.00"] and labels(y) == ["b 0.40", "b 0.70", "b 1.00"]
    assert pairs(pack.plot(x, None).cells)[1, 0] == pack.merged(0.7, 1.0)
    assert labels(pack.modes(values="0.8\n0.25;0.8")[1]) == ["density 0.80", "density 0.25"]
    ranks = pack.ranks(values="4,16 8")
    assert labels(ranks) == ["rank 4", "rank 16", "rank 8"]
    assert labels(pack.ranks(values="4，16；8、2")) == ["rank 4", "rank 16", "rank 8", "rank 2"]


def test_modes_alone_use_the_largest_density_of_the_list(pack: Pack):
    x, _ = pack.modes(modes="magnitude_prune", values="0.3, 0.9, 0.5")
    assert pairs(pack.plot(x, None).cells) == {(0, 0): pack.merged(1.0, 1.0, "magnitude_prune", density=0.9)}


@pytest.mark.parametrize(
    ("axis", "values", "message"),
    [
        ("strengths", "0.4, much", "'much', which is not a number"),
        ("strengths", "0.4, nan", "strength nan; it must be between -10 and 10"),
        ("strengths", "11", "strength 11; it must be between"),
        ("modes", "0, 0.5", "density 0; it must be between 0.01 and 1"),
        ("strengths", "0,4; 0,7", "'0,4', which would be two values"),
        ("modes", "0,4 0,7", "'0,4', which would be two values"),
        ("ranks", "4, 8.5", "rank 8.5, which is not a whole number"),
        ("ranks", "0", "rank 0; it must be between 1 and 4096"),
    ],
)
def test_a_wrong_value_in_a_list_is_refused_by_its_word(pack: Pack, axis: str, values: str, message: str):
    with pytest.raises(LoraError, match=message):
        getattr(pack, axis)(values=values)


def test_values_and_labels(pack: Pack):
    from lora_pack.xy.values import decimals, evenly_spaced, evenly_spaced_integers, named_value, one_line

    assert evenly_spaced("x", 0.0, 1.0, 11)[3] == 0.3
    assert evenly_spaced("x", -10.0, 10.0, 3) == [-10.0, 0.0, 10.0]
    assert evenly_spaced("x", 0.25, 1.0, 1) == [0.25]
    assert evenly_spaced("x", 0.5, 0.5, 5) == [0.5]
    assert evenly_spaced_integers("x", 1, 64, 4) == [1, 22, 43, 64]
    assert evenly_spaced_integers("x", 1, 3, 9) == [1, 2, 3]
    assert decimals([0.0, 0.5, -1.0]) == ["0.00", "0.50", "-1.00"]
    assert decimals([0.001, 0.002]) == ["0.001", "0.002"]
    assert decimals([0.12345678, 0.12345679]) == ["0.12345678", "0.12345679"]
    assert decimals([1.0, 1.0 + 2**-52]) == ["1.0", "1.0000000000000002"]
    assert one_line("two\nlines\t here") == "two lines here"
    long = named_value("a_style_with_a_very_long_name_that_goes_on_v2-000012", "0.75")
    assert long == "a_style_with_a_ve…goes_on_v2-000012 0.75" and len(long) <= 40
