"""State dicts of every spelling to LoRAs and back, and what is refused, by the name of its module."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.errors import LoraError
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    CONV1,
    CONV3,
    LINEAR,
    SHAPES,
    TEXT,
    down_of,
    each_module,
    fingerprint,
    make_lora,
    of_modules,
    state_dict,
    up_of,
)
from torch import Tensor

# (up, down) behind a prefix, as ComfyUI's comfy/weight_adapter/lora.py knows them
SPELLINGS = [
    (".lora_up.weight", ".lora_down.weight"),
    ("_lora.up.weight", "_lora.down.weight"),
    (".lora_B.weight", ".lora_A.weight"),
    (".lora.up.weight", ".lora.down.weight"),
    (".lora_B", ".lora_A"),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    (".lora_B.default.weight", ".lora_A.default.weight"),
]
KOHYA = SPELLINGS[0]
PREFIXES = [
    LINEAR,
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q",
    "diffusion_model.blocks.0.self_attn.q",
    "transformer_blocks.0.attn.add_k_proj",
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "transformer.single_transformer_blocks.3.proj_out",
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def tensors_of(prefix: str, spelling: tuple[str, str] = KOHYA, rank: int = 3, **others: Tensor) -> dict[str, Tensor]:
    """A linear module of shape (7, 5); `others` by suffix, with _ for the dots."""
    found = {prefix + spelling[0]: normal(7, rank), prefix + spelling[1]: normal(rank, 5)}
    return found | {f"{prefix}.{suffix.replace('__', '.')}": tensor for suffix, tensor in others.items()}


def read(tensors: Mapping[str, Tensor], name: str = "file") -> Lora:
    return from_state_dict(tensors, name)


# Reading


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda pair: pair[0])
def test_all_seven_key_pairs_are_read(spelling: tuple[str, str], prefix: str):
    tensors = tensors_of(prefix, spelling)
    (module,) = read(tensors).modules.values()
    assert module.name == prefix
    assert torch.equal(up_of(module), tensors[prefix + spelling[0]])
    assert torch.equal(down_of(module), tensors[prefix + spelling[1]])
    assert (module.rank, module.alpha, module.block_weight) == (3, 3.0, 1.0)


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda pair: pair[0])
@pytest.mark.parametrize(
    "alpha, expected",
    [
        (torch.tensor(8.0), 8.0),
        (torch.tensor([0.5]), 0.5),
        (torch.tensor([[2.0]]), 2.0),
        (torch.tensor(4), 4.0),
        (torch.tensor(1.5, dtype=torch.float16), 1.5),
        (torch.tensor(12.8, dtype=torch.bfloat16), 12.8125),
        (torch.tensor(0.1, dtype=torch.float64), 0.1),
        (torch.tensor(0.0), 0.0),
        (torch.tensor(-4.0), -4.0),
    ],
)
def test_alpha_is_read_in_every_form(spelling: tuple[str, str], alpha: Tensor, expected: float):
    module = read(tensors_of("lora_unet_x", spelling, alpha=alpha)).modules["lora_unet_x"]
    assert module.alpha == expected
    assert isinstance(module.alpha, float)


@pytest.mark.parametrize(
    "alpha",
    [torch.tensor(math.nan), torch.tensor(math.inf), torch.tensor(-math.inf), torch.tensor([1.0, 1.0])]
    + [torch.zeros(0), torch.zeros(2, 2), torch.tensor(math.inf, dtype=torch.float16), torch.tensor(1 + 2j)],
)
def test_an_alpha_that_is_not_one_finite_number_is_refused(alpha: Tensor):
    tensors = tensors_of("lora_unet_good") | tensors_of("lora_unet_bad", alpha=alpha)
    with pytest.raises(LoraError, match="lora_unet_bad") as caught:
        read(tensors, "some file")
    assert "some file" in str(caught.value) and "alpha" in str(caught.value)


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_weight_is_read_with_its_shape(name: str):
    lora = make_lora(1, shapes={name: SHAPES[name]}, alphas=[2.5])
    module = read(state_dict(lora)).modules[name]
    assert module.weight_shape == SHAPES[name]
    assert torch.equal(up_of(module), up_of(lora.modules[name]))
    assert torch.equal(down_of(module), down_of(lora.modules[name]))
    assert module.alpha == 2.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_keep_their_precision(dtype: torch.dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_of("lora_unet_x").items()}
    module = read(tensors).modules["lora_unet_x"]
    assert module.up.dtype == module.down.dtype == dtype


def test_eight_bit_floats_can_be_read():
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors_of("lora_unet_x").items()}
    module = read(tensors).modules["lora_unet_x"]
    assert torch.equal(up_of(module).float(), tensors["lora_unet_x.lora_up.weight"].float())


def test_modules_are_in_the_order_of_the_file():
    names = ["lora_unet_c", "lora_te_a", "lora_unet_b", "lora_unet_a"]
    tensors = {key: tensor for name in names for key, tensor in tensors_of(name).items()}
    assert list(read(tensors).modules) == names
    alpha_first = {f"{name}.alpha": torch.tensor(1.0) for name in reversed(names)} | tensors
    assert set(read(alpha_first).modules) == set(names)


def test_name_strengths_and_metadata_are_kept():
    lora = from_state_dict(tensors_of("lora_unet_x"), "my file", {"ss_network_dim": "3"})
    assert (lora.name, lora.strength_model, lora.strength_clip) == ("my file", 1.0, 1.0)
    assert dict(lora.metadata) == {"ss_network_dim": "3"}
    assert dict(read(tensors_of("lora_unet_x")).metadata) == {}


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (5, 2), (3,), (2, 3, 2)])
@pytest.mark.parametrize("rank_up, rank_down", [(4, 4), (3, 5)])
def test_a_tucker_core_is_folded_in_exactly(kernel: tuple[int, ...], rank_up: int, rank_down: int):
    """Tucker: sum over r, s of up[o, r] mid[r, s, ...] down[s, i], by alpha / down's rank as ComfyUI counts it."""
    ones = (1,) * len(kernel)
    up, down = normal(6, rank_up, *ones), normal(rank_down, 5, *ones)
    mid = normal(rank_up, rank_down, *kernel)
    tensors = {
        f"{CONV3}.lora_up.weight": up,
        f"{CONV3}.lora_mid.weight": mid,
        f"{CONV3}.lora_down.weight": down,
        f"{CONV3}.alpha": torch.tensor(2.0),
    }
    module = read(tensors).modules[CONV3]
    expected = np.zeros((6, 5, *kernel))
    for r in range(rank_up):
        for s in range(rank_down):
            outer = np.multiply.outer(up.double().numpy()[:, r].ravel(), down.double().numpy()[s].ravel())
            expected += np.multiply.outer(outer, mid.double().numpy()[r, s])
    expected *= 2.0 / rank_down
    assert module.weight_shape == (6, 5, *kernel)
    assert module.up.shape[2:] == ones
    assert oracle.distance(oracle.module_delta(module), expected.reshape(6, -1)) < 2e-7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_folding_a_half_precision_core_loses_no_precision(dtype: torch.dtype):
    """The numbers of the file are what is exact: folding must not round them again."""
    up, mid, down = (t.to(dtype) for t in (normal(6, 4, 1, 1), normal(4, 4, 3, 3), normal(4, 5, 1, 1)))
    tensors = {f"x.lora_{part}.weight": tensor for part, tensor in (("up", up), ("mid", mid), ("down", down))}
    module = read(tensors).modules["x"]
    expected = np.einsum(
        "or,rskl,si->oikl", *(t.double().numpy() for t in (up.flatten(1), mid, down.flatten(1))), optimize=True
    )
    assert oracle.distance(oracle.module_delta(module), expected.reshape(6, -1)) < 2e-7


# What is refused


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda pair: pair[0])
@pytest.mark.parametrize("half", [0, 1])
def test_a_missing_factor_is_refused(spelling: tuple[str, str], half: int):
    tensors = tensors_of("lora_unet_good") | tensors_of("lora_unet_half", spelling, alpha=torch.tensor(1.0))
    del tensors["lora_unet_half" + spelling[half]]
    with pytest.raises(LoraError, match="lora_unet_half"):
        read(tensors)


def test_factors_from_two_key_pairs_do_not_match():
    """ComfyUI loads no mixed pairs either."""
    tensors = {"x.lora_up.weight": normal(7, 3), "x.lora_A.weight": normal(3, 5)}
    with pytest.raises(LoraError, match="x"):
        read(tensors_of("lora_unet_good") | tensors)


def test_a_core_alone_is_refused():
    with pytest.raises(LoraError, match="lora_unet_x"):
        read({"lora_unet_x.lora_mid.weight": normal(3, 3, 3, 3)})
    with pytest.raises(LoraError, match="lora_unet_x"):
        read(tensors_of("lora_unet_x", SPELLINGS[2], lora_mid__weight=normal(3, 3, 3, 3)))


def test_an_alpha_alone_is_refused():
    with pytest.raises(LoraError, match="lora_unet_alone"):
        read(tensors_of("lora_unet_x") | {"lora_unet_alone.alpha": torch.tensor(1.0)})


BAD_SHAPES = {
    "ranks differ": (normal(7, 3), normal(4, 5)),
    "transposed": (normal(3, 7), normal(5, 3)),
    "a vector": (normal(7), normal(3, 5)),
    "a number": (torch.tensor(1.0), normal(3, 5)),
    "rank 0": (normal(7, 0), normal(0, 5)),
    "no outputs": (normal(0, 3), normal(3, 5)),
    "no inputs": (normal(7, 3), normal(3, 0)),
    "an up with a kernel": (normal(7, 3, 3, 3), normal(3, 5, 1, 1)),
}


@pytest.mark.parametrize("up, down", BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_shapes_that_disagree_are_refused(up: Tensor, down: Tensor):
    tensors = {"lora_unet_bad.lora_up.weight": up, "lora_unet_bad.lora_down.weight": down}
    with pytest.raises(LoraError, match="lora_unet_bad"):
        read(tensors_of("lora_unet_good") | tensors)


@pytest.mark.parametrize(
    "mid", [normal(4, 3, 3, 3), normal(3, 4, 3, 3), normal(3, 3), normal(3), normal(3, 3, 3), normal(3, 3, 0, 3)]
)
def test_a_core_that_does_not_fit_is_refused(mid: Tensor):
    tensors = {
        "lora_unet_bad.lora_up.weight": normal(7, 3, 1, 1),
        "lora_unet_bad.lora_mid.weight": mid,
        "lora_unet_bad.lora_down.weight": normal(3, 5, 1, 1),
    }
    with pytest.raises(LoraError, match="lora_unet_bad"):
        read(tensors)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_and_infinite_values_are_refused(value: float, dtype: torch.dtype, side: int):
    tensors = {key: tensor.to(dtype) for key, tensor in tensors_of("lora_unet_bad").items()}
    key = "lora_unet_bad" + KOHYA[side]
    broken = tensors[key].float()
    broken[1, 2] = value
    tensors[key] = broken.to(dtype)
    with pytest.raises(LoraError, match="lora_unet_bad"):
        read(tensors_of("lora_unet_good") | tensors)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_integer_factors_are_refused(dtype: torch.dtype):
    with pytest.raises(LoraError, match="lora_unet_bad"):
        read({key: tensor.to(dtype) for key, tensor in tensors_of("lora_unet_bad").items()})


@pytest.mark.parametrize(
    "suffix",
    [
        *("dora_scale", "lora_magnitude_vector", "diff", "diff_b", "w_norm", "b_norm", "set_weight", "oft_blocks"),
        *("oft_diag", "hada_w1_a", "lokr_w1", "a1.weight", "on_input", "lora_up.bias", "lora_embedding_A"),
    ],
)
def test_unsupported_tensors_are_refused_or_named(suffix: str):
    """What lies beside a module's two factors is carried along, or the file is refused by the module's name."""
    tensors = tensors_of("lora_unet_good") | tensors_of("lora_unet_odd")
    tensors[f"lora_unet_odd.{suffix}"] = torch.ones(7, 1)
    try:
        written = to_state_dict(read(tensors, "some file"))
    except LoraError as error:
        assert "lora_unet_odd" in str(error) and "some file" in str(error)
    else:
        plain = to_state_dict(read(tensors_of("lora_unet_good") | tensors_of("lora_unet_odd")))
        assert written.keys() != plain.keys() or any(not torch.equal(plain[key], written[key]) for key in plain)


@pytest.mark.parametrize(
    "key, named",
    [
        ("lora_unet_x.scale_weight", "lora_unet_x.scale_weight"),
        ("lora_unet_x.base_layer.bias", "lora_unet_x.base_layer.bias"),
        ("lora_unet_y.hada_w3_a", "lora_unet_y.hada_w3_a"),
        ("lora_unet_x.lora_up.weight.extra", "lora_unet_x.lora_up.weight.extra"),
        ("lora_unet_x.lora_C.weight", "lora_unet_x.lora_C.weight"),
        ("lora_unet_x.lora_up.bias", "lora_unet_x"),
        ("lora_unet_x.lora_B.other.weight", "lora_unet_x"),
    ],
)
def test_unknown_parts_of_an_adapter_are_refused_by_name(key: str, named: str):
    with pytest.raises(LoraError) as caught:
        read(tensors_of("lora_unet_x") | {key: normal(3, 3)}, "some file")
    assert named in str(caught.value) and "some file" in str(caught.value)


@pytest.mark.parametrize("tensors", [{}, {"model.weight": normal(3, 3)}, {"lora_unet_x.alpha": torch.tensor(1.0)}])
def test_a_file_without_lora_weights_is_refused(tensors: dict[str, Tensor]):
    with pytest.raises(LoraError, match="some file"):
        read(tensors, "some file")


@pytest.mark.parametrize(
    "one, other",
    [
        ("lora_unet_mid_block_attentions_0_proj_in", "unet.mid_block.attentions.0.proj_in"),
        ("diffusion_model.blocks.0.self_attn.q", "lora_unet_blocks_0_self_attn_q"),
    ],
)
def test_two_adapters_of_one_weight_are_added(one: str, other: str, caplog: pytest.LogCaptureFixture):
    """ComfyUI would load one of the two and drop the other; here both count, and the log says so."""
    first, second = tensors_of(one, alpha=torch.tensor(6.0)), tensors_of(other, rank=2, alpha=torch.tensor(-1.0))
    with caplog.at_level(logging.WARNING):
        lora = read(first | second)
    (module,) = lora.modules.values()
    alone = [read(tensors).modules[name] for tensors, name in ((first, one), (second, other))]
    assert module.name == one
    assert oracle.distance(oracle.module_delta(module), sum(map(oracle.module_delta, alone))) < 1e-6
    assert other in caplog.text


def test_two_names_of_one_weight_are_added():
    first, second = tensors_of("lora_unet_x"), tensors_of("lora_unet_x", SPELLINGS[2], rank=2)
    (module,) = read(first | second).modules.values()
    alone = [read(tensors).modules["lora_unet_x"] for tensors in (first, second)]
    assert oracle.distance(oracle.module_delta(module), sum(map(oracle.module_delta, alone))) < 1e-6


def test_reading_does_not_change_the_state_dict():
    tensors = state_dict(make_lora(1))
    before = {key: tensor.clone() for key, tensor in tensors.items()}
    read(tensors)
    assert list(tensors) == list(before)
    assert all(torch.equal(tensors[key], before[key]) for key in before)


# Writing


def test_written_tensors_have_kohya_keys():
    lora = make_lora(1, shapes={LINEAR: (7, 5), CONV3: (4, 3, 3, 3), TEXT: (6, 5)}, alphas=[2.0, None, -1.0])
    tensors = to_state_dict(lora)
    assert set(tensors) == {
        f"{name}.{suffix}" for name in lora.modules for suffix in ("lora_up.weight", "lora_down.weight", "alpha")
    }
    for name, module in lora.modules.items():
        assert torch.equal(tensors[f"{name}.lora_up.weight"], up_of(module))
        assert torch.equal(tensors[f"{name}.lora_down.weight"], down_of(module))
        alpha = tensors[f"{name}.alpha"]
        assert (alpha.dtype, alpha.dim(), float(alpha)) == (torch.float32, 0, module.alpha)
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors.values())


@pytest.mark.parametrize(
    "name, written",
    [
        (LINEAR, LINEAR),
        ("unet.mid_block.attentions.0.proj_in", "lora_unet_mid_block_attentions_0_proj_in"),
        ("unet.up_blocks.1.resnets.0.conv1", "lora_unet_up_blocks_1_resnets_0_conv1"),
        (
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out",
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
        ),
        ("diffusion_model.blocks.0.self_attn.q", "diffusion_model.blocks.0.self_attn.q"),
        ("transformer_blocks.0.attn.add_k_proj", "transformer_blocks.0.attn.add_k_proj"),
        ("transformer.single_transformer_blocks.3.proj_out", "transformer.single_transformer_blocks.3.proj_out"),
    ],
)
def test_names_that_comfyui_does_not_map_are_written_as_kohya(name: str, written: str):
    tensors = to_state_dict(read(tensors_of(name, SPELLINGS[2])))
    assert set(tensors) == {f"{written}.{suffix}" for suffix in ("lora_up.weight", "lora_down.weight", "alpha")}


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.float32])
def test_tensors_are_written_in_the_chosen_dtype(dtype: torch.dtype | None):
    lora = make_lora(1, dtype=torch.float16, alphas=[0.1])
    tensors = to_state_dict(lora, dtype)
    for key, tensor in tensors.items():
        if key.endswith(".alpha"):
            assert tensor.dtype == torch.float32, "12.8 in bfloat16 would be 12.8125"
        else:
            assert tensor.dtype == (dtype or torch.float16)
    assert torch.equal(tensors[f"{LINEAR}.lora_up.weight"], up_of(lora.modules[LINEAR]).to(dtype or torch.float16))


def test_block_weights_are_written_into_alpha_but_strengths_are_not():
    lora = make_lora(1, alphas=[3.0], strength_model=0.5, strength_clip=7.0, block_weight=-0.25)
    assert {float(t) for key, t in to_state_dict(lora).items() if key.endswith(".alpha")} == {-0.75}
    baked = to_state_dict(lora.baked())
    assert float(baked[f"{LINEAR}.alpha"]) == -0.375
    assert float(baked[f"{TEXT}.alpha"]) == -5.25


@pytest.mark.parametrize("side", ["up", "down"])
def test_values_too_large_for_the_precision_are_refused(side: str):
    module = LoraModule.of(LINEAR, torch.ones(4, 2), torch.ones(2, 3), 2.0)
    getattr(module, side).materialize()[0, 0] = 7e4
    lora = of_modules([module], "too large")
    with pytest.raises(LoraError, match=LINEAR):
        to_state_dict(lora, torch.float16)
    assert torch.isfinite(to_state_dict(lora, torch.bfloat16)[f"{LINEAR}.lora_up.weight"]).all()


def test_a_state_dict_survives_a_round_trip():
    lora = each_module(make_lora(1, name="file", ranks=[2, 3], alphas=[None, 1.25]), lambda m: m)
    again = read(to_state_dict(lora), "file")
    assert fingerprint(again) == fingerprint(lora)


def test_writing_does_not_change_the_lora_and_makes_factors_contiguous():
    lora = each_module(
        make_lora(1, shapes={LINEAR: (7, 5)}),
        lambda m: LoraModule.of(m.name, up_of(m).T.contiguous().T, down_of(m).T.contiguous().T, m.alpha),
    )
    before = fingerprint(lora)
    tensors = to_state_dict(lora)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert torch.equal(tensors[f"{LINEAR}.lora_up.weight"], up_of(lora.modules[LINEAR]))
    assert fingerprint(lora) == before


def test_a_1x1_convolution_keeps_its_shape():
    lora = make_lora(1, shapes={CONV1: (6, 4, 1, 1)}, ranks=[2])
    tensors = to_state_dict(lora)
    assert tensors[f"{CONV1}.lora_up.weight"].shape == (6, 2, 1, 1)
    assert tensors[f"{CONV1}.lora_down.weight"].shape == (2, 4, 1, 1)
