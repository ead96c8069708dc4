"""Temporary folders of dead processes go; those of living ones stay."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tflite_export
from tflite_export.writing import temporary

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs locks on folders")

HOLD = """
import sys, time
from pathlib import Path
from tflite_export.writing.temporary import held_folder
with held_folder(Path(sys.argv[1]), "model") as folder:
    (folder / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def holding(parent: Path) -> subprocess.Popen[str]:
    """Start a process that holds a folder, and wait until it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(parent)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    temporary._swept.clear()


def test_what_a_killed_process_left_goes_with_the_next_file(tmp_path: Path) -> None:
    killed(holding(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    tflite_export.save(b"TFL3", tmp_path / "model.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]


def test_what_a_living_process_holds_stays(tmp_path: Path) -> None:
    process = holding(tmp_path)
    try:
        (held,) = tmp_path.iterdir()
        temporary._swept.clear()
        tflite_export.save(b"TFL3", tmp_path / "model.tflite")
        assert (held / "half").read_text() == "half"
    finally:
        killed(process)


def test_what_was_moved_aside_and_not_replaced_comes_back(tmp_path: Path) -> None:
    process = holding(tmp_path)
    (held,) = tmp_path.iterdir()
    for name in ("gone", "there"):
        (held / temporary.REPLACED / name).mkdir(parents=True)
        (held / temporary.REPLACED / name / "page").write_text("old")
    (tmp_path / "there").mkdir()
    killed(process)
    tflite_export.save(b"TFL3", tmp_path / "model.tflite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "model.tflite", "there"]
    assert (tmp_path / "gone" / "page").read_text() == "old"
    assert list((tmp_path / "there").iterdir()) == []


def test_other_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    for name in (".git", ".held-12345678", ".a.held-1234567", ".a.held-12345678.keras"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    temporary._swept.clear()
    with temporary.held_folder(tmp_path, "model"):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_without_locks_nobody_takes_it_for_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(temporary.fcntl, "flock", refuse)
    with temporary.held_folder(tmp_path, "model") as folder:
        monkeypatch.undo()
        temporary._swept.clear()
        with temporary.held_folder(tmp_path, "other"):
            assert folder.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    code = HOLD.replace("with held", "with stopped_by_sigterm(), held").replace(
        "import sys", "from tflite_export.cli.signals import stopped_by_sigterm\nimport sys", 1
    )
    # A shell that runs the tests in the background has them, and their children, ignore Ctrl-C.
    code = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []
