"""The order of the work: stages of units, the most telling comparisons first, so that a short run is a small study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import (
    cases,
    evaluate,
    glyphs,
    image_encoder,
    judges,
    loras,
    merges,
    references,
    results,
    settings,
    strengths,
    summary,
)
from .base import Base
from .cases import INDEPENDENT, REPORT, Case, Input
from .lora_files import read_deltas
from .mmdit import MMDiT
from .settings import ALONE, Setting
from .units import Unit, write_json

NO_LORA = Setting("none")


@dataclass(frozen=True)
class Scale:
    """How large a run is. The quick one shows that everything works; its numbers are too few to mean much."""

    name: str
    judge_steps: int = 4000
    lora_steps: int = loras.STEPS
    rounds: int = 3
    pairs: int = 6  # of each round
    choose: int = 6  # pairs for choosing in the first round; the others have all six
    strata: int = 99  # cases of other strata
    modes: tuple[str, ...] = settings.MODES  # besides the exact sum, which all are compared with


FULL = Scale("full")
QUICK = Scale("quick", judge_steps=500, lora_steps=150, rounds=1, pairs=2, choose=1, strata=4)


@dataclass(frozen=True)
class Study:
    """The units of a run, whose files are in ``folder``; the judges, which are the same for every base, are beside it.

    ``load_base`` is called when a unit needs the base.
    """

    folder: Path
    scale: Scale
    load_base: Callable[[], Base]

    def stages(self) -> Iterator[list[Unit]]:
        """Units to do together. A stage may depend on what earlier ones found: it is made once they are done."""
        yield self._judge_units()
        rounds = range(self.scale.rounds)
        main = [settings.defaults(), settings.at_the_sums_norm()]
        sweeps = (settings.over_strength(), settings.over_density(), settings.over_rank(), settings.other_rules())
        yield self._lone()
        yield self._stage(cases.independent(REPORT, 0), *main)
        yield self._stage(cases.choosing(0)[: self.scale.choose], *main, *sweeps)
        yield self._strata(0, trained=True)
        for round_ in rounds[1:]:
            yield self._stage(cases.independent(REPORT, round_), *main)
        yield self._strata(0, trained=False)
        for round_ in rounds[1:]:
            yield self._stage(cases.choosing(round_), *main, *sweeps)
        chosen = self.chosen()
        for round_ in rounds:
            yield self._stage(cases.independent(REPORT, round_), chosen)
        more = range(3, 9) if self.scale.rounds == FULL.rounds else ()
        for round_ in more:
            yield self._stage(cases.independent(REPORT, round_), *main, chosen)
        for round_ in rounds[:2]:
            yield self._searches(cases.independent(REPORT, round_), strengths.SEARCHES)
        for trained in (True, False):
            for seed in (1, 2) if more else ():
                yield self._strata(seed, trained)
        for round_ in (*rounds[2:], *more):
            yield self._searches(cases.independent(REPORT, round_), strengths.ON_MANY)

    def files(self) -> list[Path]:
        """What has been evaluated so far."""
        return sorted((self.folder / "evaluations").glob("*.json"))

    def searches(self) -> list[Path]:
        return sorted((self.folder / "searches").glob("*.json"))

    # -- stages

    def _strata(self, round_: int, trained: bool) -> list[Unit]:
        """``trained``: the strata whose LoRAs the pairs need too; the others need LoRAs of their own."""
        groups = (
            (
                cases.two_styles(round_, similar=True),
                cases.several(round_, 3),
                cases.two_concepts(round_),
                cases.cut(round_),
                cases.several(round_, 4),
                cases.two_styles(round_, similar=False),
            )
            if trained
            else (cases.same_start(round_), cases.mixed(round_))
        )
        # one case of each stratum after the other
        count = max(map(len, groups))
        mixed_up = [group[number] for number in range(count) for group in groups if number < len(group)]
        chosen = mixed_up[: self.scale.strata]
        # a single method is compared there too, one of many only if it is among the few
        added = settings.defaults() if self.scale.modes != settings.MODES else []
        return self._stage(chosen, settings.of_strata(), added, limit=False)

    def _lone(self) -> list[Unit]:
        """What the base does without any LoRA."""
        rounds = range(self.scale.rounds)
        chosen = [case for round_ in rounds for case in cases.independent(REPORT, round_)[: self.scale.pairs]]
        return [self._known_unit(), *(self._evaluation(case, NO_LORA) for case in cases.bare(chosen))]

    def _stage(self, of: Sequence[Case], *groups: Sequence[Setting], limit: bool = True) -> list[Unit]:
        """The LoRAs of the cases, each LoRA alone, then every setting for one case after the other."""
        of = of[: self.scale.pairs] if limit else of
        wanted = [Setting(summary.SUM), *(setting for group in groups for setting in group)]
        chosen = list(dict.fromkeys(one for one in wanted if one.mode in (summary.SUM, *self.scale.modes)))
        units = list(dict.fromkeys(one for case in of for one in case.inputs))
        found = [unit for one in units for unit in self._lora_units(one)]
        found += [self._evaluation(case, Setting(ALONE)) for case in cases.alone(units)]
        found += [self._evaluation(case, setting) for setting in chosen for case in of]
        found += [unit for case in of if case.stratum == INDEPENDENT for unit in self._reference_units(case)]
        return list({unit.file: unit for unit in found}.values())  # a LoRA that is also cut is trained once

    def _searches(self, of: Sequence[Case], searches: Sequence[strengths.Wanted]) -> list[Unit]:
        """PM Find Strengths and grids of as many pictures, with the same LoRAs."""
        return [
            self._search_unit(case, wanted)
            for case in of[: self.scale.pairs]
            for wanted in searches
            if wanted.mode in (summary.SUM, *self.scale.modes)
        ]

    def chosen(self) -> list[Setting]:
        """For each mode, the setting with the most pictures that show both, on the pairs for choosing."""
        found = summary.chosen_settings(results.collect(self.files(), {}))
        return [settings.setting_of(key) for key in found.values()]

    # -- units

    def _judge_units(self) -> list[Unit]:
        return [
            Unit(self.judge_file(part), lambda part=part: self._train_judge(part))  # type: ignore[misc]
            for part in (0, 1)
        ]

    def _lora_units(self, one: Input) -> list[Unit]:
        whole = replace(one, cut=0)
        path = self._lora_file(whole)
        train = Unit(path, lambda: loras.train_to(path, self.base, one.recipe, self.scale.lora_steps))
        if not one.cut:
            return [train]
        cut = self._lora_file(one)
        return [train, Unit(cut, lambda: merges.cut(path, one.cut, cut), (path,))]

    def _known_unit(self) -> Unit:
        return Unit(self.known_file, self._draw_known)

    def _evaluation(self, case: Case, setting: Setting) -> Unit:
        path = self.evaluation_file(case, setting.key)
        needs = (self.known_file, *(self._lora_file(one) for one in case.inputs))
        return Unit(path, lambda: self._evaluate(case, setting, path), needs)

    def _reference_units(self, case: Case) -> list[Unit]:
        needs = tuple(self._lora_file(one) for one in case.inputs)
        path, of_node = self.reference_file(case), self.nodes_file(case)
        return [
            Unit(path, lambda: self._draw_references(case, path), needs),
            Unit(of_node, lambda: self._draw_nodes_references(case, of_node), needs),
        ]

    def _search_unit(self, case: Case, wanted: strengths.Wanted) -> Unit:
        path = self.folder / "searches" / f"{case.key}__{wanted.key}.json"
        needs = tuple(self._lora_file(one) for one in case.inputs)
        return Unit(path, lambda: self._search(case, wanted, path), needs)

    # -- work

    def _train_judge(self, part: int) -> None:
        labels = [
            (character, font)
            for character in (*glyphs.CHARACTERS, *glyphs.CONCEPTS)
            for font in (*glyphs.FONTS, *glyphs.STYLES)
        ]
        renders = torch.from_numpy(np.stack([glyphs.render(*label) for label in labels]))
        judges.save(judges.train(labels, renders, part, self.scale.judge_steps), self.judge_file(part))

    def _draw_known(self) -> None:
        pictures = evaluate.draw(self.base, self.base.model, [], range(evaluate.POOL))
        evaluate.save_sheet(pictures, self.known_file)

    def _evaluate(self, case: Case, setting: Setting, path: Path) -> None:
        file: Path | None = None
        merged = path.with_suffix(".safetensors")
        if setting.mode == ALONE:
            (one,) = case.inputs
            file = self._lora_file(one)
        elif setting != NO_LORA:
            merges.merge([(self._lora_file(one), one.strength) for one in case.inputs], setting, merged)
            file = merged
        found = evaluate.evaluate(self.base, self.judges, case, file, self.known, path.with_suffix(".png"))
        merged.unlink(missing_ok=True)
        about = {"stratum": case.stratum, "half": case.half, "pair": case.pair, "seed": case.seed}
        loras_of = [[one.name, one.strength] for one in case.inputs]
        write_json(path, {**about, "loras": loras_of, "setting": setting.key, **asdict(found)})

    def _draw_references(self, case: Case, path: Path) -> None:
        """What the score of the case's pictures compares with: no LoRA, then each alone, on the same noises."""
        targets = [case.target(number) for number in range(cases.PICTURES)]
        drawn = [evaluate.draw(self.base, model, targets, []) for model in self._without_and_alone(case)]
        evaluate.save_sheet(np.concatenate(drawn), path)

    def _draw_nodes_references(self, case: Case, path: Path) -> None:
        evaluate.save_sheet(references.drawn_as_the_node(self.base, case, self._without_and_alone(case)), path)

    def _without_and_alone(self, case: Case) -> list[MMDiT]:
        """The base's model, then with each LoRA of the case alone."""
        weights = self.base.model.state_dict()
        deltas = [read_deltas(self._lora_file(one), weights) for one in case.inputs]
        return [self.base.model, *(evaluate.patched(self.base.model, of_lora) for of_lora in deltas)]

    def _search(self, case: Case, wanted: strengths.Wanted, path: Path) -> None:
        files = [self._lora_file(one) for one in case.inputs]
        merged = path.with_suffix(".safetensors")
        given = references.given(self, case, references.OWN_PROMPTS) if wanted.given else None
        pictures = strengths.Pictures(*(self.base, self.encoder, case, files, wanted.mode, wanted.high, merged, given))
        ways = strengths.compare(pictures, self.judges, wanted.budget)
        write_json(path, {"pair": case.pair, "search": wanted.key, "ways": ways})
        merged.unlink(missing_ok=True)

    # -- files, and what is read from them once

    @cached_property
    def base(self) -> Base:
        return self.load_base()

    @cached_property
    def judges(self) -> evaluate.Judges:
        return evaluate.Judges(judges.load(self.judge_file(0)), judges.load(self.judge_file(1)))

    @cached_property
    def known(self) -> np.ndarray:
        return evaluate.read_sheet(self.known_file)

    @cached_property
    def encoder(self) -> image_encoder.ImageEncoder:
        return image_encoder.load()

    def reference_file(self, case: Case) -> Path:
        return self.folder / "references" / f"{case.key}.png"

    def nodes_file(self, case: Case) -> Path:
        return self.folder / "references" / f"{case.key}__node.png"

    def reference_embeddings(self, case: Case) -> Tensor:
        """(1 + loras, noises, d): without a LoRA and of each alone, asked for the case's pictures."""
        return self._embedded(self.reference_file(case), cases.PICTURES)

    def nodes_embeddings(self, case: Case) -> Tensor:
        """(1 + loras, references.EACH, d): as PM Reference Pictures samples them."""
        return self._embedded(self.nodes_file(case), references.EACH)

    def _embedded(self, sheet: Path, pictures: int) -> Tensor:
        found = self.encoder.embed(evaluate.read_sheet(sheet))
        return found.reshape(-1, pictures, found.shape[-1])

    def evaluation_file(self, case: Case, setting: str) -> Path:
        return self.folder / "evaluations" / f"{case.key}__{setting}.json"

    @property
    def known_file(self) -> Path:
        return self.folder / "known.png"

    def judge_file(self, part: int) -> Path:
        return self.folder.parent / f"judges-{self.scale.judge_steps}" / f"{('character', 'font')[part]}.safetensors"

    def _lora_file(self, one: Input) -> Path:
        return self.folder / "loras" / f"{one.name}.safetensors"
