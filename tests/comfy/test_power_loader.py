"""PM Power Loader over HTTP: hand-written prompts, refusals, changed files, and who takes its stack."""

from __future__ import annotations

import copy
import json
import pickle
from types import ModuleType
from typing import Any

import pytest
from lora_pack.tests.comfy.test_stacks import cached, folder, loader, merger, rewrite, saved, stacker
from lora_pack.tests.comfy.test_trainer_scale import HEADER, peft_tensors
from lora_pack.tools.comfy_server import NodeError, Prompt, PromptRejected, Server
from lora_pack.tools.workflows import CLIP, MODEL, checkpoint, node, picture
from safetensors.torch import save_file

A = {"lora": "a.safetensors"}
B = {"lora": "b.safetensors", "strength": 0.5, "strength_clip": -0.25}


def power(*rows: Any, **inputs: Any) -> dict[str, Any]:
    return node("PM LoRA Power Loader", rows=json.dumps(list(rows)), **inputs)


def text(rows: str) -> dict[str, Any]:
    return node("PM LoRA Power Loader", rows=rows)


@pytest.mark.parametrize("kind", ["PM LoRA Merger", "PM LoRA SVD Merger"])
def test_rows_merge_like_loaders_with_the_same_settings(server: Server, kind: str):
    weights = "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"
    a, b = loader("a.safetensors"), loader("b.safetensors", 0.5, -0.25)
    a["inputs"]["lbw"] = weights
    by_links = saved(server, {"a": a, "b": b}, {"lora1": ["a", 0], "lora2": ["b", 0]}, kind)
    rows = {"power": power({**A, "lbw": weights}, {**B, "on": True})}
    assert saved(server, rows, {"lora_stack": ["power", 0]}, kind) == by_links


def test_rows_that_are_off_are_left_out_even_if_their_file_is_gone(server: Server):
    one = saved(server, {"power": power(A)}, {"lora_stack": ["power", 0]})
    off = {"power": power({"lora": "gone.safetensors", "on": False}, A, {**B, "on": False})}
    assert saved(server, off, {"lora_stack": ["power", 0]}) == one


def test_a_stack_before_the_rows_comes_first_and_keeps_its_block_weights(server: Server):
    first = power({**A, "lbw": "%default=0.5"})
    chained = {"first": first, "power": power(B, lora_stack=["first", 0])}
    together = {"power": power({**A, "lbw": "%default=0.5"}, B)}
    merged = saved(server, together, {"lora_stack": ["power", 0]})
    assert saved(server, chained, {"lora_stack": ["power", 0]}) == merged
    through_ours = {"first": first, "power": stacker(("b.safetensors", 0.5, -0.25), lora_stack=["first", 0])}
    assert saved(server, through_ours, {"lora_stack": ["power", 0]}) == merged


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("not a list", "rows: the text is not a JSON list"),
        ('{"lora": "a.safetensors"}', "the text is a dict, not a list"),
        ('["a.safetensors"]', 'row 1 is "a.safetensors", expected an object'),
        ("[" * 100_000, "not a JSON list"),
        ('[{"strength": 1}]', "row 1 names no file"),
        ('[{"lora": "None of these.safetensors"}]', r"row 1 (None of these.safetensors)"),
        ('[{"lora": "../a.safetensors"}]', "no such file"),
        ('[{"lora": "/etc/passwd"}]', "no such file"),
        ('[{"lora": "a.safetensors", "weight": 1}]', "unknown key 'weight'"),
        ('[{"lora": "a.safetensors", "on": 1}]', "on is 1, expected true or false"),
        ('[{"lora": "a.safetensors", "strength": NaN}]', "NaN is no number"),
        ('[{"lora": "a.safetensors", "strength": -Infinity}]', "-Infinity is no number"),
        ('[{"lora": "a.safetensors", "strength": 1e999}]', "strength is Infinity"),
        ('[{"lora": "a.safetensors", "strength": "0.5"}]', 'strength is "0.5", expected a number'),
        ('[{"lora": "a.safetensors", "strength": true}]', "strength is true, expected a number"),
        ('[{"lora": "a.safetensors", "strength_clip": [1]}]', "strength_clip is [1]"),
        ('[{"lora": "a.safetensors", "strength": 20.5}]', "from -20 to 20"),
        ('[{"lora": "a.safetensors", "strength": ' + "9" * 400 + "}]", "from -20 to 20"),
        ('[{"lora": "a.safetensors", "lbw": 5}]', "lbw is 5, expected a text"),
        ('[{"lora": "a.safetensors", "lbw": "NO-SUCH"}]', "there is no preset"),
        ('[{"lora": "a.safetensors", "lora": "b.safetensors"}]', "occurs twice"),
        ('[{"lora": "a.safetensors"}, {"lora": "b.safetensors", "strength": null}]', "row 2 (b.safetensors)"),
    ],
)
def test_bad_rows_are_refused_by_name_before_the_run(server: Server, rows: str, problem: str):
    with pytest.raises(PromptRejected) as caught:
        server.queue({"power": text(rows), **merger(lora_stack=["power", 0])})
    assert problem in str(caught.value)


def test_block_weights_that_do_not_fit_the_file_are_refused_at_the_loader(server: Server):
    prompt = {"power": power({**A, "lbw": "1,0,0"}), **merger(lora_stack=["power", 0])}
    with pytest.raises(NodeError, match="it has 3 weights") as caught:
        server.run(prompt)
    assert caught.value.node_id == "power"


def test_no_row_is_no_lora(server: Server):
    for rows in ("", "[]"):
        with pytest.raises(NodeError, match="No LoRA is connected"):
            server.run({"power": text(rows), **merger(lora_stack=["power", 0])})


def test_a_file_that_changes_is_read_again_and_others_stay_cached(server: Server):
    changing = "power/changing.safetensors"
    contents = []
    for seed in (1, 2, 1):
        rewrite(server, changing, seed)
        contents.append(saved(server, {"power": power(A, {"lora": changing})}, {"lora_stack": ["power", 0]}))
    assert contents[0] != contents[1] and contents[0] == contents[2]
    prompt = {"power": power(A, {"lora": changing}), **merger(lora_stack=["power", 0])}
    cached(server, prompt)
    assert {"power", "merger"} <= set(cached(server, prompt))


def test_other_packs_read_plain_tuples(server: Server):
    """A node that unpacks and rebuilds entries, as Efficiency's and Comfyroll's do."""
    nodes: Prompt = {"power": power({**A, "strength": 0.5}, B), "other": node("Third-Party Restacker")}
    nodes["other"]["inputs"]["lora_stack"] = ["power", 0]
    by_rows = {"rows": stacker(("a.safetensors", 0.5, 0.5), ("b.safetensors", 0.5, -0.25))}
    merged = saved(server, nodes, {"lora_stack": ["other", 0]})
    assert merged == saved(server, by_rows, {"lora_stack": ["rows", 0]})


def applied(server: Server, nodes: Prompt, prefix: str, **inputs: Any) -> bytes:
    prompt = {
        **checkpoint(),
        **nodes,
        "apply": node("PM LoRA Apply", model=MODEL, clip=CLIP, **inputs),
        **picture(["apply", 0], ["apply", 1], prefix=prefix),
    }
    (path,) = server.images(server.run(prompt), "picture")
    return pixels(path)


def pixels(path: Any) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()


def test_apply_takes_a_stack_and_applies_its_exact_sum(server: Server):
    rows = {"power": power({**A, "strength": 0.6}, {**B, "strength": 0.4})}
    by_stack = applied(server, rows, "power/stack", lora_stack=["power", 0])
    merge = {**rows, **merger(lora_stack=["power", 0])}
    assert by_stack == applied(server, merge, "power/merged", lora=["merger", 0])
    both = {"a": loader("a.safetensors", 0.6, 0.6), "power": power({**B, "strength": 0.4})}
    assert by_stack == applied(server, both, "power/both", lora=["a", 0], lora_stack=["power", 0])
    assert by_stack != applied(server, rows, "power/half", lora_stack=["power", 0], strength_model=0.2)
    with pytest.raises(NodeError, match="No LoRA is connected"):
        applied(server, {}, "power/none")


def test_a_loader_that_is_off_drops_out_of_a_merge(server: Server):
    off = loader("b.safetensors")
    off["inputs"]["on"] = False
    a = loader("a.safetensors")
    alone = saved(server, {"a": a}, {"lora1": ["a", 0]})
    with_off = saved(server, {"a": a, "b": off}, {"lora1": ["a", 0], "lora2": ["b", 0]})
    zero = saved(server, {"a": a, "b": loader("b.safetensors", 0, 0)}, {"lora1": ["a", 0], "lora2": ["b", 0]})
    assert with_off == zero
    assert len(with_off) > len(alone) - 4096  # the recipe alone names the LoRA that is off
    with pytest.raises(NodeError, match="no weights to save"):
        server.run({"b": off, "save": node("PM LoRA Save", lora=["b", 0], file_name="x", extension="safetensors")})


def test_alpha_from_reaches_the_merge(server: Server):
    with pytest.raises(PromptRejected, match="alpha_from"):
        server.queue({"power": power(A, alpha_from="nobody"), **merger(lora_stack=["power", 0])})
    save_file(peft_tensors(), server.loras / "power_scale.safetensors", {"lora_adapter_metadata": json.dumps(HEADER)})
    row = {"lora": "power_scale.safetensors"}
    merged = [
        saved(server, {"power": power(row, alpha_from=source)}, {"lora_stack": ["power", 0]})
        for source in ("trainer", "tensors")
    ]
    assert merged[0] != merged[1]
    assert merged[0] == saved(server, {"power": power(row)}, {"lora_stack": ["power", 0]})


def test_entries_survive_what_other_packs_do_with_tuples(comfy: ModuleType):
    from lora_pack.nodes.stack import StackEntry, entries

    entry = StackEntry("a.safetensors", 0.5, 1.0, "SD-OUT", "tensors")
    assert entry == ("a.safetensors", 0.5, 1.0)
    for copied in (copy.copy(entry), copy.deepcopy(entry), pickle.loads(pickle.dumps(entry)), *entries([entry])):
        assert (tuple(copied), copied.lbw, copied.alpha_from) == (tuple(entry), "SD-OUT", "tensors")


def test_rows_from_a_link_are_checked_when_they_run(server: Server):
    def linked(rows: str) -> Prompt:
        return {"text": node("PrimitiveString", value=rows), "power": node("PM LoRA Power Loader", rows=["text", 0])}

    by_hand = saved(server, {"power": power(A)}, {"lora_stack": ["power", 0]})
    assert saved(server, linked('[{"lora": "a.safetensors"}]'), {"lora_stack": ["power", 0]}) == by_hand
    with pytest.raises(NodeError, match="not a JSON list") as caught:
        saved(server, linked("{"), {"lora_stack": ["power", 0]})
    assert caught.value.node_id == "power"


def test_a_folder_before_the_rows(server: Server):
    rewrite(server, "power_folder/one.safetensors", 1)
    nodes = {"folder": folder("power_folder"), "power": power(A, lora_stack=["folder", 0])}
    rows = {"power": power({"lora": "power_folder/one.safetensors"}, A)}
    assert saved(server, nodes, {"lora_stack": ["power", 0]}) == saved(server, rows, {"lora_stack": ["power", 0]})
