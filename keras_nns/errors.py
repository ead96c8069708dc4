"""One tree of errors: catch `NNSError` to catch everything this package raises on purpose.

    NNSError
    ├── DataError        the inputs or labels do not fit the model (also a ValueError)
    ├── ModelError       the model cannot be read as a graph of layers (also a ValueError)
    ├── SelectionError   a score, a keep rule or a label that makes no sense (also a ValueError)
    ├── PlanError        a plan of another model, or that would empty a layer (also a ValueError)
    ├── SurgeryError     a cut that cannot be made exactly (also a ValueError)
    │   └── ProofError   a cut that was made and is not equal to its masked parent
    ├── FileError        a file that is missing, damaged, foreign or in the way (also an OSError)
    └── BackendError     Keras runs on another backend than TensorFlow (also an ImportError)

Beside it stands DataWarning: data that a trained model answers by chance, or that may be meant
otherwise than it is read.

    >>> try:
    ...     nns.select(activity, labels="cat")
    ... except nns.NNSError as error:
    ...     print(error)
    No label 'cat'. Expected a number from 0 to 9 or one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.
"""

from tflite_export.text import visible


def what_is_wrong(error: Exception) -> str:
    """Say in words what the reading of damaged plain data stumbled over."""
    if isinstance(error, KeyError):
        return f"it lacks {', '.join(map(repr, error.args))}"
    return str(error) or type(error).__name__


class NNSError(Exception):
    """Root of every error this package raises on purpose.

    Example:
        >>> try:
        ...     nns.select(activity, labels="cat")
        ... except nns.NNSError as error:
        ...     print(type(error).__name__)
        SelectionError
    """

    def __str__(self) -> str:
        # Names of the user's, such as labels, may hold what a terminal obeys.
        return visible(super().__str__())


class DataError(NNSError, ValueError):
    """Inputs or labels that do not fit the model.

    Example:
        >>> nns.observe(model, (x[:, :10], y))
        Traceback (most recent call last):
            ...
        keras_nns.errors.DataError: Input 'pixels' has the wrong shape. Expected (None, 64)...
    """


class DataWarning(UserWarning):
    """Data that a model answers as if it did not know it, or that may be meant otherwise.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", nns.errors.DataWarning)
        >>> nns.observe(model, (x, np.roll(y, 1)))
        Traceback (most recent call last):
            ...
        keras_nns.errors.DataWarning: Model 'digits' answers this data as by chance: ...
    """


class ModelError(NNSError, ValueError):
    """A model that cannot be read as a graph of layers.

    Example:
        >>> nns.inspect(keras.Sequential([keras.layers.Dense(3)]))
        Traceback (most recent call last):
            ...
        keras_nns.errors.ModelError: Model 'sequential...' has not been built, ...
    """


class SelectionError(NNSError, ValueError):
    """A score, a keep rule or a label that makes no sense.

    Example:
        >>> nns.select(activity, labels="cat")
        Traceback (most recent call last):
            ...
        keras_nns.errors.SelectionError: No label 'cat'. ...
    """


class PlanError(NNSError, ValueError):
    """A plan that does not belong to the model, or that would empty a layer.

    Example:
        >>> nns.cut(resnet, plan)
        Traceback (most recent call last):
            ...
        keras_nns.errors.PlanError: The plan was made for another model than 'pets': ...
    """


class SurgeryError(NNSError, ValueError):
    """A cut that cannot be made exactly.

    Example:
        >>> nns.cut(resnet, nns.select(nns.observe(resnet, "photos"), "cat"), head="nothing")
        Traceback (most recent call last):
            ...
        keras_nns.errors.SurgeryError: ...
    """


class ProofError(SurgeryError):
    """A cut model that differs from its masked parent by more than rounding.

    Example:
        >>> try:
        ...     three = nns.cut(model, plan, prove=True)
        ... except nns.errors.ProofError as error:
        ...     print("Do not ship it:", error)
    """


class FileError(NNSError, OSError):
    """A file that is missing, damaged, foreign or in the way.

    Example:
        >>> nns.load_model("missing.keras")
        Traceback (most recent call last):
            ...
        keras_nns.errors.FileError: Cannot read 'missing.keras': no such file.
    """


class WorkerError(NNSError, RuntimeError):
    """Processes of one run that see different things, or one that does not come.

    Example:
        >>> issubclass(nns.errors.WorkerError, nns.NNSError)
        True
    """


class BackendError(NNSError, ImportError):
    """A backend or an engine that this package does not speak, or that is not installed.

    Example:
        >>> issubclass(nns.errors.BackendError, ImportError)
        True
    """


__all__ = [
    "BackendError",
    "DataError",
    "FileError",
    "ModelError",
    "NNSError",
    "PlanError",
    "ProofError",
    "SelectionError",
    "SurgeryError",
    "WorkerError",
]


def __dir__() -> list[str]:
    return __all__
