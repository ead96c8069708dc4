"""What is cut from a file is what is cut of the loaded model, bit for bit, with less in memory."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile

import keras
import numpy as np
import pytest
from backends import on_tensorflow
from keras import layers

import keras_nns as nns
from keras_nns.engine.deferred import has_value
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.on_file import parent_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")


def dense():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(5),
            layers.Dense(3, activation="softmax"),
        ]
    )


def convolutions():
    start = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(start)
    x = around = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Conv2D(6, 1, dtype="mixed_float16")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, around]))
    return keras.Model(start, layers.Dense(4, activation="softmax")(x))


def attention():
    start = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8)(start)
    x = x + layers.MultiHeadAttention(4, 3)(x, x)
    x = layers.Dense(8)(layers.Dense(12, activation="gelu")(layers.LayerNormalization()(x))) + x
    return keras.Model(start, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def recurrent():
    start = keras.Input((4, 3))
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(start)
    x = layers.GRU(6)(x)
    return keras.Model(start, layers.Dense(2, activation="softmax")(x))


def nested():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(7, activation="relu")], name="inner")
    shared = layers.Dense(5, activation="relu", name="shared")
    one, other = keras.Input((6,)), keras.Input((6,))
    x = layers.Concatenate()([shared(inner(one)), shared(inner(other))])
    return keras.Model([one, other], layers.Dense(3, activation="softmax")(x))


def prepared():
    normal = layers.Normalization()
    normal.adapt(np.random.default_rng(0).normal(3, 2, (64, 6)))
    hidden = [layers.Dense(8, activation="relu"), layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((6,)), normal, *hidden, layers.Dense(2)])
    model.layers[1].trainable = False
    return model


def stateful():
    start = keras.Input(batch_shape=(2, 4, 3))
    x = layers.LSTM(5, stateful=True)(start)
    return keras.Model(start, layers.Dense(2)(x))


MODELS = [dense, convolutions, attention, recurrent, nested, prepared, stateful]


def randomised(model, seed=0):
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if "float" in variable.dtype:
            spread = random.uniform(0.2, 1, variable.shape) * random.choice([-1, 1], variable.shape)
            value = np.abs(spread) if "variance" in variable.name else spread
            variable.assign(value.astype("float32"))
    return model


def half(model, seed=0):
    graph = trace(model)
    random = np.random.default_rng(seed)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {g: tuple(random.permutation(n)[: max(1, n // 2)].tolist()) for g, n in sizes.items()}
    return Plan(graph.fingerprint, sizes, kept, labels=(0, 1), label_names=("a", "b", "c"))


@pytest.fixture(params=MODELS, ids=lambda build: build.__name__)
def saved(request, tmp_path):
    model = randomised(request.param())
    nns.save_model(model, tmp_path / "model.keras")
    return model, tmp_path / "model.keras"


def same(one, other):
    assert json.dumps(one.get_config(), default=str) == json.dumps(other.get_config(), default=str)
    assert [w.path.split("/")[-1] for w in one.weights] == [
        w.path.split("/")[-1] for w in other.weights
    ]
    for a, b in zip(one.weights, other.weights, strict=True):
        assert a.dtype == b.dtype and a.trainable == b.trainable
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.slow
def test_it_is_what_is_cut_of_the_loaded_model(saved):
    model, path = saved
    plan = half(model)
    assert nns.fingerprint(path) == nns.fingerprint(model)
    same(nns.cut(str(path), plan), nns.cut(nns.load_model(path), plan))


@pytest.mark.slow
def test_nothing_of_it_is_in_memory(saved):
    model, path = saved
    with parent_of(path) as parent:
        assert parent.weights and not any(map(has_value, parent.weights))
        for variable, other in zip(parent.weights, model.weights, strict=True):
            assert variable.numpy().tobytes() == other.numpy().tobytes()


@pytest.mark.slow
def test_it_is_proven_against_a_mask_that_is_not_in_memory_either(saved):
    model, path = saved
    plan = half(model)
    small = nns.cut(path, plan, prove=True)
    same(small, nns.cut(model, plan))
    assert nns.prove(path, plan) == nns.prove(nns.load_model(path), plan)
    same(nns.mask(path, plan), nns.mask(nns.load_model(path), plan))


@pytest.mark.slow
def test_a_proof_from_a_file_can_fail(tmp_path, monkeypatch):
    from keras_nns.surgery import masking

    model = randomised(recurrent())
    nns.save_model(model, tmp_path / "model.keras")
    monkeypatch.setattr(masking, "_silence", lambda *given: None)
    monkeypatch.setattr(masking.UnitMask, "call", lambda self, inputs: inputs)
    with pytest.raises(nns.errors.ProofError, match="NOT equal"):
        nns.cut(tmp_path / "model.keras", half(model), prove=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"head": "binary"}, {"head": "labels"}, {"simplify": True}])
def test_heads_and_clean_ups_too(tmp_path, how):
    model = randomised(dense())
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    nns.save_model(model, tmp_path / "model.keras")
    plan = half(model)
    ours = nns.cut(tmp_path / "model.keras", plan, **how)
    same(ours, nns.cut(nns.load_model(tmp_path / "model.keras"), plan, **how))
    assert ours.get_compile_config() == nns.cut(model, plan, **how).get_compile_config()
    assert nns.lineage(ours) == nns.lineage(nns.cut(model, plan, **how))


@pytest.mark.slow
def test_a_cut_of_a_cut_and_a_file_that_is_packed(tmp_path):
    model = randomised(convolutions())
    once = nns.cut(model, half(model))
    nns.save_model(once, tmp_path / "once.keras")
    with (
        zipfile.ZipFile(tmp_path / "once.keras") as source,
        zipfile.ZipFile(tmp_path / "packed.keras", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    plan = half(once, seed=1)
    for name in ("once.keras", "packed.keras"):
        same(nns.cut(tmp_path / name, plan), nns.cut(once, plan))


@on_tensorflow("a table of texts")
def test_what_layers_keep_in_files_of_their_own(tmp_path):
    words = layers.TextVectorization(vocabulary=["a", "b", "c"], output_mode="multi_hot")
    start = keras.Input((), dtype="string")
    model = keras.Sequential([start, words, layers.Dense(6), layers.Dense(2)])
    nns.save_model(model, tmp_path / "model.keras")
    plan = half(model)
    small = nns.cut(tmp_path / "model.keras", plan)
    assert small.layers[0].get_vocabulary() == words.get_vocabulary()
    same(small, nns.cut(model, plan))


def test_other_files_are_read_whole_with_a_warning(tmp_path):
    model = randomised(dense())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "model.h5")
    plan = half(model)
    with pytest.warns(UserWarning, match="read whole into memory: it is no .keras file"):
        small = nns.cut(tmp_path / "model.h5", plan)
    same(small, nns.cut(model, plan))


# Wrong use -------------------------------------------------------------------------------------


def rewritten(path, change):
    """Write a `.keras` file anew with another entry, its checksums right."""
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


@pytest.fixture
def file(tmp_path):
    model = randomised(dense())
    nns.save_model(model, tmp_path / "model.keras")
    return tmp_path / "model.keras", half(model)


def test_a_damaged_file_is_refused(file):
    path, plan = file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(nns.errors.FileError, match="damaged"):
        nns.cut(path, plan)


def test_a_file_that_is_cut_short_is_refused(file):
    path, plan = file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(nns.errors.FileError, match="damaged"):
        nns.cut(path, plan)


def test_weights_of_another_architecture_are_refused(file, tmp_path):
    path, plan = file
    wide = keras.Sequential([keras.Input((6,)), *[layers.Dense(n) for n in (9, 5, 3)]])
    wide.save_weights(tmp_path / "w.weights.h5")
    other = (tmp_path / "w.weights.h5").read_bytes()
    rewritten(path, lambda entries: entries.update({"model.weights.h5": other}))
    with pytest.raises(nns.errors.FileError, match=r"model\.keras.*could not be loaded.*shape"):
        nns.cut(path, plan)


def test_a_weight_that_is_missing_is_told_of(file, tmp_path):
    path, plan = file
    short = keras.Sequential([keras.Input((6,)), *[layers.Dense(n) for n in (8, 5)]])
    short.save_weights(tmp_path / "w.weights.h5")
    other = (tmp_path / "w.weights.h5").read_bytes()
    rewritten(path, lambda entries: entries.update({"model.weights.h5": other}))
    with pytest.raises(nns.errors.FileError, match="expected 2 variables"):
        nns.cut(path, plan)


def test_a_plan_of_another_model_is_refused(file):
    path, _ = file
    with pytest.raises(nns.errors.PlanError, match="another model"):
        nns.cut(path, half(randomised(recurrent())))
    with pytest.raises(nns.errors.PlanError, match="other weights"):
        nns.cut(path, half(randomised(nns.load_model(path), seed=1)))


def test_what_has_no_graph_and_what_is_no_file_is_refused(tmp_path, file):
    @keras.saving.register_keras_serializable("tests")
    class Own(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.hidden = layers.Dense(4)

        def call(self, x):
            return self.hidden(x)

    model = Own()
    model(np.zeros((1, 3), "float32"))
    model.save(tmp_path / "own.keras")
    with pytest.raises(nns.errors.ModelError, match="subclass with its own `call`"):
        nns.cut(tmp_path / "own.keras", file[1])
    with pytest.raises(nns.errors.FileError, match="no such file"):
        nns.cut(tmp_path / "none.keras", file[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(nns.errors.FileError, match="empty"):
        nns.cut(tmp_path / "empty", file[1])


def test_code_in_a_file_does_not_run(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4), layers.Lambda(lambda x: x * 2), layers.Dense(2)]
    )
    nns.save_model(model, tmp_path / "model.keras")
    with pytest.raises(nns.errors.FileError, match="Lambda"):
        nns.cut(tmp_path / "model.keras", half(randomised(dense())))


def test_nothing_is_written_where_the_file_is_damaged(file, tmp_path):
    from keras_nns.cli import main

    path, plan = file
    plan.save(tmp_path / "plan.json")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    before = sorted(tmp_path.iterdir())
    given = ["cut", str(path), str(tmp_path / "plan.json"), "-o", str(tmp_path / "small.keras")]
    assert main(given) != 0
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_reads_it_so_too(file, tmp_path, capsys, monkeypatch):
    from keras_nns.cli import main
    from keras_nns.surgery import loading

    path, plan = file
    plan.save(tmp_path / "plan.json")
    expected = nns.cut(nns.load_model(path), plan)
    monkeypatch.setattr(loading, "load_model", lambda *given, **more: pytest.fail("read whole"))
    given = ["cut", str(path), str(tmp_path / "plan.json"), "-o", str(tmp_path / "small.keras")]
    assert main(given) == 0
    same(keras.saving.load_model(tmp_path / "small.keras"), expected)


# Presets ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def language_model():
    hub = pytest.importorskip("keras_hub")
    backbone = hub.models.LlamaBackbone(
        vocabulary_size=30, num_layers=2, num_query_heads=4, num_key_value_heads=2,
        hidden_dim=16, intermediate_dim=24,
    )  # fmt: skip
    return randomised(hub.models.LlamaCausalLM(backbone, preprocessor=None))


@pytest.mark.slow
def test_a_preset_is_cut_from_its_folder(language_model, tmp_path):
    language_model.save_to_preset(str(tmp_path / "preset"))
    plan = half(language_model)
    small = nns.cut(tmp_path / "preset", plan, prove=True)
    assert type(small) is type(nns.cut(language_model, plan))
    same(small, nns.cut(language_model, plan))


@pytest.mark.slow
def test_a_preset_in_shards(language_model, tmp_path):
    folder = tmp_path / "preset"
    language_model.save_to_preset(str(folder))
    (folder / "model.weights.h5").unlink()
    language_model.backbone.save_weights(folder / "model.weights.json", max_shard_size=1e-5)
    assert len(list(folder.glob("*.weights.h5"))) > 1
    plan = half(language_model)
    same(nns.cut(folder, plan), nns.cut(language_model, plan))
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_preset_whose_weights_are_damaged_or_gone(language_model, tmp_path):
    folder = tmp_path / "preset"
    language_model.save_to_preset(str(folder))
    plan = half(language_model)
    data = (folder / "model.weights.h5").read_bytes()
    (folder / "model.weights.h5").write_bytes(data[: len(data) // 3])
    with pytest.raises(nns.errors.FileError, match="preset"):
        nns.cut(folder, plan)
    (folder / "model.weights.h5").unlink()
    with pytest.raises(nns.errors.FileError, match="preset"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nns.cut(folder, plan)
