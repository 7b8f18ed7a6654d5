"""Previews and tables beside a LoRA file: which are found, and which are left alone."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from lora_pack.merge.provenance.sidecars import MAX_BYTES, preview_of, states_of, tables_of
from lora_pack.merge.provenance.trigger_words import MOST_TAGS, base_model_named, trigger_words


@pytest.mark.parametrize("name", ["ink.png", "ink.preview.png", "ink.webp", "ink.jpg", "ink.preview.jpeg"])
def test_a_picture_beside_the_file_is_its_preview(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"picture")
    assert preview_of(tmp_path / "ink.safetensors") == tmp_path / name
    assert preview_of(tmp_path / "other.safetensors") is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_out_of_the_folder_is_neither_preview_nor_table(tmp_path: Path):
    outside, folder = tmp_path / "outside", tmp_path / "loras"
    outside.mkdir()
    folder.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (outside / "secret.json").write_text('{"trainedWords": ["secret"]}')
    (folder / "passwd").write_bytes(b"secret")
    (folder / "ink.png").symlink_to(outside / "secret.png")
    (folder / "ink.json").symlink_to(outside / "secret.json")
    (folder / "ink.webp").symlink_to(folder / "passwd")
    (folder / "ink.jpg").symlink_to(folder / "ink.jpg")
    assert preview_of(folder / "ink.safetensors") is None
    assert tables_of(folder / "ink.safetensors") == []


def test_tables_that_are_none_are_left_out(tmp_path: Path):
    path = tmp_path / "ink.safetensors"
    for content in ("[1]", "{", '"text"', "[" * 100_000, '{"a": "' + "x" * MAX_BYTES + '"}'):
        (tmp_path / "ink.json").write_text(content)
        assert tables_of(path) == []
    (tmp_path / "ink.json").write_bytes(b"\xff\xfe\x00")
    assert tables_of(path) == []


def test_the_state_changes_with_the_files_beside_it(tmp_path: Path):
    path = tmp_path / "ink.safetensors"
    states = [states_of(path)]
    (tmp_path / "ink.json").write_text("{}")
    states.append(states_of(path))
    os.utime(tmp_path / "ink.json", (1, 1))
    states.append(states_of(path))
    (tmp_path / "ink.png").write_bytes(b"picture")
    states.append(states_of(path))
    assert len(set(states)) == 4


def test_trigger_words_of_other_packs_tables_are_read():
    tables = [
        {"trainedWords": ["ink, wash", "paper"], "baseModel": "SDXL 1.0"},
        {"activation text": "ink, brush", "sd version": "Unknown"},
        {"civitai": {"trainedWords": ["quill"]}},
        {"trainedWords": [1, None], "civitai": 3},
    ]
    assert trigger_words({}, tables) == ["ink", "wash", "paper", "brush", "quill"]
    assert base_model_named({}, tables) == "SDXL 1.0"
    assert base_model_named({}, tables[1:]) == ""


def test_frequent_tags_stand_in_for_trigger_words():
    tags = {"1_a": {"dog": 3, "cat": 5}, "2_b": {"dog": 4, "bird": 1}, "3": None}
    assert trigger_words({"ss_tag_frequency": json.dumps(tags)}) == ["dog", "cat", "bird"]
    many = json.dumps({"1_a": {f"tag {n}": n for n in range(1, 99)}})
    assert len(trigger_words({"ss_tag_frequency": many})) == MOST_TAGS
    assert trigger_words({"ss_tag_frequency": "{", "modelspec.trigger_phrase": "ink"}) == ["ink"]


def test_halves_of_characters_in_trigger_words_become_plain_text():
    """A prompt of them would fail in ComfyUI's tokenizers, and printing them in a terminal."""
    tags = '{"1_x": {"ink \\ud83d": 2}}'
    assert trigger_words({"ss_tag_frequency": tags}) == ["ink ?"]
    assert trigger_words({}, [{"trainedWords": ["wash \ud83d, \U0001f600"]}]) == ["wash ?", "\U0001f600"]
