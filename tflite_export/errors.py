"""The errors of tflite_export, one tree.

::

    ExportError
    ├── OptionError        an argument is unknown, or does not fit the model
    ├── ConversionError    the model has no TFLite form (``.log`` holds the converter's words)
    ├── FlatbufferError    bytes that are no TFLite model, or a damaged one
    ├── MetadataError      labels, normalization or files that cannot be packed or read
    ├── VerificationError  the file does not answer what the model answers
    └── ExportFileError    a file that cannot be read or written

Three are warnings, not errors: ``CalibrationWarning``, samples that make a poor calibration;
``ChangedFileWarning``, a file that another tool wrote anew; ``FloatKernelWarning``, kernels that
stay in float32 where smaller ones were asked for.
"""

from __future__ import annotations

from tflite_export.text import visible

__all__ = [
    "CalibrationWarning",
    "ChangedFileWarning",
    "ConversionError",
    "ExportError",
    "ExportFileError",
    "FlatbufferError",
    "FloatKernelWarning",
    "MetadataError",
    "OptionError",
    "VerificationError",
]


class ExportError(Exception):
    """Root of every error that tflite_export raises on purpose.

    Example:
        >>> import tflite_export
        >>> try:
        ...     tflite_export.read_metadata(b"not a model")
        ... except tflite_export.ExportError as error:
        ...     print(type(error).__name__)
        FlatbufferError
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class OptionError(ExportError, ValueError):
    """An argument is unknown, or does not fit the model.

    Example:
        >>> issubclass(OptionError, ValueError)
        True
    """


class ConversionError(ExportError):
    """The model cannot be turned into a TFLite flatbuffer.

    Attributes:
        log: Everything that TensorFlow's converter wrote while it failed; empty when
            the model was refused before conversion began.

    Example:
        >>> ConversionError("no form for op X", log="loc(...): error").log
        'loc(...): error'
    """

    def __init__(self, message: str, *, log: str = "") -> None:
        """Hold the message and the converter's log."""
        super().__init__(message)
        self.log = log


class FlatbufferError(ExportError):
    """Bytes that are not a TFLite model, or a damaged or truncated one.

    Example:
        >>> issubclass(FlatbufferError, ExportError)
        True
    """


class MetadataError(ExportError):
    """Labels, normalization or associated files that cannot be packed or read.

    Example:
        >>> issubclass(MetadataError, ExportError)
        True
    """


class VerificationError(ExportError):
    """The flatbuffer does not answer what the Keras model answers.

    Example:
        >>> issubclass(VerificationError, ExportError)
        True
    """


class ExportFileError(ExportError):
    """A file cannot be read or written, or would be overwritten unasked.

    Example:
        >>> issubclass(ExportFileError, ExportError)
        True
    """


class CalibrationWarning(UserWarning):
    """The samples are too few, or miss labels, to measure activations on.

    Example:
        >>> issubclass(CalibrationWarning, UserWarning)
        True
    """


class ChangedFileWarning(UserWarning):
    """A file was exported here and written anew by another tool: damage to it cannot be seen.

    Example:
        >>> issubclass(ChangedFileWarning, UserWarning)
        True
    """


class FloatKernelWarning(UserWarning):
    """Kernels stay in float32 in a variant that was to store them smaller.

    Example:
        >>> issubclass(FloatKernelWarning, UserWarning)
        True
    """
