"""One tree of errors: catch `NNSError` to catch everything this package raises on purpose.

NNSError
├── DataError        the inputs or labels do not fit the model (also a ValueError)
├── ModelError       the model cannot be read as a graph of layers (also a ValueError)
├── SelectionError   a score, a keep rule or a label that makes no sense (also a ValueError)
├── PlanError        a plan of another model, or one that would empty a layer (also a ValueError)
├── SurgeryError     a cut that cannot be made exactly (also a ValueError)
│   └── ProofError   a cut that was made and is not equal to its masked parent
├── FileError        a file that is missing, damaged, foreign or in the way (also an OSError)
└── BackendError     Keras runs on another backend than TensorFlow (also an ImportError)

Beside it stands DataWarning: data that a trained model answers by chance, or that may be meant
otherwise than it is read.
"""

from tflite_export.text import visible


def what_is_wrong(error: Exception) -> str:
    """Say in words what the reading of damaged plain data stumbled over."""
    if isinstance(error, KeyError):
        return f"it lacks {', '.join(map(repr, error.args))}"
    return str(error) or type(error).__name__


class NNSError(Exception):
    """Root of every error this package raises on purpose."""

    def __str__(self) -> str:
        # Names of the user's, such as labels, may hold what a terminal obeys.
        return visible(super().__str__())


class DataError(NNSError, ValueError):
    """Inputs or labels that do not fit the model."""


class DataWarning(UserWarning):
    """Data that a model answers as if it did not know it, or that may be meant otherwise."""


class ModelError(NNSError, ValueError):
    """A model that cannot be read as a graph of layers."""


class SelectionError(NNSError, ValueError):
    """A score, a keep rule or a label that makes no sense."""


class PlanError(NNSError, ValueError):
    """A plan that does not belong to the model, or that would empty a layer."""


class SurgeryError(NNSError, ValueError):
    """A cut that cannot be made exactly."""


class ProofError(SurgeryError):
    """A cut model that differs from its masked parent by more than rounding."""


class FileError(NNSError, OSError):
    """A file that is missing, damaged, foreign or in the way."""


class BackendError(NNSError, ImportError):
    """Keras that runs on a backend which this package does not speak."""


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
]


def __dir__() -> list[str]:
    return __all__
