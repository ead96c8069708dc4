"""Observing against a plain numpy loop, and without a trace in the user's model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.observation.activity import STATISTICS
from keras_nns.observation.probing import Values, taps_of
from keras_nns.observation.sums import Sums

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


FIGURES = ("mean", "magnitude", "firing_rate", "variance", "maximum", "active_share", "mean_square")


def assert_right(activity, case, which, labels, threshold=0.0):
    """Compare every figure with a loop over labels: `which[label]` are its samples."""
    shares, squares = case.active(threshold), case.squares()
    for name, (signed, absolute) in case.values().items():
        for label, samples in which.items():
            at = activity.samples[label]
            assert at == samples.sum()
            if not at:
                for figure in FIGURES:
                    assert np.isnan(getattr(activity, figure)(name)[label]).all()
                continue
            expected = {
                "mean": signed[samples].mean(axis=0),
                "magnitude": absolute[samples].mean(axis=0),
                "firing_rate": (absolute[samples] > threshold).mean(axis=0),
                "variance": signed[samples].var(axis=0),
                "maximum": absolute[samples].max(axis=0),
                "active_share": shares[name][samples].mean(axis=0),
                "mean_square": squares[name][samples].mean(axis=0),
            }
            for figure, values in expected.items():
                found = getattr(activity, figure)(name)
                assert found.shape == (labels, signed.shape[1])
                np.testing.assert_allclose(found[label], values, **CLOSE, err_msg=(name, figure))


@pytest.mark.slow
def test_every_statistic_is_that_of_a_plain_loop(case):
    activity = nns.observe(case.model, case.x, case.y, statistics=STATISTICS, batch_size=5)
    assert set(activity.layers) == set(case.seen)
    assert activity.label_names == ("0", "1", "2", "3")
    assert activity.samples[3] == 0
    assert_right(activity, case, {label: case.y == label for label in range(4)}, 4)
    for name, layer in activity.layers.items():
        assert (layer.magnitude is layer.total) == (name in case.nonnegative)
    assert activity.fingerprint == nns.fingerprint(case.model)


@pytest.mark.slow
def test_a_unit_fires_above_the_threshold(plain):
    activity = nns.observe(plain.model, plain.x, plain.y, threshold=0.7, statistics=STATISTICS)
    assert_right(activity, plain, {label: plain.y == label for label in range(4)}, 4, 0.7)
    assert 0 < activity.layers["tanh"].fired.sum() < len(plain.x) * 4


@pytest.mark.slow
def test_a_sample_of_several_labels_counts_for_each(plain):
    hot = np.random.default_rng(3).random((len(plain.x), 4)) < 0.4
    activity = nns.observe(plain.model, plain.x, hot, statistics=STATISTICS, batch_size=4)
    assert_right(activity, plain, dict(enumerate(hot.T)), 4)


@pytest.mark.slow
def test_labels_can_be_names(plain):
    names = ("elk", "ant", "cow", "bee")
    y = np.array(names)[plain.y]
    activity = nns.observe(plain.model, plain.x, y, label_names=names)
    assert activity.label_names == names
    numbers = nns.observe(plain.model, plain.x, plain.y)
    np.testing.assert_array_equal(activity.mean("relu"), numbers.mean("relu"))
    assert activity.label("cow") == 2


@pytest.mark.slow
def test_layers_are_chosen_by_name_and_by_predicate(plain, cases):
    def observed(layers, case=plain):
        return list(nns.observe(case.model, case.x, case.y, layers=layers).layers)

    assert observed("tanh") == ["tanh"]
    assert observed(["linear", "relu"]) == ["relu", "linear"]
    assert observed(lambda layer: layer.units == 4 and layer.name != "answer") == ["tanh"]
    assert observed(["inner/dense"], cases("nested")) == ["inner/dense"]


@pytest.mark.parametrize("layers", ["nothing", ["relu", "nothing"], [], lambda layer: False])
def test_layers_that_are_not_there_are_refused(plain, layers):
    with pytest.raises(nns.errors.SelectionError, match="answer"):
        nns.observe(plain.model, plain.x, plain.y, layers=layers)


def test_a_layer_itself_is_not_taken_for_a_predicate(plain):
    with pytest.raises(nns.errors.SelectionError, match=r"layers=\['relu'\]"):
        nns.observe(plain.model, plain.x, plain.y, layers=plain.model.get_layer("relu"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistics": ["median"]}, "median"),
        ({"statistics": []}, "statistics"),
        ({"threshold": float("nan")}, "threshold"),
        ({"checkpoint": "c", "checkpoint_every": 0}, "checkpoint_every"),
    ],
)
def test_options_that_make_no_sense_are_refused(plain, options, message):
    with pytest.raises(nns.NNSError, match=message):
        nns.observe(plain.model, plain.x, plain.y, **options)


@pytest.mark.slow
def test_one_statistic_alone_is_what_it_is_among_all(plain):
    whole = nns.observe(plain.model, plain.x, plain.y, statistics=STATISTICS)
    figure = {"fired": "firing_rate", "mean": "magnitude", "active": "active_share"}
    for statistic in STATISTICS:
        alone = nns.observe(plain.model, plain.x, plain.y, statistics=statistic)
        assert alone.statistics == (statistic,)
        for layer in whole.layers:
            name = figure.get(statistic, statistic)
            one, other = getattr(alone, name)(layer), getattr(whole, name)(layer)
            np.testing.assert_array_equal(one, other)


# Nothing of the user's changes --------------------------------------------------------------------


def stateful_model():
    inputs = keras.Input(batch_shape=(4, 5, 2))
    x = L.LSTM(3, stateful=True, return_sequences=True, name="lstm")(inputs)
    x = L.GRU(3, stateful=True, name="gru", activity_regularizer="l2")(x)
    model = keras.Model(inputs, L.Dense(2, "softmax", kernel_regularizer="l2", name="answer")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def snapshot(model):
    """Everything of a model that a careless look at it would change."""
    layers = model._flatten_layers()
    return {
        "weights": [v.numpy() for v in model.variables],
        "optimizer": [v.numpy() for v in model.optimizer.variables],
        "attributes": [sorted(vars(layer)) for layer in layers],
        "nodes": [[id(node) for node in layer._inbound_nodes] for layer in layers],
        "outbound": [[id(node) for node in layer._outbound_nodes] for layer in layers],
        "losses": [[id(loss) for loss in layer._losses] for layer in layers],
        "values": [float(loss) for loss in model.losses],
        "compiled": (model.compiled, id(model.optimizer), id(model.loss), id(model._compile_loss)),
        "functions": (model.train_function, model.predict_function, model.test_function),
        "trainable": [layer.trainable for layer in layers],
        "built": [layer.built for layer in layers],
        "metrics": [id(metric) for metric in model.metrics],
        "config": model.get_config(),
    }


def assert_same(before, after):
    for name, value in before.items():
        if name in ("weights", "optimizer"):
            for one, other in zip(value, after[name], strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)
        else:
            assert value == after[name], name


@pytest.mark.slow
@pytest.mark.parametrize("how", ["observe", "probe", "call a probe", "a failed observe"])
def test_nothing_of_the_users_changes(how):
    model = stateful_model()
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 5, 2)).astype("float32"), random.integers(0, 2, 12)
    model.train_on_batch(x[:4], y[:4])
    model(x[4:8])
    assert len(model.losses) == 2
    assert np.abs(model.get_layer("lstm").states[0].numpy()).max() > 0
    before, x_before = snapshot(model), x.copy()
    if how == "observe":
        nns.observe(model, x, y, batch_size=4, statistics=STATISTICS)
    elif how == "probe":
        nns.probe(model).predict(x, batch_size=4, verbose=0)
    elif how == "call a probe":
        nns.probe(model)(x[:4])
    else:
        x_before[9, 0, 0] = x[9, 0, 0] = np.nan
        with pytest.raises(nns.errors.DataError, match="NaN"):
            nns.observe(model, x, y, batch_size=4)
    assert_same(before, snapshot(model))
    np.testing.assert_array_equal(x, x_before)


# What goes wrong ----------------------------------------------------------------------------------


def diverged(bad):
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(4, name="hidden"), L.Dense(2, "softmax", name="answer")]
    )
    kernel = np.ones((3, 4), np.float32)
    kernel[1, 2] = bad
    model.get_layer("hidden").set_weights([kernel, np.zeros(4)])
    return model


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("statistics", [*STATISTICS, STATISTICS])
def test_activations_that_are_no_numbers_are_found_whatever_is_watched(bad, statistics):
    with pytest.raises(nns.errors.DataError, match=r"'hidden'.*unit 2"):
        nns.observe(diverged(bad), np.ones((6, 3)), [0, 1] * 3, statistics=statistics)


def test_they_are_found_before_the_data_ends():
    read = []

    def batches():
        for number in range(500):
            read.append(number)
            yield np.ones((2, 3), "float32"), np.array([0, 1])

    with pytest.raises(nns.errors.DataError, match="hidden"):
        nns.observe(diverged(np.nan), batches())
    assert len(read) < 100


def test_data_without_labels_or_samples_is_refused(plain):
    with pytest.raises(nns.errors.DataError, match="empty"):
        nns.observe(plain.model, plain.x[:0], plain.y[:0])
    with pytest.raises(nns.errors.DataError, match="no samples of any label"):
        nns.observe(plain.model, plain.x, np.zeros((len(plain.x), 4), bool))


def test_models_without_a_graph_or_hidden_units_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(nns.errors.ModelError, match="Own"):
        nns.observe(Own(), np.ones((2, 3)), [0, 1])
    with pytest.raises(nns.errors.ModelError, match="not been built"):
        nns.observe(keras.Sequential([L.Dense(2)]), np.ones((2, 3)), [0, 1])
    alone = keras.Sequential([keras.Input((3,)), L.Dense(2)], name="alone")
    with pytest.raises(nns.errors.ModelError, match="no hidden units"):
        nns.observe(alone, np.ones((2, 3)), [0, 1])
    with pytest.raises(nns.errors.ModelError, match="list"):
        nns.observe([], np.ones((2, 3)), [0, 1])


# Stopping and going on ----------------------------------------------------------------------------


def stopping_after(batches, error):
    for number, batch in enumerate(batches):
        if error is not None and number == 4:
            raise error
        yield batch


def in_batches(x, y, size=4):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("lost"), KeyboardInterrupt()])
def test_a_stopped_run_goes_on_and_ends_with_the_same_numbers(plain, tmp_path, error):
    path = tmp_path / "checkpoint"
    options = {"statistics": STATISTICS, "checkpoint": path, "checkpoint_every": 3}
    batches = in_batches(plain.x, plain.y)
    whole = nns.observe(plain.model, iter(batches), statistics=STATISTICS)
    with pytest.raises(type(error)):
        nns.observe(plain.model, stopping_after(batches, error), **options)
    assert path.exists()
    read = []
    rest = nns.observe(plain.model, (read.append(1) or b for b in batches), **options)
    assert rest == whole
    assert not path.exists()
    assert len(read) == len(batches)


@pytest.mark.slow
def test_an_interrupt_between_two_lines_of_python_counts_no_batch_twice(
    plain, tmp_path, monkeypatch
):
    """The step is done and the interrupt comes before anybody has noted it."""
    from keras_nns.engine.steps import Stepper

    path = tmp_path / "checkpoint"
    whole = nns.observe(plain.model, plain.x, plain.y, batch_size=4)
    step = Stepper.__call__
    calls = []

    def interrupted(self, *args):
        step(self, *args)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nns.observe(plain.model, plain.x, plain.y, batch_size=4, checkpoint=path)
    monkeypatch.undo()
    assert nns.observe(plain.model, plain.x, plain.y, batch_size=4, checkpoint=path) == whole


@pytest.mark.slow
def test_states_that_carry_over_batches_go_on_too(tmp_path):
    model = stateful_model()
    random = np.random.default_rng(0)
    x, y = random.normal(size=(24, 5, 2)).astype("float32"), random.integers(0, 2, 24)
    batches = in_batches(x, y)
    whole = nns.observe(model, iter(batches))
    options = {"checkpoint": tmp_path / "checkpoint", "checkpoint_every": 2}
    with pytest.raises(RuntimeError):
        nns.observe(model, stopping_after(batches, RuntimeError()), **options)
    assert nns.observe(model, iter(batches), **options) == whole


@pytest.fixture
def stopped(plain, tmp_path):
    path = tmp_path / "checkpoint"
    batches = in_batches(plain.x, plain.y)
    with pytest.raises(KeyboardInterrupt):
        nns.observe(
            plain.model, lambda: stopping_after(batches, KeyboardInterrupt()), checkpoint=path
        )
    return path


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused(plain, stopped, tmp_path):
    batches = in_batches(plain.x, plain.y)

    def resumed(model=plain.model, **options):
        nns.observe(model, lambda: iter(batches), checkpoint=stopped, **options)

    for options, word in [
        ({"statistics": ["mean"]}, "statistics"),
        ({"layers": ["relu"]}, "layers"),
        ({"threshold": 0.5}, "threshold"),
        ({"label_names": ["a", "b", "c", "d"]}, "label_names"),
        ({"batch_size": 5}, "batch_size"),
        ({"model": keras.models.clone_model(plain.model)}, "model"),
    ]:
        with pytest.raises(nns.errors.FileError, match=f"another run: {word}"):
            resumed(**options)
    with pytest.raises(nns.errors.FileError, match="another run: samples"):
        nns.observe(plain.model, plain.x, plain.y, checkpoint=stopped)
    resumed()


@pytest.mark.slow
def test_a_damaged_or_foreign_checkpoint_is_refused(plain, stopped):
    def resumed():
        nns.observe(plain.model, lambda: iter(in_batches(plain.x, plain.y)), checkpoint=stopped)

    data = stopped.read_bytes()
    stopped.write_bytes(data[: len(data) // 2])
    with pytest.raises(nns.errors.FileError, match="checkpoint"):
        resumed()
    stopped.write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
    with pytest.raises(nns.errors.FileError, match="checkpoint"):
        resumed()
    nns.observe(plain.model, plain.x, plain.y).save(stopped, overwrite=True)
    with pytest.raises(nns.errors.FileError, match=r"keras_nns\.observation"):
        resumed()


def test_a_run_spoilt_by_nan_leaves_no_checkpoint_of_it(tmp_path):
    path = tmp_path / "checkpoint"
    data = np.ones((6, 3)), [0, 1] * 3
    with pytest.raises(nns.errors.DataError):
        nns.observe(diverged(np.nan), data, batch_size=2, checkpoint=path, checkpoint_every=1)
    assert not path.exists()


@pytest.mark.slow
def test_a_run_stopped_after_its_last_batch_is_complete(plain, tmp_path):
    path = tmp_path / "checkpoint"
    batches = in_batches(plain.x, plain.y)

    def then_stop():
        yield from batches
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nns.observe(plain.model, then_stop(), checkpoint=path)
    resumed = nns.observe(plain.model, iter(batches), checkpoint=path)
    assert resumed == nns.observe(plain.model, iter(batches))


# Numbers that stay right --------------------------------------------------------------------------


def tiny_sums(statistics=STATISTICS):
    model = keras.Sequential(
        [keras.Input((2,)), L.Dense(2, "relu", name="hidden"), L.Dense(2, name="answer")]
    )
    graph = trace(model)
    sums = Sums(taps_of(graph), 2, statistics, 0.0)
    return sums, lambda: sums.activity(graph, ("0", "1"), graph.fingerprint)


def values_of(array):
    tensor = ops.convert_to_tensor(array, "float32")
    return [Values(tensor, tensor, ops.cast(tensor > 0, "float32"), tensor**2)]


@pytest.mark.parametrize("seen", [2**24, 10**8])
def test_counts_and_sums_stay_right_over_very_many_samples(seen):
    """A float32 counter stops at 2**24, where adding 1 changes nothing."""
    sums, activity = tiny_sums()
    one = np.array([[1.0, 0.0], [1.0, 0.25], [1.0, 0.5]])
    sums.update(values_of(one), ops.convert_to_tensor([0, 0, 0], "int64"))
    state = sums.state()
    repeats = seen // 3
    grown = {
        name: array * repeats if array.dtype in (np.int64, np.float64) else array
        for name, array in state.items()
    }
    sums.restore(grown)
    sums.update(values_of(one), ops.convert_to_tensor([0, 0, 0], "int64"))
    found = activity()
    assert found.samples.tolist() == [3 * (repeats + 1), 0]
    layer = found.layers["hidden"]
    assert layer.fired[0].tolist() == [3 * (repeats + 1), 2 * (repeats + 1)]
    np.testing.assert_allclose(
        layer.total[0], [3 * (repeats + 1), 0.75 * (repeats + 1)], rtol=1e-15
    )
    np.testing.assert_allclose(found.mean("hidden")[0], [1, 0.25], rtol=1e-15)
    np.testing.assert_allclose(found.variance("hidden")[0], [0, one[:, 1].var()], rtol=1e-7)


def test_a_small_variance_around_a_large_mean_does_not_drown():
    random = np.random.default_rng(0)
    values = (1000 + random.normal(scale=0.1, size=(4096, 2))).astype(np.float32)
    labels = random.integers(0, 2, 4096)
    sums, activity = tiny_sums()
    for part in np.split(np.arange(4096), 16):
        sums.update(values_of(values[part]), ops.convert_to_tensor(labels[part]))
    for label in (0, 1):
        expected = values[labels == label].astype(np.float64).var(axis=0)
        np.testing.assert_allclose(activity().variance("hidden")[label], expected, rtol=1e-3)


def test_state_and_restore_lose_nothing():
    sums, activity = tiny_sums()
    sums.update(values_of([[1.0, 2.0], [3.0, 4.0]]), ops.convert_to_tensor([0, 1], "int64"))
    state, before = {k: v.copy() for k, v in sums.state().items()}, activity()
    sums.reset()
    assert activity().samples.sum() == 0
    sums.restore(state)
    assert activity() == before


def test_half_precision_is_summed_in_single(tmp_path):
    """In float16 sums end at 65,504, and a mean over many positions drowns."""
    inputs = keras.Input((64, 64, 1))
    conv = L.Conv2D(2, 1, activation="relu", name="conv", dtype="mixed_float16")(inputs)
    pooled = L.GlobalAveragePooling2D(dtype="float32")(conv)
    model = keras.Model(inputs, L.Dense(2, "softmax", name="answer", dtype="float32")(pooled))
    model.get_layer("conv").set_weights([np.array([[[[100.0, 1.0]]]]), np.zeros(2)])
    x = np.random.default_rng(0).integers(1, 9, (40, 64, 64, 1)).astype("float32")
    y = np.arange(40) % 2
    activity = nns.observe(model, x, y, statistics=STATISTICS, batch_size=7)
    for label in (0, 1):
        expected = x[y == label].astype(np.float64).mean(axis=(1, 2, 3))
        found = activity.mean("conv")[label]
        np.testing.assert_allclose(found, expected.mean() * np.array([100, 1]), rtol=1e-5)
        np.testing.assert_allclose(activity.maximum("conv")[label, 1], expected.max(), rtol=1e-5)


@pytest.mark.slow
def test_watching_again_reads_the_weights_as_they_are(plain):
    from keras_nns.observation.watcher import Observer

    model = keras.models.clone_model(plain.model)
    observer = Observer(model)
    first = observer.observe(plain.x, plain.y)
    model.set_weights(plain.model.get_weights())
    second = observer.observe(plain.x, plain.y)
    assert second == nns.observe(plain.model, plain.x, plain.y)
    assert first != second


@pytest.mark.parametrize("verbose", [0, False, "auto"])
def test_silent_when_asked_or_not_on_a_terminal(plain, capfd, verbose):
    nns.observe(plain.model, plain.x, plain.y, verbose=verbose)
    assert capfd.readouterr() == ("", "")


def test_the_bar_shows_when_asked_and_leaves_standard_output_alone(plain, capfd):
    nns.observe(plain.model, plain.x, plain.y, verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "observing" in err


@pytest.mark.slow
def test_many_models_are_observed_without_a_warning_of_tensorflow(plain, caplog):
    for _ in range(8):
        nns.observe(plain.model, (plain.x, plain.y))
    assert not caplog.records
