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
        >>> tflite_export.convert(model, quantize="int7")
        Traceback (most recent call last):
            ...
        tflite_export.errors.OptionError: unknown quantize='int7'; expected None or one of ...
    """


class ConversionError(ExportError):
    """The model cannot be turned into a TFLite flatbuffer.

    Attributes:
        log: Everything that TensorFlow's converter wrote while it failed; empty when
            the model was refused before conversion began.
        flat: The file, where there is one and it is only that LiteRT does not load it.

    Example:
        >>> inputs = keras.Input((4,))
        >>> tflite_export.convert(keras.Model(inputs, keras.ops.erfinv(inputs)))
        Traceback (most recent call last):
            ...
        tflite_export.errors.ConversionError: ...
    """

    def __init__(self, message: str, *, log: str = "", flat: bytes | None = None) -> None:
        """Hold the message, the converter's log, and what it wrote."""
        super().__init__(message)
        self.log = log
        self.flat = flat


class FlatbufferError(ExportError):
    """Bytes that are not a TFLite model, or a damaged or truncated one.

    Example:
        >>> tflite_export.anatomy(b"not a model")
        Traceback (most recent call last):
            ...
        tflite_export.errors.FlatbufferError: ...
    """


class MetadataError(ExportError):
    """Labels, normalization or associated files that cannot be packed or read.

    Example:
        >>> tflite_export.add_metadata(flat, labels=["cat", "dog"])
        Traceback (most recent call last):
            ...
        tflite_export.errors.MetadataError: ...
    """


class VerificationError(ExportError):
    """The flatbuffer does not answer what the Keras model answers.

    Example:
        >>> tflite_export.verify(flat, three, x_test)
        Traceback (most recent call last):
            ...
        tflite_export.errors.VerificationError: ...
    """


class ExportFileError(ExportError):
    """A file cannot be read or written, or would be overwritten unasked.

    Example:
        >>> tflite_export.read_metadata("missing.tflite")
        Traceback (most recent call last):
            ...
        tflite_export.errors.ExportFileError: cannot read missing.tflite: No such file or directory.
    """


class CalibrationWarning(UserWarning):
    """The samples are too few, or miss labels, to measure activations on.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", tflite_export.CalibrationWarning)
        >>> tflite_export.convert(model, quantize="int8", samples=x[:20])
        Traceback (most recent call last):
            ...
        tflite_export.errors.CalibrationWarning: only 20 samples to measure activations on; ...
    """


class ChangedFileWarning(UserWarning):
    """A file was exported here and written anew by another tool: damage to it cannot be seen.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", tflite_export.ChangedFileWarning)  # refuse such files
    """


class FloatKernelWarning(UserWarning):
    """Kernels stay in float32 in a variant that was to store them smaller.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", tflite_export.FloatKernelWarning)
        >>> deep = keras.Sequential([keras.Input((5, 5, 5, 2)), keras.layers.Conv3D(4, 2)])
        >>> tflite_export.convert(deep, quantize="weight_int8")
        Traceback (most recent call last):
            ...
        tflite_export.errors.FloatKernelWarning: ...
    """
