"""Files of other widths without a conversion, beside those that the converter writes."""

from __future__ import annotations

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers as L

import tflite_export
from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.resizing import Resizable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning"),
]
WHOLE = {"stem": 12, "inside": 10, "beside": 6, "dense": 9}


def file(quantize: str | None, **widths: int) -> bytes:
    """A residual branch, two branches side by side, and places that become columns of a matrix."""
    n = {**WHOLE, **widths}
    keras.utils.set_random_seed(0)
    start = keras.Input((8, 8, 3))
    x = L.Conv2D(n["stem"], 3, padding="same", activation="relu", name="stem")(start)
    y = L.Conv2D(n["inside"], 3, padding="same", activation="relu", name="inside")(x)
    x = L.Add()([x, L.Conv2D(n["stem"], 1, name="back")(y)])
    z = L.DepthwiseConv2D(3, padding="same", name="apart")(x)
    x = L.Concatenate()([z, L.Conv2D(n["beside"], 1, name="beside")(x)])
    x = L.Flatten()(L.MaxPooling2D()(x))
    x = L.Dense(n["dense"], activation="relu", name="dense")(x)
    net = keras.Model(start, L.Dense(4, activation="softmax", name="answer")(x), name="net")
    rng = np.random.default_rng(1)
    for variable in net.weights:  # Equal ones, such as biases of zero, are stored once.
        variable.assign(rng.normal(size=variable.shape))
    samples = np.random.default_rng(0).random((20, 8, 8, 3), dtype=np.float32)
    return tflite_export.convert(net, quantize=quantize, samples=samples, labels=list("abcd"))


@pytest.fixture(scope="module")
def resizable() -> Resizable:
    fewer = {name: (2, file("int8", **{name: size - 2})) for name, size in WHOLE.items()}
    return Resizable(file("int8"), fewer)


def sizes(flat: bytes) -> list[tuple[int, ...]]:
    """Of all that is read and written, in the order of the operators."""
    (graph,) = container.parse(flat).subgraphs
    used = [i for one in graph.operators for i in (*one.inputs, *one.outputs) if i >= 0]
    return [tuple(graph.tensors[i].shape) for i in used]


@pytest.mark.parametrize(
    "widths",
    [
        {"stem": 8, "inside": 8, "beside": 4, "dense": 3},
        {"stem": 7, "inside": 1, "beside": 5, "dense": 9},
    ],
)
def test_every_tensor_is_of_the_size_that_the_converter_gives_it(
    resizable: Resizable, widths: dict[str, int]
) -> None:
    made = resizable.without({name: WHOLE[name] - left for name, left in widths.items()})
    converted = file("int8", **widths)
    assert sizes(made) == sizes(converted)
    theirs, ours = tflite_export.anatomy(converted), tflite_export.anatomy(made)
    assert ours.multiply_adds == theirs.multiply_adds
    assert ours.activation_bytes == theirs.activation_bytes
    assert ours.parameters == theirs.parameters
    if importlib.util.find_spec("ethosu"):
        asked, right = tflite_export.npu(made), tflite_export.npu(converted)
        assert asked.sram == right.sram
        # Other numbers in the weights are packed a little better or worse.
        assert asked.cycles == pytest.approx(right.cycles, rel=0.02)


def test_nothing_gone_is_the_whole_file(resizable: Resizable) -> None:
    assert sizes(resizable.without({})) == sizes(file("int8"))


def test_what_is_no_other_width_of_the_same_network_is_refused(resizable: Resizable) -> None:
    with pytest.raises(tflite_export.FlatbufferError, match="different operators"):
        Resizable(file("int8"), {"stem": (1, file("int8_float", stem=11))})
    with pytest.raises(tflite_export.FlatbufferError, match="otherwise than by its size"):
        Resizable(file("int8"), {"stem": (1, file(None, stem=11))})
    with pytest.raises(tflite_export.FlatbufferError, match="otherwise than by its size"):
        Resizable(file("int8"), {"stem": (2, file("int8", stem=11))})
    with pytest.raises(tflite_export.FlatbufferError, match="nothing would be left"):
        resizable.without({"stem": 12})
