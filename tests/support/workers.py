"""How pytest-xdist divides the tests among its workers: by file, and those that use a ComfyUI in two groups."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parents[2]
# The fixtures that start the server of tests/comfy/fixtures.py, as tests ask for them.
USES_SERVER = re.compile(r"\b(server: Server|canvas: Canvas|events: Events)\b")


@cache
def uses_server(file: str) -> bool:
    return USES_SERVER.search((ROOT / file).read_text("utf-8")) is not None


class TwoServers(LoadFileScheduling):
    """Each worker has session fixtures of its own, so a server of its own: two groups start two servers.

    One group holds the tests in the browser, the other those over HTTP. They come first, because they take the longest.
    """

    def __init__(self, config: Any, log: Any = None):
        super().__init__(config, log)
        config.option.loadscopereorder = False  # tests/browser and tests/comfy are the first folders

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return f"a server for {Path(file).parts[1]}" if uses_server(file) else file
