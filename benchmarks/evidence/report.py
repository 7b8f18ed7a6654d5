"""docs/evidence.md and its plots, from a file of results alone: no figure in them is typed.

python -m benchmarks.evidence.report     write the shipped results' page again
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from . import findings, settings
from .cases import BARE, CHOOSE, INDEPENDENT, REPORT, STRATA
from .figures import figures
from .outside import ALONE_LORAS, BASE, TRUTH
from .results import Results, read
from .score_report import score_sections
from .settings import Setting, setting_of
from .statistics import Estimate
from .summary import SUM, Row, alone_rates, chosen_settings, row, rows
from .text import TEXT, percent, signed, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs" / "evidence.md"
IMAGES = "images"


def write(results: Results, page: Path) -> list[Path]:
    """Write the page, and its plots into the folder images next to it."""
    (page.parent / IMAGES).mkdir(parents=True, exist_ok=True)
    written = []
    for name, svg in figures(results).items():
        path = page.parent / IMAGES / f"evidence-{name}.svg"
        path.write_text(svg, "utf-8", newline="\n")
        written.append(path)
    page.write_text(markdown(results), "utf-8", newline="\n")
    return [page, *written]


def markdown(results: Results) -> str:
    blocks = [TEXT["head"].strip(), findings.size_of_run(results), "## What follows for users"]
    blocks.append("\n".join(f"{number}. {line}" for number, line in enumerate(findings.findings(results), 1)))
    blocks += ["## Every mode at its defaults", TEXT["main"].strip(), main_table(results)]
    blocks += ["## At the norm of the plain sum", TEXT["norm"].strip(), norm_table(results)]
    blocks += ["## With settings chosen on other pairs", TEXT["chosen"].strip(), chosen_table(results)]
    blocks += ["## Strength rules and weights", TEXT["rules"].strip(), rules_table(results)]
    blocks += ["## Other combinations", TEXT["strata"].strip(), strata_table(results)]
    blocks += ["## Over strength, density and rank", TEXT["plots"].strip()]
    blocks += [f"![Pictures that show both over the {name}]({IMAGES}/evidence-{name}.svg)" for name in figures(results)]
    blocks += score_sections(results)
    blocks += ["## The LoRAs alone, and the judges", alone_text(results), TEXT["judges"].strip()]
    blocks += ["## What it doesn't show", TEXT["limits"].strip(), "## Run it again", TEXT["again"].strip()]
    return "\n\n".join(block for block in blocks if block) + "\n"


def main_table(results: Results) -> str:
    found = rows(results, INDEPENDENT, REPORT, [one.key for one in settings.defaults()])
    head = ("mode", "concept", "style", "both", f"both, to {SUM}", "both, of alone", "known pairs", "moved", "distance")
    lines = [
        (f"`{one.setting}`", percent(one.concept), percent(one.style), _with_interval(one.both), _against(one),
         percent(one.normalised), percent(one.known), f"{one.moved:.3f}", f"{one.distance:.3f}")
        for one in found
    ]  # fmt: skip
    return table(head, lines)


def norm_table(results: Results) -> str:
    found = rows(results, INDEPENDENT, REPORT, [one.key for one in settings.at_the_sums_norm()])
    lines = []
    for one in found:
        mode = setting_of(one.setting).mode
        default = row(results, INDEPENDENT, REPORT, mode)
        before = percent(default.both.mean) if default else ""
        lines.append((f"`{mode}`", before, percent(one.both.mean), _against(one), percent(one.known)))
    return table(("mode", "both, default", "both, rule sum", f"to {SUM}", "known pairs"), lines)


def chosen_table(results: Results) -> str:
    chosen = chosen_settings(results)
    found = rows(results, INDEPENDENT, REPORT, list(chosen.values()))
    lines = [
        (f"`{setting_of(one.setting).mode}`", setting_of(one.setting).label or "defaults", percent(one.both.mean),
         _against(one), percent(one.known))
        for one in found
    ]  # fmt: skip
    return table(("mode", "chosen", "both", f"to {SUM}", "known pairs"), lines)


def rules_table(results: Results) -> str:
    modes = list(dict.fromkeys(one.mode for one in settings.other_rules()))
    wanted = [one for mode in modes for one in (Setting(mode), Setting(mode, rule="sum"))] + settings.other_rules()
    lines = []
    for mode in modes:
        for one in (one for one in dict.fromkeys(wanted) if one.mode == mode):
            found = row(results, INDEPENDENT, CHOOSE, one.key)
            if found:
                cells = (percent(found.concept), percent(found.style), percent(found.both.mean), _against(found))
                lines.append((f"`{mode}`", one.label or "defaults", *cells, percent(found.known)))
    return table(("mode", "options", "concept", "style", "both", f"to {SUM}", "known pairs"), lines)


def strata_table(results: Results) -> str:
    """The sum's rate in each stratum, and under it the others' differences to it."""
    strata = [stratum for stratum in STRATA if results.of(stratum, REPORT, SUM)]
    head = ["mode", *strata]
    if not strata:
        return table(head, [])
    sums = [row(results, stratum, REPORT, SUM) for stratum in strata]
    lines: list[Sequence[str]] = [(f"`{SUM}`", *(percent(one.both.mean) if one else "" for one in sums))]
    lines.append(("pairs", *(str(one.both.pairs) if one else "" for one in sums)))
    others = [key for stratum in strata if stratum != INDEPENDENT for key in results.settings(stratum, REPORT)]
    for key in dict.fromkeys([*(one.key for one in settings.of_strata()), *others]):
        setting = setting_of(key)
        if key == SUM:
            continue
        cells = [row(results, stratum, REPORT, key) for stratum in strata]
        name = f"`{setting.mode}`" + (f", {setting.label}" if setting.label else "")
        lines.append((name, *(_against(one) if one else "" for one in cells)))
    missing = [f"*{stratum}*" for stratum in STRATA if stratum not in strata]
    note = f"\n\nThis run didn't reach {' and '.join(missing)}." if missing and strata else ""
    return table(head, lines) + note


def alone_text(results: Results) -> str:
    rates = [rate for name, rate in alone_rates(results).items() if "_cut" not in name]
    concepts = [rate for is_concept, rate in rates if is_concept]
    styles = [rate for is_concept, rate in rates if not is_concept]
    if not concepts or not styles:
        return ""
    bare = [mean(one.both) for one in results.of(BARE).values()]
    judges, truth = results.about["judges"], results.about["truth"]
    lines = [
        f"A concept LoRA alone gives the right character in {percent(mean(concepts))} of its pictures (the weakest "
        f"of {len(concepts)}: {percent(min(concepts))}), a style LoRA the right font in {percent(mean(styles))} "
        f"(the weakest of {len(styles)}: {percent(min(styles))}): on fonts and letters that they weren't trained on. "
        f"Without a LoRA the judges see both in {percent(mean(bare))} of the pictures. The base alone has both "
        f"right in {percent(results.about['known'])} of the known pairs.",
        f"On combinations held out of their own training, the judges are right in {percent(judges['character'])} "
        f"(character) and {percent(judges['font'])} (font) of clean renders; on true pictures of the concepts in "
        f"the styles, which they learned, in {percent(truth['character'])} and {percent(truth['font'])}.",
    ]
    if results.about.get("outside"):
        lines.append(outside_text(results))
    return "\n\n".join(lines)


def outside_text(results: Results) -> str:
    lines = []
    for key, (theirs, ours) in results.about["outside"].items():
        setting = setting_of(key) if key not in (TRUTH, BASE, ALONE_LORAS) else None
        label = (f", {setting.label}" if setting.label else "") if setting else ""
        lines.append((f"merges by `{setting.mode}`{label}" if setting else key, percent(theirs), percent(ours)))
    return f"{TEXT['outside'].strip()}\n\n{table(('pictures', 'RapidOCR', 'our judge'), lines)}"


def _against(one: Row) -> str:
    if one.setting == SUM:
        return ""
    return signed(one.to_sum)


def _with_interval(one: Estimate) -> str:
    return f"{percent(one.mean)} ({percent(one.low)} to {percent(one.high)})"


def main() -> None:
    for path in write(read(RESULTS), PAGE):
        print(path)


if __name__ == "__main__":
    main()
