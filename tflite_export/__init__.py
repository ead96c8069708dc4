"""Any Keras model to checked TFLite bytes.

    flat = tflite_export.convert(model, labels=["cat", "dog"])
    tflite_export.verify(flat, model, samples)
    tflite_export.save(flat, "pets.tflite")

Importing the package loads nothing: TensorFlow and LiteRT come with the first call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tflite_export.c_array import to_c
    from tflite_export.c_project import PROJECTS, to_c_project
    from tflite_export.converter import convert
    from tflite_export.deployment import Card, CardRow, Latency, RuntimeFigures, card
    from tflite_export.errors import (
        CalibrationWarning,
        ChangedFileWarning,
        ConversionError,
        ExportError,
        ExportFileError,
        FlatbufferError,
        FloatKernelWarning,
        MetadataError,
        OptionError,
        VerificationError,
    )
    from tflite_export.ethos_u import NPU_TARGETS, CpuOperator, Npu, npu
    from tflite_export.files import save
    from tflite_export.generative import Generator, convert_generative
    from tflite_export.litertlm import to_litertlm
    from tflite_export.memory import arena
    from tflite_export.metadata import (
        Metadata,
        Normalization,
        TensorMetadata,
        add_metadata,
        read_metadata,
    )
    from tflite_export.operators import Anatomy, anatomy
    from tflite_export.tfmot import (
        QuantizedTraining,
        cluster_weights,
        prune_weights,
        train_quantized,
    )
    from tflite_export.variants import VARIANTS, Tolerance, Variant
    from tflite_export.verification import (
        LabelComparison,
        LabelFigures,
        OutputDifference,
        TokenComparison,
        Verification,
        verify,
    )
    from tflite_export.web import to_web
    from tflite_export.width_steps import NpuStep, npu_steps

__all__ = [
    "NPU_TARGETS",
    "PROJECTS",
    "VARIANTS",
    "Anatomy",
    "CalibrationWarning",
    "Card",
    "CardRow",
    "ChangedFileWarning",
    "ConversionError",
    "CpuOperator",
    "ExportError",
    "ExportFileError",
    "FlatbufferError",
    "FloatKernelWarning",
    "Generator",
    "LabelComparison",
    "LabelFigures",
    "Latency",
    "Metadata",
    "MetadataError",
    "Normalization",
    "Npu",
    "NpuStep",
    "OptionError",
    "OutputDifference",
    "QuantizedTraining",
    "RuntimeFigures",
    "TensorMetadata",
    "TokenComparison",
    "Tolerance",
    "Variant",
    "Verification",
    "VerificationError",
    "add_metadata",
    "anatomy",
    "arena",
    "card",
    "cluster_weights",
    "convert",
    "convert_generative",
    "npu",
    "npu_steps",
    "prune_weights",
    "read_metadata",
    "save",
    "to_c",
    "to_c_project",
    "to_litertlm",
    "to_web",
    "train_quantized",
    "verify",
]

_MODULES = {
    "c_array": ("to_c",),
    "c_project": ("PROJECTS", "to_c_project"),
    "converter": ("convert",),
    "deployment": ("Card", "CardRow", "Latency", "RuntimeFigures", "card"),
    "errors": (
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
    ),
    "ethos_u": ("NPU_TARGETS", "CpuOperator", "Npu", "npu"),
    "files": ("save",),
    "generative": ("Generator", "convert_generative"),
    "litertlm": ("to_litertlm",),
    "memory": ("arena",),
    "metadata": ("Metadata", "Normalization", "TensorMetadata", "add_metadata", "read_metadata"),
    "operators": ("Anatomy", "anatomy"),
    "tfmot": ("QuantizedTraining", "cluster_weights", "prune_weights", "train_quantized"),
    "variants": ("VARIANTS", "Tolerance", "Variant"),
    "verification": (
        "LabelComparison",
        "LabelFigures",
        "OutputDifference",
        "TokenComparison",
        "Verification",
        "verify",
    ),
    "web": ("to_web",),
    "width_steps": ("NpuStep", "npu_steps"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    except (ImportError, ValueError) as error:  # Keras raises either where its backend is missing.
        importlib.import_module(f"{__name__}.keras_model.backend").refuse_missing(error)
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
