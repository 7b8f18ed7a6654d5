"""The base's parts agree with what ComfyUI computes from the same files; see also tests/comfy/test_evidence_base.py."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from lora_pack.benchmarks.evidence import base, text_encoder
from lora_pack.benchmarks.evidence.autoencoder import (
    DECODER_BLOCKS,
    DECODER_INNER,
    ENCODER_BLOCKS,
    ENCODER_STRIDES,
    Decoder,
    fit_encoder,
    from_taesd_state,
    taesd_state,
)
from lora_pack.benchmarks.evidence.mmdit import MMDiT, fold_repeats
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth blobs: all that the encoder is fitted to here."""
    noise = torch.rand(40, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    return functional.avg_pool2d(noise, 9, stride=1, padding=4)[:, 0].numpy()


@pytest.fixture(scope="module")
def vae(pictures: np.ndarray) -> State:
    torch.manual_seed(0)
    decoder = Decoder()
    for weight in decoder.parameters():
        weight.data.add_(0.05 * torch.randn(weight.shape))
    return {name: weight.float() for name, weight in taesd_state(fit_encoder(pictures), decoder).items()}


def convolution(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride=stride, padding=1)


def block(state: State, name: str, x: Tensor) -> Tensor:
    inner = convolution(state, f"{name}.conv.0", x).relu()
    inner = convolution(state, f"{name}.conv.2", inner).relu()
    return (convolution(state, f"{name}.conv.4", inner) + x).relu()


def test_the_autoencoders_file_encodes_in_a_full_taesd_as_our_short_encoder_does(
    vae: State, pictures: np.ndarray
) -> None:
    images = torch.from_numpy(pictures[:4])
    x = convolution(vae, "taesd_encoder.0", images[:, None].expand(-1, 3, -1, -1))
    for position in range(1, 14):
        if position in ENCODER_BLOCKS:
            x = block(vae, f"taesd_encoder.{position}", x)
        elif position in ENCODER_STRIDES:
            x = convolution(vae, f"taesd_encoder.{position}", x, stride=2)
    full = convolution(vae, "taesd_encoder.14", x)
    short = from_taesd_state(vae)[0](images)
    torch.testing.assert_close((full - 0.0609) * 1.5305, short, atol=1e-4, rtol=1e-4)


def test_latents_have_mean_0_and_mean_square_1(vae: State, pictures: np.ndarray) -> None:
    latents = from_taesd_state(vae)[0](torch.from_numpy(pictures))
    assert latents.mean().abs() < 0.05
    assert 0.9 < latents.square().mean() < 1.1


def test_the_autoencoders_file_decodes_in_a_full_taesd_as_our_narrow_decoder_does(vae: State) -> None:
    latents = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    x = torch.tanh((latents / 1.5305 + 0.0609) / 3) * 3
    x = convolution(vae, "taesd_decoder.1", x).relu()
    for position in range(3, 19):
        if position in DECODER_BLOCKS:
            x = block(vae, f"taesd_decoder.{position}", x)
        elif position in DECODER_INNER:
            x = convolution(vae, f"taesd_decoder.{position}", functional.interpolate(x, scale_factor=2.0))
    full = convolution(vae, "taesd_decoder.19", x)
    torch.testing.assert_close(full, from_taesd_state(vae)[1](latents), atol=1e-4, rtol=1e-4)


def test_folded_fillers_give_the_velocity_of_all_77_tokens() -> None:
    torch.manual_seed(0)
    model = MMDiT(depth=2).double()
    for weight in model.parameters():
        weight.data.add_(0.05 * torch.randn(weight.shape))
    latents, times = torch.randn(2, 16, 4, 6).double(), torch.tensor([900.0, 100.0])
    context = torch.randn(2, 77, 768).double()
    context[:, 5:] = context[0, -1]
    folded, repeats = fold_repeats(context)
    assert (folded.shape[1], repeats) == (6, 72)
    unfolded = model(latents, times, context, context[:, -1], repeats=1)
    torch.testing.assert_close(model(latents, times, context, context[:, -1]), unfolded)
    assert (model(latents, times, folded, context[:, -1], repeats=1) - unfolded).abs().max() > 1e-3


def test_prompts_of_different_lengths_fold_to_the_longest() -> None:
    context = torch.zeros(2, 77, 768)
    context[0, 3] = 1
    context[1, 6] = 1
    folded, repeats = fold_repeats(context)
    assert (folded.shape[1], repeats) == (8, 70)


def test_the_text_encoder_is_the_same_everywhere() -> None:
    vectors = text_encoder.token_vectors()
    assert vectors.shape == (49408, 768)
    bits = np.packbits(vectors.numpy() > 0)
    assert hashlib.sha256(bits.tobytes()).hexdigest()[:16] == "6e99e9abf2c891e4"


def test_prompts_have_different_contexts_and_the_same_pooled_output() -> None:
    words = text_encoder.known_words()
    prompts = ["letter a in bungee", "letter b in bungee", "letter a in lobster", ""]
    context, pooled = text_encoder.encode(prompts, words)
    assert context.shape == (4, 77, 768)
    assert torch.equal(pooled, pooled[:1].expand(4, -1))
    assert [int((context[0] != other).any(-1).sum()) for other in context] == [0, 1, 2, 5]
    similarity = functional.cosine_similarity(context[0, 2], context[1, 2], dim=0)
    assert similarity.abs() < 0.2


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(ValueError, match='"cat"'):
        text_encoder.tokens("a cat", text_encoder.known_words())


def test_the_schedule_is_comfyuis_simple_one_with_shift_3() -> None:
    schedule = base.sigmas(4)
    # t = 1, .75, .5, .25: 3t / (1 + 2t)
    assert schedule == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])
    assert len(base.sigmas(16)) == 17


def test_a_picture_depends_on_its_own_seed_alone() -> None:
    assert not torch.equal(base.start_noise(1), base.start_noise(2))
    torch.manual_seed(7)
    assert torch.equal(base.start_noise(7)[None], torch.randn(1, 16, 8, 8))


def test_integrating_the_exact_velocity_reaches_the_picture() -> None:
    picture = torch.randn(1, 16, 8, 8)
    noise = base.start_noise(3)[None]

    class Exact(torch.nn.Module):
        def forward(self, latents: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
            sigma = timesteps / 1000
            torch.testing.assert_close(latents, picture + sigma * (noise - picture), atol=1e-5, rtol=1e-5)
            return noise - picture

    nothing = torch.zeros(1)
    found = base.integrate(Exact(), noise, nothing, nothing, steps=5)
    torch.testing.assert_close(found, picture, atol=1e-5, rtol=1e-5)
