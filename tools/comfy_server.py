"""Starts a ComfyUI server, talks to it over HTTP, and stops it with all its child processes. Standard library only.

Used by the tests and by `run.py demo`. All waiting is for conditions; deadlines only catch hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Prompt = dict[str, dict[str, Any]]
Outputs = dict[str, dict[str, Any]]
T = TypeVar("T")

PACK_FOLDER = "lora-power-merger"
START_DEADLINE = 300.0
RUN_DEADLINE = 600.0


class ServerError(Exception):
    """The server did not start, died, or did not answer in time. The message includes the end of its log."""


class PromptRejected(Exception):
    """HTTP 400: ComfyUI rejected the prompt as invalid before running it. `node_errors` has the errors by node id."""

    def __init__(self, answer: dict[str, Any]):
        self.node_errors: dict[str, Any] = answer.get("node_errors") or {}
        details = [
            f"node {node} ({found['class_type']}): {error['message']}: {error['details']}"
            for node, found in self.node_errors.items()
            for error in found["errors"]
        ]
        error = answer.get("error") or {}
        super().__init__("\n".join([f"{error.get('message')} {error.get('details') or ''}".strip(), *details]))


class NodeError(Exception):
    """A node raised an exception while the prompt ran."""

    def __init__(self, data: dict[str, Any]):
        self.node_id: str = data["node_id"]
        self.node_type: str = data["node_type"]
        self.exception_type: str = data["exception_type"]
        self.exception_message: str = data["exception_message"].strip()
        self.traceback: str = "".join(data["traceback"])
        super().__init__(f"{self.node_type} (node {self.node_id}): {self.exception_type}: {self.exception_message}")


class Interrupted(Exception):
    """The prompt was stopped by interrupt()."""


@dataclass
class Server:
    url: str
    base: Path  # ComfyUI's base directory, with models, input, output, user and custom_nodes
    process: subprocess.Popen[bytes]
    log_file: Path
    client_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def loras(self) -> Path:
        return self.base / "models" / "loras"

    @property
    def checkpoints(self) -> Path:
        return self.base / "models" / "checkpoints"

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def output(self) -> Path:
        return self.base / "output"

    def log(self) -> str:
        """Everything the server has printed so far."""
        return self.log_file.read_text("utf-8", errors="replace")

    def alive(self) -> bool:
        return self.process.poll() is None

    def get(self, path: str) -> Any:
        return self._request(path)

    def post(self, path: str, data: Any = None) -> Any:
        return self._request(path, json.dumps({} if data is None else data).encode())

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """The server's description of every node type, or of one."""
        if node is None:
            return self.get("/object_info")
        return self.get("/object_info/" + urllib.parse.quote(node, safe="")).get(node, {})

    def queue(self, prompt: Prompt, client_id: str | None = None) -> str:
        """Queue a prompt and return its id. Raises PromptRejected if it is invalid."""
        return self.post("/prompt", {"prompt": prompt, "client_id": client_id or self.client_id})["prompt_id"]

    def wait(self, prompt_id: str, deadline: float = RUN_DEADLINE) -> dict[str, Any]:
        """Wait for a prompt to end; returns its history entry. Raises NodeError or Interrupted if it ended that way."""
        path = f"/history/{prompt_id}"
        entry = self.until(lambda: self.get(path).get(prompt_id), f"the end of prompt {prompt_id}", deadline)
        for name, data in entry["status"]["messages"]:
            if name == "execution_error":
                raise NodeError(data)
            if name == "execution_interrupted":
                raise Interrupted(prompt_id)
        return entry

    def run(self, prompt: Prompt, deadline: float = RUN_DEADLINE) -> Outputs:
        """Queue a prompt, wait for it to end, and return what its output nodes sent to the front end, by node id.

        ComfyUI caches results: a node whose inputs have not changed since the last prompt does not run again.
        """
        return self.wait(self.queue(prompt), deadline)["outputs"]

    def interrupt(self) -> None:
        """Stop the running prompt, like the stop button."""
        self._request("/interrupt", b"")

    def images(self, outputs: Outputs, node: str) -> list[Path]:
        """The files that a SaveImage or PreviewImage node wrote."""
        return [self.base / image["type"] / image["subfolder"] / image["filename"] for image in outputs[node]["images"]]

    def until(self, condition: Callable[[], T | None], what: str, deadline: float = RUN_DEADLINE) -> T:
        """Poll until `condition` returns something true. Raises ServerError if the server dies or time runs out."""
        end = time.monotonic() + deadline
        pause = 0.02
        while True:
            value = condition()
            if value:
                return value
            if not self.alive():
                raise ServerError(f"ComfyUI exited with code {self.process.returncode}.\n{self._log_end()}")
            if time.monotonic() > end:
                raise ServerError(f"Waited {deadline:.0f} s for {what} without success.\n{self._log_end()}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def stop(self) -> None:
        """Stop the server and every process it started. Safe to call twice."""
        if sys.platform == "win32":
            if self.alive():
                subprocess.run(
                    ["taskkill", "/T", "/F", "/PID", str(self.process.pid)], check=False, capture_output=True
                )
            self.process.wait(30)
            return
        if self.alive():
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def _request(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            if path == "/prompt" and error.code == 400:
                raise PromptRejected(json.loads(text)) from None
            raise ServerError(f"HTTP {error.code} for {path}: {text.decode(errors='replace')[:500]}") from None
        except OSError as error:
            raise ServerError(f"No answer for {path}: {error}\n{self._log_end()}") from None
        return json.loads(text) if text else None

    def _log_end(self) -> str:
        lines = self.log().splitlines()[-40:]
        return "\n".join([f"The end of {self.log_file}:", *lines])


def prepare_base(base: Path, pack: Path) -> None:
    """Create a base directory with the pack linked into custom_nodes, as in an installation."""
    for folder in ("models/checkpoints", "models/loras", "input", "output", "custom_nodes"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    link_folder(pack, base / "custom_nodes" / PACK_FOLDER)


def link_folder(target: Path, link: Path) -> None:
    """Make `link` point to `target`, replacing an existing link."""
    unlink_folder(link)
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # a symbolic link would need administrator rights
    else:
        link.symlink_to(target, target_is_directory=True)


def unlink_folder(link: Path) -> None:
    """Remove a link made by link_folder, never its target."""
    if os.path.lexists(link):
        os.unlink(link)


def start(
    comfyui: Path,
    python: Path,
    base: Path,
    log_file: Path,
    args: Sequence[str] = ("--cpu",),
    deadline: float = START_DEADLINE,
) -> Server:
    """Start ComfyUI on a free port, reachable only from this machine, and wait until it answers."""
    port = free_port()
    command = [str(python), str(comfyui / "main.py"), "--base-directory", str(base), "--port", str(port)]
    # Without the database on disk and the nodes for paid web services, nothing here touches the network.
    command += ["--disable-auto-launch", "--database-url", "sqlite:///:memory:", "--disable-api-nodes", *args]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=base,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Its own process group: Ctrl+C in the terminal doesn't reach it, and stop() ends all its child processes.
            start_new_session=sys.platform != "win32",
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0,
        )
    server = Server(f"http://127.0.0.1:{port}", base, process, log_file)
    try:
        server.until(lambda: _answers(server.url), "ComfyUI's first answer", deadline)
    except BaseException:  # an interrupted start must not leave a server running either
        server.stop()
        raise
    return server


def free_port() -> int:
    """A free port below the range for outgoing connections, so that nothing else takes it before ComfyUI does."""
    for _ in range(100):
        port = random.randint(20000, 30000)
        if is_free(port):
            return port
    raise ServerError("No free port found between 20000 and 30000.")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/system_stats", timeout=60) as response:
            return response.status == 200
    except OSError:
        return False
