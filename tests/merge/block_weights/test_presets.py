"""Presets of block weights: the pack's own, the user's, and reading preset files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_pack.merge.block_weights import presets as preset_module
from lora_pack.merge.block_weights.apply import with_block_weights
from lora_pack.merge.block_weights.layouts import BASE, BlockLayout
from lora_pack.merge.block_weights.presets import preset_files, read_presets
from lora_pack.merge.errors import LoraError
from lora_pack.tests.support.block_loras import (
    FLUX_ALL,
    QWEN,
    SD,
    SD3,
    SD_ATTENTION,
    SD_CONV,
    SDXL,
    SDXL_ATTENTION,
    SDXL_CONV,
    TEXT_ENCODER,
    WAN,
    WAN_14B,
    Z_IMAGE,
    make_lora,
    message,
    notation,
    path_of,
    weigh,
    weights,
)

SHIPPED = Path(__file__).resolve().parents[3] / "block_presets.txt"


def test_a_preset_is_applied_by_name_or_with_its_name_before_a_colon():
    presets = {"MINE": "0.5" + ",2" * 16, "PERCENT": "%mid=3", "A": "%default=4"}
    names = [*SD_ATTENTION, TEXT_ENCODER]
    assert weigh(names, " MINE ", presets) == [2.0] * 16 + [0.5]
    assert weigh(names, "OTHER:1" + ",3" * 16, presets) == [3.0] * 16 + [1.0]
    assert weigh(names, "OTHER: %default=3", presets) == [3.0] * 17
    assert weigh(names, "OTHER:MINE", presets) == [2.0] * 16 + [0.5]
    assert weigh(["lora_unet_mid_block_attentions_0_proj_in"], "PERCENT", presets) == [3.0]
    assert weigh(names, "A", presets) == [4.0] * 17
    assert "nothing follows the colon" in message(names, "OTHER:", presets)


def test_a_preset_for_another_layout_is_refused_with_the_lengths_that_fit():
    text = message(SDXL_ATTENTION, "MINE", {"MINE": "1" + ",1" * 16})
    assert "'MINE'" in text and "12 or 20 for SDXL" in text


def test_an_unknown_preset_is_refused_with_similar_names_or_a_list():
    presets = {"SD-OUTALL": "%default=1", "SD-INALL": "%default=1"}
    assert "there is no preset 'sd-outal'. Did you mean SD-OUTALL" in message(WAN, "sd-outal", presets)
    assert "The presets are SD-OUTALL, SD-INALL." in message(WAN, "something else", presets)
    assert "There are no presets." in message(WAN, "something else", {})


def only(blocks: tuple[str, ...], group: str) -> dict[str, float]:
    """The blocks of one group and the base at 1, all others at 0."""
    return {block: float(block == BASE or block.startswith(group)) for block in blocks}


@pytest.mark.parametrize(
    ("prefix", "layout", "blocks"),
    [
        ("SD", SD, SD.short),
        ("SD-FULL", SD, SD.full),
        ("SDXL", SDXL, SDXL.short),
        ("SDXL-FULL", SDXL, SDXL.full),
    ],
)
def test_shipped_presets_of_u_nets(prefix: str, layout: BlockLayout, blocks: tuple[str, ...]):
    shipped = read_presets(SHIPPED)
    expected = {
        "ALL": dict.fromkeys(blocks, 1.0),
        "NONE": dict.fromkeys(blocks, 0.0),
        "IN": only(blocks, "IN"),
        "MID": only(blocks, "MID"),
        "OUT": only(blocks, "OUT"),
    }
    for name, vector in expected.items():
        assert [float(weight) for weight in shipped[f"{prefix}-{name}"].split(",")] == list(vector.values())


def test_shipped_presets_of_flux():
    shipped = read_presets(SHIPPED)
    ones, zeros = ["1"] * 19, ["0"] * 19
    for name, vector in {
        "FLUX-ALL": ["1", *ones, *ones, *ones],
        "FLUX-NONE": ["0", *zeros, *zeros, *zeros],
        "FLUX-IN": ["1", *ones, *zeros, *zeros],
        "FLUX-MID": ["1", *zeros, *ones, *zeros],
        "FLUX-OUT": ["1", *zeros, *zeros, *ones],
        "FLUX-DOUBLE": ["1", *ones, *zeros, *zeros],
        "FLUX-SINGLE": ["1", *zeros, *ones, *ones],
    }.items():
        assert shipped[name].split(",") == vector


@pytest.mark.parametrize(
    ("prefix", "names"),
    [("SD3", SD3), ("WAN", WAN_14B), ("WAN30", WAN_14B[:30]), ("QWEN", QWEN), ("ZIMAGE", Z_IMAGE)],
)
def test_shipped_in_mid_and_out_cover_a_list_of_blocks_in_even_thirds(prefix: str, names: list[str]):
    shipped = read_presets(SHIPPED)
    thirds = [weigh([*names, TEXT_ENCODER], f"{prefix}-{third}", shipped) for third in ("IN", "MID", "OUT")]
    assert [sum(weights) for weights in zip(*thirds, strict=True)] == [1.0] * len(names) + [3.0]
    sizes = [sum(third) - 1 for third in thirds]
    assert max(sizes) - min(sizes) <= 1
    assert all(sorted(third[:-1], reverse=i == 0) == third[:-1] for i, third in enumerate(thirds) if i != 1)


@pytest.mark.parametrize(
    ("name", "names", "at_one"),
    [
        ("INALL", SD_CONV, {BASE, *(f"IN{i:02}" for i in range(12))}),
        ("OUTALL", SD_CONV, {BASE, *(f"OUT{i:02}" for i in range(12))}),
        (
            "MIDD",
            SD_CONV,
            {BASE, "IN09", "IN10", "IN11", "MID", "OUT00", "OUT01", "OUT02", "OUT09", "OUT10", "OUT11"},
        ),
        ("INALLXL", SDXL_CONV, {BASE, *(f"IN{i:02}" for i in range(9))}),
        ("OUTALLXL", SDXL_CONV, {BASE, *(f"OUT{i:02}" for i in range(9))}),
        ("MIDDXL", SDXL_CONV, {BASE, "IN06", "IN07", "IN08", "MID", "OUT00", "OUT01", "OUT02"}),
    ],
)
def test_presets_of_the_older_pack(name: str, names: list[str], at_one: set[str]):
    layout = SDXL if name.endswith("XL") else SD
    vector = [float(weight) for weight in read_presets(SHIPPED)[name].split(",")]
    assert {block for block, weight in zip(layout.full, vector, strict=True) if weight == 1} == at_one
    assert set(vector) == {0.0, 1.0}
    te = [n for n in names if n.startswith("lora_te")]
    expected = [n in te or (layout.block_of(path_of(n, layout)) or BASE) in at_one for n in names]
    assert weigh(names, name, read_presets(SHIPPED)) == [float(kept) for kept in expected]


def test_every_shipped_preset_fits_a_lora_of_its_model():
    loras = {
        "SDXL": SDXL_ATTENTION,
        "SD": SD_ATTENTION,
        "FLUX": FLUX_ALL,
        "SD3": SD3,
        "SD35L": [f"lora_unet_joint_blocks_{i}_x_block_attn_qkv" for i in range(38)],
        "WAN": WAN_14B,
        "WAN30": WAN_14B[:30],
        "QWEN": QWEN,
        "ZIMAGE": Z_IMAGE,
        "DOUBLE": FLUX_ALL,
        "SINGLE": FLUX_ALL,
    }
    shipped = read_presets(SHIPPED)
    assert len(shipped) == 7 + 4 * 5 + 7 + 6 * 3 + 6
    for name in shipped:
        start = "SDXL" if name.endswith("XL") else name.split("-")[0]
        result = with_block_weights(make_lora(*loras.get(start, SD_ATTENTION)), name, shipped)
        assert bool(result.modules) == ("NONE" not in name)


@pytest.mark.parametrize("names", [SD_ATTENTION, SD_CONV, SDXL_ATTENTION, SDXL_CONV], ids=["sd", "sd-c", "xl", "xl-c"])
@pytest.mark.parametrize("group", ["IN", "MID", "OUT"])
def test_presets_of_any_model_fit_every_u_net(names: list[str], group: str):
    layout = SDXL if names[0] == SDXL_ATTENTION[0] else SD
    paths = [None if name.startswith("lora_te") else path_of(name, layout) for name in names]
    expected = [float(path is None or (layout.block_of(path) or group).startswith(group)) for path in paths]
    assert weigh(names, group, read_presets(SHIPPED)) == expected
    assert "matches no block" in message(FLUX_ALL, group, read_presets(SHIPPED))


def test_presets_are_read_from_the_pack_by_default():
    result = with_block_weights(make_lora(*SD_ATTENTION, TEXT_ENCODER), "SD-MID")
    assert list(result.modules) == ["lora_unet_mid_block_attentions_0_proj_in", TEXT_ENCODER]


# ---- preset files


def test_the_users_file_adds_and_overrides_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    user = tmp_path / "block_presets.user.txt"
    monkeypatch.setattr(preset_module, "PACK_USER_PRESETS", user)
    assert read_presets() == read_presets(SHIPPED)
    user.write_text("MINE:%default=2\nALL:%default=3\n", encoding="utf-8")
    assert read_presets() == {**read_presets(SHIPPED), "MINE": "%default=2", "ALL": "%default=3"}
    assert weights(with_block_weights(make_lora(*WAN), "MINE")) == dict.fromkeys(WAN, 2.0)


def test_a_broken_user_file_fails_presets_but_not_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert preset_module.SHIPPED_PRESETS.resolve() == SHIPPED
    assert preset_module.PACK_USER_PRESETS == preset_module.SHIPPED_PRESETS.parent / "block_presets.user.txt"
    broken = tmp_path / "block_presets.user.txt"
    broken.write_text("not a preset", encoding="utf-8")
    monkeypatch.setattr(preset_module, "PACK_USER_PRESETS", broken)
    assert weights(with_block_weights(make_lora(*WAN), "%default=2")) == dict.fromkeys(WAN, 2.0)
    with pytest.raises(LoraError, match=r"block_presets\.user\.txt, line 1: this is not a preset"):
        with_block_weights(make_lora(*WAN), "ALL")


def test_a_file_elsewhere_overrides_the_one_in_the_packs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    in_pack, elsewhere = tmp_path / "pack.txt", tmp_path / "elsewhere.txt"
    monkeypatch.setattr(preset_module, "PACK_USER_PRESETS", in_pack)
    assert preset_files(elsewhere) == (preset_module.SHIPPED_PRESETS,)
    in_pack.write_text("MINE:%default=2\nOLD:%default=4\n", encoding="utf-8")
    elsewhere.write_text("MINE:%default=3\n", encoding="utf-8")
    presets = read_presets(*preset_files(elsewhere))
    assert (presets["MINE"], presets["OLD"]) == ("%default=3", "%default=4") and "ALL" in presets


def test_presets_are_read_only_if_a_name_is_used():
    def read() -> dict[str, str]:
        asked.append(True)
        return {"MINE": "%default=2"}

    asked: list[bool] = []
    for spec in ("", "%default=2", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "MINE:%default=2"):
        with_block_weights(make_lora(*SD_ATTENTION), spec, read)
    assert not asked
    assert weights(with_block_weights(make_lora(*WAN), "MINE", read)) == dict.fromkeys(WAN, 2.0) and asked


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_preset_files_may_have_comments_blank_lines_crlf_and_a_bom(tmp_path: Path, newline: str, encoding: str):
    lines = ["FIRST:1,0.5", "", "# a comment", "   ", " ÜBER : %in = 1 ", "  # another: 1", "FIRST:2,0.5"]
    path = tmp_path / "p.txt"
    path.write_bytes(newline.join(lines).encode(encoding))
    assert read_presets(path) == {"FIRST": "2,0.5", "ÜBER": "%in = 1"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("NAME", "this is not a preset."),
        ("NAME:", "this is not a preset."),
        (":1,1", "this is not a preset."),
        ("1,1,1", "this is not a preset."),
        ("1,1:1", "'1,1' looks like weights."),
        ("%in:1", "'%in' looks like weights."),
        ("NAME:1,x", "weight 2, 'x', is not a number."),
        ("NAME:1,,1", "weight 2 is missing."),
        ("NAME:%wrong=1", "'wrong' is not a key of the % form."),
        ("NAME:%in3-1=1", "in3-1 runs backwards."),
        ("NAME:1,inf", "weight 2 is 'inf'. It must be a finite number."),
        ("NAME:OTHER", "weight 1, 'OTHER', is not a number."),
        ("NAME:1:2", "weight 1, '1:2', is not a number."),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(tmp_path: Path, line: str, problem: str):
    path = tmp_path / "mine.txt"
    path.write_text(f"# first\n\nGOOD:1\n{line}\nGOOD2:1\n", encoding="utf-8")
    with pytest.raises(LoraError) as caught:
        read_presets(path)
    assert str(caught.value).startswith(f"mine.txt, line 4: {problem}")


def test_unsupported_presets_of_inspires_file_are_refused_only_when_used(tmp_path: Path):
    path = tmp_path / "inspire.txt"
    path.write_text("RANDOM:1,R,R 0.5,A\n@LINE:17,12,1\nGOOD:%default=1", encoding="utf-8")
    presets = read_presets(path)
    assert list(presets) == ["RANDOM", "@LINE", "GOOD"]
    assert "stands for a random number" in message(SD_ATTENTION, "RANDOM", presets)


def test_unreadable_preset_files_are_refused(tmp_path: Path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("ÜBER:1".encode("latin-1"))
    with pytest.raises(LoraError, match=r"latin\.txt aren't UTF-8"):
        read_presets(latin)
    with pytest.raises(LoraError, match=r"nowhere\.txt can't be read"):
        read_presets(tmp_path / "nowhere.txt")


@pytest.mark.fuzz
@settings(max_examples=100, deadline=None)
@given(line=st.one_of(st.text(), notation))
def test_any_preset_file_gives_presets_or_a_lora_error(tmp_path_factory: pytest.TempPathFactory, line: str):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(line, encoding="utf-8", errors="replace")
    try:
        assert all(name and value for name, value in read_presets(path).items())
    except LoraError as error:
        assert str(error).startswith("any.txt, line ")
