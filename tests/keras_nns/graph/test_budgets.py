"""Budgets: one amount in one unit, or a clear error."""

import numpy as np
import pytest

import keras_nns as nns
from keras_nns.graph.budgets import parse


@pytest.mark.parametrize(
    ("given", "unit", "limit", "shown"),
    [
        ({"bytes": 60_000}, "bytes", 60_000, "60,000 bytes of .tflite (float32)"),
        ({"parameters": np.int64(5)}, "parameters", 5, "5 parameters"),
        ({"macs": 2e6}, "macs", 2_000_000, "2,000,000 multiply-adds"),
        ({"activation_memory": 64}, "activation_memory", 64, "64 bytes of activations (float32)"),
        ({"latency_ms": 0.25}, "latency_ms", 0.25, "0.25 ms a sample on this machine"),
        ({"drop": 0}, "drop", 0, "0 drop in its figures"),
    ],
)
def test_a_budget_says_its_unit(given, unit, limit, shown):
    budget = nns.Budget(**given)
    assert (budget.unit, budget.limit, str(budget)) == (unit, limit, shown)
    assert budget.of(limit) == budget
    assert eval(repr(budget), {"Budget": nns.Budget, "np": np}) == budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("60kB", {"bytes": 60_000}),
        ("64 KiB", {"bytes": 65_536}),
        ("1.5MB", {"bytes": 1_500_000}),
        ("1,200 bytes", {"bytes": 1200}),
        ("bytes=60k", {"bytes": 60_000}),
        ("parameters=20k", {"parameters": 20_000}),
        ("macs=1_000_000", {"macs": 1_000_000}),
        ("activation-memory=32KiB", {"activation_memory": 32_768}),
        ("latency-ms=0.5", {"latency_ms": 0.5}),
        ("drop = 1e-2", {"drop": 0.01}),
    ],
)
def test_a_budget_as_it_is_written_in_a_shell(text, budget):
    assert parse(text) == nns.Budget(**budget)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nns.Budget(60_000), r"needs its unit: Budget\(bytes=60000\)"),
        (nns.Budget, "one amount in one unit.*none"),
        (lambda: nns.Budget(bytes=1, macs=2), "Received: bytes=1, macs=2"),
        (lambda: nns.Budget(bytes=0), "whole number from 1.*0"),
        (lambda: nns.Budget(bytes=10.5), "whole number from 1.*10.5"),
        (lambda: nns.Budget(bytes=True), "whole number from 1"),
        (lambda: nns.Budget(parameters="60k"), "whole number from 1.*'60k'"),
        (lambda: nns.Budget(latency_ms=0), "above 0"),
        (lambda: nns.Budget(latency_ms=float("nan")), "above 0"),
        (lambda: nns.Budget(drop=5), "from 0 to 0.5"),
        (lambda: parse("60000"), "needs its unit"),
        (lambda: parse("60k"), "needs its unit"),
        (lambda: parse("size=60k"), "unit 'size'"),
        (lambda: parse("parameters=many"), "number with its unit"),
        (lambda: parse("bytes=1.2.3"), "number with its unit"),
        (lambda: parse("drop=1.2.3"), "number with its unit"),
    ],
)
def test_what_is_no_budget(make, message):
    with pytest.raises(nns.errors.SelectionError, match=message):
        make()
