"""Notices that files have changed which IS_CHANGED can't name: those of a stack, or with a name that comes by a link.

ComfyUI passes None for a linked input to IS_CHANGED. A node that fails there runs again, and all behind it, each time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class FilesRead(Generic[Name]):
    """The state of everything that was read, by name, at the time it was read. ``state`` gives the state of a name."""

    def __init__(self, state: Callable[[Name], object]) -> None:
        self._state = state
        self._states: dict[Name, object] = {}
        self._changes = 0

    def note(self, name: Name) -> None:
        """Remember the state of a name; call it before the file is read."""
        now = self._state(name)
        if name in self._states and self._states[name] != now:
            self._changes += 1  # what another node read before is out of date
        self._states[name] = now

    def changes(self) -> int:
        """A counter that increases whenever something is found to have changed since it was read."""
        now = {name: self._state(name) for name in self._states}
        if now != self._states:
            self._states = now
            self._changes += 1
        return self._changes
