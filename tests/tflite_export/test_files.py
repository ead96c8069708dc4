"""Exports are whole or absent, and never replace a file unasked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tflite_export
from tflite_export import files


def test_writes_and_reads_back(tmp_path: Path) -> None:
    path = files.save(b"\x00abc", tmp_path / "deep" / "er" / "model.tflite")
    assert files.read(path) == b"\x00abc"
    assert [entry.name for entry in path.parent.iterdir()] == ["model.tflite"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_never_overwrites_unasked(tmp_path: Path) -> None:
    path = files.save("old", tmp_path / "labels.txt")
    with pytest.raises(tflite_export.ExportFileError, match="overwrite=True"):
        files.save("new", path)
    assert path.read_text() == "old"
    files.save("new", path, overwrite=True)
    assert path.read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    fsync = os.fsync

    def another_process_is_faster(descriptor: int) -> None:
        fsync(descriptor)
        path.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", another_process_is_faster)
    with pytest.raises(tflite_export.ExportFileError, match="meanwhile"):
        files.save(b"ours", path)
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_breaks_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.save(b"old", tmp_path / "model.tflite")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(tflite_export.ExportFileError, match=r"No space left.*has room"):
        files.save(b"new", path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_limit_on_the_size_of_files_is_said(tmp_path: Path) -> None:
    """A real refusal by the system, half way through the write."""
    code = (
        "import resource, signal, tflite_export\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"tflite_export.save(bytes(5000), {str(tmp_path / 'model.tflite')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ExportFileError: cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(tflite_export.ExportFileError, match="is a folder"):
        files.save(b"x", tmp_path)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(tflite_export.ExportFileError, match="cannot write"):
        files.save(b"x", tmp_path / "file" / "model.tflite")


def test_interrupting_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        files.save(b"x", tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []
