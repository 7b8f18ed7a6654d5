"""A real ComfyUI loads the evidence benchmark's base, draws what the benchmark draws, and applies LoRAs to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.benchmarks.evidence import base as evidence
from lora_pack.benchmarks.evidence import text_encoder
from lora_pack.benchmarks.evidence.mmdit import MMDiT
from safetensors.torch import save_file
from torch import Tensor

PROMPT = "letter r in lobster"
SEED = 5
STEPS = 6
QKV = "joint_blocks.0.x_block.attn.qkv"


@dataclass(frozen=True)
class Loaded:
    """What UNETLoader, CLIPLoader and VAELoader return for the base's files."""

    model: Any
    clip: Any
    vae: Any


@pytest.fixture(scope="module")
def base() -> evidence.Base:
    return evidence.load_base()


@pytest.fixture(scope="module")
def loaded(comfy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    from comfy.utils import load_torch_file

    file = tmp_path_factory.mktemp("evidence") / "clip.safetensors"
    save_file(text_encoder.state_dict(), file)
    folder = evidence.FOLDER
    yield Loaded(
        comfy.sd.load_diffusion_model(str(folder / evidence.MODEL_FILE)),
        comfy.sd.load_clip([str(file)], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION),
        comfy.sd.VAE(sd=load_torch_file(str(folder / evidence.VAE_FILE))),
    )
    file.unlink()  # 246 MB


@torch.inference_mode()
def draw(loaded: Loaded, model: Any) -> np.ndarray:
    """What KSampler and VAE Decode make of an empty latent, in grey."""
    from comfy.sample import prepare_noise, sample

    context, pooled = loaded.clip.encode_from_tokens(loaded.clip.tokenize(PROMPT), return_pooled=True)
    condition = [[context, {"pooled_output": pooled}]]
    latent = torch.zeros(1, 16, 8, 8)
    noise = prepare_noise(latent, SEED)
    samples = sample(
        model, noise, STEPS, 1.0, "euler", "simple", condition, condition, latent, disable_pbar=True, seed=SEED
    )
    return loaded.vae.decode(samples)[0].mean(-1).cpu().numpy()


def test_every_name_and_shape_is_one_that_comfyui_has(base: evidence.Base, loaded: Loaded) -> None:
    def shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
        return {name: weight.shape for name, weight in state.items()}

    assert type(loaded.model.model).__name__ == "SD3"
    assert shapes(loaded.model.model.diffusion_model.state_dict()) == shapes(base.model.state_dict())
    assert shapes(loaded.clip.cond_stage_model.clip_l.transformer.state_dict()) == shapes(text_encoder.state_dict())
    assert shapes(base.model.state_dict()) == shapes(MMDiT(base.model.depth).state_dict())


@pytest.mark.parametrize("prompt", ["letter a in bungee", "sign & in great vibes", "digit 7", "pacific", ""])
def test_prompts_are_encoded_as_comfyui_encodes_them(base: evidence.Base, loaded: Loaded, prompt: str) -> None:
    theirs = loaded.clip.encode_from_tokens(loaded.clip.tokenize(prompt), return_pooled=True)
    for ours, other in zip(base.encode_prompt([prompt]), theirs, strict=True):
        torch.testing.assert_close(ours, other.cpu(), atol=1e-5, rtol=0)


def test_every_word_has_comfyuis_tokens(loaded: Loaded) -> None:
    for word, numbers in text_encoder.known_words().items():
        rows = loaded.clip.tokenize(word)["l"]
        assert [token for token, _ in rows[0][1 : len(numbers) + 2]] == [*numbers, text_encoder.END], word


def test_comfyui_encodes_pictures_as_we_do(base: evidence.Base, loaded: Loaded) -> None:
    pictures = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    theirs = loaded.model.model.process_latent_in(loaded.vae.encode(pictures[..., None].expand(-1, -1, -1, 3)))
    torch.testing.assert_close(base.encode(pictures.numpy()), theirs.cpu().float(), atol=2e-3, rtol=1e-3)


def test_comfyui_draws_the_same_picture(base: evidence.Base, loaded: Loaded) -> None:
    theirs = draw(loaded, loaded.model)
    ours = evidence.sample(base, [PROMPT], [SEED], STEPS)[0]
    assert ours.min() < 0.1
    assert ours.max() > 0.9
    assert np.abs(ours - theirs).max() < 0.02


@pytest.mark.parametrize("form", ["kohya", "peft"])
def test_comfyui_applies_a_lora_to_the_base(
    comfy: ModuleType, base: evidence.Base, loaded: Loaded, form: str, tmp_path: Path
) -> None:
    from comfy.utils import load_torch_file

    random = torch.Generator().manual_seed(3)
    down, up = torch.randn(4, 192, generator=random) * 0.1, torch.randn(576, 4, generator=random)
    if form == "kohya":
        name = "lora_unet_" + QKV.replace(".", "_")
        state = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(4.0)}
    else:
        state = {f"diffusion_model.{QKV}.lora_A.weight": down, f"diffusion_model.{QKV}.lora_B.weight": up}
    file = tmp_path / "lora.safetensors"
    save_file(state, file)
    patched, _ = comfy.sd.load_lora_for_models(loaded.model, None, load_torch_file(str(file)), 1.0, 0.0)

    without = evidence.sample(base, [PROMPT], [SEED], STEPS)[0]
    weight = base.model.get_parameter(f"{QKV}.weight")
    before = weight.detach().clone()
    try:
        weight.data += up @ down
        ours = evidence.sample(base, [PROMPT], [SEED], STEPS)[0]
    finally:
        weight.data.copy_(before)
    assert np.abs(ours - without).max() > 0.3
    assert np.abs(ours - draw(loaded, patched)).max() < 0.05
