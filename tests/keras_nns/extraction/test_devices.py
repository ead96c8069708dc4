"""Budgets that count on a device, measured again by that device's own compiler and interpreter."""

from __future__ import annotations

import dataclasses
import importlib.util
import re

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
import tflite_export

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ethosu") is None,
        reason="needs ethos-u-vela: install keras-nns[npu]",
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    # Its weights are drawn: what is asked of it are sizes.
    pytest.mark.filterwarnings("ignore:Model 'residual' answers this data as by chance"),
    pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning"),
]
TARGET = "ethos-u55-128"


@pytest.fixture(scope="module")
def residual():
    start = keras.Input((12, 12, 2))
    x = short = L.Conv2D(20, 3, padding="same", activation="relu", name="stem")(start)
    x = L.Conv2D(24, 3, padding="same", activation="relu", name="inside")(x)
    x = L.ReLU()(L.Add()([L.Conv2D(20, 3, padding="same", name="branch")(x), short]))
    x = L.GlobalAveragePooling2D()(x)
    built = keras.Model(start, L.Dense(4, activation="softmax", name="answer")(x), name="residual")
    rng = np.random.default_rng(2)
    for variable in built.trainable_variables:
        variable.assign(rng.normal(0.05, 0.2, variable.shape))
    return built


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(4)
    y = rng.integers(0, 4, 160)
    x = rng.normal(0, 0.3, (160, 12, 12, 2))
    x[..., 0] += (y[:, None, None] % 2) * 2
    x[..., 1] += (y[:, None, None] // 2) * 2
    return x.astype("float32"), y


@pytest.fixture(scope="module")
def extracted(residual, pictures):
    def extract(budget, **options):
        options = {"quantize": "int8", "score": "magnitude", "balance": "cost", **options}
        return nns.extract(
            residual, pictures, labels="all", budget=budget, repair=False, verbose=False, **options
        )

    return extract


@pytest.fixture(scope="module")
def whole(residual, pictures):
    flat = tflite_export.convert(residual, quantize="int8", samples=pictures[0])
    return tflite_export.npu(flat, target=TARGET)


def test_cycles_are_the_compilers_and_never_over(residual, pictures, extracted, whole):
    limit = round(0.6 * whole.cycles)
    found = extracted(nns.Budget(npu_cycles=limit, target=TARGET))
    told = tflite_export.npu(found.flat, target=TARGET)
    assert found.costs == {"npu_cycles": told.cycles}
    assert told.cycles <= limit
    assert f"{told.cycles:,} cycles of an {TARGET}" in found.summary
    # More of any layer costs more than the budget: nothing was left for free.
    for name, units in found.plan.kept.items():
        for more in {1, 8} & set(range(found.plan.sizes[name] - len(units) + 1)):
            kept = {**found.plan.kept, name: tuple(range(len(units) + more))}
            net = nns.cut(residual, dataclasses.replace(found.plan, kept=kept))
            wider = tflite_export.convert(net, quantize="int8", samples=pictures[0][:20])
            assert tflite_export.npu(wider, target=TARGET).cycles > 0.99 * limit, (name, more)


def test_all_of_several_limits_hold(extracted, whole):
    budget = nns.Budget(
        npu_cycles=round(0.8 * whole.cycles),
        sram=round(0.75 * whole.sram),
        bytes=12_000,
        target=TARGET,
    )
    found = extracted(budget)
    told = tflite_export.npu(found.flat, target=TARGET)
    assert found.costs == {"npu_cycles": told.cycles, "sram": told.sram, "bytes": len(found.flat)}
    assert all(found.costs[unit] <= limit for unit, limit in budget.limits.items())
    assert found.cost == max(found.costs[unit] / limit for unit, limit in budget.limits.items())
    assert found.least < found.cost <= 1
    assert found.to_json()["costs"] == found.costs


@pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="needs tflite-micro: install keras-nns[micro]",
)
def test_bytes_and_arena_together(extracted):
    budget = nns.Budget(bytes=9_000, arena=9_000)
    found = extracted(budget)
    assert found.costs == {"bytes": len(found.flat), "arena": tflite_export.arena(found.flat)}
    assert 0.9 <= found.cost <= 1


def test_flash_is_the_array_that_a_microcontroller_has(extracted):
    found = extracted(nns.Budget(flash=8_000))
    length = int(re.search(r"_len = (\d+);", tflite_export.to_c(found.flat))[1])
    assert found.costs == {"flash": length}
    assert 7_200 < length <= 8_000
    assert length < len(found.flat)
    assert f"{length:,} bytes in flash (int8)" in found.summary


def test_what_cannot_be_had_says_what_can(extracted):
    with pytest.raises(nns.errors.SelectionError, match="nearest possible is") as told:
        extracted(nns.Budget(npu_cycles=100, bytes=10**6, target=TARGET))
    nearest = eval(
        str(told.value).rsplit("nearest possible is ", 1)[1][:-1], {"Budget": nns.Budget}
    )
    assert nearest.bytes == 10**6
    assert nearest.npu_cycles > 100


def test_a_float_file_has_no_cycles(extracted):
    with pytest.raises(nns.errors.SelectionError, match=r"Nothing of .* quantize='int8'"):
        extracted(nns.Budget(npu_cycles=10**6, target=TARGET), quantize=None)
    with pytest.raises(tflite_export.OptionError, match="ethos-u55-128"):
        extracted(nns.Budget(npu_cycles=10**6, target="ethos-u5"))


def test_what_the_cpu_does_is_told(extracted, whole):
    budget = nns.Budget(npu_cycles=whole.cycles, target=TARGET)
    with pytest.warns(UserWarning, match=r"stay on the CPU.*QUANTIZE.*DEQUANTIZE"):
        extracted(budget, quantize="int8_float")


@pytest.fixture(scope="module")
def widths(residual):
    return nns.npu_widths(residual, target=TARGET)


def test_widths_that_are_worth_having(residual, pictures, widths):
    found = widths
    told = {layer.group: layer for layer in found.layers}
    assert set(told) == {"stem", "inside"}
    stem = told["stem"]
    # Twenty channels take what more than two blocks of eight take; sixteen do not.
    assert stem.behind_a_step
    assert stem.corners[0] == 16
    assert "4 fewer save" in str(found)
    kept = {"stem": tuple(range(16)), "inside": tuple(range(24))}
    plan = nns.Plan(nns.fingerprint(residual), {"stem": 20, "inside": 24}, kept, (0,), ("0",))
    narrower = tflite_export.convert(
        nns.cut(residual, plan), quantize="int8", samples=pictures[0][:20]
    )
    right = tflite_export.npu(narrower, target=TARGET).cycles
    assert stem.cycles[16] == pytest.approx(right, rel=0.01)
    assert found.to_json()["layers"][0]["corners"][0] == 16
    with pytest.raises(tflite_export.OptionError, match="ethos-u55-128"):
        nns.npu_widths(residual, target="ethos-u5")


def test_inspect_warns_of_a_width_behind_a_step(residual, widths):
    found = nns.inspect(residual, target=TARGET)
    told = {group["name"]: group.get("behind_a_step") for group in found.to_json()["groups"]}
    everywhere = {layer.group: layer for layer in widths.layers}
    # Few widths were asked about, and the step found is that of all of them.
    assert told["stem"] == {"units": 16, "cycles": everywhere["stem"].cycles[16]}
    assert "4 fewer save" in str(found) and TARGET in str(found)
    assert "behind" not in str(nns.inspect(residual))
    with pytest.raises(tflite_export.OptionError, match="ethos-u55-128"):
        nns.inspect(residual, target="ethos-u5")
