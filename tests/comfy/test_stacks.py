"""LoRA stacks from rows, from folders and from other packs: merging, errors, and reloading of changed files."""

from __future__ import annotations

import os
from typing import Any

import pytest
from lora_pack.tools.comfy_server import NodeError, Prompt, PromptRejected, Server
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import node

CONCAT = {"mode": "concat", "density": 1.0, "device": "cpu", "dtype": "float32"}
SVD = CONCAT | {"mode": "add_svd", "svd_rank": 4, "svd_conv_rank": 0}


def loader(name: str, model: float = 1.0, clip: float = 1.0) -> dict[str, Any]:
    return node("PM LoRA Loader", lora_name=name, strength_model=model, strength_clip=clip, lbw="")


def stacker(*rows: tuple[str, float, float], **inputs: Any) -> dict[str, Any]:
    for number, row in enumerate([*rows, *[("None", 1.0, 1.0)] * (4 - len(rows))], 1):
        inputs |= {f"lora_{number}": row[0], f"strength_model_{number}": row[1], f"strength_clip_{number}": row[2]}
    return node("PM LoRA Stack", **inputs)


def folder(name: str, **inputs: Any) -> dict[str, Any]:
    settings = {"pattern": "*", "order": "name", "limit": 0, "strength_model": 1.0, "strength_clip": 1.0}
    return node("PM LoRA from Folder", folder=name, **settings | inputs)


def saved(server: Server, nodes: Prompt, merger: dict[str, Any], kind: str = "PM LoRA Merger") -> bytes:
    """The content of the file saved from the merge."""
    prompt = nodes | {
        "merger": node(kind, **(SVD if "SVD" in kind else CONCAT), **merger),
        "save": node("PM LoRA Save", lora=["merger", 0], file_name="stacks/merged", extension="safetensors"),
    }
    path, *_ = server.run(prompt)["save"]["text"]
    content = (server.loras / path).read_bytes()
    (server.loras / path).unlink()
    return content


def given(*rows: Any) -> dict[str, Any]:
    """A literal stack as an input value. ComfyUI would take a plain list for a link."""
    return {"__value__": list(rows)}


def error(server: Server, stack: Any, nodes: Prompt | None = None) -> str:
    with pytest.raises(NodeError) as caught:
        saved(server, nodes or {}, {"lora_stack": stack})
    return caught.value.exception_message


@pytest.mark.parametrize("kind", ["PM LoRA Merger", "PM LoRA SVD Merger"])
def test_a_stack_is_merged_after_the_connected_loras(server: Server, kind: str):
    nodes = {
        "a": loader("a.safetensors"),
        "b": loader("b.safetensors", 0.5, -0.25),
        "c": loader("a.safetensors", 0.75, 1.0),
        "stack": stacker(("b.safetensors", 0.5, -0.25), ("a.safetensors", 0.75, 1.0)),
    }
    by_links = saved(server, nodes, {"lora1": ["a", 0], "lora2": ["b", 0], "lora3": ["c", 0]}, kind)
    assert saved(server, nodes, {"lora1": ["a", 0], "lora_stack": ["stack", 0]}, kind) == by_links


def test_chained_stacks_are_joined_in_order(server: Server):
    nodes = {
        "first": stacker(("a.safetensors", 1.0, 1.0)),
        "second": stacker(("b.safetensors", 0.5, 0.5), lora_stack=["first", 0]),
        "both": stacker(("a.safetensors", 1.0, 1.0), ("b.safetensors", 0.5, 0.5)),
    }
    assert saved(server, nodes, {"lora_stack": ["second", 0]}) == saved(server, nodes, {"lora_stack": ["both", 0]})


def test_stacks_from_other_packs_are_accepted(server: Server):
    nodes = {"stack": stacker(("a.safetensors", 1.0, 1.0), ("b.safetensors", 0.5, 0.5))}
    other = given(["None", 1.0, 1.0], ["a.safetensors", 1, 1], ["b.safetensors", "0.5", 0.5])
    assert saved(server, {}, {"lora_stack": other}) == saved(server, nodes, {"lora_stack": ["stack", 0]})


def test_errors_in_a_stack_name_the_entry(server: Server):
    good = ["a.safetensors", 1.0, 1.0]
    assert "have no file gone.safetensors" in error(server, given(good, ["gone.safetensors", 1.0, 1.0], good))
    assert "entry 2 is 5" in error(server, given(good, 5, good))
    assert "entry 1 (a.safetensors): the strengths 'x' and 1.0" in error(server, given(["a.safetensors", "x", 1.0]))
    assert "lora_stack: expected a LoRA stack, got int" in error(server, 7)
    assert "No LoRA is connected" in error(server, given())
    (server.loras / "torn.safetensors").write_bytes(b"torn")
    assert "torn" in error(server, given(good, ["torn.safetensors", 1.0, 1.0]))


def test_a_missing_file_in_a_row_is_rejected_before_the_run(server: Server):
    with pytest.raises(PromptRejected, match="gone.safetensors"):
        saved(server, {"stack": stacker(("gone.safetensors", 1.0, 1.0))}, {"lora_stack": ["stack", 0]})


@pytest.fixture
def epochs(server: Server) -> list[str]:
    """run/epoch-1 to run/epoch-3, of which later numbers are older, and run/best/Last, the oldest."""
    names = ["run/epoch-1", "run/epoch-2", "run/epoch-3", "run/best/Last"]
    for number, name in enumerate(names):
        path = server.loras / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lora(path, rank=2, seed=number, modules=small_modules()[:3])
        os.utime(path, (2_000_000_000 - number, 2_000_000_000 - number))
    return names


def test_a_folder_is_merged_by_pattern_order_and_limit(server: Server, epochs: list[str]):
    def merged(*expected: str, **settings: Any) -> None:
        rows = [(os.path.normpath(f"{name}.safetensors"), 0.5, 1.0) for name in expected]
        nodes = {
            "folder": folder(**{"name": "run", "strength_model": 0.5} | settings),
            "rows": stacker(*rows),
        }
        from_folder = saved(server, nodes, {"lora_stack": ["folder", 0]})
        assert from_folder == saved(server, nodes, {"lora_stack": ["rows", 0]})

    one, two, three, last = epochs
    merged(last, one, two, three)
    merged(one, two, three, pattern="EPOCH-?")
    merged(one, two, pattern="epoch-*.safetensors", limit=2)
    merged(three, two, pattern="epoch-*", order="oldest first", limit=2)
    merged(one, two, three, last, order="newest first")
    merged(last, name="run/best")
    merged(three, name="/", pattern="epoch-3")


def test_folders_and_subfolders_are_offered(server: Server, epochs: list[str]):
    folders = server.object_info("PM LoRA from Folder")["input"]["required"]["folder"][0]
    assert folders[0] == "/"
    assert {"run", "run/best"} <= set(folders)


def test_a_pattern_that_matches_nothing_is_refused(server: Server, epochs: list[str]):
    message = error(server, ["folder", 0], {"folder": folder("run", pattern="none-*")})
    assert "No LoRA file in the folder run matches 'none-*'" in message


def test_a_changed_file_in_a_folder_is_reloaded(server: Server, epochs: list[str]):
    nodes = {"folder": folder("run/best")}
    before = saved(server, nodes, {"lora_stack": ["folder", 0]})
    write_lora(server.loras / "run/best/Last.safetensors", rank=3, seed=9, modules=small_modules()[:3])
    assert saved(server, nodes, {"lora_stack": ["folder", 0]}) != before


def third_party_stack(*names: str) -> dict[str, Any]:
    return node("Third-Party LoRA Stacker", names=" ".join(names))


def rewrite(server: Server, name: str, seed: int) -> None:
    path = server.loras / name
    path.parent.mkdir(exist_ok=True)
    write_lora(path, rank=2, seed=seed, modules=small_modules()[:3])


@pytest.mark.parametrize("kind", ["PM LoRA Merger", "PM LoRA SVD Merger"])
def test_a_changed_file_in_another_packs_stack_is_reloaded(server: Server, kind: str):
    changing = "other_pack/changing.safetensors"
    nodes = {"stack": third_party_stack("a.safetensors", changing)}
    contents = []
    for seed in (1, 2, 1):
        rewrite(server, changing, seed)
        contents.append(saved(server, nodes, {"lora_stack": ["stack", 0]}, kind))
    assert contents[0] != contents[1] and contents[0] == contents[2]
    (server.loras / changing).unlink()
    with pytest.raises(NodeError, match=f"loras folders have no file {changing}"):
        saved(server, nodes, {"lora_stack": ["stack", 0]}, kind)


def test_a_second_run_works_after_a_file_changed_between_merge_and_save(server: Server):
    """A concat reads its files when it is saved. If one has changed by then, the error says to run again."""
    changing = "other_pack/late.safetensors"
    for seed in (1, 2):
        rewrite(server, changing, seed)
        server.run({"stack": third_party_stack(changing), **merger(f"stacks/late{seed}", lora_stack=["stack", 0])})


def test_a_merge_of_an_unchanged_stack_is_cached(server: Server):
    rewrite(server, "other_pack/kept.safetensors", 1)
    by_stack = {"stack": third_party_stack("other_pack/kept.safetensors"), **merger(lora_stack=["stack", 0])}
    assert "merger" not in cached(server, by_stack)
    assert "merger" in cached(server, by_stack)


def test_a_merge_without_a_stack_stays_cached_when_a_stacks_file_changes(server: Server):
    rewrite(server, "other_pack/kept.safetensors", 2)
    server.run({"stack": third_party_stack("other_pack/kept.safetensors"), **merger(lora_stack=["stack", 0])})
    by_link = {"a": loader("a.safetensors"), **merger(lora1=["a", 0])}
    cached(server, by_link)
    rewrite(server, "other_pack/kept.safetensors", 3)
    assert "merger" in cached(server, by_link)


def merger(file_name: str = "stacks/kept", **inputs: Any) -> Prompt:
    return {
        "merger": node("PM LoRA Merger", **CONCAT, **inputs),
        "save": node("PM LoRA Save", lora=["merger", 0], file_name=file_name, extension="safetensors"),
    }


def cached(server: Server, prompt: Prompt) -> list[str]:
    """Runs a prompt and returns the nodes that ComfyUI took from its cache."""
    messages = server.wait(server.queue(prompt))["status"]["messages"]
    return next(data["nodes"] for name, data in messages if name == "execution_cached")
