"""What the numbers advise, as sentences. All thresholds are in THRESHOLDS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .inspect import Inspection
from .loras import LoraNumbers
from .pairs import PairNumbers
from .weight_pairs import Sharing, Side
from .wording import cosine, listed, number, percent


@dataclass(frozen=True)
class Thresholds:
    """From which value on a sentence is said.

    ``imbalance``: the ratio of two norms. ``shared``: how far above chance the shared directions are, 0 at chance and 1
    if all are shared; unrelated LoRAs of small weights reach 0.1. ``cosine``: of the whole LoRAs, by magnitude.
    ``parallel``: the cosine of what is nearly one LoRA. ``spare_rank``: the rank that holds 99 % of the energy as a
    share of the largest rank, below or at which a smaller rank is advised; ``factored_rank``: the highest rank that is
    advised for a LoRA without factors. ``block``: the share of the energy that a block must have to be named;
    ``block_above``: how much more it must share than the whole.
    """

    imbalance: float = 4.0
    shared: float = 0.15
    cosine: float = 0.2
    parallel: float = 0.7
    spare_rank: float = 0.75
    factored_rank: int = 128
    block: float = 0.05
    block_above: float = 0.05


THRESHOLDS = Thresholds()

# More pairs of LoRAs are counted instead of named.
PAIRS_NAMED = 4


def advice(inspection: Inspection, names: Sequence[str]) -> list[str]:
    """Sentences on what to do, the most important first; ``names`` are what they call the LoRAs. At least one."""
    sentences = [
        *_on_problems(inspection, names),
        *_on_imbalance(inspection, names),
        *_on_overlap(inspection, names),
        *_on_independence(inspection, names),
        *_on_spare_rank(inspection.loras, names),
    ]
    return sentences or [_nothing_to_do(inspection.loras, names)]


def _on_problems(inspection: Inspection, names: Sequence[str]) -> Iterator[str]:
    for pair in inspection.pairs:
        if pair.problem is not None:
            yield f"{names[pair.first]} and {names[pair.second]} can't be merged: {pair.problem}"


def _on_imbalance(inspection: Inspection, names: Sequence[str]) -> Iterator[str]:
    """The two LoRAs for one model whose norms differ most."""
    loras = inspection.loras
    ratios = []
    for pair in inspection.pairs:
        (weakest, weak), (strongest, strong) = sorted(
            (loras[index].norm or 0.0, index) for index in (pair.first, pair.second)
        )
        if pair.problem is None and weakest > 0:
            ratios.append((strongest / weakest, weak, strong))
    ratio, weak, strong = max(ratios, default=(0.0, 0, 0))
    if ratio < THRESHOLDS.imbalance:
        return
    by_index = {weak: loras[weak].strengths[0] or 1.0, strong: (loras[strong].strengths[0] or 1.0) / ratio}
    strengths = [f"{number(by_index[index])} for {names[index]}" for index in sorted(by_index)]
    yield (
        f"{names[strong]} is {number(ratio)} times as strong as {names[weak]}: "
        f"strengths {listed(strengths)} would balance them."
    )


def _on_overlap(inspection: Inspection, names: Sequence[str]) -> Iterator[str]:
    pairs = sorted(filter(overlaps, inspection.pairs), key=amount_shared, reverse=True)
    for pair in pairs[:PAIRS_NAMED]:
        shares = " and ".join(filter(None, (_shares(pair), _direction(pair))))
        what = "lower their strengths, or try" if _is_parallel(pair) else "try"
        yield f"{names[pair.first]} and {names[pair.second]} {shares}: {what} np_svd or tsv_svd."
    if len(pairs) > PAIRS_NAMED:
        yield f"{len(pairs) - PAIRS_NAMED} more pairs overlap."


def _on_independence(inspection: Inspection, names: Sequence[str]) -> Iterator[str]:
    pairs = [pair for pair in inspection.pairs if is_independent(pair)]
    if not pairs:
        return
    if len(pairs) == len(inspection.pairs):
        each = " of each other" if len(names) > 2 else ""
        apart = " (they change different weights)" if not any(pair.weights for pair in pairs) else ""
        yield f"{listed(names)} are independent{each}{apart}: sum them (concat or add_svd)."
    elif len(pairs) > PAIRS_NAMED:
        yield f"{len(pairs)} of {len(inspection.pairs)} pairs are independent: sum them (concat or add_svd)."
    else:
        couples = listed([f"{names[pair.first]} with {names[pair.second]}" for pair in pairs])
        yield f"{couples}: independent, sum them (concat or add_svd)."


def _on_spare_rank(loras: Sequence[LoraNumbers], names: Sequence[str]) -> Iterator[str]:
    for lora, name in zip(loras, names, strict=True):
        if has_spare_rank(lora):
            assert lora.rank_for is not None
            enough = lora.rank_for[-1]
            yield f"Rank {enough} of {lora.rank} holds 99 % of {name}: resize it to {enough}."


def _nothing_to_do(loras: Sequence[LoraNumbers], names: Sequence[str]) -> str:
    lora, name = loras[0], names[0]
    if len(loras) > 1 or lora.rank_for is None or lora.rank is None:
        return "There is not enough that could be measured for advice."
    return f"99 % of {name} takes rank {lora.rank_for[-1]} of {lora.rank}: it uses its rank."


def overlaps(pair: PairNumbers) -> bool:
    """Whether two LoRAs share directions or point along each other, beyond chance."""
    aligned = pair.cosine is not None and abs(pair.cosine) >= THRESHOLDS.cosine
    return aligned or amount_shared(pair) >= THRESHOLDS.shared


def is_independent(pair: PairNumbers) -> bool:
    """Whether two LoRAs were compared and don't overlap."""
    return pair.problem is None and pair.cosine is not None and not overlaps(pair)


def has_spare_rank(lora: LoraNumbers) -> bool:
    """Whether resizing makes the LoRA smaller; factors of a high rank are larger than a LoKr and some differences."""
    if not lora.rank or lora.rank_for is None or lora.rank_for[-1] > THRESHOLDS.spare_rank * lora.rank:
        return False
    has_factors = any(one.rank == lora.rank and one.scale is not None for one in lora.weights.values())
    return has_factors or lora.rank_for[-1] <= THRESHOLDS.factored_rank


def amount_shared(pair: PairNumbers) -> float:
    """How far above chance the shared directions are, on the side where they are most: 0 at chance, 1 if all are."""
    return max((side.above_chance for _, side in _sides(pair)), default=0.0)


def _sides(pair: PairNumbers) -> list[tuple[Sharing, Side]]:
    """The input and the output side in both directions, as far as they are measured."""
    return [(sharing, side) for sharing in (pair.inside, pair.around) if sharing for side in sharing.sides]


def _shares(pair: PairNumbers) -> str:
    """share 31 % of their input directions (4 % by chance), most in OUT03 (52 %)"""
    if not _sides(pair):
        return ""
    sharing, side = max(_sides(pair), key=lambda item: item[1].above_chance)
    text = f"share {percent(side.share)} of their {side.name} directions ({percent(side.chance)} by chance)"
    return text + _block(pair, sharing, side.name)


def _block(pair: PairNumbers, sharing: Sharing, name: str) -> str:
    """The block in which two LoRAs share the most on a side, if that is more than overall."""
    found = [
        (side.share, block)
        for block, (of_block, energy) in pair.sharing_by_block(sharing).items()
        if energy >= THRESHOLDS.block
        for side in of_block.sides
        if side.name == name
    ]
    share, block = max(found, default=(0.0, ""))
    overall = next(side.share for side in sharing.sides if side.name == name)
    return f", most in {block} ({percent(share)})" if share >= overall + THRESHOLDS.block_above else ""


def _direction(pair: PairNumbers) -> str:
    if pair.cosine is None or abs(pair.cosine) < THRESHOLDS.cosine:
        return ""
    if _is_parallel(pair):
        return f"are nearly the same change (cosine {cosine(pair.cosine)})"
    way = "point the same way" if pair.cosine > 0 else "pull against each other"
    return f"{way} (cosine {cosine(pair.cosine)})"


def _is_parallel(pair: PairNumbers) -> bool:
    return pair.cosine is not None and pair.cosine >= THRESHOLDS.parallel
