"""`keras-nns extract`: the subnetwork for some labels that a budget allows."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, cut, reading, screen
from keras_nns.errors import FileError
from tflite_export.variants import VARIANTS

if TYPE_CHECKING:
    from keras_nns.extraction.outcome import Extraction
    from keras_nns.extraction.unfinished import Unfinished

EXAMPLE = """\
keras-nns extract nns_demo/parent.keras digits --label 3 --budget 12kB -o three.keras
keras-nns extract model.keras photos --label cat --label dog --budget 500kB --quantize int8 \\
    -o pets.tflite
keras-nns extract lm.keras texts/ --label code --budget 80% -o code.keras
keras-nns extract model.keras photos --label cat --budget npu-cycles=200k@ethos-u55-128 \\
    --budget 60kB --quantize int8 -o cat.tflite"""

BRANCHES: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}

AUGMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "flip": ("RandomFlip", {"mode": "horizontal"}),
    "shift": (
        "RandomTranslation",
        {"height_factor": 0.1, "width_factor": 0.1, "fill_mode": "nearest"},
    ),
    "rotate": ("RandomRotation", {"factor": 10 / 360, "fill_mode": "nearest"}),
    "zoom": ("RandomZoom", {"height_factor": 0.1, "fill_mode": "nearest"}),
}
"""Layers of Keras, by their names in a shell."""

_LIMITS = ("steps", "tokens", "seconds", "alpha")

SCORES = (
    "reconstruction",
    "branch_reconstruction",
    "contrast",
    "mean_activation",
    "firing_frequency",
)


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "extract",
        run,
        help="make the network for some labels that a budget allows, in one go",
        description="Observe a model once, choose the units that a budget allows for some labels, "
        "cut, repair, and judge on samples held out: observe, select, cut, evaluate and export in "
        "one. A .tflite file is what was judged, and is verified against the network.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_data(parser, part="train")
    arguments.add_output(parser, "file for a device (.tflite), or model (.keras)")
    parser.add_argument(
        "--budget",
        required=True,
        action="append",
        metavar="B",
        help="what it may cost: 60kB or 60KiB of .tflite in the variant that ships, flash=60kB "
        "of it without labels and record, parameters=20k, macs=1M, activation-memory=32KiB, "
        "arena=16KiB in TFLite Micro, "
        "npu-cycles=200k@ethos-u55-128, sram=32KiB@ethos-u55-128, latency-ms=0.5, or drop=0.01 of "
        "balanced accuracy; again for another limit, of which all hold. Of a language model "
        "parameters, bytes of float32 weights, or 80%% of the parameters without embeddings",
    )
    add_making(parser)
    # As many as suit what is read: images, or texts.
    parser.set_defaults(batch_size=None)
    texts = parser.add_argument_group(
        "language models",
        "DATA is a folder with a sub-folder of text files for each kind, or .npz; without "
        "--batch-size 8 texts are read at a time; of images 256, or as few as 8 of a large network",
    )
    for name, what in (("steps", "steps"), ("tokens", "tokens"), ("seconds", "seconds")):
        texts.add_argument(
            f"--distill-{name}",
            type=arguments.count,
            metavar="N",
            help=f"distil it from the parent for at most so many {what} (default: not at all)",
        )
    texts.add_argument(
        "--distill-alpha",
        type=float,
        metavar="A",
        help="share of the parent in that loss, the rest the texts' own next tokens (default: 0.5)",
    )
    texts.add_argument(
        "--calibration-tokens",
        type=arguments.count,
        metavar="N",
        help="tokens of each kind to score, refit and judge on (default: 16384)",
    )
    texts.add_argument(
        "--window",
        type=arguments.count,
        default=128,
        metavar="N",
        help="tokens of the windows that texts are dealt into (default: 128)",
    )


def add_making(parser: argparse.ArgumentParser) -> None:
    """Add how networks are made, for `extract` and `sweep`."""
    arguments.add_labels(parser)
    arguments.add_head(
        parser,
        "what the network answers (default: binary for one label, other for several)",
        default=None,
    )
    cut.add_answer(parser)
    parser.add_argument(
        "--quantize",
        choices=tuple(VARIANTS),
        metavar="VARIANT",
        help=f"the variant of .tflite that ships: {', '.join(VARIANTS)}. Budgets and figures are "
        "those of that file (default: float32 for a .tflite; else the network itself is judged)",
    )
    parser.add_argument(
        "--score",
        choices=(*SCORES, *arguments.WEIGHT_SCORES),
        help="how much the labels need a unit (default: reconstruction, what the decision loses "
        "without it when the rest is refitted)",
    )
    parser.add_argument(
        "--balance",
        choices=("zeta", "share", "cost"),
        help="how layers are compared: by score in shares of the layer's highest, the same share "
        "of every layer, or score for cost (default: cost for reconstruction, else share)",
    )
    parser.add_argument(
        "--empty-branches",
        choices=tuple(BRANCHES),
        default="auto",
        help="whether residual branches may leave as a whole: where that is better than thinning "
        "(auto), wherever it loses less for what it saves (yes), or only where nothing else is "
        "small enough (no)",
    )
    parser.add_argument(
        "--no-repair", dest="repair", action="store_false", help="leave the cut as it is"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=0,
        metavar="N",
        help="epochs of distillation from the parent behind the repair (default: 0)",
    )
    parser.add_argument(
        "--augment",
        choices=tuple(AUGMENTS),
        action="append",
        default=[],
        help="how images are changed at random as --epochs go over them: mirrored left and right "
        "(flip), moved by up to a tenth (shift), turned by up to 10 degrees (rotate), made larger "
        "or smaller by up to a tenth (zoom); may be repeated",
    )
    arguments.add_held_out(parser, "that only the figures are from", default=0.2)
    arguments.add_seed(parser, "which samples those are")
    arguments.add_json(parser)


def augmentation(names: Sequence[str]) -> Any:
    """Return the Keras layers of names of `--augment`; None where there are none."""
    import keras

    found = [AUGMENTS[name] for name in names]
    made = [getattr(keras.layers, kind)(**options) for kind, options in found]
    return keras.Sequential(made) if made else None


def opened(given: Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """Load the model and the data; return them and the options of `extract`."""
    from keras_nns.graph.costs import usual_batch_size
    from keras_nns.observation.next_token import foretells

    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        if foretells(model):
            data, label_names = reading.texts(given), given.label_names
        else:
            given.batch_size = given.batch_size or usual_batch_size(model)
            data, label_names = reading.data(given, model, given.data)
    options = {
        "labels": reading.labels_of(given.label, label_names),
        "head": given.head,
        "output": given.answer,
        "quantize": given.quantize,
        "score": given.score,
        "balance": given.balance,
        "empty_branches": BRANCHES[given.empty_branches],
        "repair": given.repair,
        "distill_epochs": given.epochs,
        "augment": augmentation(given.augment),
        "held_out": given.held_out,
        "seed": given.seed,
        "batch_size": given.batch_size,
        "label_names": label_names,
        "verbose": not given.quiet,
    }
    return model, data, options


def run(given: Namespace) -> None:
    """Extract, write the network or its file, and print what it costs and is worth."""
    from keras_nns.graph.budgets import parse

    share = len(given.budget) == 1 and given.budget[0].strip().endswith("%")
    budget = given.budget[0] if share else parse(",".join(given.budget))
    output = reading.free_output(given, ".keras", ".tflite")
    if output.suffix == ".tflite" and given.quantize is None:
        given.quantize = "float32"
    model, data, options = opened(given)
    from keras_nns.extraction import budgeted
    from keras_nns.extraction.outcome import Extraction
    from keras_nns.observation.next_token import foretells

    if foretells(model) and output.suffix != ".keras":
        raise FileError(f"A language model is written as .keras. Received: {output}.")
    options["window"] = given.window
    limits = {f"distill_{name}": getattr(given, f"distill_{name}") for name in _LIMITS}
    limits["calibration_tokens"] = given.calibration_tokens
    with screen.cut_off(given, lambda left: _left(left, output)):
        found = budgeted.extract(model, data, budget=budget, **limits, **options)
    if isinstance(found, Extraction):
        _save(given, found, output)
    else:
        found.save(output, overwrite=given.overwrite)
    if not given.json:
        screen.remark(given, f"{output}: {found.plan}")
    screen.figures(given, found, found.to_table())
    if not given.json:
        screen.remark(given, _next(given, output))


def _save(given: Namespace, found: Extraction, output: Path) -> None:
    """Write what was asked for; where its file cannot ship, the network beside it, and say so."""
    from tflite_export.errors import VerificationError

    refusal = found.shipped.refusal if output.suffix == ".tflite" else None
    if refusal is None:
        found.save(output, overwrite=given.overwrite)
        return
    beside = output.with_suffix(".keras")
    found.save(beside, overwrite=given.overwrite)
    raise VerificationError(
        f"{output} was not written: {refusal} The network, which is right in Keras, is in {beside}."
    )


def _left(left: Unfinished, output: Path) -> str:
    """Write what there was of a network when the work was cut off, and say so."""
    path = output.with_name(f"{output.stem}.unfinished.keras")
    left.save(path, overwrite=True)
    return f"{path}: {left}"


def _next(given: Namespace, output: Path) -> str:
    """Say what to do with what was written."""
    if output.suffix == ".tflite":
        lines = [
            f"keras-nns card {output} --samples TEST   # its cost and figures on data of your own",
            f"keras-nns to-c {output} -o {output.stem}.h   # for a microcontroller",
        ]
    else:
        lines = [
            f"keras-nns evaluate {output} TEST --against {given.model}",
            f"keras-nns export {output} -o {output.stem}.tflite",
        ]
    return "\n".join(["next, with data that none of this has seen:", *(f"  {x}" for x in lines)])
