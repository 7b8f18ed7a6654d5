"""Parses the command line, runs a subcommand, and reports errors on one line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import LoraError
from . import (
    bake_command,
    extract_command,
    info_command,
    inspect_command,
    merge_command,
    methods_command,
    replay_command,
    resize_command,
)

COMMANDS = (
    merge_command,
    resize_command,
    bake_command,
    extract_command,
    replay_command,
    info_command,
    inspect_command,
    methods_command,
)


def main(arguments: Sequence[str] | None = None, draw_inspection: Callable[[Any], Any] | None = None) -> int:
    """Run one subcommand. Returns 0, or 1 after an error, which is printed on one line.

    ``draw_inspection`` makes a Pillow image of inspecting.figure's data, for `inspect --picture`.
    """
    options = _parser().parse_args(arguments)
    options.draw_inspection = draw_inspection
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        options.run(options)
        sys.stdout.flush()
    except LoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader closed the pipe: `info ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m merge",
        description="Merge, resize and inspect LoRA files without ComfyUI.",
        epilog="`python -m merge COMMAND --help` shows the options of a command, their defaults and examples.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        added = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=_sentence(command.HELP),
            epilog="\n".join(["examples:", *(f"  python -m merge {example}" for example in command.EXAMPLES)]),
            formatter_class=_Help,
        )
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Adds its default to each option's help, and keeps the line breaks of the examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action.default, bool) or action.default is None or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
