"""What the ComfyUI registry and ComfyUI Manager make of the pack, by their own code and without a network.

    python tests/registry/check.py CHECKOUT COMFYUI WORK

Run by test_registry.py in an environment with comfy-cli and comfyui-manager. CHECKOUT is a git clone of the pack, WORK
an empty folder. Writes WORK/found.json.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any


def validated(checkout: Path, home: Path) -> dict[str, Any]:
    """`comfy node validate`, as publishing runs it."""
    home.mkdir()
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", "node", "validate"]
    quiet = os.environ | {"HOME": str(home), "USERPROFILE": str(home), "DO_NOT_TRACK": "1", "COLUMNS": "200"}
    run = subprocess.run(command, cwd=checkout, env=quiet, capture_output=True, text=True, encoding="utf-8")
    return {"code": run.returncode, "output": run.stdout + run.stderr}


def listing(checkout: Path) -> tuple[dict[str, Any], str]:
    """What the registry would show, and the warnings of reading it."""
    from comfy_cli.registry.config_parser import extract_node_configuration

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        config = extract_node_configuration(str(checkout / "pyproject.toml"))
    assert config is not None
    # not asdict, which can't copy tomlkit's arrays
    return json.loads(json.dumps(config, default=vars)), printed.getvalue()


def archive(checkout: Path, target: Path, includes: list[str]) -> list[str]:
    from comfy_cli.file_utils import zip_files

    with contextlib.redirect_stdout(io.StringIO()):
        before = Path.cwd()
        os.chdir(checkout)
        zip_files(str(target), includes)
        os.chdir(before)
    return zipfile.ZipFile(target).namelist()


def installed_from_archive(target: Path, folder: Path) -> Any:
    """As the Manager installs a version of the registry: unpacked, with the list of files beside it."""
    from comfyui_manager.common import cnr_utils, manager_util

    folder.mkdir(parents=True)
    files = manager_util.extract_package_as_zip(str(target), str(folder))
    (folder / ".tracking").write_text("\n".join(files), "utf-8")
    return cnr_utils.read_cnr_info(str(folder))


def installed_from_address(checkout: Path, folder: Path) -> dict[str, Any]:
    """As "Install via Git URL" does it, with an address on this machine."""
    from comfyui_manager.glob.manager_core import UnifiedManager

    manager = UnifiedManager()
    with contextlib.redirect_stdout(io.StringIO()):
        url = f"file://localhost{checkout.as_posix()}"
        done = manager.repo_install(url, str(folder), instant_execution=True, return_postinstall=True)
    return {"result": done.result, "message": done.msg, "resolved": manager.resolve_from_path(str(folder))}


def main() -> None:
    checkout, comfyui, work = (Path(argument).resolve() for argument in sys.argv[1:4])
    sys.path.insert(0, str(comfyui))
    os.environ["COMFYUI_PATH"] = str(comfyui)
    sys.argv = sys.argv[:1]
    found: dict[str, Any] = {"validate": validated(checkout, work / "home")}
    found["listing"], found["warnings"] = listing(checkout)
    found["files"] = archive(checkout, work / "node.zip", found["listing"]["tool_comfy"]["includes"])
    found["archive"] = installed_from_archive(work / "node.zip", work / "custom_nodes" / "lora-power-merger")
    found["address"] = installed_from_address(checkout, work / "git" / "lora-power-merger")
    (work / "found.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
