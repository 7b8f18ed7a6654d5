"""An inspection as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .advice import advice
from .inspect import Inspection
from .loras import LoraNumbers, Part
from .pairs import PairNumbers
from .weight_pairs import Sharing
from .weights import PERCENTS
from .wording import NOT_MEASURED, cosine, letters, listed, number, percent

# The blocks that the text lists, the strongest first.
BLOCKS_LISTED = 5


def as_json(inspection: Inspection) -> dict[str, object]:
    """All numbers, for programs. None stands for what can't be measured."""
    names = [lora.name for lora in inspection.loras]
    return {
        "loras": [_lora(lora) for lora in inspection.loras],
        "pairs": [_pair(pair, names) for pair in inspection.pairs],
        "advice": advice(inspection, names),
    }


def _lora(lora: LoraNumbers) -> dict[str, object]:
    return {
        "name": lora.name,
        "family": lora.model,
        "adapters": dict(Counter(one.family for one in lora.weights.values())),
        "modules": len(lora.weights),
        "not_measured": lora.unmeasured,
        "norm": lora.norm,
        "effective_rank": lora.effective_rank,
        "rank_for": _ranks(lora.rank_for),
        "blocks": {block: _part(part) for block, part in lora.blocks().items()},
        "roles": {role: _part(part) for role, part in lora.roles().items()},
        "weights": {
            key: {
                "norm": one.norm,
                "rank": one.rank,
                "effective_rank": one.effective_rank,
                "rank_for": _ranks(one.rank_for),
                "scale": one.scale,
            }
            for key, one in lora.weights.items()
        },
        "base_model": lora.base_model,
        "trigger_words": list(lora.triggers),
    }


def _part(part: Part) -> dict[str, float | None]:
    if not part.count:
        return {"norm": None, "share": None}
    return {"norm": part.norm, "share": part.share}


def _ranks(ranks: tuple[int, ...] | None) -> dict[str, int | None]:
    values = ranks or (None,) * len(PERCENTS)
    return {str(share): rank for share, rank in zip(PERCENTS, values, strict=True)}


def _pair(pair: PairNumbers, names: list[str]) -> dict[str, object]:
    inside, around = pair.inside, pair.around
    return {
        "a": names[pair.first],
        "b": names[pair.second],
        "cosine": pair.cosine,
        "sum_norm": pair.sum_norm,
        "sign_conflict": pair.sign_conflict,
        "sign_conflict_by_chance": pair.sign_conflict_by_chance,
        **_sharing(inside, ""),
        **_sharing(around, "_reverse"),
        "problem": pair.problem,
        "weights": {key: {"cosine": one.cosine} for key, one in pair.weights.items()},
    }


def _sharing(sharing: Sharing | None, ending: str) -> dict[str, float | None]:
    return {
        f"shared_input{ending}": sharing and sharing.input,
        f"shared_input{ending}_by_chance": sharing and sharing.input_by_chance,
        f"shared_output{ending}": sharing and sharing.output,
        f"shared_output{ending}_by_chance": sharing and sharing.output_by_chance,
    }


def as_text(inspection: Inspection) -> str:
    """The report that people read: the advice, then the LoRAs by letter, then the pairs.

    It is also Markdown, as which ComfyUI's Preview as Text shows it.
    """
    labels = letters(len(inspection.loras))
    names = labels if len(labels) > 1 else [lora.name for lora in inspection.loras]
    lines = [f"- {sentence}" for sentence in advice(inspection, names)]
    for label, lora in zip(labels, inspection.loras, strict=True):
        lines += ["", *_lora_lines(label, lora)]
    for pair in inspection.pairs:
        lines += ["", *_pair_lines(pair, labels, inspection)]
    return "\n".join(lines)


def _lora_lines(label: str, lora: LoraNumbers) -> Iterator[str]:
    yield f"{label}: {lora.name}"
    families = Counter(one.family for one in lora.weights.values())
    kinds = listed([f"{count} {family}" for family, count in families.most_common()]) if families else "no"
    model = lora.model or "unknown model family"
    base = f" (trained on {lora.base_model})" if lora.base_model else ""
    yield f"- {model}{base}, {kinds} modules"
    if lora.strengths != (1.0, 1.0):
        yield f"- at strength {lora.strengths[0]:g} in the model and {lora.strengths[1]:g} in the text encoder"
    if lora.triggers:
        yield f"- trigger words: {', '.join(lora.triggers)}"
    yield f"- norm {number(lora.norm)}, effective rank {number(lora.effective_rank)}{_of_rank(lora)}"
    ranks = [f"{rank} for {share} %" for share, rank in zip(PERCENTS, lora.rank_for or (), strict=False)]
    yield f"- rank that holds the energy: {', '.join(ranks) if ranks else NOT_MEASURED}"
    scales = Counter(f"{one.scale:.3g}" for one in lora.weights.values() if one.scale is not None)
    if scales:
        yield f"- alpha / rank: {', '.join(scale for scale, _ in scales.most_common(4))}"
    for what, parts in (("blocks", lora.blocks()), ("roles", lora.roles())):
        strongest = sorted((item for item in parts.items() if item[1].count), key=lambda item: -item[1].share)
        shares = [f"{name} {percent(part.share)}" for name, part in strongest[:BLOCKS_LISTED]]
        more = f" and {len(strongest) - BLOCKS_LISTED} more" if len(strongest) > BLOCKS_LISTED else ""
        if shares:
            yield f"- energy by {what}: {', '.join(shares)}{more}"
    if lora.unmeasured:
        unmeasured = Counter(lora.weights[key].family for key in lora.unmeasured)
        kinds = listed([f"{count} {family}" for family, count in unmeasured.items()])
        yield f"- {NOT_MEASURED}: {kinds} modules, whose change depends on the model's weights"
        yield "- Connect the model and clip to measure DoRA, GLoRA, OFT and BOFT."
    yield from (f"- note: {note}" for note in lora.notes)


def _of_rank(lora: LoraNumbers) -> str:
    return "" if lora.rank is None else f" of {'' if lora.has_one_rank else 'up to '}{lora.rank}"


def _pair_lines(pair: PairNumbers, labels: list[str], inspection: Inspection) -> Iterator[str]:
    a, b = labels[pair.first], labels[pair.second]
    yield f"{a} and {b}"
    if pair.problem is not None:
        yield f"- {pair.problem}"
        return
    both = len(pair.weights)
    yield f"- weights that both have: {both}"
    norms = listed([number(inspection.loras[index].norm) for index in (pair.first, pair.second)])
    yield f"- cosine {cosine(pair.cosine)} (0 if unrelated); norm of the sum {number(pair.sum_norm)}, of each {norms}"
    chance = f"; their cosine gives {percent(pair.sign_conflict_by_chance)}" if pair.sign_conflict is not None else ""
    yield f"- elements with different signs: {percent(pair.sign_conflict)}{chance}"
    for sharing, one, other in ((pair.inside, b, a), (pair.around, a, b)):
        if sharing is None:
            yield f"- {one} inside the directions of {other}: {NOT_MEASURED}"
            continue
        sides = [f"{side.name} {percent(side.share)} (chance {percent(side.chance)})" for side in sharing.sides]
        yield f"- {one} inside the directions of {other}: {', '.join(sides)}"
