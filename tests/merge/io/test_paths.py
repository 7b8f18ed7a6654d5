"""Names of files to write: what stays inside the folder on every system, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.errors import LoraError
from lora_pack.merge.io.paths import inside
from lora_pack.tests.support.makers import examples

GOOD = [
    # what the user types, what is written
    ("merged", "merged.safetensors"),
    ("merged.safetensors", "merged.safetensors"),
    ("Merged.SafeTensors", "Merged.safetensors"),
    ("v1.5", "v1.5.safetensors"),
    ("merged.pt", "merged.pt.safetensors"),
    (".hidden", ".hidden.safetensors"),
    ("a name with spaces", "a name with spaces.safetensors"),
    ("styles/merged", "styles/merged.safetensors"),
    ("styles\\new\\merged", "styles/new/merged.safetensors"),
    ("styles/new\\merged.safetensors", "styles/new/merged.safetensors"),
    ("a..b", "a..b.safetensors"),
    ("...a", "...a.safetensors"),
    ("ünïcødé", "ünïcødé.safetensors"),
    ("日本語/混合", "日本語/混合.safetensors"),
    ("😀", "😀.safetensors"),
    ("console", "console.safetensors"),
    ("com10", "com10.safetensors"),
    ("nullable", "nullable.safetensors"),
    ("(a) [b] {c} #1 100% $x & 'y' ~ ! @ ^ + = , ;", "(a) [b] {c} #1 100% $x & 'y' ~ ! @ ^ + = , ;.safetensors"),
    ("-rf", "-rf.safetensors"),
]


@pytest.mark.parametrize("name, written", GOOD)
def test_valid_names_are_accepted(name: str, written: str, tmp_path: Path):
    assert inside(tmp_path, name, "safetensors") == tmp_path.joinpath(*written.split("/"))
    assert list(tmp_path.iterdir()) == [], "naming a file makes none"


BAD = [
    *("", " ", ".", "..", "/", "\\", "...", "a/", "a\\", "a//b", "a/./b"),
    *("../a", "..\\a", "a/../../b", "a\\..\\..\\b", "a/..", "../../../../etc/passwd", "a/../b"),
    *("/a", "\\a", "/etc/passwd", "//server/share/a", "\\\\server\\share\\a", "\\\\?\\C:\\a", "\\\\.\\COM1"),
    *("C:a", "C:\\a", "c:/a", "a:b", "a/C:/b", "file.safetensors:stream", "a::$DATA"),
    *("a\0b", "\0", "a\0/../../b", "a\nb", "a\tb", "a\x1fb", "\x1b[31m", "a\x7f", "a\x9bb"),
    *("a\ud800", "a\ud800/b", "\udc80/b"),
    *("a*", "a?", "a<b", "a>b", 'a"b', "a|b", "a/b*/c"),
    *("con", "CON", "prn", "aux", "nul", "NUL.safetensors", "com1", "COM9.x", "lpt1", "lpt9.tar.gz", "com¹"),
    *("a/nul/b", "con/a", "conin$", "CONOUT$", "nul .txt"),
    *("a.", "a./b", "a /b", "a/ b", " a/b", "a/b."),
    *("x" * 256, "x" * 1000 + "/a", "a/" + "日" * 100, "😀" * 80),
]


@pytest.mark.parametrize("name", BAD)
def test_invalid_names_are_refused(name: str, tmp_path: Path):
    """Refused on every system, also where this one has no trouble with them; or at least brought to a harmless form."""
    folder = tmp_path / "loras"
    folder.mkdir()
    harmless = name.strip() != name and name.strip() not in BAD
    if harmless:
        assert inside(folder, name, "safetensors") == inside(folder, name.strip(), "safetensors")
    else:
        with pytest.raises(LoraError):
            inside(folder, name, "safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["loras"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("extension", ["", " ", "..", "../../x", "safetensors/../../x", "a\\b", "a:b", "/etc/x", "x\n"])
def test_invalid_extensions_are_refused(extension: str, tmp_path: Path):
    with pytest.raises(LoraError, match="extension"):
        inside(tmp_path, "a", extension)


def test_unicode_lookalikes_of_slashes_and_dots_are_plain_letters(tmp_path: Path):
    for name in ("..\uff0fa", "..\u2215a", "\uff0e\uff0e\uff0fa", "\u2025\uff3ca"):
        assert inside(tmp_path, name, "safetensors") == tmp_path / f"{name}.safetensors"


def test_the_message_quotes_the_name_but_no_path(tmp_path: Path):
    with pytest.raises(LoraError) as caught:
        inside(tmp_path, "../secret", "safetensors")
    assert "../secret" in str(caught.value) and str(tmp_path) not in str(caught.value)


@examples(300)
@given(st.text(st.sampled_from('ab. /\\:~$*"\0\n%ü日') | st.characters(), max_size=12))
def test_any_name_stays_inside_or_is_refused(name: str):
    folder = Path("loras").absolute()
    try:
        path = inside(folder, name, "safetensors")
    except LoraError:
        return
    assert ".." not in path.parts
    assert path.is_relative_to(folder) and path.parent.resolve().is_relative_to(folder.resolve())
    assert path.suffix == ".safetensors"
    for part in path.relative_to(folder).parts:
        assert not set(part) & set('<>:"|?*\\/') and min(part) >= " "
        assert part == part.strip() and not part.endswith(".")
        assert len(part.encode("utf-8")) <= 255


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A loras folder and one outside it."""
    loras, outside = tmp_path / "loras", tmp_path / "outside"
    loras.mkdir()
    outside.mkdir()
    return loras, outside


needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights there")


@needs_links
@pytest.mark.parametrize("name", ["link/a", "link\\a", "link/deeper/a", "inner/link/a"])
def test_a_link_out_of_the_folder_is_refused(name: str, folders: tuple[Path, Path]):
    loras, outside = folders
    (loras / "inner").mkdir()
    for place in (loras, loras / "inner"):
        (place / "link").symlink_to(outside, target_is_directory=True)
    with pytest.raises(LoraError, match="link"):
        inside(loras, name, "safetensors")
    assert list(outside.iterdir()) == []


@needs_links
def test_links_inside_the_folder_are_accepted(folders: tuple[Path, Path]):
    loras, _ = folders
    (loras / "real").mkdir()
    (loras / "link").symlink_to(loras / "real", target_is_directory=True)
    assert inside(loras, "link/a", "safetensors").parent.resolve() == (loras / "real").resolve()


@needs_links
def test_the_folder_itself_may_be_a_link(folders: tuple[Path, Path], tmp_path: Path):
    """Users keep their models on another disk."""
    loras, _ = folders
    (tmp_path / "linked").symlink_to(loras, target_is_directory=True)
    path = inside(tmp_path / "linked", "styles/a", "safetensors")
    assert path.parent.resolve() == (loras / "styles").resolve()


@needs_links
def test_broken_and_circular_links_are_refused(folders: tuple[Path, Path]):
    loras, outside = folders
    (loras / "nowhere").symlink_to(outside / "missing", target_is_directory=True)
    (loras / "circle").symlink_to(loras / "circle", target_is_directory=True)
    for name in ("nowhere/a", "circle/a"):
        try:
            path = inside(loras, name, "safetensors")
        except LoraError:
            continue
        assert name == "circle/a" and path.is_relative_to(loras)
