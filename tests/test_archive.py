"""The archive that the ComfyUI registry would publish: the files in git minus .comfyignore. Only what users need."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from lora_pack.merge.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
FOR_USERS = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "__init__.py",
    "pictures",
    "block_presets.txt",
    "example_workflows",
    "locales",
    "merge",
    "nodes",
    "pyproject.toml",
    "web",
    "xy",
}


def git(*arguments: str) -> set[str]:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    if run.returncode:
        pytest.skip("not a git repository")
    return set(run.stdout.splitlines())


@pytest.fixture(scope="module")
def archive() -> list[str]:
    ours = ["ls-files", "--cached", "--others"]
    present = git(*ours, "--exclude-standard")
    ignored = git("ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore")
    ignored |= git("ls-files", "--others", "--ignored", "--exclude-from=.comfyignore")
    return sorted(path for path in present - ignored if (ROOT / path).is_file())


def test_archive_contains_only_what_users_need(archive: list[str]):
    assert {path.split("/")[0] for path in archive} <= FOR_USERS
    assert {"__init__.py", "pyproject.toml", "web/lora_power_merger.js", "block_presets.txt"} <= set(archive)
    for needed in ("web/docs/*.md", "web/docs/*/*", "example_workflows/*", "locales/*/*.json"):
        assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob(needed)} <= set(archive)
    assert sum((ROOT / path).stat().st_size for path in archive) < 5e6


def test_every_file_name_is_valid_on_windows(archive: list[str]):
    assert [path for path in git("ls-files", "--cached", "--others", "--exclude-standard") if forbidden(path)] == []


def forbidden(path: str) -> bool:
    return re.search(r'[:*?"<>|\\]', path) is not None


def test_version_is_the_same_everywhere():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'\nversion = "{VERSION}"\n' in project
    newest = re.search(r"^## (\S+?),?(?: |$)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest and newest[1] == VERSION


def test_users_have_nothing_to_install():
    assert "\ndependencies = []\n" in (ROOT / "pyproject.toml").read_text("utf-8")
    assert not (ROOT / "requirements.txt").exists()
    assert not (ROOT / "install.py").exists()
