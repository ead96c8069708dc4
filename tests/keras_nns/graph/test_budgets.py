"""Budgets: amounts in units that are named, or a clear error."""

import numpy as np
import pytest

import keras_nns as nns
from keras_nns.graph.budgets import as_budget, parse

NPU = {"target": "ethos-u55-128"}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"bytes": 60_000}, "60,000 bytes of .tflite (float32)"),
        ({"flash": 60_000}, "60,000 bytes in flash (float32)"),
        ({"parameters": np.int64(5)}, "5 parameters"),
        ({"macs": 2e6}, "2,000,000 multiply-adds"),
        ({"activation_memory": 64}, "64 bytes of activations (float32)"),
        ({"arena": 1440}, "1,440 bytes of arena in TFLite Micro (float32)"),
        ({"npu_cycles": 200_000, **NPU}, "200,000 cycles of an ethos-u55-128"),
        ({"sram": 32_000, **NPU}, "32,000 bytes of SRAM with an ethos-u55-128"),
        ({"latency_ms": 0.25}, "0.25 ms a sample on this machine"),
        ({"drop": 0}, "0 drop in its figures"),
        (
            {"bytes": 9, "parameters": 8, "macs": 7},
            "9 bytes of .tflite (float32), 8 parameters and 7 multiply-adds",
        ),
    ],
)
def test_a_budget_says_its_units(given, shown):
    budget = nns.Budget(**given)
    limits = {name: limit for name, limit in given.items() if name != "target"}
    assert budget.units == tuple(limits)
    assert budget.limits == limits
    assert str(budget) == shown
    assert budget.raised(limits) == budget
    assert eval(repr(budget), {"Budget": nns.Budget, "np": np}) == budget


def test_of_several_limits_the_tightest_counts():
    budget = nns.Budget(bytes=1000, arena=200)
    assert budget.amount({"bytes": 500, "arena": 190}) == 0.95
    assert budget.amount({"bytes": 1001, "arena": 1}) > budget.limit == 1
    assert nns.Budget(bytes=1000).amount({"bytes": 500}) == 500
    # What is over is raised, what holds stays.
    assert budget.raised({"bytes": 900, "arena": 250.5}) == nns.Budget(bytes=1000, arena=251)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("60kB", {"bytes": 60_000}),
        ("64 KiB", {"bytes": 65_536}),
        ("1.5MB", {"bytes": 1_500_000}),
        ("1,200 bytes", {"bytes": 1200}),
        ("bytes=60k", {"bytes": 60_000}),
        ("parameters=20k", {"parameters": 20_000}),
        ("flash=64KiB", {"flash": 65_536}),
        ("macs=1_000_000", {"macs": 1_000_000}),
        ("activation-memory=32KiB", {"activation_memory": 32_768}),
        ("latency-ms=0.5", {"latency_ms": 0.5}),
        ("drop = 1e-2", {"drop": 0.01}),
        ("60kB, arena=16KiB", {"bytes": 60_000, "arena": 16_384}),
        ("npu-cycles=200k@ethos-u55-128", {"npu_cycles": 200_000, **NPU}),
        (
            "npu-cycles=1,000,000@ethos-u55-128,sram=32KiB@ethos-u55-128,1,200B",
            {"npu_cycles": 10**6, "sram": 32_768, "bytes": 1200, **NPU},
        ),
    ],
)
def test_a_budget_as_it_is_written_in_a_shell(text, budget):
    assert parse(text) == nns.Budget(**budget)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nns.Budget(60_000), r"needs its unit: Budget\(bytes=60000\)"),
        (nns.Budget, "an amount in one of bytes.*none"),
        (lambda: nns.Budget(bytes=1, drop=0.1), "stands alone.*bytes=1, drop=0.1"),
        (lambda: nns.Budget(npu_cycles=5), "needs the NPU.*target='ethos-u55-128'"),
        (lambda: nns.Budget(bytes=5, target="ethos-u55-128"), "is the NPU for npu_cycles"),
        (lambda: nns.Budget(sram=0, **NPU), "whole number from 1.*0"),
        (lambda: parse("60kB,70kB"), "one limit of each kind.*bytes twice"),
        (lambda: parse("sram=1k@ethos-u55-128,npu-cycles=5@ethos-u55-256"), "target twice"),
        (lambda: parse("60kB,"), "needs its unit"),
        (lambda: nns.Budget(bytes=0), "whole number from 1.*0"),
        (lambda: nns.Budget(bytes=10.5), "whole number from 1.*10.5"),
        (lambda: nns.Budget(bytes=True), "whole number from 1"),
        (lambda: nns.Budget(parameters="60k"), "whole number from 1.*'60k'"),
        (lambda: nns.Budget(latency_ms=0), "above 0"),
        (lambda: nns.Budget(latency_ms=float("nan")), "above 0"),
        (lambda: nns.Budget(drop=5), "from 0 to 0.5"),
        (lambda: parse("60000"), "needs its unit"),
        (lambda: parse("60k"), "needs its unit"),
        (lambda: parse("-5kB"), r"more than nothing. Received: '-5kB'"),
        (lambda: parse("80%"), r"A share is a budget of language models.*Received: '80%'"),
        (lambda: as_budget(0.8), r"A share is a budget of language models.*Received: 0\.8"),
        (lambda: parse("size=60k"), "unit 'size'"),
        (lambda: parse("parameters=many"), "number with its unit"),
        (lambda: parse("bytes=1.2.3"), "number with its unit"),
        (lambda: parse("drop=1.2.3"), "number with its unit"),
    ],
)
def test_what_is_no_budget(make, message):
    with pytest.raises(nns.errors.SelectionError, match=message):
        make()
