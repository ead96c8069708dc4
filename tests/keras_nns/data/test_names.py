"""Names of labels out of files; a part of a model's labels, told by name."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.cli import arguments, main
from keras_nns.data.batches import as_batches
from keras_nns.data.names import read_names
from keras_nns.errors import DataError, FileError

NAMES = [f"n{10 * i:08d}" for i in range(1000)]
FORMS = {
    "names.txt": "\n".join(NAMES) + "\n",
    "windows.txt": "\ufeff" + "\r\n".join(NAMES),
    "list.json": json.dumps(NAMES),
    "index.json": json.dumps({str(i): [name, f"word {i % 7}"] for i, name in enumerate(NAMES)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file(tmp_path, form):
    path = tmp_path / form
    path.write_bytes(FORMS[form].encode())
    assert list(read_names(path)) == NAMES
    assert arguments.label_names(str(path)) == NAMES
    assert arguments.label_names("a, b") == ["a", "b"]


WRONG = {"empty.txt": b"\n", "twice.txt": b"a\nb\na\n", "text.txt": b"\xff\xfe", "bad.json": b"{",
         "other.json": b'{"a": 1}', "number.json": b"3"}  # fmt: skip


@pytest.mark.parametrize("form", WRONG)
def test_what_is_no_list_of_names_is_refused(tmp_path, form):
    path = tmp_path / form
    path.write_bytes(WRONG[form])
    with pytest.raises(FileError, match=form):
        read_names(path)


def wide():
    return keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(1000)])


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name in (NAMES[700], NAMES[3]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            picture = random.integers(0, 256, (4, 4, 3))
            keras.utils.save_img(tmp_path / "photos" / name / f"{i}.png", picture, scale=False)
    return tmp_path / "photos"


def read(data, **options):
    return np.concatenate([b.labels for b in as_batches(data, model=wide(), **options)])


def test_a_folder_of_some_of_a_models_labels_is_mapped_by_name(folder):
    assert sorted(read(folder, label_names=NAMES)) == [3] * 3 + [700] * 3
    x = np.zeros((2, 4, 4, 3), "float32")
    assert read((x, np.array([NAMES[9], NAMES[8]])), label_names=NAMES).tolist() == [9, 8]


def test_synsets_are_known_where_keras_has_fetched_them(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"imagenet_synsets\.txt"):
        read(folder)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "imagenet_class_index.json").write_text(FORMS["index.json"])
    assert sorted(read(folder)) == [3] * 3 + [700] * 3
    x = np.zeros((2, 4, 4, 3), "float32")
    assert read((x, np.array([NAMES[9], NAMES[8]]))).tolist() == [9, 8]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_shell_takes_a_file(folder, tmp_path, capsys):
    (tmp_path / "names.txt").write_text(FORMS["names.txt"])
    nns.save_model(wide(), tmp_path / "model.keras")
    options = ["--label-names", str(tmp_path / "names.txt"), "--json", "--no-scale"]
    assert main(["evaluate", str(tmp_path / "model.keras"), str(folder), *options]) == 0
    rows = json.loads(capsys.readouterr().out)["labels"]
    assert {row["name"]: row["samples"] for row in rows if row["samples"]} == {
        NAMES[3]: 3,
        NAMES[700]: 3,
    }
