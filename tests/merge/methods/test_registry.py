"""The registry of modes: every promised mode is there, with the texts that a user needs."""

from __future__ import annotations

import dataclasses

import pytest
from lora_pack.merge.errors import LoraError
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES, METHODS, Method, delta_method, factor_method

FACTORS = {"add", "concat", "ties", "dare_linear", "dare_ties", "magnitude_prune"}


def test_the_modes_are_those_promised_to_users():
    assert set(FACTOR_MODES) == FACTORS and len(FACTOR_MODES) == len(FACTORS)
    assert set(DELTA_MODES) == {f"{mode}_svd" for mode in FACTORS - {"concat"}} and len(DELTA_MODES) == 5
    assert {method.name for method in METHODS} == FACTORS and len(METHODS) == len(FACTORS)


def texts(method: Method) -> str:
    """All texts of a row."""
    values = (getattr(method, field.name) for field in dataclasses.fields(method))
    return " ".join(value for value in values if isinstance(value, str))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_row_has_the_texts_that_a_user_needs(method: Method):
    assert method.label and method.reference.startswith("https://")
    assert len(texts(method)) > 100
    assert method.uses_density == (method.name not in ("add", "concat"))
    assert method.uses_seed == ("dare" in method.name)


def test_add_says_which_mode_gives_the_true_sum():
    assert "concat" in texts(factor_method("add")) and "add_svd" in texts(factor_method("add"))


def test_methods_are_found_by_mode():
    assert [factor_method(mode).name for mode in FACTOR_MODES] == list(FACTOR_MODES)
    assert [delta_method(mode).name for mode in DELTA_MODES] == [mode.removesuffix("_svd") for mode in DELTA_MODES]
    assert [delta_method(mode.removesuffix("_svd")) for mode in DELTA_MODES] == [delta_method(m) for m in DELTA_MODES]
    for look_up in (factor_method, delta_method):
        with pytest.raises(LoraError, match="no-such-mode"):
            look_up("no-such-mode")
