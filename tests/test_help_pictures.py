"""Every help page shows, near its top, what the node does to pictures: a real merge, drawn by tools/draw_merges."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "web" / "docs"
PICTURES = DOCS / "pictures"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("*/*.md")])
SHOWN = re.compile(r"^!\[(.*)\]\(pictures/(.+)\)$", re.MULTILINE)


def node_of(page: Path) -> str:
    """The page's node, as in the names of its pictures."""
    return (page.stem if page.parent == DOCS else page.parent.name).replace(" ", "_")


def test_there_are_pages_in_two_languages_for_each_node():
    nodes = [node_of(page) for page in PAGES]
    assert len(nodes) >= 44
    assert {nodes.count(node) for node in nodes} == {2}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_shows_a_result_with_a_caption_before_its_first_heading(page: Path):
    top = page.read_text("utf-8").split("\n## ")[0]
    first = SHOWN.search(top)
    assert first and first[2] == f"{node_of(page)}_result.webp"
    caption = top[first.end() :].strip().split("\n\n")[0]
    assert re.fullmatch(r"\*[^\s*].{20,}\*", caption), "no caption"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_pictures_exist_fit_the_panel_and_are_described(page: Path):
    for text, name in SHOWN.findall(page.read_text("utf-8")):
        with Image.open(PICTURES / name) as picture:
            assert picture.width <= 600  # the help panel is 272 pixels wide, on screens of up to two dots a pixel
        if name.endswith("_result.webp"):
            assert len(text) >= 10, f"{name} has no description"
            assert (PICTURES / name).stat().st_size <= 25_000


def test_a_result_is_described_in_the_language_of_its_page():
    for page in PAGES:
        text = SHOWN.search(page.read_text("utf-8"))
        assert text is not None
        assert bool(re.search(r"[一-鿿]", text[1])) == (page.stem == "zh"), page


def test_no_picture_is_left_over():
    shown = {name for page in PAGES for _, name in SHOWN.findall(page.read_text("utf-8"))}
    assert {file.name for file in PICTURES.iterdir()} == shown
