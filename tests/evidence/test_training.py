"""LoRAs learn, judges learn and are measured on what they didn't see: all tiny, on drawings instead of fonts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence import autoencoder, base, evaluate, glyphs, judges, loras, mmdit
    from benchmarks.evidence.lora_files import read_deltas
finally:
    sys.path.remove(str(ROOT))


def drawing(character: str, font: str, variant: int = 0) -> np.ndarray:
    """A bar whose place says the character and whose grey the font."""
    picture = np.ones((glyphs.SIZE, glyphs.SIZE), np.float32)
    number = (*glyphs.CHARACTERS, *glyphs.CONCEPTS).index(character)
    level = (*glyphs.FONTS, *glyphs.STYLES).index(font) / 24
    place = 13 * number % 60
    picture[8:56, place : place + 4] = level
    return picture


@pytest.fixture(autouse=True)
def without_fonts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(glyphs, "render", drawing)


@pytest.fixture
def tiny() -> base.Base:
    torch.manual_seed(0)
    model = mmdit.MMDiT(1)
    mmdit.start_weights(model)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    encoder = autoencoder.Encoder(torch.randn(16, 64) / 8, torch.zeros(16))
    return base.Base(model.eval(), encoder, autoencoder.Decoder(4))


@pytest.mark.parametrize("form", ["kohya", "lokr"])
def test_training_lowers_the_loss_and_leaves_the_base_alone(tiny: base.Base, form: str):
    before = {name: weight.clone() for name, weight in tiny.model.state_dict().items()}
    recipe = loras.Recipe("&", rank=4, alpha=8.0, form=form)

    def loss_after(steps: int) -> float:
        factors = loras.train(tiny, recipe, steps)
        deltas = {weight: loras.delta_of(parts, recipe.alpha) for weight, parts in factors.items()}
        changed = evaluate.patched(tiny.model, deltas)
        renders = np.stack([drawing(*pair) for pair in loras.pictures_of(recipe)])
        latents = tiny.encode(renders)
        context, pooled = tiny.encode_prompt([glyphs.prompt(*pair) for pair in loras.pictures_of(recipe)])
        noise = torch.Generator().manual_seed(3)
        with torch.no_grad():
            losses = [loras.flow_loss(changed, latents, (context, pooled, 1), noise) for _ in range(8)]
        return float(torch.stack(losses).mean())

    assert loss_after(80) < 0.995 * loss_after(0)
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.model.state_dict().items())


def test_the_image_side_alone_is_trained_where_the_recipe_says_so(tiny: base.Base):
    weights = tiny.model.state_dict()
    both = loras.first_factors(weights, loras.Recipe("&"))
    image = loras.first_factors(weights, loras.Recipe("&", side="image"))
    assert set(image) < set(both)
    assert all(".x_block." in weight for weight in image)


def test_loras_of_one_start_share_their_first_down_factors(tiny: base.Base):
    weights = tiny.model.state_dict()
    one, same, other = (
        loras.first_factors(weights, loras.Recipe(subject, start=start))
        for subject, start in (("&", 1), ("?", 1), ("&", 2))
    )
    name = next(iter(one))
    assert torch.equal(one[name]["down"], same[name]["down"])
    assert not torch.equal(one[name]["down"], other[name]["down"])
    assert not one[name]["up"].any()


def test_a_patched_model_is_a_copy_with_the_deltas_added(tiny: base.Base, tmp_path: Path):
    recipe = loras.Recipe("&", rank=2, form="peft")
    loras.train_to(tmp_path / "a.safetensors", tiny, recipe, 3)
    deltas = read_deltas(tmp_path / "a.safetensors", tiny.model.state_dict())
    changed = evaluate.patched(tiny.model, deltas)
    for name, weight in tiny.model.state_dict().items():
        expected = weight + deltas[name] if name in deltas else weight
        assert torch.equal(changed.state_dict()[name], expected)
    assert any(delta.abs().max() > 0 for delta in deltas.values())


def test_a_judge_learns_and_never_trains_on_the_combinations_that_it_is_measured_on(monkeypatch: pytest.MonkeyPatch):
    labels = [(character, font) for character in "ABCD" for font in glyphs.FONTS[:6]]
    renders = torch.from_numpy(np.stack([drawing(*label) for label in labels]))
    seen: list[torch.Tensor] = []
    augmented = judges.augmented
    monkeypatch.setattr(judges, "augmented", lambda images, noise: seen.append(images) or augmented(images, noise))
    trained = judges.train(labels, renders, 0, steps=40)
    held = [label for label, is_held in zip(labels, judges.held_out(labels), strict=True) if is_held]
    batches = torch.cat([images for images in seen if len(images) == judges.BATCH])
    for label in held:
        picture = judges.as_seen(torch.from_numpy(drawing(*label))[None])
        assert not (batches == picture).flatten(1).all(1).any()
    assert trained.accuracy > 0.7


def test_a_judge_is_the_same_after_saving(tmp_path: Path):
    labels = [(character, font) for character in "AB" for font in glyphs.FONTS[:4]]
    renders = torch.from_numpy(np.stack([drawing(*label) for label in labels]))
    trained = judges.train(labels, renders, 1, steps=3)
    judges.save(trained, tmp_path / "judge.safetensors")
    again = judges.load(tmp_path / "judge.safetensors")
    assert again.classes == trained.classes and again.accuracy == trained.accuracy
    assert again.name(renders.numpy()) == trained.name(renders.numpy())


def test_known_pairs_are_the_bases_and_each_case_has_its_own():
    pool = evaluate.known_pool()
    assert len(set(pool)) == evaluate.POOL and set(pool) <= set(glyphs.PAIRS)


def test_the_distance_to_the_truth_is_that_to_its_nearest_variant(monkeypatch: pytest.MonkeyPatch):
    def shifted(character: str, font: str, variant: int = 0) -> np.ndarray:
        return np.roll(drawing(character, font), variant, axis=1)

    monkeypatch.setattr(glyphs, "render", shifted)
    evaluate.truth.cache_clear()
    assert evaluate._distance_to_truth(shifted("A", "bungee", 3), ("A", "bungee")) == 0
    assert evaluate._distance_to_truth(shifted("B", "bungee", 3), ("A", "bungee")) > 0
    evaluate.truth.cache_clear()
