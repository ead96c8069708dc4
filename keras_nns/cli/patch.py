"""`keras-nns patch`: a weak label of a network, replaced where that proves better."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, graft, reading, screen

EXAMPLE = """\
keras-nns patch weak.keras eight.keras fresh.npz --label 8 -o patched.keras
keras-nns evaluate patched.keras test.npz"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "patch",
        run,
        help="replace a weak label of a network by the subnetwork of another, if that is better",
        description="Let another network answer for a label that the host knows badly. The two are "
        "weighed against each other on one part of the data and judged on the other: nothing is "
        "written unless the label's balanced accuracy rises by more than chance.",
        example=EXAMPLE,
    )
    graft.add_host_and_donor(parser)
    arguments.add_data(parser, part="train")
    parser.add_argument(
        "--replaces", metavar="NAME", help="the host's label (default: the one of the same name)"
    )
    arguments.add_held_out(parser, "to judge on", default=0.5)
    parser.add_argument(
        "--most-lost",
        type=float,
        default=0.001,
        metavar="P",
        help="how much of the other labels' mean recall may be lost (default: 0.001); with 1 "
        "what is most likely is answered, whatever they lose",
    )
    parser.add_argument(
        "--sure",
        type=float,
        default=0.95,
        metavar="P",
        help="how sure the rise has to be, from 0.5 (any) to below 1 (default: 0.95)",
    )
    arguments.add_output(parser, "model (.keras)")
    arguments.add_json(parser)


def run(given: Namespace) -> None:
    """Patch, show the figures, and write the model if it is better."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        host, donor = reading.models(given, given.host, given.donor)
        data, label_names = reading.data(given, host, given.data)
    from keras_nns.composition.patching import patch
    from keras_nns.errors import SurgeryError
    from keras_nns.surgery.lineage import save_model

    with screen.working(given, "patching"):
        found = patch(
            host,
            donor,
            given.label,
            data,
            replaces=given.replaces,
            held_out=given.held_out,
            confidence=given.sure,
            most_lost=given.most_lost,
            adapt=given.adapt,
            host_names=given.host_names,
            label_names=label_names,
            batch_size=given.batch_size,
        )
    screen.figures(given, found, found.to_table())
    if not found.accepted:
        raise SurgeryError(f"Not written: {found.reason}")
    save_model(found.model, output, overwrite=given.overwrite)
