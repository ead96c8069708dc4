"""The deployment card: what a model costs on the device, and what it is worth there."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tflite_export.errors import OptionError
from tflite_export.ethos_u import Npu, npu
from tflite_export.files import read
from tflite_export.flatbuffer import container, packing
from tflite_export.keras_model.decisions import decide, target_indices
from tflite_export.keras_model.ports import Port
from tflite_export.keras_model.samples import arrays
from tflite_export.operators import Anatomy, anatomy
from tflite_export.running.comparison import LabelFigures, answers_of, figures, variant_of
from tflite_export.running.interpreter import Runner
from tflite_export.runtimes.behaviour import RuntimeFigures, behaviour
from tflite_export.runtimes.choice import TITLES, known
from tflite_export.width_steps import NpuStep, npu_steps

__all__ = ["Card", "CardRow", "Latency", "RuntimeFigures", "card"]

Array = np.ndarray[Any, Any]
Model = bytes | str | os.PathLike[str]
_WARM_UP = 5
_FEWEST_RUNS = 30
LABELS_TITLE = "recall / specificity / balanced:"


@dataclass(frozen=True)
class Latency:
    """Time of one call with one batch, in the LiteRT interpreter on this machine's CPU.

    Attributes:
        threads: CPU threads the interpreter might use.
        p50: Median, in microseconds.
        p95: 95th percentile, in microseconds.
        runs: Calls that were measured.

    Example:
        >>> latency = tflite_export.card(flat, seconds=0.05).rows[0].latency[0]
        >>> latency.threads, latency.p50 <= latency.p95
        (1, True)
    """

    threads: int
    p50: float
    p95: float
    runs: int


@dataclass(frozen=True)
class CardRow:
    """What one model file costs and what it is worth.

    Attributes:
        name: What the caller calls it.
        variant: The variant it was converted as.
        bytes: Size of the file.
        gzip_bytes: Size of it after gzip.
        anatomy: Operators, parameters, arithmetic, memory, runtimes.
        xnnpack: Whether LiteRT gave XNNPACK operators of it to run; it has none for int16.
        latency: One entry per number of threads.
        samples: Number of samples judged; 0 without targets.
        accuracy: Share of them decided right; `None` without targets.
        labels: Figures of every label; empty without targets.
        runtimes: What other runtimes than LiteRT's interpreter do with it, where they were asked.
        npu: What an NPU does with it, where one was named.
        npu_steps: Its layers of a width that this NPU does not like.

    Example:
        >>> row = tflite_export.card(flat, x_test, targets=y_test, seconds=0.05).rows[0]
        >>> row.variant, row.accuracy
        ('int8', 0.9...)
    """

    name: str
    variant: str
    bytes: int
    gzip_bytes: int
    anatomy: Anatomy
    xnnpack: bool
    latency: tuple[Latency, ...]
    samples: int
    accuracy: float | None
    labels: tuple[LabelFigures, ...]
    runtimes: tuple[RuntimeFigures, ...] = ()
    npu: Npu | None = None
    npu_steps: tuple[NpuStep, ...] = ()


@dataclass(frozen=True)
class Card:
    """Deployment figures of one or several model files, side by side.

    Cards of files that answer different labels are put side by side by their rows:
    ``Card((*parent.rows, *small.rows))``.

    Attributes:
        rows: One entry per file, in the order given.

    Example:
        >>> files = {"parent": tflite_export.convert(model), "int8": flat}
        >>> print(tflite_export.card(files, seconds=0.05).to_markdown())
        |  | parent | int8 |
        | --- | ---: | ---: |
        | variant | float32 | int8 |
        ...
    """

    rows: tuple[CardRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the card as plain data that JSON can hold."""
        return {
            "rows": [
                {**asdict(replace(row, npu=None)), "npu": row.npu and row.npu.to_json()}
                for row in self.rows
            ]
        }

    def cells(self) -> list[list[str]]:
        """Give the card as text: a header, then one line per figure and a column per file."""
        table = [["", *(row.name for row in self.rows)]]
        for title, values in self._lines():
            table.append([title, *values])
        return table

    def to_markdown(self) -> str:
        """Give the card as a Markdown table."""
        head, *body = [[cell.replace("|", r"\|") for cell in line] for line in self.cells()]
        ruler = ["---", *["---:"] * len(self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, ruler, *body]) + "\n"

    def to_table(self) -> Any:
        """Give the card as a `rich.table.Table`."""
        from rich.table import Table  # noqa: PLC0415

        head, *body = self.cells()
        table = Table(title="Deployment card, latency on this machine")
        for number, title in enumerate(head):
            table.add_column(title, justify="right" if number else "left")
        for line in body:
            table.add_row(*line)
        return table

    def _lines(self) -> list[tuple[str, list[str]]]:
        rows = self.rows
        lines = [
            ("variant", [row.variant for row in rows]),
            ("bytes", [f"{row.bytes:,}" for row in rows]),
            ("bytes, gzip", [f"{row.gzip_bytes:,}" for row in rows]),
            ("parameters", [f"{row.anatomy.parameters:,}" for row in rows]),
            ("multiply-adds", [_whole(row.anatomy.multiply_adds) for row in rows]),
            ("arena bytes, at least", [_whole(row.anatomy.activation_bytes) for row in rows]),
            ("operators", [str(sum(row.anatomy.operators.values())) for row in rows]),
            ("runtime at least", [row.anatomy.minimum_runtime or "–" for row in rows]),
            ("not in TFLite Micro", [" ".join(row.anatomy.not_in_micro) or "–" for row in rows]),
        ]
        lines.append(("by XNNPACK", ["yes" if row.xnnpack else "no" for row in rows]))
        for number, first in enumerate(rows[0].latency):
            where = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
            times = [row.latency[number] for row in rows]
            lines.append((f"µs p50, {where}", [f"{time.p50:,.1f}" for time in times]))
            lines.append((f"µs p95, {where}", [f"{time.p95:,.1f}" for time in times]))
        for number in range(len(rows[0].runtimes)):
            lines += _runtime_lines([row.runtimes[number] for row in rows])
        if (first_npu := rows[0].npu) is not None:
            told = [row.npu for row in rows]
            lines += [
                (
                    f"cycles, {first_npu.target}",
                    [_whole(one.cycles if one else None) for one in told],
                ),
                ("SRAM bytes there", [_whole(one.sram if one else None) for one in told]),
                ("left to the CPU there", [_left(one) for one in told]),
                ("beside a step there", [_steps(row.npu_steps) for row in rows]),
            ]
        if any(row.accuracy is not None for row in rows):
            lines.append(("samples", [f"{row.samples:,}" for row in rows]))
            lines.append(("accuracy", [_share(row.accuracy) for row in rows]))
        # By name: a subnetwork's labels are some of its parent's, at other positions.
        found = [{one.name or str(one.label): one for one in row.labels} for row in rows]
        names = list(dict.fromkeys(name for row in found for name in row))
        if names:
            lines.append((LABELS_TITLE, ["" for _ in rows]))
        lines += [(name, [_figures(row.get(name)) for row in found]) for name in names]
        return lines


def card(
    models: Model | Mapping[str, Model],
    samples: Any = None,
    *,
    targets: Any = None,
    threads: Sequence[int] = (1,),
    seconds: float = 0.5,
    runtimes: Sequence[str] = ("litert",),
    target: str | None = None,
) -> Card:
    """Measure what model files cost on the device, side by side.

    Needs neither TensorFlow nor the Keras models: only the files.

    Args:
        models: One model, as bytes or path, or a dict from names to several, the parent
            first.
        samples: Inputs as for `model.predict`; latency is measured on the first, figures on
            all. Without them latency is measured on zeros.
        targets: The label of each sample, as indices or one-hot, for accuracy and figures
            per label.
        threads: Numbers of CPU threads to measure latency with.
        seconds: How long to measure each file with each number of threads.
        runtimes: Runtimes to ask what they do with each file: whether they run it, how far their
            answers are from those of LiteRT's interpreter, and the arena that they need. "litert"
            is that interpreter; "compiled" is LiteRT's `CompiledModel`, "micro" TFLite Micro, which
            needs the extra `keras-nns[micro]`, "web" LiteRT.js in a headless Chromium, which needs
            both (`npm install @litertjs/core@2.5.3`).
        target: An NPU, one of `tflite_export.NPU_TARGETS`, to ask for its cycles, its SRAM and what
            it leaves to the CPU (`npu`), and which layers just behind a step of it are dear for
            their width (`npu_steps`).

    Returns:
        The figures, with `to_json`, `to_markdown` and `to_table`.

    Raises:
        OptionError: Samples or targets do not fit a model; a runtime or an NPU is unknown, or a
            runtime's package is missing.
        ConversionError: The NPU's compiler is missing, or cannot compile a file.
        FlatbufferError: Not a TFLite model, or a damaged one.
        ExportFileError: A path cannot be read.

    Example:
        >>> made = tflite_export.card({"int8": flat}, x_test, targets=y_test, seconds=0.05)
        >>> made.rows[0].variant, made.rows[0].anatomy.parameters, made.rows[0].accuracy
        ('int8', 2778, 0.9...)
    """
    if targets is not None and samples is None:
        raise OptionError("targets were given without samples; pass both, or neither.")
    if not threads or any(not isinstance(n, int) or n < 1 for n in threads):
        raise OptionError(f"threads must be whole numbers of 1 or more. Received: {threads!r}.")
    if seconds < 0:
        raise OptionError(f"seconds must be 0 or more. Received: {seconds!r}.")
    others = [name for name in known(runtimes) if name != "litert"]
    if isinstance(models, (str, os.PathLike)):
        models = {os.fspath(models): models}
    elif not isinstance(models, Mapping):
        models = {"model": models}
    if not models:
        raise OptionError("models is empty; give at least one model.")
    return Card(
        tuple(
            _row(name, model, samples, targets, (threads, seconds), runtimes=others, target=target)
            for name, model in models.items()
        )
    )


def _row(
    name: str,
    model: Model,
    samples: Any,
    targets: Any,
    timing: tuple[Sequence[int], float],
    *,
    runtimes: Sequence[str],
    target: str | None,
) -> CardRow:
    flat = read(model) if isinstance(model, (str, os.PathLike)) else bytes(model)
    graph = container.parse(flat)
    metadata = packing.unpack(flat, graph, container.check(flat))
    runner = Runner(flat)
    values = _values(runner, samples)
    runner(_first(runner, values))
    accuracy, labels = None, tuple[LabelFigures, ...]()
    answers = None
    if targets is not None or (runtimes and samples is not None):
        answers = answers_of(runner, runner.inputs, runner.outputs, values)
    if targets is not None and answers is not None:
        decisions = decide(answers[0])
        if len(answers) != 1 or answers[0].ndim != 2 or decisions is None:
            raise OptionError(
                f"model {name!r} has no single output that decides between labels: shapes "
                f"{[answer.shape for answer in answers]}. Leave targets out."
            )
        width = int(answers[0].shape[-1])
        indices = target_indices(targets, len(decisions), width)
        labels = figures(indices, decisions, max(width, 2), metadata.labels)
        accuracy = float((indices == decisions).mean())
    return CardRow(
        name=name,
        variant=variant_of(metadata, graph)[0],
        bytes=len(flat),
        gzip_bytes=len(gzip.compress(flat, 9, mtime=0)),
        anatomy=anatomy(flat),
        xnnpack=runner.delegated,
        latency=tuple(_latency(flat, values, number, timing[1]) for number in timing[0]),
        samples=0 if targets is None else len(values[0]),
        accuracy=accuracy,
        labels=labels,
        runtimes=tuple(behaviour(flat, other, values, answers) for other in runtimes),
        npu=None if target is None else npu(flat, target=target),
        npu_steps=() if target is None else npu_steps(flat, target=target),
    )


def _steps(found: Sequence[NpuStep]) -> str:
    return "; ".join(map(str, found)) or "–"


def _left(told: Npu | None) -> str:
    return ", ".join(dict.fromkeys(one.operator for one in told.on_cpu)) or "–" if told else "–"


def _values(runner: Runner, samples: Any) -> list[Array]:
    """The samples as real values in the file's order; zeros where there are none."""
    ports = [
        Port(slot.name, (None, *slot.shape[1:]), "float32" if slot.scale else slot.dtype.name)
        for slot in runner.inputs
    ]
    if samples is not None:
        return arrays(samples, ports, OptionError)
    for port in ports:
        if None in port.shape[1:]:
            raise OptionError(
                f"input {port.name!r} has open sizes, {port.shape}, on which latency depends: pass "
                "samples of the size that the device will see."
            )
    return [np.zeros((1, *p.shape[1:]), p.dtype) for p in ports]


def _first(runner: Runner, values: list[Array]) -> list[Array]:
    """The first sample, as often as the file takes at once."""
    return [
        np.repeat(array[:1], slot.shape[0] or 1, axis=0)
        for slot, array in zip(runner.inputs, values, strict=True)
    ]


def _latency(flat: bytes, values: list[Array], threads: int, seconds: float) -> Latency:
    """Time the bare call; filling the inputs is the application's own business."""
    runner = Runner(flat, threads=threads)
    runner(_first(runner, values))
    for _ in range(_WARM_UP):
        runner.invoke()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _FEWEST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        runner.invoke()
        times.append(1e6 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(threads, float(p50), float(p95), len(times))


def _runtime_lines(found: Sequence[RuntimeFigures]) -> list[tuple[str, list[str]]]:
    """One runtime's lines: whether it runs each file, and what it answers there."""
    title = TITLES[found[0].runtime]
    lines = [(title, [f"no: {one.refusal}" if one.refusal else "runs" for one in found])]
    if any(one.difference is not None for one in found):
        apart = ["–" if one.difference is None else f"{one.difference:.2g}" for one in found]
        lines.append((f"{title}, difference from LiteRT", apart))
        lines.append((f"{title}, same decisions", [_share(one.agreement) for one in found]))
    if any(one.arena_bytes is not None for one in found):
        lines.append((f"{title}, arena bytes", [_whole(one.arena_bytes) for one in found]))
    return lines


def _whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _figures(one: LabelFigures | None) -> str:
    if one is None:
        return "–"
    return " / ".join(_share(v) for v in (one.recall, one.specificity, one.balanced_accuracy))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
