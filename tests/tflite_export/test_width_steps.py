"""Widths beside a step of an NPU: what is told, beside whole files of those widths."""

from __future__ import annotations

import importlib.util
import json

import keras
import numpy as np
import pytest

import tflite_export
from tflite_export.width_steps import better_width

layers = keras.layers
needs_vela = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None,
    reason="needs ethos-u-vela: install keras-nns[npu]",
)
pytestmark = pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning")


def net(stem: int, inside: int, hidden: int) -> keras.Model:
    start = keras.Input((12, 12, 2))
    x = layers.Conv2D(stem, 3, padding="same", activation="relu", name="stem")(start)
    x = layers.DepthwiseConv2D(3, name="deep")(x)
    x = layers.Conv2D(inside, 3, activation="relu", name="inside_7")(x)
    x = layers.Dense(hidden, activation="relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(start, layers.Dense(9, activation="softmax", name="answer")(x))


def file(model: keras.Model, variant: str = "int8") -> bytes:
    noise = np.random.default_rng(0).random((100, *model.input_shape[1:]), dtype=np.float32)
    return tflite_export.convert(model, quantize=variant, samples=noise)


@needs_vela
@pytest.mark.slow
def test_a_width_behind_a_step_and_one_before_a_cheaper() -> None:
    odd = file(net(17, 7, 20))
    told = {step.layer: step for step in tflite_export.npu_steps(odd)}
    better = {name: step.better for name, step in told.items()}
    assert better == {"stem": 16, "deep": 16, "inside_7": 8, "hidden": 16}
    assert told["inside_7"].units == 7
    assert told["inside_7"].better_cycles < told["inside_7"].cycles
    # What was found layer by layer holds for a file of these widths, of which nothing is told.
    even = file(net(16, 8, 16))
    assert tflite_export.npu_steps(even) == ()
    # The stem and its depthwise layer have the same units: one of them is enough to see it.
    cycles = [tflite_export.npu(flat).cycles for flat in (even, odd)]
    assert cycles[0] < 0.8 * cycles[1]
    # The last layer's units are labels.
    assert "answer" not in told

    made = tflite_export.card({"odd": odd, "even": even}, seconds=0, target="ethos-u55-128")
    cells = {title: values for title, *values in made.cells()}["beside a step there"]
    assert "inside_7 has 7 units: 8 would take 0." in cells[0]
    assert cells[1] == "–"
    rows = json.loads(json.dumps(made.to_json()))["rows"]
    assert rows[0]["npu_steps"][0]["better"] == 16


@needs_vela
@pytest.mark.slow
def test_one_layer_alone_takes_what_a_network_of_it_takes() -> None:
    """The file of one layer, beside one that the converter makes of the same layer."""
    taken = {step.layer: step for step in tflite_export.npu_steps(file(net(9, 16, 16)))}["stem"]
    alone = keras.Sequential(
        [keras.Input((12, 12, 2)), layers.Conv2D(9, 3, padding="same", activation="relu")]
    )
    assert taken.better == 8
    assert taken.cycles == pytest.approx(tflite_export.npu(file(alone)).cycles, rel=0.05)


@needs_vela
def test_nothing_is_told_where_nothing_runs_on_an_npu(flat: bytes) -> None:
    assert tflite_export.npu_steps(flat) == ()
    with pytest.raises(tflite_export.FlatbufferError, match="not a TFLite model"):
        tflite_export.npu_steps(b"nothing of the kind")


@pytest.mark.parametrize("block", [4, 8, 16, 32])
@pytest.mark.parametrize("units", [5, 8, 9, 16, 17, 20, 32, 33, 40, 64, 65, 100])
def test_blocks_of_any_size_are_found(block: int, units: int) -> None:
    """Nothing about sizes of blocks is known beforehand: costs that jump at any of them do."""
    asked = []

    def cost(width: int) -> float:
        asked.append(width)
        return 100 * -(-width // block) + width

    found = better_width(cost, units)
    over = units % block
    fewer = units - over
    saved = 1 - cost(fewer) / cost(units)
    if over and fewer and over <= units // 4 and saved > 1.5 * over / units:
        assert found == fewer
    else:
        assert found is None
    assert len(set(asked)) < 24


def test_a_wider_one_that_is_cheaper_is_found() -> None:
    """A block that is not full costs as if it were worked on bit by bit."""

    def cost(width: int) -> float:
        return 100 * (width // 8) + 60 * (width % 8)

    assert better_width(cost, 7) == 8
    assert better_width(cost, 12) == 16
    assert better_width(cost, 8) is None
    assert better_width(lambda width: 0, 8) is None
    assert better_width(lambda width: width, 1) is None
