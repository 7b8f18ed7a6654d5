"""The merge options of the command line: methods, --strength-rule, --weights and --set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lora_pack.merge.cli.program import main
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.options import STRENGTH_RULES, WEIGHT_RULES, MergeOptions
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES, METHODS, PARAMETERS, using_parameter
from lora_pack.merge.provenance.recipe import KEY
from lora_pack.tests.support.makers import make_lora

RULES: dict[str, str] = dict(zip(("mode", "sum", "strongest", "orthogonal"), STRENGTH_RULES, strict=True))
WEIGHTS: dict[str, str] = dict(zip(("given", "average", "energy"), WEIGHT_RULES, strict=True))
# A value other than the default, for each parameter.
OTHER = {name: (one.default + min(one.most, 1.0)) / 2 for name, one in PARAMETERS.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a.safetensors and b.safetensors in it."""
    for name, seed, rank in (("a", 1, 3), ("b", 2, 4)):
        save(make_lora(seed, name=name, ranks=[rank], alphas=[2.0]), tmp_path / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def merged(folder: Path, mode: str, *options: str) -> Path:
    out = folder / "out.safetensors"
    arguments = ["merge", "a.safetensors:0.8", "b.safetensors:-0.5", "--mode", mode, "--density", "0.5", "--rank", "3"]
    assert main([*arguments, *options, "--overwrite", "-o", str(out)]) == 0
    return out


def from_core(folder: Path, mode: str, options: MergeOptions) -> Path:
    loras = [load(folder / "a.safetensors"), load(folder / "b.safetensors")]
    loras = [loras[0].with_strengths(0.8, 0.8), loras[1].with_strengths(-0.5, -0.5)]
    if mode in FACTOR_MODES:
        lora = merge_factors(loras, mode, 0.5, options=options)
    else:
        lora = merge_deltas(loras, mode, 0.5, 3, 0, options=options)
    return save(lora, folder / "core.safetensors", overwrite=True)


def recipe(path: Path) -> dict[str, object]:
    return json.loads(load(path).metadata[KEY])


def assert_replays(path: Path, folder: Path) -> None:
    again = folder / "again.safetensors"
    assert main(["replay", str(path), "--loras", str(folder), "--overwrite", "-o", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()


def test_methods_lists_every_mode_with_its_parameters_and_their_ranges(capsys: pytest.CaptureFixture[str]):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    sections = {part.split(":")[0].strip(): part for part in out.split("\n\n")}
    assert [name for name in sections if name in (*FACTOR_MODES, *DELTA_MODES)] == [*FACTOR_MODES, *DELTA_MODES]
    for name, one in PARAMETERS.items():
        (mode,) = using_parameter(DELTA_MODES, name)
        assert f"--set {name}={one.default:g} ({one.least:g} to {one.most:g})" in sections[mode]
    for method in METHODS:
        section = sections[f"{method.name}_svd" if method.on_deltas else method.name]
        assert method.reference in section
        assert ("--density" in section) == method.uses_density, method.name
        assert ("--seed" in section) == method.uses_seed, method.name
        assert ("--set" in section) == bool(method.parameters), method.name
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("name", PARAMETERS)
def test_set_changes_the_merge_and_the_file_replays(name: str, folder: Path):
    (mode,) = using_parameter(DELTA_MODES, name)
    default = merged(folder, mode).read_bytes()
    file = merged(folder, mode, "--set", f"{name}={OTHER[name]}")
    assert file.read_bytes() == from_core(folder, mode, MergeOptions(parameters={name: OTHER[name]})).read_bytes()
    assert file.read_bytes() != default
    assert recipe(file)["parameters"] == {name: OTHER[name]}
    assert_replays(file, folder)


@pytest.mark.parametrize("mode", ["ties", "karcher_svd", "ties_svd"])
@pytest.mark.parametrize("rule", RULES)
def test_strength_rule_merges_as_the_core_does_and_the_file_replays(rule: str, mode: str, folder: Path):
    file = merged(folder, mode, "--strength-rule", rule)
    assert file.read_bytes() == from_core(folder, mode, MergeOptions(strength_rule=RULES[rule])).read_bytes()
    assert recipe(file).get("strength_rule", "of the mode") == RULES[rule]
    assert (file.read_bytes() == merged(folder, mode).read_bytes()) == (rule == "mode")
    assert_replays(merged(folder, mode, "--strength-rule", rule), folder)


@pytest.mark.parametrize("mode", ["concat", "add", "add_svd", "sce_svd"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_merge_as_the_core_does_and_the_file_replays(weights: str, mode: str, folder: Path):
    file = merged(folder, mode, "--weights", weights)
    assert file.read_bytes() == from_core(folder, mode, MergeOptions(weights=WEIGHTS[weights])).read_bytes()
    assert recipe(file).get("weights", "as given") == WEIGHTS[weights]
    assert (file.read_bytes() == merged(folder, mode).read_bytes()) == (weights == "given")
    assert_replays(merged(folder, mode, "--weights", weights), folder)


@pytest.mark.parametrize("mode", ["concat", "add_svd"])
def test_a_sum_scaled_to_the_sum_has_no_rule_in_its_recipe(mode: str, folder: Path):
    plain = merged(folder, mode).read_bytes()
    assert merged(folder, mode, "--strength-rule", "sum").read_bytes() == plain


@pytest.mark.parametrize("option", ["--strength-rule", "--weights"])
def test_an_unknown_rule_names_the_known_ones(option: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["merge", "a.safetensors", option, "moon", "-o", "out.safetensors"])
    error = capsys.readouterr().err
    assert all(name in error for name in (RULES if option == "--strength-rule" else WEIGHTS))
    assert not (folder / "out.safetensors").exists()
