"""`convert`: every kind of model gives a file that answers what Keras answers."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

import tflite_export

layers = keras.layers


def run_signature(flat: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Ask the file through LiteRT's own signature runner, one sample at a time."""
    runner = Interpreter(model_content=flat).get_signature_runner("serving_default")
    count = len(next(iter(inputs.values())))
    rows = [
        runner(**{name: array[index : index + 1] for name, array in inputs.items()})
        for index in range(count)
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def operators(flat: bytes) -> list[str]:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flat))
    return [
        (model.operatorCodes[operator.opcodeIndex].customCode or b"").decode()
        or flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
        for graph in model.subgraphs
        for operator in graph.operators
    ]


def snapshot(model: keras.Model) -> Any:
    """What a user could notice of a model: weights, graph, training state."""
    every = [model, *model._flatten_layers(include_self=False)]
    return (
        [weight.tobytes() for weight in model.get_weights()],
        [
            (layer.name, len(layer._inbound_nodes), len(layer._outbound_nodes), layer.trainable)
            for layer in every
        ],
        [sorted(vars(layer)) for layer in every],
        (
            getattr(model, "optimizer", None),
            model.compiled,
            model.train_function,
            model.predict_function,
        ),
        [float(loss) for loss in model.losses],
    )


@pytest.mark.slow
def test_every_kind_of_model_answers_as_keras_does(case: tuple[str, keras.Model, Any]) -> None:
    name, model, samples = case
    model(samples)
    before = snapshot(model)
    flat = tflite_export.convert(model, samples=samples)
    result = tflite_export.verify(flat, model, samples)
    assert snapshot(model) == before
    assert result.relative <= 1e-5
    used = operators(flat)
    assert used
    assert not [op for op in used if op.startswith("Flex") or "VAR_HANDLE" in op]
    if name == "mixed_precision":
        # Keras itself answers in half precision there: close, but not the same.
        tolerance = 0.05
    else:
        tolerance = 1e-5
    metadata = tflite_export.read_metadata(flat)
    arrays = samples if isinstance(samples, (list, dict)) else [samples]
    arrays = (
        arrays
        if isinstance(arrays, dict)
        else dict(zip([tensor.name for tensor in metadata.inputs], arrays, strict=True))
    )
    dtypes = {
        detail["name"]: detail["dtype"]
        for detail in Interpreter(model_content=flat).get_input_details()
    }
    answers = run_signature(
        flat, {key: np.asarray(value, dtypes[key]) for key, value in arrays.items()}
    )
    expected = model.predict(samples, verbose=0)
    expected = (
        expected
        if isinstance(expected, dict)
        else dict(
            zip(
                [tensor.name for tensor in metadata.outputs],
                keras.tree.flatten(expected),
                strict=True,
            )
        )
    )
    assert set(answers) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(answers[key], value, atol=tolerance * np.abs(value).max())


@pytest.mark.slow
def test_names_are_the_layers_and_the_order_is_the_models(flat: bytes) -> None:
    interpreter = Interpreter(model_content=flat)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["pixels"], "outputs": ["scores"]}
    }
    assert [detail["name"] for detail in interpreter.get_input_details()] == ["pixels"]
    assert [detail["name"] for detail in interpreter.get_output_details()] == ["scores"]


@pytest.mark.slow
def test_inputs_and_outputs_keep_the_models_order() -> None:
    inputs = [keras.Input((2,), name=f"in_{number}") for number in range(12)]
    outputs = [layers.Dense(1, name=f"out_{n}")(tensor) for n, tensor in enumerate(inputs)]
    flat = tflite_export.convert(keras.Model(inputs, outputs))
    interpreter = Interpreter(model_content=flat)
    assert [d["name"] for d in interpreter.get_input_details()] == [f"in_{n}" for n in range(12)]
    assert [d["name"] for d in interpreter.get_output_details()] == [f"out_{n}" for n in range(12)]


@pytest.mark.slow
def test_equal_output_names_are_told_apart() -> None:
    inputs = keras.Input((2,), name="x")
    twice = layers.Dense(2, name="twice")
    model = keras.Model(inputs, [twice(inputs), twice(layers.Rescaling(3.0)(inputs))])
    metadata = tflite_export.read_metadata(tflite_export.convert(model))
    assert [tensor.name for tensor in metadata.outputs] == ["twice", "twice_1"]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 16, None])
def test_batch_size(cnn: keras.Model, pixels: np.ndarray, batch_size: int | None) -> None:
    flat = tflite_export.convert(cnn, batch_size=batch_size)
    detail = Interpreter(model_content=flat).get_input_details()[0]
    assert detail["shape_signature"][0] == (batch_size or -1)
    # 70 samples: the last batch of 16 is not full.
    assert tflite_export.verify(flat, cnn, pixels).samples == len(pixels)


@pytest.mark.slow
def test_an_open_batch_takes_every_size(cnn: keras.Model, pixels: np.ndarray) -> None:
    flat = tflite_export.convert(cnn, batch_size=None)
    runner = Interpreter(model_content=flat).get_signature_runner()
    for count in (1, 3, 70):
        answer = runner(pixels=pixels[:count])["scores"]
        expected = cnn.predict(pixels[:count], verbose=0)
        np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_recurrent_models_say_why_an_open_batch_is_refused() -> None:
    model = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3, name="memory")])
    with pytest.raises(tflite_export.OptionError, match=r"'memory'.*batch_size=1"):
        tflite_export.convert(model, batch_size=None)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, None])
def test_unrolled_loops_have_no_loop_and_the_same_answer(batch_size: int | None) -> None:
    model = keras.Sequential(
        [keras.Input((4, 2)), layers.Bidirectional(layers.LSTM(3)), layers.Dense(2)]
    )
    loop = tflite_export.convert(model)
    flat = tflite_export.convert(model, unroll=True, batch_size=batch_size)
    samples = np.random.default_rng(0).standard_normal((6, 4, 2)).astype(np.float32)
    assert "WHILE" in operators(loop)
    assert "WHILE" not in operators(flat)
    assert tflite_export.verify(flat, model, samples).relative <= 1e-5


@pytest.mark.slow
def test_a_compiled_and_fitted_model_keeps_its_training_state(pixels: np.ndarray) -> None:
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dropout(0.5), layers.Dense(3)]
    )
    model.compile("adam", "mse")
    model.fit(pixels, np.zeros((len(pixels), 3)), verbose=0)
    before = snapshot(model)
    iterations = int(model.optimizer.iterations)
    tflite_export.verify(tflite_export.convert(model), model, pixels)
    assert snapshot(model) == before
    model.fit(pixels, np.zeros((len(pixels), 3)), verbose=0)
    assert int(model.optimizer.iterations) == 2 * iterations


@pytest.mark.slow
def test_nothing_is_printed(
    cnn: keras.Model, pixels: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    tflite_export.verify(tflite_export.convert(cnn), cnn, pixels)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(cnn: keras.Model) -> None:
    assert tflite_export.convert(cnn) == tflite_export.convert(cnn)


@pytest.mark.slow
def test_conversions_in_threads_do_not_mix(cnn: keras.Model) -> None:
    expected = tflite_export.convert(cnn)
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(tflite_export.convert(cnn)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 3


@pytest.mark.slow
def test_flex_operators_are_named_and_only_let_in_when_asked(
    capfd: pytest.CaptureFixture[str],
) -> None:
    inputs = keras.Input((4, 4), name="x")
    model = keras.Model(inputs, keras.ops.linalg.cholesky(inputs), name="odd")
    with pytest.raises(
        tflite_export.ConversionError, match=r"'odd'.*Cholesky.*flex=True"
    ) as caught:
        tflite_export.convert(model)
    assert "tf.Cholesky" in caught.value.log
    assert capfd.readouterr() == ("", "")
    assert "FlexCholesky" in operators(tflite_export.convert(model, allow_flex=True))


@pytest.mark.slow
def test_operators_that_flex_lacks_too_are_not_promised() -> None:
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, keras.ops.erfinv(inputs))
    with pytest.raises(tflite_export.ConversionError, match=r"Erfinv\). Replace") as caught:
        tflite_export.convert(model, allow_flex=True)
    assert "allow_flex" not in str(caught.value)


def test_an_error_in_the_users_own_layer_is_reported_with_its_text() -> None:
    class Broken(keras.Model):
        def call(self, inputs: Any) -> Any:
            if inputs.shape[0] == 1:
                raise RuntimeError("no batch of one, please")
            return inputs

    model = Broken(name="broken")
    samples = np.ones((2, 3), np.float32)
    model(samples)
    with pytest.raises(tflite_export.ConversionError, match="no batch of one, please"):
        tflite_export.convert(model, samples=samples)


def unbuilt() -> keras.Model:
    return keras.Sequential([layers.Dense(3)])


def two_inputs_never_shown() -> keras.Model:
    class Pair(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs[0] + inputs[1]

    model = Pair(name="pair")
    model([np.ones((2, 3)), np.ones((2, 3))])
    return model


def stateful() -> keras.Model:
    return keras.Sequential(
        [keras.Input((4, 2), batch_size=1), layers.GRU(3, stateful=True, name="memory")]
    )


def quantized_by_keras() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="wide")])
    with warnings.catch_warnings():
        # Keras 3.15 with numpy 2: not what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        model.layers[0].quantize("int8")
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "options", "error", "words"),
    [
        (unbuilt, {}, tflite_export.OptionError, "not built"),
        (two_inputs_never_shown, {}, tflite_export.OptionError, "samples="),
        (lambda: "model.keras", {}, tflite_export.OptionError, "load_model"),
        (lambda: layers.Dense(3), {}, tflite_export.OptionError, "expected a keras.Model"),
        (stateful, {}, tflite_export.ConversionError, "'memory'.*stateful=False"),
        (quantized_by_keras, {}, tflite_export.ConversionError, "'wide' was quantized by Keras"),
    ],
)
def test_what_cannot_be_converted_says_why(
    make: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        tflite_export.convert(make(), **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"quantize": "int3"}, tflite_export.OptionError, "'int3'; expected None or one of"),
        ({"labels": ["a", "b"]}, tflite_export.MetadataError, "2 labels.*'scores' has width 10"),
        ({"labels": "abc"}, tflite_export.MetadataError, "list of names"),
        ({"labels": {"other": ["a"] * 10}}, tflite_export.MetadataError, "'other'.*'scores'"),
        ({"labels": ["a"] * 9 + ["x\ny"]}, tflite_export.MetadataError, "label 9"),
        ({"labels": ["a"] * 9 + [" "]}, tflite_export.MetadataError, "label 9"),
        ({"batch_size": 0}, tflite_export.OptionError, "batch_size"),
        ({"batch_size": 2.5}, tflite_export.OptionError, "batch_size"),
        ({"samples": np.ones((3, 7, 8, 1))}, tflite_export.OptionError, r"\(3, 7, 8, 1\).*8, 8, 1"),
        ({"samples": np.full((3, 8, 8, 1), np.nan)}, tflite_export.OptionError, "NaN"),
        ({"samples": np.ones((0, 8, 8, 1))}, tflite_export.OptionError, "empty"),
        ({"samples": {"image": 1}}, tflite_export.OptionError, "'image'.*'pixels'"),
        ({"files": {"../up": b""}}, tflite_export.MetadataError, "plain relative name"),
        ({"files": {"x.bin": object()}}, tflite_export.MetadataError, "neither bytes"),
    ],
)
def test_wrong_options_name_the_fix(
    cnn: keras.Model, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        tflite_export.convert(cnn, **options)
    assert issubclass(error, tflite_export.ExportError)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_rebuilt_models_keep_the_names_of_their_inputs(policy: str) -> None:
    """A clone calls its inputs after tensors; the file goes by the user's layers."""
    inputs = [keras.Input((4, 2), name="left"), keras.Input((4, 2), name="right")]
    x = layers.GRU(3, dtype=policy)(layers.Concatenate()(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="scores")(x))
    flat = tflite_export.convert(model, unroll=True)
    assert Interpreter(model_content=flat).get_signature_list() == {
        "serving_default": {"inputs": ["left", "right"], "outputs": ["scores"]}
    }


def test_text_is_refused_with_what_to_do() -> None:
    words = layers.StringLookup(vocabulary=["a", "b"], name="words")
    inputs = keras.Input((3,), dtype="string", name="text")
    model = keras.Model(inputs, layers.Embedding(5, 2)(words(inputs)))
    with pytest.raises(tflite_export.ConversionError, match=r"'text' takes text.*StringLookup"):
        tflite_export.convert(model)


@pytest.mark.slow
def test_images_of_bytes_are_resized_as_predict_does() -> None:
    """Called directly, Keras rounds what it resizes; in `predict`, and in the file, it does not."""
    model = keras.Sequential([keras.Input((9, 9, 3), dtype="uint8"), layers.Resizing(6, 6)])
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3)).astype(np.uint8)
    flat = tflite_export.convert(model)
    assert Interpreter(model_content=flat).get_input_details()[0]["dtype"] == np.uint8
    assert tflite_export.verify(flat, model, images).relative <= 1e-5
    name = tflite_export.read_metadata(flat).inputs[0].name
    (answer,) = run_signature(flat, {name: images}).values()
    np.testing.assert_allclose(answer, model.predict(images, verbose=0), atol=1e-3)


@pytest.mark.slow
def test_outputs_of_a_subclass_keep_their_keys() -> None:
    class Heads(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="heads")
            self.dense = layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            both = self.dense(inputs["left"]) + self.dense(inputs["right"])
            return {"sum": both, "double": 2 * both}

    model = Heads()
    samples = {name: np.ones((3, 4), np.float32) for name in ("left", "right")}
    expected = model(samples)
    answers = run_signature(tflite_export.convert(model, samples=samples), samples)
    assert set(answers) == {"sum", "double"}
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, atol=1e-5)


@pytest.mark.slow
def test_sizes_that_nobody_can_tell_are_named() -> None:
    inputs = keras.Input((None, None, 1), name="image")
    x = layers.UpSampling2D()(layers.MaxPooling2D()(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    with pytest.raises(
        tflite_export.ConversionError, match=r"unknown sizes. Give the inputs fixed sizes \('image'"
    ):
        tflite_export.convert(model)


@pytest.mark.slow
def test_argmax_inside_the_model_says_what_to_do() -> None:
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.ops.argmax(layers.Dense(3)(inputs), axis=-1))
    with pytest.raises(tflite_export.ConversionError, match="take the largest on the device"):
        tflite_export.convert(model)


def test_groups_of_a_conv3d_are_named_and_the_way_on_works() -> None:
    inputs = keras.Input((3, 3, 3, 4))
    grouped = keras.Model(inputs, layers.Conv3D(4, 2, groups=2, name="grouped")(inputs))
    for size in (1, None):
        with pytest.raises(
            tflite_export.ConversionError, match=r"'grouped' is a Conv3D in 2 groups.*Concatenate"
        ):
            tflite_export.convert(grouped, batch_size=size)
    parts = [layers.Conv3D(2, 2)(inputs[..., at : at + 2]) for at in (0, 2)]
    model = keras.Model(inputs, layers.Concatenate()(parts))
    kernel, bias = grouped.get_weights()
    model.set_weights([kernel[..., :2], bias[:2], kernel[..., 2:], bias[2:]])
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 3, 4)).astype("float32")
    flat = tflite_export.convert(model)
    tflite_export.verify(flat, model, x)
    np.testing.assert_allclose(model(x), grouped(x), atol=1e-5)


def test_a_file_that_does_not_load_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise tflite_export.FlatbufferError("CONV_3D failed to prepare.")

    monkeypatch.setattr("tflite_export.running.interpreter.Runner.prepare", broken)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(tflite_export.ConversionError, match="LiteRT cannot load: CONV_3D"):
        tflite_export.convert(model)
