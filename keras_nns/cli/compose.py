"""`keras-nns compose`: several subnetworks in one model that decides between their labels."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns compose 0.keras 1.keras 2.keras --calibrate-on digits -o zero_one_or_two.keras
keras-nns evaluate zero_one_or_two.keras digits --against nns_demo/parent.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "compose",
        run,
        help="put subnetworks of different labels into one model that decides between them",
        description="Put subnetworks side by side in one model that decides between their labels. "
        "Networks that were cut apart are sure in different ways, so calibrate their scores on "
        "data: not on what the composition will be judged on.",
        example=EXAMPLE,
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help=".keras files that cut wrote, one for each label"
    )
    arguments.add_own_code(parser)
    arguments.add_output(parser, "model (.keras)")
    parser.add_argument(
        "--calibrate-on",
        metavar="DATA",
        help="labelled data to calibrate the scores on, as `keras-nns observe` takes it; without "
        "it the scores are taken as they are",
    )
    parser.add_argument(
        "--calibrate",
        choices=arguments.CALIBRATE,
        default=arguments.CALIBRATE[0],
        help="all scores together (joint, the default), or each network by itself",
    )
    arguments.add_reading(parser, part="train")


def run(given: Namespace) -> None:
    """Compose and write the model."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        subnets = [reading.model(given, path) for path in given.models]
        data, label_names = None, given.label_names
        if given.calibrate_on is not None:
            data, label_names = reading.data(given, subnets[0], given.calibrate_on)
    from keras_nns.composition.combining import compose
    from keras_nns.graph import costs
    from keras_nns.surgery.lineage import origin_of, save_model

    with screen.working(given, "composing"):
        whole = compose(
            subnets,
            data,
            calibrate=given.calibrate,
            label_names=label_names,
            batch_size=given.batch_size,
        )
    save_model(whole, output, overwrite=given.overwrite)
    origin = origin_of(whole)
    between = ", ".join(origin.label_names) if origin is not None else ""
    how = "scores as they are" if data is None else f"calibrated on {given.calibrate_on}"
    screen.remark(
        given,
        f"{output}: {len(subnets)} subnetworks decide between {between}; "
        f"{costs.parameters(whole):,} parameters; {how}",
    )
