"""`--pair`: a second merge with the same settings, of the files whose names have another word.

Wan 2.2 has two models, for high and for low noise, and a LoRA for each: `--pair high=low` merges a_high.safetensors and
b_high.safetensors, and then a_low.safetensors and b_low.safetensors in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import LoraError
from .input_files import InputFile


@dataclass(frozen=True)
class Pair:
    """The words that tell two files apart: in the files named, and in the others."""

    word: str
    other: str

    def other_input(self, file: InputFile) -> InputFile:
        """The other file of an input, with the same strengths and block weights. Raises LoraError if it is missing."""
        path = self._replaced(file.path)
        if path is None:
            raise LoraError(
                f"--pair {self.word}={self.other}: the name {file.path.name} doesn't contain {self.word!r}, so its "
                f"other file is unknown. Rename it, or write the word that its name has."
            )
        if not path.is_file():
            raise LoraError(
                f"--pair {self.word}={self.other}: there is no file {path.name} in {path.parent.name or 'this folder'}."
                f" {file.path.name} needs it as its other one."
            )
        return replace(file, path=path)

    def outputs(self, path: Path) -> tuple[Path, Path]:
        """The two files to write: by the word in the output's name, or with both words appended."""
        other = self._replaced(path)
        if other is not None:
            return path, other
        return path.with_stem(f"{path.stem}_{self.word}"), path.with_stem(f"{path.stem}_{self.other}")

    def _replaced(self, path: Path) -> Path | None:
        """The path with the last occurrence of the word in its name replaced, in the case that it has there."""
        found = list(re.finditer(re.escape(self.word), path.stem, re.IGNORECASE))
        if not found:
            return None
        start, end = found[-1].span()
        other = _in_case_of(path.stem[start:end], self.other)
        return path.with_stem(path.stem[:start] + other + path.stem[end:])


def parse_pair(text: str) -> Pair:
    """The words of `--pair high=low`. Raises LoraError if they aren't two different ones."""
    word, equals, other = (part.strip() for part in text.partition("="))
    if not (equals and word and other) or word.casefold() == other.casefold():
        raise LoraError(f"--pair {text}: write the two words that tell the files apart, e.g. high=low.")
    if re.search(r'[\\/:*?"<>|]', word + other):
        raise LoraError(f"--pair {text}: the words are parts of file names and can't contain slashes or colons.")
    return Pair(word, other)


def other_inputs(pair: Pair, files: Sequence[InputFile]) -> list[InputFile]:
    return [pair.other_input(file) for file in files]


def _in_case_of(found: str, other: str) -> str:
    if found.isupper():
        return other.upper()
    if found.islower():
        return other.lower()
    return other.capitalize() if found.istitle() else other
