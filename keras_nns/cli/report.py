"""`keras-nns report`: the page that tells what plans do to a model."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns report nns_demo/parent.keras nns_demo/activity.npz nns_demo/plans/*.json \\
    --data digits -o report"""

MADE = ("report.md", "report.html", "figures/*.png")


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "report",
        run,
        help="write the page that tells what plans do to a model",
        description="Cut a model by each plan, and by all together; prove and judge each on "
        "held-out data; write what came of it as a page, in Markdown and in HTML.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    parser.add_argument("activity", metavar="ACTIVITY", help="a file that observe wrote")
    parser.add_argument("plans", nargs="+", metavar="PLAN", help="files that select or merge wrote")
    parser.add_argument(
        "--data", required=True, metavar="DATA", help="held-out " + arguments.dataset_help()
    )
    arguments.add_reading(parser, part="test")
    arguments.add_head(
        parser, "what the networks answer, as in cut (default: parent)", default="parent"
    )
    parser.add_argument("--no-merged", dest="merged", action="store_false", help="cut each alone")
    arguments.add_confidence(parser)
    arguments.add_overlap(parser)
    arguments.add_output(parser, "folder")


def run(given: Namespace) -> None:
    """Cut, judge and write the page."""
    from keras_nns.files.folders import replacing_folder
    from keras_nns.plans.kept_units import Plan

    plans = [Plan.load(path) for path in given.plans]
    with replacing_folder(given.output, made=MADE, overwrite=given.overwrite) as folder:
        with screen.working(given, "loading"):
            model = reading.model(given, given.model)
            data, label_names = reading.data(given, model, given.data)
        from keras_nns.observation.activity import Activity
        from keras_nns.reporting.interactive import publish
        from keras_nns.reporting.operation import operate

        activity = Activity.load(given.activity)
        with screen.working(given, "cutting") as tell:
            done = operate(
                model,
                activity,
                plans,
                data,
                label_names=label_names,
                batch_size=given.batch_size,
                head=given.head,
                merged=given.merged,
                confidence=given.confidence,
                allow_overlap=given.allow_overlap,
                notes=(f"The held-out data is {given.data}.",),
                tell=tell,
            )
            page = publish(done.record, folder)
    screen.remark(given, f"{given.output}/report.html: {len(plans)} plans")
    if page.still:
        screen.remark(given, page.still)
