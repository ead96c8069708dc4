"""Model files: ordinary `.keras` files that remember where a subnetwork comes from."""

from __future__ import annotations

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as L

import keras_nns as nns
from keras_nns.surgery.lineage import Lineage

# TensorFlow's tensors under numpy 2, when Keras writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

X = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")


@pytest.fixture(scope="module")
def small():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            L.Dense(6, activation="relu", name="hidden"),
            L.Dense(3, activation="softmax", name="answer"),
        ],
        name="parent",
    )
    activity = nns.observe(model, X, [0, 1, 2, 0, 1, 2], label_names=("a", "b", "größe"))
    return nns.cut(
        model, nns.select(activity, ["a", "größe"], score="mean_activation"), head="other"
    )


@pytest.fixture
def path(tmp_path, small):
    nns.save_model(small, tmp_path / "small.keras")
    return tmp_path / "small.keras"


@pytest.mark.slow
def test_a_subnetwork_remembers_its_parent(small, path):
    again = nns.load_model(path)
    origin = nns.lineage(again)
    assert origin == nns.lineage(small)
    assert origin.plan.choices == nns.lineage(small).plan.choices
    assert origin.parent == origin.plan.fingerprint
    assert origin.label_names == ("a", "größe", "other")
    assert origin.labels == (0, 2, None)
    np.testing.assert_array_equal(again(X), small(X))


def test_keras_alone_reads_the_file(small, path):
    again = keras.saving.load_model(path)
    np.testing.assert_array_equal(again(X), small(X))
    assert nns.lineage(again) is None


def test_a_model_that_was_not_cut_has_no_lineage(tmp_path):
    model = keras.Sequential([keras.Input((2,)), L.Dense(1)])
    assert nns.lineage(model) is None
    nns.save_model(model, tmp_path / "model.keras")
    assert nns.lineage(nns.load_model(tmp_path / "model.keras")) is None


def test_h5_files_are_read(tmp_path, small):
    model = keras.Sequential([keras.Input((2,)), L.Dense(1)])
    model.save(tmp_path / "model.h5")
    again = nns.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(again(X[:, :2]), model(X[:, :2]))


def test_lineage_reads_back_equal_from_json(small):
    origin = nns.lineage(small)
    assert Lineage.from_json(json.loads(json.dumps(origin.to_json()))) == origin


def test_files_are_not_overwritten_and_end_in_keras(small, path):
    with pytest.raises(nns.errors.FileError, match="overwrite=True"):
        nns.save_model(small, path)
    nns.save_model(small, path, overwrite=True)
    for name in ("model.h5", "model", "model.keras.txt"):
        with pytest.raises(nns.errors.FileError, match=r"end in `\.keras`"):
            nns.save_model(small, path.parent / name)
    assert [p.name for p in path.parent.iterdir()] == ["small.keras"]


def test_a_model_that_cannot_be_written_leaves_the_old_file(small, path, monkeypatch):
    old = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.saving, "save_model", full)
    with pytest.raises(nns.errors.FileError, match="No space left"):
        nns.save_model(small, path, overwrite=True)
    assert path.read_bytes() == old
    assert [p.name for p in path.parent.iterdir()] == ["small.keras"]


def test_code_in_a_file_does_not_run_unless_the_user_says_so(tmp_path):
    path = tmp_path / "code.keras"
    keras.Sequential([keras.Input((2,)), L.Lambda(lambda x: x * 2)]).save(path)
    with pytest.raises(nns.errors.FileError, match=r"(?s)Lambda.*unsafe=True"):
        nns.load_model(path)
    np.testing.assert_array_equal(nns.load_model(path, unsafe=True)(X[:, :2]), X[:, :2] * 2)


def test_a_layer_of_the_users_own_is_named(tmp_path):
    class Own(L.Layer):
        def call(self, x):
            return x

    path = tmp_path / "own.keras"
    keras.Sequential([keras.Input((2,)), Own()]).save(path)
    with pytest.raises(nns.errors.FileError, match=r"holds Own.*register_keras_serializable"):
        nns.load_model(path)
    again = nns.load_model(path, custom_objects={"Own": Own})
    np.testing.assert_array_equal(again(X[:, :2]), X[:, :2])


def written_by_keras_2(path, groups):
    """Write a file as Keras 2 did: `groups` in the configuration of a depthwise convolution."""
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            L.Conv2D(4, 3, name="first"),
            L.DepthwiseConv2D(3, name="each", depthwise_initializer="glorot_normal"),
            L.Flatten(),
            L.Dense(2),
        ]
    )
    model.save(path)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"][2]["config"]["groups"] = groups
            file.attrs["model_config"] = json.dumps(config)
            file.attrs["keras_version"] = "2.15.0"
        return model
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    config["config"]["layers"][2]["config"]["groups"] = groups
    entries["config.json"] = json.dumps(config).encode()
    entries["metadata.json"] = b'{"keras_version": "2.15.0"}'
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_groups_that_keras_2_wrote_are_left_out_with_a_warning(tmp_path):
    path = tmp_path / "old.h5"
    model = written_by_keras_2(path, 1)
    with pytest.raises(TypeError, match="groups"):
        keras.saving.load_model(path)
    with pytest.warns(UserWarning, match=r"old\.h5' was written by Keras 2.*left out"):
        again = nns.load_model(path)
    assert type(again.get_layer("each")) is L.DepthwiseConv2D
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 2)).astype("float32")
    np.testing.assert_array_equal(again(x), model(x))
    # What is saved anew is a file of today.
    nns.save_model(again, tmp_path / "new.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "new.keras")(x), model(x))


def test_groups_in_a_keras_file_are_left_out_too(tmp_path):
    model = written_by_keras_2(tmp_path / "old.keras", 1)
    with pytest.warns(UserWarning, match=r"old\.keras' was written by Keras 2.*left out"):
        again = nns.load_model(tmp_path / "old.keras")
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 2)).astype("float32")
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_groups_that_mean_something_are_refused(tmp_path):
    written_by_keras_2(tmp_path / "odd.h5", 2)
    with pytest.raises(nns.errors.FileError, match=r"odd\.h5.*DepthwiseConv2D 'each' has groups=2"):
        nns.load_model(tmp_path / "odd.h5")


@given(place=st.integers(0, 10**7), bit=st.integers(0, 7))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_bit_is_found_or_does_not_matter(small, path, tmp_path_factory, place, bit):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    damaged = tmp_path_factory.mktemp("flips") / "damaged.keras"
    damaged.write_bytes(data)
    try:
        again = nns.load_model(damaged)
    except nns.errors.FileError as error:
        assert "damaged.keras" in str(error)
    else:
        np.testing.assert_array_equal(again(X), small(X))
        assert nns.lineage(again) == nns.lineage(small)


def test_damage_in_any_entry_is_found(path):
    """Keras does not look at the checksums of what it does not read to the end."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    good = path.read_bytes()
    assert "keras_nns.json" in {entry.filename for entry in entries}
    for entry in entries:
        start = good.index(entry.filename.encode(), entry.header_offset) + len(entry.filename)
        place = start + entry.compress_size // 2
        path.write_bytes(good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :])
        with pytest.raises(nns.errors.FileError, match=r"small\.keras"):
            nns.load_model(path)


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(nns.errors.FileError, match=r"small\.keras"):
        nns.load_model(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "keras_nns.lineage", "head": "neck"}', '"text"']
)
def test_a_damaged_record_of_the_parent_is_refused(path, small, text):
    keras.saving.save_model(small, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("keras_nns.json", text)
    with pytest.raises(nns.errors.FileError, match=r"small\.keras"):
        nns.load_model(path)


def test_foreign_files_are_refused(tmp_path):
    for name in ("text.keras", "text.h5"):
        (tmp_path / name).write_text("text")
        with pytest.raises(nns.errors.FileError, match=name):
            nns.load_model(tmp_path / name)
    for name in ("nowhere.keras", "nowhere.h5"):
        with pytest.raises(nns.errors.FileError, match="no such file"):
            nns.load_model(tmp_path / name)
    (tmp_path / "model.tflite").write_text("")
    with pytest.raises(nns.errors.FileError, match="Expected a"):
        nns.load_model(tmp_path / "model.tflite")
