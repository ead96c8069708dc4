"""Run what takes a Keras model where Keras runs on TensorFlow: here, or in a process of its own.

Only TensorFlow has a way to TFLite. Where Keras runs on another backend, models are saved as
`.keras`, and a child process loads them on TensorFlow, does what was asked and hands back what came
of it, errors and warnings too.
"""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import keras
import numpy as np

from tflite_export.errors import ConversionError, OptionError
from tflite_export.writing.temporary import held_folder

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Saved:
    """A model in a file, and the modules that know its layers."""

    path: str
    modules: tuple[str, ...]


def on_tensorflow(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a function run where Keras runs on TensorFlow.

    Args:
        function: A function of a module, of models and what can be pickled.

    Raises:
        ConversionError: Elsewhere: a model cannot be saved, or not be loaded there.
    """

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        models = [one for one in (*args, *kwargs.values()) if isinstance(one, keras.Model)]
        if keras.config.backend() == "tensorflow" or not models:
            return function(*args, **kwargs)
        with held_folder(Path(tempfile.gettempdir()), "on_tensorflow") as folder:
            numbers = iter(range(len(models)))

            def carried(given: Any) -> Any:
                if isinstance(given, keras.Model):
                    return _saved(given, folder / f"{next(numbers)}.keras")
                return keras.tree.map_structure(_plain, given)

            positional = [carried(one) for one in args]
            named = {name: carried(one) for name, one in kwargs.items()}
            found: _T = _asked(folder, (run, positional, named))
            return found

    return run


def _plain(given: Any) -> Any:
    """Return a tensor of any backend as an array."""
    foreign = hasattr(given, "__array__") and not isinstance(given, np.ndarray | np.generic)
    return keras.ops.convert_to_numpy(given) if foreign else given


def _saved(model: Any, path: Path) -> _Saved:
    layers = list(model._flatten_layers(recursive=True))
    modules = dict.fromkeys(type(layer).__module__ for layer in layers)
    foreign = tuple(name for name in modules if name.split(".")[0] != "keras")
    if "__main__" in foreign:
        odd = next(type(one).__name__ for one in layers if type(one).__module__ == "__main__")
        raise ConversionError(
            f"{odd}, which model {model.name!r} holds, is written in the script that runs. The "
            "file is made in a process of its own, on TensorFlow, which has to import it: put it "
            "into a module. Or save the model and run the script with KERAS_BACKEND=tensorflow."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save(path)
    except Exception as error:
        raise ConversionError(
            f"model {model.name!r} cannot be saved as .keras, to be exported in a process on "
            f"TensorFlow: {error}"
        ) from error
    return _Saved(str(path), foreign)


def _asked(folder: Path, question: Any) -> Any:
    asked, answer = folder / "asked", folder / "answer"
    try:
        asked.write_bytes(pickle.dumps(question))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise OptionError(
            f"what is exported on TensorFlow, in a process of its own, has to be pickled: {error}"
        ) from error
    done = subprocess.run(
        [sys.executable, "-m", "tflite_export.keras_model.elsewhere", str(asked), str(answer)],
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if not answer.exists():
        raise ConversionError(
            "the process that exports on TensorFlow ended before it was done. Save the model as "
            ".keras and export it with KERAS_BACKEND=tensorflow to see why.",
            log=done.stderr,
        )
    raised, value, said = pickle.loads(answer.read_bytes())
    for message, category in said:
        warnings.warn(message, category, stacklevel=4)
    if raised:
        raise value
    return value


def _answer(question: tuple[Any, list[Any], dict[str, Any]]) -> Any:
    function, args, kwargs = question
    given = {name: _loaded(one) for name, one in kwargs.items()}
    return function(*map(_loaded, args), **given)


def _loaded(given: Any) -> Any:
    if not isinstance(given, _Saved):
        return given
    for name in given.modules:
        importlib.import_module(name)
    try:
        # The parent process has just written it: it is as safe as what runs there.
        return keras.models.load_model(given.path, compile=False, safe_mode=False)
    except Exception as error:
        raise ConversionError(
            f"a model that runs on another backend cannot be loaded on TensorFlow: {error}"
        ) from error


def _picklable(error: Exception) -> Iterator[Exception]:
    """Give forms of an error, the fullest first."""
    yield error
    yield ConversionError(f"{type(error).__name__}: {error}")


def main(asked: str, answer: str) -> None:
    """Answer a question that lies in a file, into another."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found: Any = False, _answer(pickle.loads(Path(asked).read_bytes()))
        except Exception as error:
            found = True, error
    own = [(one.message, one.category) for one in caught if _ours(one.category)]
    raised, value = found
    for form in _picklable(value) if raised else [value]:
        try:
            data = pickle.dumps((raised, form, own))
            pickle.loads(data)
        except Exception:
            continue
        written = Path(f"{answer}.part")
        written.write_bytes(data)
        written.replace(answer)
        return


def _ours(category: type[Warning]) -> bool:
    return category.__module__.startswith("tflite_export")


if __name__ == "__main__":
    # What is pickled here is of the module by its name.
    importlib.import_module("tflite_export.keras_model.elsewhere").main(*sys.argv[1:])
