"""The registry of modes: every promised mode is there, with the texts that a user needs."""

from __future__ import annotations

import dataclasses

import pytest
from lora_pack.merge.errors import LoraError
from lora_pack.merge.methods.registry import (
    DELTA_MODES,
    FACTOR_MODES,
    METHODS,
    PARAMETERS,
    Method,
    delta_method,
    factor_method,
)

FACTORS = {"add", "concat", "ties", "dare_linear", "dare_ties", "magnitude_prune"}
# In the order of the combo box of PM Merge LoRA SVD, which older workflows know the first five of.
SVD_MODES = (
    *("add_svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"),
    *("karcher_svd", "np_svd", "tsv_svd", "knots_ties_svd", "core_ties_svd", "core_dare_ties_svd", "iso_svd"),
    *("route_svd", "della_svd", "breadcrumbs_svd", "sce_svd"),
)
WITHOUT_DENSITY = {"add", "concat", "karcher", "np", "tsv", "iso", "route"}
RANDOM = {"dare_linear", "dare_ties", "core_dare_ties", "della"}
PARAMETERS_OF = {
    "np": ("np_mu", 0.5, 0, 1000),
    "iso": ("iso_blend", 0.3, 0, 1),
    "route": ("route_ridge", 1e-4, 0, 1),
    "della": ("della_epsilon", 0.1, 0, 0.5),
    "breadcrumbs": ("breadcrumbs_gamma", 0.01, 0, 0.5),
}


def test_the_modes_are_those_promised_to_users():
    assert set(FACTOR_MODES) == FACTORS and len(FACTOR_MODES) == len(FACTORS)
    assert DELTA_MODES == SVD_MODES


def test_the_parameters_are_those_promised_to_users():
    found = {m.name: (p.name, p.default, p.least, p.most) for m in METHODS for p in m.parameters}
    assert found == PARAMETERS_OF
    assert set(PARAMETERS) == {name for name, *_ in PARAMETERS_OF.values()}
    assert all(p.tooltip.startswith(f"{m.name}_svd: ") for m in METHODS for p in m.parameters)


def texts(method: Method) -> str:
    """All texts of a row."""
    values = (getattr(method, field.name) for field in dataclasses.fields(method))
    return " ".join(value for value in values if isinstance(value, str))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_row_has_the_texts_that_a_user_needs(method: Method):
    assert method.label and method.reference.startswith("https://")
    assert len(texts(method)) > 100
    assert method.uses_density == (method.name not in WITHOUT_DENSITY)
    assert method.uses_seed == (method.name in RANDOM)


def test_add_says_which_mode_gives_the_true_sum():
    assert "concat" in texts(factor_method("add")) and "add_svd" in texts(factor_method("add"))


def test_methods_are_found_by_mode():
    assert [factor_method(mode).name for mode in FACTOR_MODES] == list(FACTOR_MODES)
    assert [delta_method(mode).name for mode in DELTA_MODES] == [mode.removesuffix("_svd") for mode in DELTA_MODES]
    assert [delta_method(mode.removesuffix("_svd")) for mode in DELTA_MODES] == [delta_method(m) for m in DELTA_MODES]
    for look_up in (factor_method, delta_method):
        with pytest.raises(LoraError, match="no-such-mode"):
            look_up("no-such-mode")
