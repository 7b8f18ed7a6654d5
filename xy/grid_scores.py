"""Scores the cells of a plot: which shows all of its LoRAs best, and whether the difference is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .grid_axis import GridAxis
from .pick import Place, text_of
from .references import PlotReferences, check_given
from .sampling import Sampling
from .scoring import Embed, References, black_references, is_black, no_difference_between, no_effect, score
from .verdict import Verdict, judge

# A merge with its sampling settings but for the seed.
Setting = tuple[int, int, Sampling]

NO_DIFFERENCE = "no difference"


@dataclass(frozen=True)
class GridScores:
    """``scores``: of the cells that have one. ``best``: the cell to frame; None if no two settings differ.

    ``remarks`` say what is doubtful, or why there are no scores.
    """

    scores: dict[Place, float]
    settings: dict[Place, Setting]
    verdict: Verdict[Setting] | None
    best: Place | None
    remarks: tuple[str, ...] = ()

    def text(self, place: Place) -> str:
        """A cell's score: ``score 0.413``, or with several seeds their mean ``score 0.413 +- 0.020``."""
        setting = self.settings.get(place)
        if place not in self.scores or self.verdict is None or setting not in self.verdict.means:
            return ""
        doubt = "" if self.verdict.doubt is None else f" +- {self.verdict.doubt:.3f}"
        return f"score {self.verdict.means[setting] + 0.0:.3f}{doubt}"

    def described(self, place: Place) -> dict[str, float]:
        """A cell's own score as plain JSON; nothing if it has none."""
        return {"score": round(self.scores[place], 6)} if place in self.scores else {}

    def conclusion(self) -> list[str]:
        """The last lines of the report: remarks, cells as good as the best, and the best."""
        lines = list(self.remarks)
        if self.verdict is None:
            return lines
        if self.best is None:
            return [*lines, NO_DIFFERENCE]
        if equal := [place for place in self.scores if self.settings[place] in self.verdict.as_good]:
            lines.append(f"as good, within the doubt: {'; '.join(map(text_of, equal))}")
        return [*lines, f"best: {text_of(self.best)}"]


# Of a plot without an image encoder.
NO_SCORES = GridScores({}, {}, None, None)


def why_unscored(references: PlotReferences, given: Sequence[Tensor] | None) -> str | None:
    """Why this plot can't be scored, if it can't. Raises LoraError if the given references aren't one for each LoRA."""
    if not references.loras:
        return "No scores: no axis merges LoRAs."
    if len(references.loras) > 1 and all(len(loras) <= 1 for loras in references.of_cell.values()):
        return "No scores: every cell has one LoRA alone, so there is nothing to weigh against each other."
    if given is not None:
        check_given(len(given), references.names, "this plot", "Or disconnect it, and the grid samples them.")
    return None


def score_grid(
    embed: Embed,
    references: PlotReferences,
    pictures_of_references: Mapping[Place, Tensor],
    cells: Mapping[Place, Tensor],
    plan: Mapping[Place, Sampling],
    settings: Mapping[Place, Setting],
) -> GridScores:
    """Scores of finished cells; pictures are (1, height, width, 3), from 0 to 1.

    ``pictures_of_references`` are by the places of ``references.cells``, one or several (n, height, width, 3) for each.
    A cell is compared with the references of its own sampling settings, but of all seeds: their average says more about
    a LoRA than the picture that happens to come from the cell's own seed (docs/evidence.md).
    """
    kinds = ["no LoRA", *(f"{name} alone" for name in references.names)]
    if black := {place[0] for place, several in pictures_of_references.items() if any(map(is_black, several))}:
        remark = black_references([kinds[column] for column in sorted(black)])
        return GridScores({}, dict(settings), None, None, (remark,))
    embeddings = _embeddings(embed, references, pictures_of_references)
    scores: dict[Place, float] = {}
    faint: dict[str, None] = {}
    alike: dict[str, None] = {}
    for place, picture in cells.items():
        loras = references.of_cell[place]
        if not loras:
            continue
        of_sampling = embeddings[replace(plan[place], seed=0)]
        known = References.of([of_sampling[column] for column in (0, *(one + 1 for one in loras))])
        names = [references.names[one] for one in loras]
        if nothing := known.without_effect():
            faint |= dict.fromkeys(names[one] for one in nothing)
            continue
        alike |= dict.fromkeys(no_difference_between(names[a], names[b]) for a, b in known.alike())
        scores[place] = score(embed(picture), known)
    where = " for some cells" if scores else ""
    remarks = ([no_effect(list(faint), where)] if faint else []) + list(alike)
    return conclude(scores, settings, remarks)


def _embeddings(
    embed: Embed, references: PlotReferences, pictures: Mapping[Place, Tensor]
) -> dict[Sampling, list[list[Tensor]]]:
    """For all sampling settings that differ in more than the seed: of each column, the embeddings of all seeds."""
    found: dict[Sampling, list[list[Tensor]]] = {}
    for (column, row), several in sorted(pictures.items()):
        columns = found.setdefault(replace(references.samplings[row], seed=0), [[] for _ in (None, *references.loras)])
        columns[column] += [embed(picture[None]) for picture in several]
    return found


def conclude(scores: dict[Place, float], settings: Mapping[Place, Setting], remarks: Sequence[str] = ()) -> GridScores:
    """The verdict on cells with these scores. Settings that lack the score of a seed aren't compared."""
    by_setting: dict[Setting, list[float]] = {}
    for place in sorted(scores):
        by_setting.setdefault(settings[place], []).append(scores[place])
    seeds = max(map(len, by_setting.values()), default=0)
    verdict = (
        judge({key: of_seeds for key, of_seeds in by_setting.items() if len(of_seeds) == seeds}) if seeds else None
    )
    best = None
    if verdict is not None and verdict.best is not None:
        # of its seeds, the one with the best picture
        best = max((place for place in scores if settings[place] == verdict.best), key=lambda place: scores[place])
    return GridScores(scores, dict(settings), verdict, best, tuple(remarks))


def settings_of(x: GridAxis, y: GridAxis, plan: Mapping[Place, Sampling]) -> dict[Place, Setting]:
    """Equal for the cells that differ in nothing but the seed."""
    return {
        place: (
            place[0] if x.sampling is None else -1,
            place[1] if y.sampling is None else -1,
            replace(sampling, seed=0),
        )
        for place, sampling in plan.items()
    }
