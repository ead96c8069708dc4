"""The command line itself: help, errors, silence and interruption."""

import argparse
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from typing import get_args

import keras
import numpy as np
import pytest

from keras_nns.cli import COMMANDS, _parser, arguments, main, quiet, screen
from keras_nns.composition import combining
from keras_nns.data import named
from keras_nns.observation import activity
from keras_nns.plans import keep_rules
from keras_nns.selection import activations, weights
from keras_nns.surgery import lineage
from keras_nns.tables import Table

# Keras 3.15 turns variables to arrays in a way that NumPy 2 will stop to allow.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

NAMES = [command.__name__.rsplit(".", 1)[1].replace("_", "-") for command in COMMANDS]


def keras_nns(*argv, **options):
    """Run the command line in a process of its own, as a user's shell does."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "KERAS_"))}
    command = [sys.executable, "-m", "keras_nns", *map(str, argv)]
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def model_and_data(tmp_path):
    random = np.random.default_rng(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(3)], name="net"
    )
    model.save(tmp_path / "net.keras")
    np.savez(
        tmp_path / "data.npz",
        x=random.normal(size=(30, 4)).astype("float32"),
        y=np.arange(30) % 3,
    )
    return tmp_path / "net.keras", tmp_path / "data.npz"


@pytest.mark.slow
def test_help_is_instant():
    def seconds():
        """Processor time, which other work on the machine hardly changes."""
        before = os.times()
        process = keras_nns("--help")
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and "demo" in text
        after = os.times()
        return after.children_user + after.children_system - sum(before[2:4])

    assert min(seconds() for _ in range(3)) < 0.5


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from keras_nns.cli import main; main(['cut', '--help']);"
        "heavy = {'tensorflow', 'keras', 'numpy', 'sklearn', 'matplotlib', 'rich'};"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_examples_that_can_be_typed(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    examples = text.split("example:\n")[1].replace("\\\n", " ").strip().splitlines()
    assert any(line.strip().startswith(f"keras-nns {name} ") or name == "demo" for line in examples)
    for line in examples:
        program, *argv = shlex.split(line)
        assert program == "keras-nns"
        assert callable(_parser().parse_args(argv).run)


def test_the_overview_has_examples_that_can_be_typed(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    lines = re.findall(r"^  keras-nns (.*?)(?:  +#.*)?$", text, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        _parser().parse_args(shlex.split(line))


def test_what_the_parser_knows_by_heart_is_so():
    assert arguments.HEADS == lineage.HEADS
    assert arguments.STATISTICS == activity.STATISTICS
    assert arguments.DATASETS == named.NAMES
    assert all(callable(getattr(activations, name)) for name in arguments.SCORES)
    assert all(callable(getattr(weights, name)) for name in arguments.WEIGHT_SCORES)
    assert get_args(keep_rules.Normalise) == arguments.NORMS
    assert combining.CALIBRATE == arguments.CALIBRATE


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["surgery"],
        ["observe", "net.keras"],
        ["select", "a.npz", "-o", "p.json"],
        ["select", "a.npz", "-o", "p.json", "--each", "--all"],
        ["select", "a.npz", "-o", "p.json", "--all", "--zeta", "0.4", "--top", "3"],
        ["select", "a.npz", "-o", "p.json", "--all", "--zeta", "much"],
        ["cut", "net.keras", "p.json", "-o", "s.keras", "--head", "none"],
        ["observe", "net.keras", "digits", "-o", "a.npz", "--batch-size", "0"],
        ["observe", "net.keras", "digits", "-o", "a.npz", "--layers", "one,,two"],
        ["export", "net.keras", "-o", "n.tflite", "--quantize", "int3"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("usage: keras-nns")


def test_an_error_is_one_line_and_debug_tells_more(capsys, tmp_path):
    argv = ["merge", str(tmp_path / "none.json"), "-o", str(tmp_path / "out.json")]
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: Cannot read") and said.count("\n") == 1
    assert main([*argv, "--debug"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and said.splitlines()[-1].startswith("error: Cannot read")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "x.npz"), "No space left on device: x.npz"),
        (MemoryError("12 GiB"), "not enough memory. Try a smaller --batch-size. 12 GiB"),
        (
            RuntimeError("two\nlines"),
            "RuntimeError, which should not happen: two lines. Run it again with --debug to see "
            "where.",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_that_nobody_raised_on_purpose_are_one_line_too(error, said, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr("keras_nns.cli.merge.run", fail)
    assert main(["merge", "a.json", "-o", "b.json"]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"keras-nns \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.slow
def test_tensorflow_is_silent(model_and_data, tmp_path):
    model, data = model_and_data
    process = keras_nns("observe", model, data, "-o", tmp_path / "activity.npz")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert err == ""
    assert out.count("\n") == 1 and "6 units in 1 layers for 3 labels over 30 samples" in out


def test_what_was_silenced_is_shown_when_it_fails(capfd):
    with quiet._stderr_kept():
        os.write(2, b"noise\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(ImportError), quiet._stderr_kept():
        os.write(2, b"libcuda is broken\n")
        raise ImportError
    assert capfd.readouterr().err == "libcuda is broken\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_start_up_is_quiet_where_there_is_no_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with quiet._stderr_kept():
        os.write(2, b"noise")


def test_quiet_says_nothing(model_and_data, tmp_path, capsys):
    model, data = map(str, model_and_data)
    assert main(["observe", model, data, "-o", str(tmp_path / "a.npz"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path):
    # A shell that runs the tests in the background has them, and their children, ignore Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = keras_nns("demo", "--epochs", "10000", "--output", tmp_path / "demo")
    signal.signal(signal.SIGINT, handler)
    try:
        # The temporary folder shows that the work has begun.
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (out, err) == ("", "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_keeps_what_was_there(model_and_data, tmp_path, monkeypatch, capsys):
    model, data = map(str, model_and_data)
    output = tmp_path / "activity.npz"
    output.write_bytes(b"earlier")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_nns.observation.streaming.observe", interrupted)
    assert main(["observe", model, data, "-o", str(output), "--overwrite"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert output.read_bytes() == b"earlier"


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error(model_and_data, tmp_path):
    model, data = model_and_data
    with keras_nns("evaluate", model, data, "--json") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=300) == 1


def test_every_command_can_be_quiet_and_debugged():
    commands = next(
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    assert list(commands.choices) == NAMES
    for parser in commands.choices.values():
        assert {"--quiet", "--debug"} <= set(parser._option_string_actions)


@pytest.mark.parametrize("columns", ["30", "80", "200"])
def test_a_narrow_terminal_never_cuts_figures_off(columns, monkeypatch, capsys):
    rows = (("Ankle boot", "128", "8,970", "1.000 → 0.966", "exact"),)
    content = Table(("network", "units", "parameters", "recall", "proof"), rows, "What it is.")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    screen.table(content)
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if "Ankle" in line)
    assert row.split("  ")[0] == "Ankle boot"
    assert all(cell in row for cell in rows[0])
    assert out.endswith("What it is.\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_every_help_can_be_read_on_any_console(encoding, monkeypatch):
    for command in ["", *NAMES]:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", out)
        assert main([*filter(None, [command]), "--help"]) == 0
        out.flush()
        assert out.buffer.getvalue().decode(encoding).startswith("usage: keras-nns")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_figures_can_be_read_on_any_console(encoding, model_and_data, monkeypatch):
    model, data = map(str, model_and_data)
    for argv in (["inspect", model], ["evaluate", model, data]):
        texts = {}
        for form in ([], ["--json"]):
            out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
            monkeypatch.setattr(sys, "stdout", out)
            assert main([*argv, *form]) == 0
            out.flush()
            texts[bool(form)] = out.buffer.getvalue().decode(encoding)
        assert json.loads(texts[True])
        assert "\\u" not in texts[False]


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_command_runs_without_a_stream(name, model_and_data, monkeypatch, tmp_path):
    model, data = map(str, model_and_data)
    monkeypatch.setattr(sys, name, None)
    assert main(["observe", model, data, "-o", str(tmp_path / "a.npz")]) == 0
    assert main(["inspect", str(tmp_path / "no.keras")]) == 1
    assert (tmp_path / "a.npz").exists()


def test_escape_codes_in_names_do_not_reach_the_terminal(model_and_data, tmp_path, capsys):
    model, data = map(str, model_and_data)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"\x1b[31mlabel{i}" for i in range(3)))
    main(["evaluate", model, data, "--label-names", str(names)])
    main(["select", str(tmp_path / "\x1b[2J.npz"), "--all", "-o", str(tmp_path / "p.json")])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
