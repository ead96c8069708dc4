"""Folders are written whole or not at all, and never over files of the user's."""

import os
import sys
import threading

import pytest
from races import race

from keras_nns.errors import FileError
from keras_nns.files.folders import replacing_folder, safe_names
from tflite_export.writing import exchange

MADE = ("page.md", "plans/*.json")


def write(path, *, overwrite=False, text="new"):
    with replacing_folder(path, made=MADE, overwrite=overwrite) as folder:
        (folder / "plans").mkdir()
        (folder / "plans" / "3.json").write_text(text)
        (folder / "page.md").write_text(text)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_new_folder_is_there_when_the_block_has_ended(tmp_path):
    write(tmp_path / "deep" / "out")
    assert contents(tmp_path) == {"deep/out/page.md": "new", "deep/out/plans/3.json": "new"}


def test_the_folder_has_the_usual_mode(tmp_path):
    write(tmp_path / "out")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "out" / "plans").mkdir(parents=True)
    write(tmp_path / "out")
    assert len(contents(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
def test_of_two_processes_that_write_one_new_folder_one_is_told(tmp_path, old):
    for turn in range(5):
        path = tmp_path / f"{turn}"
        if old:
            (path / "plans").mkdir(parents=True)

        def make(name, wait, path=path):
            with replacing_folder(path, made=MADE) as folder:
                (folder / "page.md").write_text(name)
                wait()

        succeeded = race(make)
        assert sorted(succeeded.values()) == [False, True]
        assert succeeded[(path / "page.md").read_text()]
    assert len(list(tmp_path.iterdir())) == 5


def test_what_the_user_put_into_the_folder_meanwhile_is_never_removed(tmp_path):
    write(tmp_path / "out", text="old")
    with (
        pytest.raises(FileError, match="which no earlier run made"),
        replacing_folder(tmp_path / "out", made=MADE, overwrite=True),
    ):
        (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert contents(tmp_path)["out/thesis.txt"] == "mine"


def test_an_earlier_folder_is_replaced_only_when_asked(tmp_path):
    write(tmp_path / "out", text="old")
    (tmp_path / "out" / "plans" / "7.json").write_text("old")
    with pytest.raises(FileError, match="--overwrite"):
        write(tmp_path / "out")
    assert contents(tmp_path)["out/page.md"] == "old"
    write(tmp_path / "out", overwrite=True)
    # What the earlier run made and this one does not is gone.
    assert contents(tmp_path) == {"out/page.md": "new", "out/plans/3.json": "new"}


@pytest.mark.parametrize("name", ["thesis.txt", "plans/notes.md", "more/page.md", ".hidden"])
def test_what_no_run_made_is_never_removed(name, tmp_path):
    write(tmp_path / "out", text="old")
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(FileError, match="which no earlier run made"):
        write(tmp_path / "out", overwrite=True)
    assert contents(tmp_path) == before


def test_a_link_in_the_folder_is_the_users(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "page.md").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(FileError, match="'link'"):
        write(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "link" / "page.md").read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
@pytest.mark.parametrize("old", [False, True])
def test_work_that_is_stopped_leaves_what_was_there(error, old, tmp_path):
    if old:
        write(tmp_path / "out", text="old")
    before = contents(tmp_path)
    with (
        pytest.raises(error),
        replacing_folder(tmp_path / "out", made=MADE, overwrite=True) as folder,
    ):
        (folder / "page.md").write_text("half")
        raise error
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == int(old)


def no_exchange(*_):
    return False


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs a swap of names")
def test_there_is_a_folder_at_every_moment(tmp_path):
    write(tmp_path / "out", text="old")
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            seen.add((tmp_path / "out").exists())

    looker = threading.Thread(target=look)
    looker.start()
    for _ in range(200):
        write(tmp_path / "out", overwrite=True)
    done.set()
    looker.join()
    assert seen == {True}


def test_without_that_step_the_old_folder_moves_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_swap_names", no_exchange)
    write(tmp_path / "out", text="old")
    write(tmp_path / "out", overwrite=True)
    assert contents(tmp_path) == {"out/page.md": "new", "out/plans/3.json": "new"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_swap_names", no_exchange)
    write(tmp_path / "out", text="old")
    rename = os.rename
    done = []

    def second_fails(one, other, **options):
        done.append(one)
        if len(done) == 2:
            raise OSError(5, "Input/output error")
        rename(one, other, **options)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(FileError, match="Input/output error"):
        write(tmp_path / "out", overwrite=True)
    assert len(done) == 3
    assert contents(tmp_path) == {"out/page.md": "old", "out/plans/3.json": "old"}


def test_a_file_or_the_working_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="is a file"):
        write(tmp_path / "file", overwrite=True)
    with pytest.raises(FileError, match="Cannot write in the folder"):
        write(tmp_path / "file" / "out")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (tmp_path / "here", tmp_path):
        with pytest.raises(FileError, match="you are working in"):
            write(path, overwrite=True)
    assert contents(tmp_path) == {"file": "mine"}


def test_safe_names_differ_and_hold_nothing_special():
    names = ["a/b", "a b", "A-B", "..", "", "ä", "CON", "x" * 300, "x" * 300, "a-b-1"]
    safe = safe_names(names)
    assert len({name.lower() for name in safe}) == len(names)
    assert all(name and len(name) < 100 and "/" not in name for name in safe)
    assert not any(name.startswith(".") for name in safe)
    assert safe_names(["3", "cat"]) == ["3", "cat"]
