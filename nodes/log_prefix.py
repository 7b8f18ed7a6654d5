"""Puts the pack's name in front of its lines in ComfyUI's log, which has no column for where a line comes from."""

from __future__ import annotations

import copy
import logging

NAME = "LoRA Power-Merger"


class _Prefix(logging.Handler):
    """Hands each record on to the root logger's handlers, which are ComfyUI's, with the name in front."""

    def emit(self, record: logging.LogRecord) -> None:
        prefixed = copy.copy(record)
        prefixed.msg, prefixed.args = f"{NAME}: {record.getMessage()}", None
        logging.getLogger().handle(prefixed)


def prefix_log_lines(package: str) -> None:
    """Prefix what the loggers of this package and its modules say. A second call changes nothing."""
    logger = logging.getLogger(package)
    if logger.propagate:
        logger.addHandler(_Prefix())
        logger.propagate = False
