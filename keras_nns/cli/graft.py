"""`keras-nns graft`: one more label for a network, from another."""

from __future__ import annotations

import argparse
from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns graft digits.keras boot.keras --label boot --calibrate-on both.npz -o eleven.keras
keras-nns evaluate eleven.keras test.npz"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "graft",
        run,
        help="give a network one more label: the subnetwork of another joins it",
        description="Join the subnetwork that knows a label to a network that does not, side by "
        "side in one model that answers the labels of both. Give data with samples of all of them "
        "to weigh the one against the other: not what the result will be judged on.",
        example=EXAMPLE,
    )
    add_host_and_donor(parser)
    parser.add_argument(
        "--called", metavar="NAME", help="the label's name in the result (default: the donor's)"
    )
    parser.add_argument(
        "--calibrate-on",
        metavar="DATA",
        help="labelled data to weigh the two on, as `keras-nns observe` takes it; without it the "
        "donor is believed as it is",
    )
    arguments.add_reading(parser, part="train")
    arguments.add_output(parser, "model (.keras)")


def add_host_and_donor(parser: argparse.ArgumentParser) -> None:
    """Add host and donor, the label, and how the one fits the other."""
    parser.add_argument("host", metavar="HOST", help="the network, a .keras or .h5 file")
    parser.add_argument(
        "donor", metavar="DONOR", help="what knows the label: a file that cut wrote"
    )
    parser.add_argument("--label", required=True, metavar="L", help="the label's name in the donor")
    parser.add_argument(
        "--adapt",
        choices=("resize",),
        help="fit the host's images to the donor's where they have another size",
    )
    parser.add_argument(
        "--host-names",
        type=arguments.label_names,
        metavar="A,B,…|FILE",
        help="name of every label of the host, where its file does not tell",
    )
    arguments.add_own_code(parser)


def run(given: Namespace) -> None:
    """Graft and write the model."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        host, donor = reading.models(given, given.host, given.donor)
        data, label_names = None, given.label_names
        if given.calibrate_on is not None:
            data, label_names = reading.data(given, host, given.calibrate_on)
    from keras_nns.composition.grafting import graft
    from keras_nns.graph import costs
    from keras_nns.surgery.lineage import origin_of, save_model

    with screen.working(given, "grafting"):
        grown = graft(
            host,
            donor,
            given.label,
            data,
            called=given.called,
            adapt=given.adapt,
            host_names=given.host_names,
            label_names=label_names,
            batch_size=given.batch_size,
        )
    save_model(grown, output, overwrite=given.overwrite)
    origin = origin_of(grown)
    between = ", ".join(origin.label_names) if origin is not None else ""
    how = "the donor believed as it is" if data is None else f"weighed on {given.calibrate_on}"
    screen.remark(
        given, f"{output}: answers {between}; {costs.parameters(grown):,} parameters; {how}"
    )
