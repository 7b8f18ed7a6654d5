"""A merge's settings, as options of the command line, and the settings that the benchmark compares."""

from __future__ import annotations

from dataclasses import dataclass, replace

from merge.methods.registry import DELTA_MODES, FACTOR_MODES, method_of

MODES = (*FACTOR_MODES, *DELTA_MODES)
EXACT_SUMS = ("concat", "add_svd")
# The command line's own, where a setting names none.
DENSITY, RANK = 0.6, 32
STRENGTHS = (0.5, 0.75, 1.25, 1.5)
DENSITIES = (0.2, 0.4, 0.8)
RANKS = (4, 8, 16)
# No merge: each LoRA of the case is loaded as it is.
ALONE = "alone"


@dataclass(frozen=True)
class Setting:
    """Options of `python -m merge merge`. None leaves out the option: the command line's own default.

    ``strength`` multiplies the strengths of all LoRAs of a case.
    """

    mode: str = "concat"
    density: float | None = None
    rank: int | None = None
    rule: str | None = None
    weights: str | None = None
    strength: float = 1.0

    def options(self) -> list[str]:
        given = [("--density", self.density), ("--rank", self.rank)]
        given += [("--strength-rule", self.rule), ("--weights", self.weights)]
        return ["--mode", self.mode, *(text for option, value in given if value for text in (option, str(value)))]

    @property
    def label(self) -> str:
        """As the report writes it."""
        words = [f"density {self.density:g}" if self.density else "", f"rank {self.rank}" if self.rank else ""]
        words += [f"strength {self.strength:g}" if self.strength != 1 else ""]
        words += [f"rule {self.rule}" if self.rule else "", f"weights {self.weights}" if self.weights else ""]
        return ", ".join(word for word in words if word)

    @property
    def key(self) -> str:
        """Short, unique, and part of a file's name."""
        parts = [self.mode, f"x{self.strength:g}" if self.strength != 1 else ""]
        parts += [f"d{self.density:g}" if self.density else "", f"r{self.rank}" if self.rank else ""]
        parts += [self.rule or "", self.weights or ""]
        return "+".join(part for part in parts if part)


def setting_of(key: str) -> Setting:
    """The setting with this key."""
    mode, *parts = key.split("+")
    setting = Setting(mode)
    for part in parts:
        if part in ("average", "energy"):
            setting = replace(setting, weights=part)
        elif part in ("sum", "strongest", "orthogonal"):
            setting = replace(setting, rule=part)
        elif part[0] == "x":
            setting = replace(setting, strength=float(part[1:]))
        elif part[0] == "d":
            setting = replace(setting, density=float(part[1:]))
        else:
            setting = replace(setting, rank=int(part[1:]))
    return setting


def has_rules(mode: str) -> bool:
    """Whether the strength rule changes the mode's result: not that of the exact sum."""
    return mode not in EXACT_SUMS


def at_its_best_rule(mode: str, **changes: object) -> Setting:
    """The mode at the norm of the plain sum, which makes strengths of different modes comparable."""
    return Setting(mode, rule="sum" if has_rules(mode) else None, **changes)  # type: ignore[arg-type]


def defaults() -> list[Setting]:
    """Every mode as the command line runs it without options."""
    return [Setting(mode) for mode in MODES]


def at_the_sums_norm() -> list[Setting]:
    return [Setting(mode, rule="sum") for mode in MODES if has_rules(mode)]


def other_rules() -> list[Setting]:
    """The other strength rules and the weights rules, with modes whose strength differs most from the sum's."""
    rules = [Setting(mode, rule=rule) for mode in ("ties_svd", "karcher_svd") for rule in ("strongest", "orthogonal")]
    modes = ("concat", "ties_svd", "karcher_svd")
    return rules + [Setting(mode, weights=weights) for mode in modes for weights in ("average", "energy")]


def over_strength() -> list[Setting]:
    return [at_its_best_rule(mode, strength=strength) for strength in STRENGTHS for mode in MODES]


def over_density() -> list[Setting]:
    modes = [mode for mode in MODES if method_of(mode).uses_density]
    return [at_its_best_rule(mode, density=density) for density in DENSITIES for mode in modes]


def over_rank() -> list[Setting]:
    return [at_its_best_rule(mode, rank=rank) for rank in RANKS for mode in RANK_MODES]


RANK_MODES = (
    "add_svd",
    "ties_svd",
    "dare_linear_svd",
    "magnitude_prune_svd",
    "karcher_svd",
    "knots_ties_svd",
    "core_ties_svd",
    "iso_svd",
)


def of_strata() -> list[Setting]:
    """The few that are compared in every stratum."""
    sums = [Setting("concat"), Setting("add_svd", rank=8), Setting("ties_svd"), Setting("ties_svd", rule="sum")]
    others = ("dare_linear_svd", "magnitude_prune_svd", "np_svd", "tsv_svd", "knots_ties_svd", "core_ties_svd")
    more = [Setting(mode) for mode in (*others, "iso_svd", "route_svd")]
    return [*sums, *more, Setting("karcher_svd", rule="sum")]
