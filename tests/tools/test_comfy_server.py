"""Starting and stopping stand-ins for ComfyUI: a server with a child process, and one that dies."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from lora_pack.tools.comfy_server import ServerError, is_free, link_folder, start, unlink_folder

CHILD = """
import socket, sys, time
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
print("child listens on", listening.getsockname()[1], flush=True)
time.sleep(1000)
"""
WITH_CHILD = f"""
import http.server, subprocess, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{{}}")
subprocess.Popen([sys.executable, "-c", {CHILD!r}])
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def start_program(folder: Path, program: str):
    (folder / "main.py").write_text(program)
    return start(folder, Path(sys.executable), folder, folder / "server.log")


def test_stop_ends_the_servers_child_processes(tmp_path: Path):
    server = start_program(tmp_path, WITH_CHILD)
    try:
        server.until(lambda: "child listens on" in server.log(), "the child")
        port = int(server.log().split("child listens on")[1].split()[0])
        assert not is_free(port)
    finally:
        server.stop()
    assert not server.alive()
    server.stop()  # a second call does no harm
    end = time.monotonic() + 60
    while not is_free(port):  # the system may take a moment to clean up a killed process
        assert time.monotonic() < end, "the child process is still running"


def test_start_raises_with_the_log_when_the_server_dies(tmp_path: Path):
    with pytest.raises(ServerError, match="(?s)code 3.*no such accelerator"):
        start_program(tmp_path, "import sys; print('no such accelerator', flush=True); sys.exit(3)")


def test_unlink_folder_keeps_the_links_target(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        link_folder(tmp_path / name, tmp_path / "link")
        assert (tmp_path / "link" / "file").read_text() == name
    unlink_folder(tmp_path / "link")
    unlink_folder(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert (tmp_path / "two" / "file").exists()
