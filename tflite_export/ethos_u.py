"""What an Arm Ethos-U NPU does with a file, as its own compiler Vela says.

Needs the extra ``keras-nns[npu]``.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.errors import OptionError
from tflite_export.files import read
from tflite_export.flatbuffer import container, packing
from tflite_export.vela.compiler import COMPILER

__all__ = ["NPU_TARGETS", "CpuOperator", "Npu", "npu"]

NPU_TARGETS = (
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
)
"""The NPUs that Vela compiles for; the last number is of multiply-adds in a cycle.

Example:
    >>> tflite_export.NPU_TARGETS[:3]
    ('ethos-u55-32', 'ethos-u55-64', 'ethos-u55-128')
"""

_KERNEL = "ethos-u"
"""Name of the one operator that all of the NPU's work becomes."""

_REFUSED = re.compile(
    r"^Warning \([^)]*\) operator: \w+, ofm: '(?P<output>.*)'\nReason: (?P<reason>(?:.+\n)+)",
    re.MULTILINE,
)
_TENSOR = re.compile(r"(?<=DataType )(\w+) \(.*\)")


@dataclass(frozen=True)
class CpuOperator:
    """An operator that stays on the CPU.

    Attributes:
        operator: Its name, such as `"SOFTMAX"`.
        output: Name of the tensor that it writes.
        reason: Why, in Vela's words.

    Example:
        >>> told = tflite_export.npu(tflite_export.convert(model))  # float32: nothing for an NPU
        >>> told.on_cpu[0].operator, told.on_cpu[0].reason
        ('FULLY_CONNECTED', 'Operation has tensor with unsupported DataType Float32...')
    """

    operator: str
    output: str
    reason: str


@dataclass(frozen=True)
class Npu:
    """What an NPU does with a file: estimates of its compiler, nothing measured on a device.

    Attributes:
        target: The NPU.
        system: Vela's name of the system around it that was assumed: clock and memories.
        memory: Vela's name of how memories are used.
        on_npu: Operator of the file to how many of them the NPU runs.
        on_cpu: The operators that it does not run, with the reasons.
        cycles: The NPU's cycles for one sample; what the CPU runs is not in it. `None` where
            the NPU runs nothing.
        clock: Its cycles a second in that system.
        sram: Bytes of SRAM that tensors take at most, those between the CPU's operators too.
        dram: The same of DRAM, which systems of an Ethos-U55 do not have.
        flat: The file that the device gets: what the NPU runs is one operator in it, and labels
            and other files are inside as before.

    Example:
        >>> told = tflite_export.npu(flat, target="ethos-u55-128")
        >>> told.cycles, told.sram, told.flash
        (4409, 320, ...)
    """

    target: str
    system: str
    memory: str
    on_npu: dict[str, int]
    on_cpu: tuple[CpuOperator, ...]
    cycles: int | None
    clock: float
    sram: int
    dram: int
    flat: bytes = field(repr=False)

    @property
    def flash(self) -> int:
        """Bytes of the file that the device gets, which lies in flash."""
        return len(self.flat)

    @property
    def milliseconds(self) -> float | None:
        """What the NPU's cycles take at the system's clock."""
        return None if self.cycles is None else 1000 * self.cycles / self.clock

    def to_json(self) -> dict[str, Any]:
        """Give everything but the file as plain data that JSON can hold."""
        plain = asdict(self)
        del plain["flat"]
        return {**plain, "flash": self.flash, "milliseconds": self.milliseconds}

    def cells(self) -> list[list[str]]:
        """Give it as text: one line a figure."""
        cycles, milliseconds = self.cycles, self.milliseconds
        lines = [
            ["target", f"{self.target}, {self.system}, {self.memory}"],
            ["on the NPU", _counted(self.on_npu) or "nothing: all of it runs on the CPU"],
            ["on the CPU", _counted(Counter(one.operator for one in self.on_cpu)) or "nothing"],
            ["cycles", "–" if cycles is None else f"{cycles:,}"],
            ["ms", "–" if milliseconds is None else f"{milliseconds:.3f}"],
            ["SRAM, bytes", f"{self.sram:,}"],
        ]
        if self.dram:
            lines.append(["DRAM, bytes", f"{self.dram:,}"])
        lines.append(["flash, bytes", f"{self.flash:,}"])
        by_reason: dict[str, dict[str, None]] = {}
        for one in self.on_cpu:
            by_reason.setdefault(one.reason, {})[one.operator] = None
        return [*lines, *(["", f"{', '.join(ops)}: {why}"] for why, ops in by_reason.items())]

    def to_table(self) -> Any:
        """Give it as a `rich.table.Table`."""
        from rich.table import Table  # noqa: PLC0415

        table = Table(title="On the NPU, estimated by Vela", show_header=False)
        for line in self.cells():
            table.add_row(*line)
        return table

    def __str__(self) -> str:
        width = max(len(title) for title, _ in self.cells())
        return "\n".join(f"{title:<{width}}  {value}" for title, value in self.cells())


def npu(
    source: bytes | str | os.PathLike[str],
    *,
    target: str = "ethos-u55-128",
    system: str | None = None,
    memory: str | None = None,
) -> Npu:
    """Compile a file for an Arm Ethos-U NPU, and say what runs there and what it costs.

    Arm's own compiler does it, Vela, in a process of its own that is kept for the next file: the
    first takes a second, others some hundredths of one. NPUs run integer arithmetic, so of a
    float32 file everything stays on the CPU; the reasons say so.

    Args:
        source: The file's bytes, or its path. The variants `"int8"` and `"int8_float"` are for
            NPUs.
        target: The NPU, one of `tflite_export.NPU_TARGETS`.
        system: A name from Vela's own list of systems (`vela --list-configs Arm/vela.ini`), which
            sets the clock and the memories. None: what Vela takes for the target.
        memory: A name from its list of ways to use the memories.

    Returns:
        Operators on NPU and CPU, cycles, memory and the optimised file. Printing it gives a table.

    Raises:
        OptionError: There is no such target.
        FlatbufferError: Not a TFLite model, or a damaged one.
        ConversionError: Vela is missing, or cannot compile the file; `.log` has its words.
        ExportFileError: The path cannot be read.

    Example:
        >>> print(tflite_export.npu(flat, target="ethos-u55-128"))
        target        ethos-u55-128, Ethos_U55_High_End_Embedded, Shared_Sram
        on the NPU    FULLY_CONNECTED × 3, SOFTMAX × 1
        on the CPU    nothing
        cycles        4,409
        ms            0.009
        SRAM, bytes   320
        flash, bytes  ...
    """
    flat = read(source) if isinstance(source, (str, os.PathLike)) else bytes(source)
    stamp = container.check(flat)
    model = container.parse(flat)
    told, said, optimised = compiled(flat, target, system=system, memory=memory)
    # Entries of metadata come back, their check sum and the files behind the flatbuffer do not.
    made = flatbuffer_utils.read_model_from_bytearray(bytearray(optimised))
    on_cpu = _on_cpu(made, said)
    counts = Counter(operator for operator, _ in _operators(model))
    counts.subtract(one.operator for one in on_cpu)
    cycles, sram = cycles_and_sram(told)
    return Npu(
        target=target,
        system=told["system_config"],
        memory=told["memory_mode"],
        on_npu={name: count for name, count in sorted(counts.items()) if count > 0},
        on_cpu=on_cpu,
        cycles=cycles or None,
        clock=float(told["core_clock"]),
        sram=sram,
        dram=_bytes(told["dram_memory_used"]),
        flat=packing.pack(made, packing.unpack(flat, model, stamp)),
    )


def compiled(
    flat: bytes, target: str, *, system: str | None = None, memory: str | None = None
) -> tuple[dict[str, str], str, bytes]:
    """Compile a file that is known to be whole.

    Args:
        flat: The file.
        target: As in `npu`.
        system: As in `npu`.
        memory: As in `npu`.

    Returns:
        Vela's figures by its own names for them, what it wrote meanwhile, and the file it made.

    Raises:
        OptionError: There is no such target.
        ConversionError: Vela is missing, or cannot compile the file.
    """
    if target not in NPU_TARGETS:
        raise OptionError(f"target must be one of {', '.join(NPU_TARGETS)}. Received: {target!r}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(flat)
        options = ["--accelerator-config", target, "--output-dir", folder]
        options += [] if system is None else ["--system-config", system]
        options += [] if memory is None else ["--memory-mode", memory]
        said = COMPILER.run([str(path), *options])
        (summary,) = Path(folder).glob("*_summary_*.csv")
        told = next(csv.DictReader(summary.read_text().splitlines()))
        return told, said, Path(folder, "model_vela.tflite").read_bytes()


def cycles_and_sram(told: dict[str, str]) -> tuple[int, int]:
    """Read both from Vela's figures: cycles, 0 where the NPU runs nothing, and bytes of SRAM."""
    return round(float(told["cycles_total"])), _bytes(told["sram_memory_used"])


def _on_cpu(made: Any, said: str) -> tuple[CpuOperator, ...]:
    """What Vela left as it was, with the reasons it wrote while it worked."""
    # By output alone: a fused activation is refused under its own name.
    reasons = {
        found["output"]: " ".join(_TENSOR.sub(r"\1.", found["reason"]).split())
        for found in _REFUSED.finditer(said)
    }
    return tuple(
        CpuOperator(operator, output, reasons.get(output, "Vela gives no reason."))
        for operator, output in _operators(made)
        if operator != _KERNEL
    )


def _operators(model: Any) -> list[tuple[str, str]]:
    """Every operator with the name of the first tensor that it writes."""
    found = []
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            code = model.operatorCodes[operator.opcodeIndex]
            name = container.text(code.customCode) or str(
                flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
            )
            written = [graph.tensors[index] for index in operator.outputs]
            found.append((name, container.text(written[0].name) if written else ""))
    return found


def _bytes(kibibytes: str) -> int:
    return round(1024 * float(kibibytes))


def _counted(operators: dict[str, int]) -> str:
    return ", ".join(f"{name} × {count}" for name, count in operators.items())
