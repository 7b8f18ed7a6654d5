"""Receives the messages ComfyUI sends to its front end: progress, executing, executed, execution_error, ..."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
from lora_pack.tools.comfy_server import RUN_DEADLINE, Prompt, Server

Message = dict[str, Any]


class Events:
    """with Events(server) as events: prompt_id = events.queue(prompt); events.wait_for("progress")"""

    def __init__(self, server: Server):
        self.server = server
        self.client_id = f"{server.client_id}-events"
        self.messages: list[Message] = []
        self.previews = 0  # preview images received
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._listen()])
        self._stop = asyncio.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Events:
        self._thread.start()
        self.wait_for("status")  # the server's first message: nothing is missed from here on
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def queue(self, prompt: Prompt) -> str:
        """Queue a prompt with this client id: ComfyUI sends most messages only to the client that queued the prompt."""
        return self.server.queue(prompt, self.client_id)

    def wait_for(
        self, kind: str, where: Callable[[dict[str, Any]], bool] = lambda data: True, deadline: float = RUN_DEADLINE
    ) -> dict[str, Any]:
        """The data of the first matching message of a kind, including ones already received."""
        end = time.monotonic() + deadline
        seen = 0
        with self._arrived:
            while True:
                for message in self.messages[seen:]:
                    if message["type"] == kind and where(message["data"]):
                        return message["data"]
                seen = len(self.messages)
                if self._error is not None:
                    raise self._error
                if not self._arrived.wait(timeout=max(0.0, end - time.monotonic())):
                    kinds = [message["type"] for message in self.messages]
                    raise TimeoutError(f"No matching {kind!r} message within {deadline:.0f} s; received {kinds}")

    def data(self, kind: str) -> list[dict[str, Any]]:
        """The data of all messages of a kind so far, in order."""
        with self._arrived:
            return [message["data"] for message in self.messages if message["type"] == kind]

    async def _listen(self) -> None:
        try:
            address = f"{self.server.url}/ws?clientId={self.client_id}"
            async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                receiving = asyncio.create_task(self._receive(socket))
                stopping = asyncio.create_task(self._stop.wait())
                await asyncio.wait([receiving, stopping], return_when=asyncio.FIRST_COMPLETED)
                if not self._stop.is_set():
                    raise ConnectionError("ComfyUI closed the websocket.")
        except BaseException as error:
            with self._arrived:
                self._error = error
                self._arrived.notify_all()

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        async for packet in socket:
            if packet.type == aiohttp.WSMsgType.BINARY:
                self.previews += 1
            if packet.type == aiohttp.WSMsgType.TEXT:
                with self._arrived:
                    self.messages.append(json.loads(packet.data))
                    self._arrived.notify_all()
