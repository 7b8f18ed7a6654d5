"""Which prompt and which seed each picture of PM Reference Pictures gets, outside ComfyUI's server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.tools.make_lora import write_lora
from safetensors.torch import load_file, save_file

NAMES = ["red", "green", "blue"]
WORDS = {"red": ["rd", "crimson"], "green": [], "blue": ["blu"]}


@pytest.fixture
def prompts(comfy: ModuleType) -> ModuleType:
    from lora_pack.xy import reference_prompts

    return reference_prompts


def texts(prompts: ModuleType, lines: str, *names: str) -> list[str]:
    return [one.text for one in prompts.prompts_of(lines, names, lambda position: WORDS[names[position]])]


def test_every_lora_takes_its_own_line_or_else_the_trigger_words_of_its_file(prompts: ModuleType):
    assert texts(prompts, "one\ntwo\nthree", *NAMES) == ["one", "two", "three"]
    assert texts(prompts, "\n  two, {a|b} \r\n\n\n", *NAMES) == ["rd, crimson", "two, {a|b}", "blu"]
    assert texts(prompts, "", "blue") == ["blu"]
    assert texts(prompts, "", "blue", "blue") == ["blu", "blu"]


def test_a_lora_without_a_prompt_is_refused_by_name_and_line(prompts: ModuleType):
    for lines in ("one", "one\n\nthree", "one\n   "):
        with pytest.raises(LoraError, match=r"^green has no prompt: line 2 of prompts is empty.*in line 2 of prompts"):
            texts(prompts, lines, *NAMES)


def test_loras_without_a_part_need_no_prompt_and_keep_their_line(prompts: ModuleType):
    found = prompts.prompts_of("one\n\nthree", NAMES, lambda position: [], without=[1])
    assert [(one.name, one.text) for one in found] == [("red", "one"), ("blue", "three")]


def test_a_line_that_belongs_to_no_lora_is_refused(prompts: ModuleType):
    with pytest.raises(LoraError, match="^prompts has 4 lines for 3 LoRAs: red, green, blue. "):
        texts(prompts, "one\ntwo\n\nfour", *NAMES)
    with pytest.raises(LoraError, match="^prompts has 2 lines for 1 LoRA: red. "):
        texts(prompts, "\ntwo", "red")


def plan(prompts: ModuleType, pictures: int, *lines: str, seed: int = 7) -> tuple[dict[Any, Any], Any]:
    from lora_pack.xy.sampling import Sampling

    base = Sampling(seed, 4, 7.0, "euler", "normal", 1.0, "", "bad")
    of_loras = prompts.prompts_of("\n".join(lines), NAMES[: len(lines)], lambda position: [])
    return prompts.reference_plan(base, of_loras, pictures), base


def test_pictures_come_kind_by_kind_and_those_without_loras_take_the_prompts_in_turn(prompts: ModuleType):
    found, base = plan(prompts, 5, "one", "two")
    assert list(found) == [(number, kind) for kind in range(3) for number in range(5)]
    shown = [(sampling.positive, sampling.seed) for sampling in found.values()]
    assert shown[:5] == [("one", 7), ("two", 8), ("one", 9), ("two", 10), ("one", 11)]
    assert shown[5:10] == [("one", seed) for seed in range(7, 12)]
    assert shown[10:] == [("two", seed) for seed in range(7, 12)]
    assert {sampling.negative for sampling in found.values()} == {"bad"}
    assert {(s.steps, s.cfg, s.sampler_name, s.scheduler, s.denoise) for s in found.values()} == {
        (base.steps, base.cfg, base.sampler_name, base.scheduler, base.denoise)
    }


def test_seeds_wrap_at_the_largest(prompts: ModuleType):
    found, _ = plan(prompts, 2, "one", seed=2**64 - 1)
    assert [sampling.seed for sampling in found.values()] == [2**64 - 1, 0] * 2
    assert prompts.labels_of(found, ["red"]) == ([f"seed {2**64 - 1}", "seed 0"], ["no LoRA", "red"])


def test_the_report_has_a_line_for_each_kind_and_says_what_is_missing(prompts: ModuleType):
    of_loras = prompts.prompts_of("one", ["red", "blue"], lambda position: WORDS["blue"])
    assert prompts.report(of_loras, 4).splitlines() == [
        "12 pictures, 4 of each:",
        "no LoRA: the prompts below, in turn",
        "red: one",
        "blue: blu (trigger words of its file)",
    ]
    last = prompts.report(of_loras, 1).splitlines()[-1]
    assert last.startswith("No picture without LoRAs has the prompt of blue: ") and "pictures is 2 or more" in last


def test_trigger_words_come_from_the_file_and_the_tables_beside_it(
    comfy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from lora_pack.nodes import comfy_bridge, trigger_words

    file = tmp_path / "ink.safetensors"
    write_lora(file, rank=1, modules=[("lora_unet_mid_block_attentions_0_proj_in", 8, 8, False)])
    monkeypatch.setattr(comfy_bridge, "find_lora", lambda name: tmp_path / name)
    plain = load(file, "ink")
    assert trigger_words.words_of(plain) == []
    file.with_suffix(".civitai.info").write_text(json.dumps({"trainedWords": ["inky, ink style"]}), "utf-8")
    assert trigger_words.words_of(plain.with_strengths(0.5, 1.0)) == ["inky", "ink style"]
    save_file(load_file(file), file, {"modelspec.trigger_phrase": "brush"})
    assert trigger_words.words_of(load(file, "ink")) == ["inky", "ink style", "brush"]
    # a merge has no file of its own
    assert trigger_words.words_of(replace(load(file, "ink"), source={})) == ["brush"]
