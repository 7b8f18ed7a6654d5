"""The report's fixed words, and how it writes numbers."""

from __future__ import annotations

from collections.abc import Sequence

from .statistics import FEWEST, Estimate

TEXT = {
    "head": """
# Which merge keeps both? Measurements

The question behind every merge of a concept and a style: does the picture still show both? For photographs nobody
knows the right answer, for letters anybody does. Here a concept is a character, a style is a font, and every
combination can be drawn and compared. A small SD 3 learns letters in fonts; LoRAs teach it characters and fonts that it
has never seen; this pack's command line merges them; two classifiers read the pictures. No LoRA and no base has seen a
concept in a style.

This page is written by `python run.py evidence` from its results. Numbers in brackets are 95 % bootstrap intervals over
pairs and noises. **Differences are paired**: both merges have the same LoRAs and start from the same noise. Where 0
lies within the interval, the table says *no difference*; of twenty true ties, one will look like a difference. Of fewer
than five pairs the tables give the number alone, without a claim.
""",
    "main": """
Concept x style, independent LoRAs, every mode as the command line (and the nodes) run it without options: density 0.6,
rank 32, strengths 1. *concept*: the character is right; *style*: the font is; *both*: the picture has both right.
*of alone*: both, divided by what the LoRAs reach alone (the product of their rates). *known pairs*: letters in fonts
that the base had learned, asked for with the merge applied; lower means damage. *moved*: how far the merge moved those
pictures from the base's, and *distance*: how far the merge's are from the nearest true picture, each the root mean
square of pixels from 0 to 1.
""",
    "norm": """
Modes that take a mean give weaker LoRAs. With `--strength-rule sum` (the node's *strength rule*: of the sum) each
module has the norm of the plain sum, so that modes differ in direction alone.
""",
    "chosen": """
For each mode the density, rank, strength and rule with the highest rate of both **on the other half of the pairs**,
applied here to pairs that had no part in the choice.
""",
    "rules": """
On the pairs for choosing. Differences to the exact sum of LoRAs at strength 1.
""",
    "strata": """
`concat`'s rate of both, the number of pairs, and the difference to it of other modes at their defaults. *same start*:
both LoRAs began training from the same random factors. *two styles* and *two concepts*: each picture asks for one of
the two, together with a letter or font that the base knows; *similar*: the five pairs of styles whose letters look
most alike, against the five that look least alike. *ranks and strengths*: ranks 4 and 16 and LoKr, strengths 0.8 to
1.2. *cut*: each LoRA was cut to rank 4 by Resize before the merge.
""",
    "plots": """
On the pairs for choosing. Modes that take a mean are at the norm of the sum. The band is the 95 % interval of the rate
itself, not of the difference, which is narrower.
""",
    "score": """
PM XY Grid and PM Find Strengths score a picture by an image encoder: how far it has moved from what no LoRA shows
towards what each LoRA alone shows, less half of what moved elsewhere. Does that say what the judges say? Here an
encoder trained apart scores the benchmark's pictures. It learned other characters and fonts, and has never seen the
concepts and styles.

The first two columns are Spearman's rank correlations (1: the same order, 0: none) between the mean score and the
judges' rate of both: over all settings of one pair, as a plot compares them (the mean over the pairs for choosing), and
over the modes at their defaults, averaged over the other pairs. The last two are what a user gains: of a plot of
{cells} settings at random the score picks the best; the number says how often that setting shows both **on noises that
the plot hasn't seen**, and how much more often than a cell at random.
""",
    "formulas": """
Other formulas that could take the score's place, all with four pictures of each LoRA with four prompts of its own:
""",
    "search": """
PM Find Strengths and grids of as many pictures look for the strengths of two LoRAs by the score alone, from {low:g} up
to {high:g}, the node's default, or further. References are *sampled* with the plot's prompt, and count, or *given*:
four pictures of each LoRA with four prompts of its own. Judged are 24 pictures of the strengths that were found, on
noises that no search has seen.
""",
    "outside": """
An outside judge that knows nothing of this benchmark, RapidOCR, reads single characters in decorative fonts with
difficulty. Its rates are to be compared with each other, not with ours:
""",
    "judges": """
The judges are two convolutional networks, trained on distorted renders and never on pictures of the base. A picture
whose character or font they misread counts as wrong for every merge alike.
""",
    "limits": """
- One small base of one family, one domain, grey pictures of 64 x 64: ranks, strengths and densities that are best here
  needn't be best for SDXL or Flux. What should carry over is the comparison of modes on LoRAs that are weakly related,
  as real ones are.
- Concept and style are separate words of the prompt. LoRAs without trigger words, or both for one subject, weren't
  tried; nor were text encoder weights, convolutions or block weights.
- A failed picture is a misread character or font. Beauty, diversity and prompts of more than two words aren't.
- The two halves have different pairs but share LoRAs, and all intervals are of these concepts and styles: they say how
  certain the result is for new pairs of this kind, not for every kind of LoRA.
""",
    "again": """
```
python run.py evidence                  # about an hour on two cores; goes on after a stop
python run.py evidence --quick          # five minutes: shows that it works, too small to compare modes
python run.py evidence --minutes 20     # fewer pairs and seeds; the page says what was run
python run.py evidence --method NAME    # one mode, such as a new one, beside the exact sum
python run.py evidence --train-base     # first makes the shipped base again
```

Each writes its results, this page and its plots into `.evidence/`; `--publish` puts them here. The first run downloads
the fonts. Merges run in the benchmark's own process, through the function that `python -m merge` calls and with the
arguments that one would type.
""",
}


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return "This run didn't reach it."
    written = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in written)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def points(share: float) -> str:
    """A difference of two rates in percentage points."""
    return f"{100 * share:+.0f}".replace("-0", "0").replace("+0", "0") if abs(share) < 0.005 else f"{100 * share:+.0f}"


def signed(one: Estimate) -> str:
    """A cell of a table: the difference in percentage points with its interval, in bold where 0 lies outside."""
    inside = f"{points(one.mean)} ({points(one.low)} to {points(one.high)})"
    if one.pairs < FEWEST:
        return inside
    return f"**{inside}**" if one.is_different else f"no difference ({points(one.low)} to {points(one.high)})"


def verdict(one: Estimate) -> str:
    """A clause: how a rate compares with another."""
    if one.pairs < FEWEST:
        return f"{abs(100 * one.mean):.0f} points {'higher' if one.mean > 0 else 'lower'} on {one.pairs} pairs"
    if not one.is_different:
        return f"no different ({points(one.low)} to {points(one.high)} points)"
    word = "higher" if one.mean > 0 else "lower"
    return f"{abs(100 * one.mean):.0f} points {word} ({points(one.low)} to {points(one.high)})"


def listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " and " + quoted[-1] if quoted else "none"
