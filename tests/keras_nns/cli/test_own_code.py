"""Models that hold layers of their author's own: `--import MODULE`."""

from __future__ import annotations

import sys

import keras
import pytest

from keras_nns.cli import main

# Keras converts its variables so when it writes them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
CODE = """
import keras

@keras.saving.register_keras_serializable("shop")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A model in a folder beside the module that defines its layer, which nobody imported yet."""

    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "shop_layers.py").write_text(CODE)
    Twice.__module__ = "shop_layers"
    keras.saving.register_keras_serializable("shop")(Twice)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d"), Twice()])
    model.save("own.keras")
    keras.saving.get_custom_objects().pop("shop>Twice")
    yield "own.keras"
    keras.saving.get_custom_objects().pop("shop>Twice", None)
    sys.modules.pop("shop_layers", None)


def test_the_module_is_imported_first(file, capsys):
    assert main(["inspect", file, "--import", "shop_layers"]) == 0
    assert "d" in capsys.readouterr().out


def test_without_it_the_way_is_told(file, capsys):
    assert main(["inspect", file]) == 1
    assert "--import" in capsys.readouterr().err


def test_a_module_that_is_not_there(file, capsys):
    assert main(["inspect", file, "--import", "none_such"]) == 1
    assert "Cannot import 'none_such'" in capsys.readouterr().err
