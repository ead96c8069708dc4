"""What people have besides `.keras`: it is said what it is, and what to do."""

from __future__ import annotations

import zipfile

import keras
import pytest

import keras_nns as nns
from keras_nns.errors import FileError
from tflite_export.cli import main as export

# Keras converts its variables so when it writes them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])


FOLDERS = {
    "saved_model.pb": "SavedModel folder, which has functions and no layers",
    "keras_metadata.pb": r"SavedModel folder of Keras 2.*tf_keras.*\.save\('model\.h5'\)",
    "model.json": r"model for TensorFlow\.js",
    "photo.png": "folder without a model",
}
FILES = {
    "m.tflite": "TFLite file, which has no layers",
    "m.onnx": "ONNX file.*set_weights",
    "m.pb": "graph of TensorFlow",
    "m.pt": "weights of PyTorch",
    "m.pth": "weights of PyTorch",
    "m.safetensors": "weights alone",
    "m.pkl": "a pickle, which runs code",
    "m.json": "architecture of a model",
    "m.txt": "no model file by its name",
}


@pytest.mark.parametrize(("name", "said"), FOLDERS.items())
def test_folders(tmp_path, name, said):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_bytes(b"x")
    with pytest.raises(FileError, match=f"Expected a `.keras`.*model' is a {said}"):
        nns.load_model(folder)


@pytest.mark.parametrize(("name", "said"), FILES.items())
def test_files(tmp_path, name, said, capsys):
    path = tmp_path / name
    path.write_bytes(b"x" * 20)
    with pytest.raises(FileError, match=rf"{name}' is (an? |the )?{said}"):
        nns.load_model(path)
    assert export(["export", str(path), "-o", str(tmp_path / "o.tflite")]) == 1
    assert f"{name} as a Keras model: it is" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_one_form_under_the_name_of_the_other(tmp_path, model):
    model.save(tmp_path / "m.h5")
    model.save(tmp_path / "m.keras")
    (tmp_path / "m.h5").rename(tmp_path / "n.keras")
    (tmp_path / "m.keras").rename(tmp_path / "n.h5")
    with pytest.raises(FileError, match=r"an HDF5 file under another name.*\.h5"):
        nns.load_model(tmp_path / "n.keras")
    with pytest.raises(FileError, match=r"a \.keras file under another name.*\.keras"):
        nns.load_model(tmp_path / "n.h5")


def test_an_unpacked_file(tmp_path, model):
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        archive.extractall(tmp_path / "m")
    with pytest.raises(FileError, match="unpacked"):
        nns.load_model(tmp_path / "m")
