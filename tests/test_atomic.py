"""Outputs are whole or not there, replace nothing in silence, and a run that was killed leaves nothing for long."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from gridgrad import atomic
from gridgrad.atomic import atomic_files, atomic_folder

pytestmark = pytest.mark.skipif(atomic.fcntl is None, reason="no locks: what killed runs leave is not told apart")

WRITES = """
import os, runpy, signal, sys
from pathlib import Path
module, path = sys.argv[1], Path(sys.argv[2])
atomic = runpy.run_path(module)  # without torch
with (atomic["atomic_folder"](path) if path.suffix == "" else atomic["atomic_files"]([path])) as made:
    file = made / "part" if path.suffix == "" else made[0]
    file.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def writer():
    """A process that writes a path until it is told to die."""
    running = []

    def start(path):
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", WRITES, atomic.__file__, str(path)]
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        running.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def kill(process):
    process.communicate("\n")
    assert process.returncode == -signal.SIGKILL


def write(path, text="whole", **options):
    if path.suffix == "":
        with atomic_folder(path, **options) as folder:
            (folder / "part").write_text(text)
    else:
        with atomic_files([path], **options) as (temporary,):
            temporary.write_text(text)


@pytest.mark.parametrize("name", ["a.txt", "store"])
def test_what_a_killed_run_leaves_goes_with_the_next(tmp_path, writer, name):
    path = tmp_path / name
    kill(writer(path))
    assert os.listdir(tmp_path) == [f".{path.stem}.gridgrad-0"]
    write(path)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.txt", "store"])
def test_a_living_run_keeps_what_it_writes(tmp_path, writer, name):
    """Several at once; one that is killed later, under a later name, leaves nothing either."""
    path = tmp_path / name
    first, second = writer(path), writer(path)
    write(path)
    assert sorted(os.listdir(tmp_path)) == [f".{path.stem}.gridgrad-0", f".{path.stem}.gridgrad-1", name]
    kill(second)
    kill(first)
    if path.suffix:
        write(path, "again")
    else:
        atomic.clean(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_folder_is_cleaned_of_what_is_left(tmp_path, writer):
    living = writer(tmp_path / "a.txt")
    kill(writer(tmp_path / "b.txt"))
    (tmp_path / ".hidden_file").write_text("of the user")
    atomic.clean(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".a.gridgrad-0", ".hidden_file"]
    assert (tmp_path / ".a.gridgrad-0" / "a.txt").read_text() == "half"
    kill(living)


def test_what_is_somebody_elses_stays(tmp_path):
    """A file or a link of the name of a hidden folder."""
    (tmp_path / ".a.gridgrad-0").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    (tmp_path / ".a.gridgrad-1").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "a.txt")
    assert sorted(os.listdir(tmp_path)) == [".a.gridgrad-0", ".a.gridgrad-1", "a.txt", "elsewhere"]
    assert os.listdir(tmp_path / "elsewhere") == ["file"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    """What is left stays there: nobody can tell whose it is."""

    def refuses(*_):
        raise OSError(number, "no locks")

    (tmp_path / ".a.gridgrad-0").mkdir()
    monkeypatch.setattr(atomic.fcntl, "flock", refuses)
    write(tmp_path / "a.txt")
    write(tmp_path / "store")
    assert sorted(os.listdir(tmp_path)) == [".a.gridgrad-0", "a.txt", "store"]


def test_a_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "fcntl", None)
    write(tmp_path / "a.txt")
    write(tmp_path / "store")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "store"]


# --- nothing is replaced in silence -----------------------------------------------------------------------------------


def test_existing_files_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    write(path, "old")
    with pytest.raises(FileExistsError, match=r"output: .*a.txt exists; expected a new file, or overwrite=True"):
        write(path, "new", overwrite=False)
    assert path.read_text() == "old"
    write(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_a_run_that_was_faster_is_not_replaced(tmp_path):
    path = tmp_path / "a.txt"

    def slow():
        with atomic_files([path], overwrite=False) as (temporary,):
            temporary.write_text("slow")
            path.write_text("fast")

    with pytest.raises(FileExistsError, match="File exists"):
        slow()
    assert path.read_text() == "fast" and os.listdir(tmp_path) == ["a.txt"]


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refuses(*_):
        raise PermissionError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuses)
    write(tmp_path / "a.txt", overwrite=False)
    assert os.listdir(tmp_path) == ["a.txt"]
