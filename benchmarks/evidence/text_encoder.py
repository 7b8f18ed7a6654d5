"""The benchmark's text encoder: a CLIP-L that is made from a seed, in the format that ComfyUI's Load CLIP reads.

Each of the 49,408 tokens has a random vector of signs. The twelve layers and the position embeddings are zero, so a
token keeps its vector whatever stands around it, and the benchmark needs no transformer to encode a prompt: it looks
the vectors up and normalises them, as CLIP's last layer norm does. The bits come from PCG64's raw stream, which NumPy
guarantees to be the same on every platform and in every version.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

SEED = 20260101
VOCABULARY = 49408
WIDTH = 768
LENGTH = 77
LAYERS = 12
START, END = 49406, 49407  # END also fills the prompt up to LENGTH
WORDS_FILE = Path(__file__).parent / "base" / "words.json"
WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")  # CLIP's rule, for English


def encode(prompts: Sequence[str], words: Mapping[str, Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The context (B, 77, 768) and the pooled output (B, 768) that ComfyUI's CLIP Text Encode makes of the prompts."""
    vectors = token_vectors()[torch.tensor([tokens(prompt, words) for prompt in prompts])]
    context = functional.layer_norm(vectors.float(), (WIDTH,), eps=1e-5)
    return context, context[:, -1]  # the pooled output is the end token's, and the last one is an end token


def tokens(prompt: str, words: Mapping[str, Sequence[int]]) -> list[int]:
    """77 token numbers. Raises ValueError for a word that ``words`` doesn't list."""
    found = [START]
    for word in WORD.findall(prompt.lower()):
        if word not in words:
            raise ValueError(f'The word "{word}" is not in {WORDS_FILE.name}. Add its CLIP tokens there.')
        found.extend(words[word])
    if len(found) >= LENGTH:
        raise ValueError(f"The prompt has more than {LENGTH} tokens: {prompt[:60]}")
    return found + [END] * (LENGTH - len(found))


@lru_cache(maxsize=1)
def known_words() -> dict[str, list[int]]:
    """The tokens of every word in the benchmark's prompts, as CLIP's vocabulary has them."""
    return json.loads(WORDS_FILE.read_text("utf-8"))


@lru_cache(maxsize=1)
def token_vectors() -> Tensor:
    """(49408, 768) float16 of -1 and 1."""
    raw = np.random.PCG64(SEED).random_raw(VOCABULARY * WIDTH // 64)
    bits = np.unpackbits(raw.astype("<u8").view(np.uint8), bitorder="little")
    return torch.from_numpy(bits.reshape(VOCABULARY, WIDTH).astype(np.float16) * 2 - 1)


def state_dict() -> dict[str, Tensor]:
    """All weights of a CLIP-L in float16, 246 MB."""
    return dict(_weights())


def _weights() -> Iterator[tuple[str, Tensor]]:
    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float16)

    def norm(name: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.weight", torch.ones(WIDTH, dtype=torch.float16)
        yield f"{name}.bias", zeros(WIDTH)

    yield "text_model.embeddings.token_embedding.weight", token_vectors()
    yield "text_model.embeddings.position_embedding.weight", zeros(LENGTH, WIDTH)
    for layer in range(LAYERS):
        base = f"text_model.encoder.layers.{layer}"
        yield from norm(f"{base}.layer_norm1")
        yield from norm(f"{base}.layer_norm2")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{base}.self_attn.{name}.weight", zeros(WIDTH, WIDTH)
            yield f"{base}.self_attn.{name}.bias", zeros(WIDTH)
        yield f"{base}.mlp.fc1.weight", zeros(4 * WIDTH, WIDTH)
        yield f"{base}.mlp.fc1.bias", zeros(4 * WIDTH)
        yield f"{base}.mlp.fc2.weight", zeros(WIDTH, 4 * WIDTH)
        yield f"{base}.mlp.fc2.bias", zeros(WIDTH)
    yield from norm("text_model.final_layer_norm")
    yield "text_projection.weight", torch.eye(WIDTH, dtype=torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the text encoder of the evidence benchmark's base.")
    parser.add_argument("out", type=Path)
    save_file(state_dict(), parser.parse_args().out)


if __name__ == "__main__":
    main()
