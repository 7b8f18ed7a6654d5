"""Folders as PEFT writes them, adapter_model.safetensors with adapter_config.json: what PEFT itself merges."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Adapter, Lora, LoraModule
from lora_pack.merge.compute.context import CPU
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import MAX_CONFIG_BYTES, load, save
from lora_pack.merge.formats.peft_dora import PeftDora
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.provenance.recipe import KEY
from lora_pack.merge.replay import replay
from lora_pack.tests.support.makers import up_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

peft = pytest.importorskip("peft")

LAYERS = ("down", "up", "conv", "point", "line")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Linear(12, 16)
        self.up = nn.Linear(16, 12, bias=False)
        self.conv = nn.Conv2d(8, 6, 3)
        self.point = nn.Conv2d(8, 6, 1)
        self.line = nn.Conv1d(8, 6, 3)


def lora(**options: Any) -> Any:
    return peft.LoraConfig(
        **{"r": 4, "lora_alpha": 6, "target_modules": [*LAYERS], "init_lora_weights": False} | options
    )


def loha(**options: Any) -> Any:
    return peft.LoHaConfig(**{"r": 4, "alpha": 6, "target_modules": [*LAYERS], "init_weights": False} | options)


def lokr(**options: Any) -> Any:
    return peft.LoKrConfig(**{"r": 2, "alpha": 5, "target_modules": [*LAYERS[:4]], "init_weights": False} | options)


PATTERNS = {"rank_pattern": {"down": 2, "^conv": 3}, "alpha_pattern": {"up": 1, "down": 9, "poi[mn]t": 2}}
CONFIGS: dict[str, Callable[[], Any]] = {
    "LoRA": lora,
    "alpha is the rank": lambda: lora(lora_alpha=4),
    "rsLoRA": lambda: lora(use_rslora=True),
    "patterns": lambda: lora(**PATTERNS),
    "rsLoRA with patterns": lambda: lora(use_rslora=True, **PATTERNS),
    "LoHa": loha,
    "LoHa with cores": lambda: loha(use_effective_conv2d=True, **PATTERNS),
    "LoKr": lokr,
    "LoKr of whole matrices": lambda: lokr(r=16, decompose_factor=4),
    "LoKr decomposed": lambda: lokr(r=1, decompose_both=True, decompose_factor=4),
    "LoKr with cores": lambda: lokr(r=1, use_effective_conv2d=True, alpha_pattern={"conv": 3, "up": 2}),
    "DoRA": lambda: lora(use_dora=True),
    "rsDoRA with patterns": lambda: lora(use_dora=True, use_rslora=True, **PATTERNS),
}


def adapter_folder(folder: Path, config: Any, safe: bool = True) -> dict[str, tuple[Tensor, Tensor]]:
    """Writes the folder; gives each layer's weight before and after PEFT has merged the adapter, in float64."""
    base = {name: getattr(Small(), name).weight.detach().double() for name in LAYERS}
    model = peft.get_peft_model(Small(), config)
    for layer in model.modules():  # magnitudes begin as the norms: nothing would be seen of them
        for magnitude in getattr(layer, "lora_magnitude_vector", {}).values():
            magnitude.weight.data *= 1 + torch.rand(magnitude.weight.shape)
    model.save_pretrained(folder, safe_serialization=safe)
    merged = model.double().merge_and_unload()
    return {name: (base[name], getattr(merged, name).weight.detach()) for name in config.target_modules}


def change(module: Adapter, weight: Tensor) -> Tensor:
    return module.change_of(weight) if isinstance(module, PeftDora) else module.dense().reshape(weight.shape)


def assert_peft_s(found: Lora, weights: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert {module.name.removeprefix("base_model.model.") for module in found.modules.values()} == set(weights)
    for module in found.modules.values():
        before, after = weights[module.name.removeprefix("base_model.model.")]
        ours = before + change(module, before).double() * module.block_weight
        assert float((ours - after).norm() / (after - before).norm()) <= 1e-6, module.name


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_delta_equals_pefts(config: Callable[[], Any], safe: bool, tmp_path: Path):
    weights = adapter_folder(tmp_path / "mine", config(), safe)
    (file,) = (tmp_path / "mine").glob("adapter_model.*")
    found = load(file)
    assert found.name == "mine/adapter_model"
    assert_peft_s(found, weights)
    again = load(save(found, tmp_path / "saved.safetensors"))
    renamed = {f"base_model.model.{name}": name for name in weights}
    assert len(again.modules) == len(found.modules)
    for module, other in zip(again.modules.values(), found.modules.values(), strict=True):
        before, _ = weights[renamed[other.name]]
        ours, theirs = change(module, before), change(other, before)
        assert float((ours - theirs).norm() / theirs.norm()) <= 1e-6, other.name


def test_without_the_configuration_the_scale_is_comfyuis(tmp_path: Path):
    weights = adapter_folder(tmp_path, lora(lora_alpha=16))
    plain = load(tmp_path / "adapter_model.safetensors", alpha_from="tensors")
    (tmp_path / "adapter_config.json").unlink()
    without = load(tmp_path / "adapter_model.safetensors")
    for found in (plain, without):
        before, after = weights["up"]
        ours = found.modules["base_model.model.up"].dense()
        assert torch.allclose(4 * ours.double(), after - before, rtol=1e-5, atol=1e-6)


def test_a_lokr_of_a_one_dimensional_convolution_is_refused(tmp_path: Path):
    """PEFT takes its Kronecker product over other dimensions than any other program."""
    adapter_folder(tmp_path, lokr(target_modules=["line"]))
    with pytest.raises(LoraError, match="line is a LoKr of a 1-D convolution"):
        load(tmp_path / "adapter_model.safetensors")


def test_only_files_with_pefts_name_have_a_configuration(tmp_path: Path):
    adapter_folder(tmp_path, lora(lora_alpha=16))
    other = shutil.copy(tmp_path / "adapter_model.safetensors", tmp_path / "other.safetensors")
    assert load(Path(other)).notes == ()
    assert load(tmp_path / "adapter_model.safetensors").notes != ()


def test_the_note_names_the_configuration(tmp_path: Path):
    adapter_folder(tmp_path / "a", lora(lora_alpha=16))
    (note,) = load(tmp_path / "a" / "adapter_model.safetensors").notes
    assert note.startswith("a/adapter_model: the scale is 4 by the trainer's alpha (adapter_config.json);")


# --- refusals ---


def configured(tmp_path: Path, content: str | bytes | None = None, **options: Any) -> Path:
    """An adapter folder with other options, or another content, in its configuration."""
    adapter_folder(tmp_path, lora())
    config = tmp_path / "adapter_config.json"
    if content is None:
        content = json.dumps(json.loads(config.read_text()) | options)
    config.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / "adapter_model.safetensors"


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", "[" * 100_000, b"\xff\xfe{}", '{"r": NaN}', '{"r": -Infinity}']
)
def test_an_invalid_configuration_is_refused_by_name(content: str | bytes, tmp_path: Path):
    path = configured(tmp_path, content)
    with pytest.raises(LoraError, match=r"adapter_model: its adapter_config\.json"):
        load(path)
    assert load(path, alpha_from="tensors").modules, "the switch reads the file without it"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"r": "4"}, "'4' for r, which must be a number"),
        ({"r": True}, "True for r"),
        ({"r": 0}, "0 for r"),
        ({"r": 2.5}, "2.5 for r"),
        ({"r": None, "lora_alpha": {}}, "for alpha"),
        ({"lora_alpha": 10**400}, "for alpha"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"rank_pattern": [4]}, "rank_pattern"),
        ({"rank_pattern": {"up": "4"}}, "rank_pattern of up"),
        ({"alpha_pattern": {"up": None}}, "alpha_pattern of up"),
        ({"alpha_pattern": {"(a+)+$": 2}}, "takes too long"),
        ({"alpha_pattern": {f"[a{n}]": 2 for n in range(50)}}, "takes too long"),
        ({"r": 8}, "the rank 8, but its tensors have the rank 4"),
        ({"rank_pattern": {"up": 2}}, "module base_model.model.up the rank 2"),
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"peft_type": ["LORA"]}, "kind"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({"use_qalora": True}, "use_qalora"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
    ],
)
def test_a_configuration_with_wrong_options_is_refused_by_name(options: dict[str, Any], words: str, tmp_path: Path):
    with pytest.raises(LoraError, match=r"adapter_model: its adapter_config\.json") as refused:
        load(configured(tmp_path, **options))
    assert words in str(refused.value)


def test_options_without_influence_on_the_scale_are_ignored(tmp_path: Path):
    fine = {"bias": "all", "init_lora_weights": "gaussian", "lora_dropout": 0.5, "task_type": 7, "eva_config": {"x": 1}}
    assert load(configured(tmp_path, **fine)).modules


def test_a_huge_configuration_is_not_read(tmp_path: Path):
    path = configured(tmp_path, b" " * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(LoraError, match=r"adapter_config\.json is larger"):
        load(path)


def test_a_trained_bias_is_refused(tmp_path: Path):
    adapter_folder(tmp_path, lora(bias="all"))
    with pytest.raises(LoraError, match=r"conv\.base_layer\.bias"):
        load(tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lambda: lora(lora_bias=True, target_modules=["down"]), "LoRA with a bias .* would drop its bias"),
        (
            lambda: peft.AdaLoraConfig(target_modules=["down"], total_step=9),
            "AdaLoRA .* would drop its singular values",
        ),
        (lambda: peft.IA3Config(target_modules=["down"], feedforward_modules=[]), "IA3 .* doesn't load it either"),
        (lambda: peft.VeraConfig(r=2, target_modules=["down"]), "VeRA .* doesn't load it either"),
        (lambda: peft.OFTConfig(oft_block_size=4, target_modules=["down"]), "OFT or BOFT .* doesn't load it either"),
    ],
)
def test_unsupported_peft_adapters_are_refused_with_correct_advice(
    config: Callable[[], Any], words: str, tmp_path: Path
):
    """Without the configuration too: as many pass such files on."""
    peft.get_peft_model(Small(), config()).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    with_config = json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"]
    if with_config != "LORA":
        with pytest.raises(LoraError, match=with_config):
            load(path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(LoraError, match=words) as refused:
        load(path)
    assert "own loader" in str(refused.value) and "apply" not in str(refused.value)


# --- recipes ---


def test_a_merge_of_an_adapter_replays_with_its_configuration_and_not_with_another(tmp_path: Path):
    for name, alpha in (("one", 8), ("two", 12)):
        adapter_folder(tmp_path / name, lora(lora_alpha=alpha))
    shutil.copy(tmp_path / "one" / "adapter_model.safetensors", tmp_path / "two")
    merged = merge_factors([load(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two")])
    made = save(merged, tmp_path / "made.safetensors")
    assert str(tmp_path) not in json.dumps(dict(load(made).metadata))
    first, second = json.loads(merged.metadata[KEY])["inputs"]
    assert first["sha256"] == second["sha256"] and first["adapter_config"] != second["adapter_config"]
    again = replay(load(made), tmp_path, tmp_path, CPU)
    assert save(again.lora, tmp_path / "again.safetensors").read_bytes() == made.read_bytes()
    config = tmp_path / "two" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 12', '"lora_alpha": 13'))
    with pytest.raises(LoraError, match=r"adapter_config\.json of two/adapter_model\.safetensors is missing or has ch"):
        replay(load(made), tmp_path, tmp_path, CPU)


# --- DoRA ---


def test_a_dora_without_its_model_says_what_to_connect(tmp_path: Path):
    adapter_folder(tmp_path, lora(use_dora=True))
    found = load(tmp_path / "adapter_model.safetensors")
    for work in (lambda: merge_deltas([found]), lambda: merge_factors([found]), lambda: resize(found, 2)):
        with pytest.raises(LoraError, match=r"DoRA of PEFT module .*Connect the model"):
            work()
    with pytest.raises(LoraError, match="only be saved at strength 1"):
        save(found.with_strengths(0.5, 0.5), tmp_path / "half.safetensors")


MAGNITUDES = [".lora_magnitude_vector{}", ".lora_magnitude_vector{}.weight"]


@pytest.mark.parametrize("name", ["", ".default", ".style"])
@pytest.mark.parametrize("ending", MAGNITUDES)
def test_a_magnitude_is_read_under_all_its_names(ending: str, name: str, tmp_path: Path):
    adapter_folder(tmp_path, lora(use_dora=True))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    renamed = {}
    for key, tensor in tensors.items():
        prefix, dot, part = key.rpartition(".lora_")
        part = part.replace(".weight", "")
        renamed[prefix + (ending.format(name) if part.startswith("magn") else f"{dot}{part}{name}.weight")] = tensor
    save_file(renamed, tmp_path / "renamed.safetensors")
    found = load(tmp_path / "renamed.safetensors")
    wanted = load(tmp_path / "adapter_model.safetensors", alpha_from="tensors")
    assert {module.family for module in found.modules.values()} == {"DoRA of PEFT"}
    for key, module in found.modules.items():
        other = wanted.modules[key]
        assert isinstance(module, PeftDora) and isinstance(other, PeftDora)
        assert torch.equal(module.magnitude, other.magnitude) and torch.equal(
            up_of(module.direction), up_of(other.direction)
        )


@pytest.mark.parametrize(
    ("change_it", "words"),
    [
        (lambda t, m: t | {m: torch.ones(15)}, "isn't one number for each of its 16 rows"),
        (lambda t, m: t | {m: torch.ones(4, 4)}, "isn't one number for each of its 16 rows"),
        (lambda t, m: t | {m: torch.full((16,), math.nan)}, "NaN"),
        (lambda t, m: t | {m: torch.ones(16, dtype=torch.int32)}, "int32"),
        (lambda t, m: {k: v for k, v in t.items() if "down.lora_B" not in k}, "counterpart"),
        (
            lambda t, m: {k: v for k, v in t.items() if "down.lora_A" not in k and "down.lora_B" not in k},
            "the one LoRA",
        ),
        (lambda t, m: t | {m + ".weight": torch.ones(16)}, "two keys for one tensor"),
        (lambda t, m: t | {m + ".other.weight": torch.ones(16)}, "two keys for one tensor"),
    ],
)
def test_a_broken_dora_is_refused_by_name(change_it: Callable[..., Any], words: str, tmp_path: Path):
    adapter_folder(tmp_path, lora(use_dora=True))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file(change_it(tensors, "base_model.model.down.lora_magnitude_vector"), tmp_path / "broken.safetensors")
    with pytest.raises(LoraError, match="down") as refused:
        load(tmp_path / "broken.safetensors")
    assert words in str(refused.value)


def test_a_row_of_zeros_stays_zero():
    module = PeftDora("x", LoraModule.of("x", torch.zeros(2, 1), torch.zeros(1, 2), 1.0), torch.tensor([2.0, 3.0]))
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.allclose(module.change_of(weight), torch.tensor([[0.0, 0.0], [-1.2, -1.6]]))
