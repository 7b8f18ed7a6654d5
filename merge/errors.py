"""Errors worded for the user."""

from __future__ import annotations

# Endings of messages about files that can't be repaired.
DAMAGED = "The file is damaged: download or save it again."
INCOMPLETE = "The file is incomplete: download or save it again."


class LoraError(ValueError):
    """What is wrong with a file, a LoRA or a setting. The user sees the text unchanged."""

    # ComfyUI shows users an exception's module, here a path into custom_nodes, and leaves out only this one.
    __module__ = "builtins"

    def __init__(self, text: str):
        super().__init__(for_user(text))


def for_user(text: str) -> str:
    """A text that may quote names from a file: shortened, control characters escaped."""
    if len(text) > 2000:
        text = f"{text[:1500]}…{text[-400:]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
