"""``gridgrad prepare``: the same store from any number of processes, however often ended; what fails is told."""

import csv
import gzip
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.mol_data import METHANOL, METHANOL_BONDS, cdk2, molblock, pdb_atom

from gridgrad.cli import main
from gridgrad.data import AtomStore, StoreError, pool, prepare
from gridgrad.data.parts import checksum
from gridgrad.mol import GninaTyper, read_molecules, type_atoms

for package in ("pyarrow", "rdkit", "gemmi", "tqdm"):
    pytest.importorskip(package, reason=f"{package} is not installed")

GOOD = molblock(METHANOL, METHANOL_BONDS) + "$$$$\n"
DRAWING = molblock([(s, x, y, 0.0) for s, x, y, _ in METHANOL], METHANOL_BONDS, "2D") + "$$$$\n"


def contents(folder):
    """Bytes of all files by name."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with files of several formats, in which records and files are bad."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "a.sdf").write_text(GOOD * 3 + DRAWING + GOOD + "junk\n$$$$\n" + GOOD * 60)
    (folder / "b.sdf.gz").write_bytes(gzip.compress(cdk2().read_bytes()))
    (folder / "c.sdf").write_text("")
    for i in range(5):
        (folder / f"d{i}.pdb").write_text(pdb_atom(1, "C", "C", i, 1, 2) + pdb_atom(2, "O", "O", i, 2, 3) + "END\n")
    (folder / "e.sdf.gz").write_bytes(gzip.compress(cdk2().read_bytes())[:20_000])
    return folder


@pytest.fixture(scope="module")
def files(library):
    return [str(path) for path in sorted(library.iterdir())] + [str(library / "missing.sdf")]


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    prepare(files, store, workers=0, part_records=40)
    return store


def test_what_is_in_it(undisturbed, files):
    store = AtomStore(undisturbed)
    expected, failed = [], []
    for file in files:
        expected += read_molecules(file, on_error=failed.append)
    assert len(store) == len(expected) > 120
    table = store.table().to_pydict()
    for i, molecule in enumerate(expected):
        row = table["name"][i], table["source"][i], table["record"][i]
        assert row == (molecule.name, str(molecule.path), molecule.record)
        assert store[i].types.tolist() == type_atoms(molecule).types.tolist()
    with open(undisturbed / "failed.csv", newline="") as file:
        told = list(csv.reader(file))
    assert told[0] == ["file", "record", "reason"]
    assert told[1:] == [[str(e.path), "" if e.record is None else str(e.record), e.reason] for e in failed]
    assert len(failed) == 5, "a drawing, junk, an empty, a truncated and a missing file"
    store.verify()


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_processes_makes_the_same_store(undisturbed, files, tmp_path, workers):
    failures = []
    done = prepare(files, tmp_path / "s", workers=workers, part_records=40, on_error=failures.append)
    assert contents(tmp_path / "s") == contents(undisturbed)
    assert done.parts == done.header.n_parts == 4 and done.failed == len(failures) == 5
    assert 0 < done.busy <= 1


def test_shards_are_merged_by_being_in_one_folder(undisturbed, files, tmp_path):
    for number in (2, 1):
        prepare(files, tmp_path / "s", workers=0, part_records=40, shard=(number, 3))
        with pytest.raises(StoreError, match=r"of 4 parts are missing, part-0000\d.arrow for one"):
            AtomStore(tmp_path / "s")
    done = prepare(files, tmp_path / "s", workers=0, part_records=40, shard=(3, 3))
    assert (done.parts, done.header.failed) == (1, 5)
    assert contents(tmp_path / "s") == contents(undisturbed)


def test_shards_of_separate_folders_are_merged_by_copying(undisturbed, files, tmp_path):
    for number in (1, 2):
        prepare(files, tmp_path / str(number), workers=0, part_records=40, shard=(number, 2))
        shutil.copytree(tmp_path / str(number), tmp_path / "s", dirs_exist_ok=True)
    assert AtomStore(tmp_path / "s").rows(["d3"]) == AtomStore(undisturbed).rows(["d3"])
    assert prepare(files, tmp_path / "s", workers=0, part_records=40).parts == 0
    assert contents(tmp_path / "s") == contents(undisturbed)


# --- killed -----------------------------------------------------------------------------------------------------------


def children_of(pid):
    """Process ids of all descendants."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in found.splitlines()]
    tree, grown = {pid}, 0
    while len(tree) > grown:
        grown = len(tree)
        tree |= {child for child, parent in parents if parent in tree}
    return tree - {pid}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_killed(arguments, seconds, **options):
    """Run `prepare` in a child and end it by signal 9 after some time; whether it was still at work."""
    child = multiprocessing.get_context("fork").Process(target=prepare, args=arguments, kwargs=options)
    child.start()
    child.join(seconds)
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


def test_killed_at_random_points_it_goes_on_to_the_undisturbed_store(undisturbed, files, tmp_path):
    rng, killed, begun = random.Random(11), 0, time.monotonic()
    prepare(files, tmp_path / "timed", workers=0, part_records=40)
    whole = time.monotonic() - begun
    for trial in range(int(os.environ.get("GRIDGRAD_STRESS", 6))):
        store = tmp_path / f"store {trial}"
        for _ in range(rng.randrange(1, 4)):
            killed += run_killed((files, store), rng.uniform(0, whole), workers=0, part_records=40)
        prepare(files, store, workers=0, part_records=40)
        assert contents(store) == contents(undisturbed), f"trial {trial}"
    assert killed >= 3


def test_the_command_killed_leaves_no_process_and_goes_on(undisturbed, files, tmp_path, capsys):
    """Nor does it import what lies in the current folder, which may be a checkout whose kernels are not compiled."""
    checkout = tmp_path / "checkout" / "gridgrad"
    (checkout / "kernels").mkdir(parents=True)
    (checkout / "kernels" / "__init__.py").write_text("")
    (checkout / "__init__.py").write_text("import gridgrad.kernels\nraise ImportError('not compiled')\n")
    (tmp_path / "command.py").write_text("if __name__ == '__main__':\n    from gridgrad.cli import main\n    main()\n")
    arguments = ["prepare", *files, "-o", str(tmp_path / "s"), "--part-records", "40", "--workers"]
    command = [sys.executable, str(tmp_path / "command.py"), *arguments, "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=checkout.parent) as run:
        while not list(tmp_path.glob("s/*.arrow")) and run.poll() is None:
            time.sleep(0.001)
        run.send_signal(signal.SIGSTOP)  # so that it does not end its workers while they are counted
        family = children_of(run.pid)
        run.kill()
        run.stderr.read()
    assert run.returncode == -signal.SIGKILL and len(family) >= 3
    deadline = time.monotonic() + 20
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in family if alive(pid)], "left behind"
    assert main([*arguments, "0"]) == 1
    assert contents(tmp_path / "s") == contents(undisturbed)
    out, err = capsys.readouterr()
    assert (
        re.search(r"\d+ molecules in .* s, \d+ a second", out) and f"s: {len(AtomStore(undisturbed))} molecules" in out
    )
    assert "d record" not in err and f"see {tmp_path / 's' / 'failed.csv'}" in err


def die_of_methanol(molecule):
    """Kill the process that types record 66, as a fault in a compiled library would."""
    if molecule.record == 66:
        os.kill(os.getpid(), signal.SIGSEGV)
    return type_atoms(molecule).types, [1.5] * len(molecule), type_atoms(molecule).channels


def test_a_molecule_that_crashes_its_process_costs_that_molecule(library, tmp_path):
    failures = []
    done = prepare([library / "a.sdf"], tmp_path / "s", typer=die_of_methanol, workers=2, on_error=failures.append)
    assert (done.molecules, done.failed) == (63, 3)
    assert [failure.record for failure in failures] == [4, 6, 66]
    assert "the process that read or typed it died" in failures[2].reason
    assert AtomStore(tmp_path / "s").table().to_pydict()["record"] == [1, 2, 3, 5, *range(7, 66)]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def change_channels(molecule):
    return [0] * len(molecule), [1.5] * len(molecule), ("a",) if molecule.record < 4 else ("b",)


def test_a_typer_that_raises_fails_that_molecule(files, tmp_path):
    failures = []
    prepare(files[3:5], tmp_path / "s", typer=type_all_or_raise, workers=0, on_error=failures.append)
    assert [(failure.file, failure.reason) for failure in failures] == [
        (files[4], "the typer raised KeyError: 'no such thing'")
    ]


def type_all_or_raise(molecule):
    if molecule.path.stem == "d1":
        raise KeyError("no such thing")
    return [0] * len(molecule), [1.5] * len(molecule), ("a",)


def test_channels_must_stay_the_same(library, tmp_path):
    failures = []
    prepare([library / "a.sdf"], tmp_path / "s", typer=change_channels, workers=0, on_error=failures.append)
    assert failures[1].reason == "channels b; expected a, those of the store" and len(failures) == 63


def test_other_arguments_are_refused_in_a_folder_that_was_begun(library, tmp_path):
    sdf = shutil.copy(library / "a.sdf", tmp_path)
    prepare([sdf], tmp_path / "s", workers=0)
    before = contents(tmp_path / "s")
    with pytest.raises(StoreError, match=r"typer: .*GninaTyper.*; expected .*ElementTyper.*, with which .* was begun"):
        prepare([sdf], tmp_path / "s", typer=GninaTyper("ligand"), workers=0)
    with pytest.raises(StoreError, match="hydrogens: False; expected True"):
        prepare([sdf], tmp_path / "s", hydrogens=False, workers=0)
    with pytest.raises(StoreError, match="files: 2; expected 1"):
        prepare([sdf, sdf], tmp_path / "s", workers=0)
    Path(sdf).write_text(GOOD)
    with pytest.raises(StoreError, match=rf"files: {re.escape(str(sdf))} of \d+ bytes; expected .* of \d+, as when"):
        prepare([sdf], tmp_path / "s", workers=0)
    assert contents(tmp_path / "s") == before


def test_a_folder_with_other_files_is_left_alone(library, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds other files; expected a new or empty folder"):
        prepare([library / "a.sdf"], tmp_path, workers=0)
    assert contents(tmp_path) == {"thesis.tex": b"x"}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"workers": -1}, ValueError, "workers: -1; expected at least 0"),
        ({"shard": (0, 2)}, ValueError, "shard: 0/2; expected i/n with 1 <= i <= n"),
        ({"part_records": 0}, ValueError, "part_records: 0"),
        ({"typer": lambda molecule: None, "workers": 1}, TypeError, "does not pickle .* expected one that does, or"),
    ],
)
def test_bad_arguments(library, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        prepare([library / "a.sdf"], tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_nothing_to_type(library, tmp_path):
    with pytest.raises(ValueError, match="files: none"):
        prepare([], tmp_path / "s")
    with pytest.raises(ValueError, match=r"no molecule that can be typed; .* reason of 2: .*the file is empty"):
        prepare([library / "c.sdf", library / "missing.sdf"], tmp_path / "s", workers=0)
    os.mkfifo(tmp_path / "pipe.sdf")
    with pytest.raises(ValueError, match="is a pipe or device; expected a file that can be read again"):
        prepare([tmp_path / "pipe.sdf"], tmp_path / "s", workers=0)
    assert not (tmp_path / "s").exists()


def test_a_full_disk_ends_the_run_and_leaves_nothing_half(files, undisturbed, tmp_path, monkeypatch):
    calls = []

    def full(path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        return checksum(path)

    monkeypatch.setattr("gridgrad.data.parts.checksum", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(files, tmp_path / "s", workers=0, part_records=40)
    assert sorted(contents(tmp_path / "s")) == ["part-00000.arrow", "part-00000.json", "plan.json", "store.json"]
    monkeypatch.undo()
    prepare(files, tmp_path / "s", workers=0, part_records=40)
    assert contents(tmp_path / "s") == contents(undisturbed)


def test_command(library, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text(f"{library / 'd0.pdb'}\n\n{library / 'd1.pdb'}\n")
    assert main(["prepare", "--files-from", "list.txt", "-o", "s", "--typer", "gnina", "--part", "receptor"]) == 0
    assert len(AtomStore("s").channels) == 14 and "Calcium" in AtomStore("s").channels
    assert main(["prepare", str(library / "a.sdf"), "-o", "t", "--shard", "2/2", "--workers", "0"]) == 0
    assert "t: 0 of 1 parts, 1 still to be written" in capsys.readouterr().out
    assert main(["prepare", str(library / "a.sdf"), "-o", "t", "--shard", "1/2", "--workers", "0"]) == 1
    assert "skipped" in capsys.readouterr().err
    assert main(["prepare", str(library / "a.sdf"), "-o", "t", "--no-hydrogens"]) == 2
    assert "gridgrad prepare: typer:" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["prepare", "a.sdf", "-o", "s", "--shard", "1"])
    assert "argument --shard: invalid I/N value: '1'" in capsys.readouterr().err


def slow_or_fatal(number):
    if number % 10 == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 12:
        raise ValueError("twelve")
    return number


def test_results_come_in_order_whatever_dies():
    died = []
    results = pool.map_ordered(slow_or_fatal, iter(range(13, 50)), 2, lambda item, error: died.append(item))
    assert list(results) == [None if i % 10 == 7 else i for i in range(13, 50)] and sorted(died) == [17, 27, 37, 47]
    with pytest.raises(ValueError, match="twelve"):
        list(pool.map_ordered(slow_or_fatal, range(10, 14), 2, None))


@pytest.mark.parametrize("before", [None, "", "1"])
def test_threads_that_start_workers_leave_the_environment_as_it_was(before, monkeypatch):
    if before is None:
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    seen = []

    def ensure_running():
        seen.append(os.environ["PYTHONSAFEPATH"])
        time.sleep(0.01)

    monkeypatch.setattr(pool.forkserver, "ensure_running", ensure_running)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: pool.warm_up(), range(16)))
    assert seen == ["1"] * 16 and os.environ.get("PYTHONSAFEPATH") == before


def test_workers_that_cannot_import_the_typer_are_no_failures_of_records(library, tmp_path, monkeypatch, caplog):
    ghost = types.ModuleType("ghost")
    exec("def typer(molecule):\n    return [0] * len(molecule), [1.5] * len(molecule), ('a',)", ghost.__dict__)
    monkeypatch.setitem(sys.modules, "ghost", ghost)
    with pytest.raises(ChildProcessError, match="workers: the processes do not start; expected that they can import"):
        prepare([library / "a.sdf"], tmp_path / "s", typer=ghost.typer, workers=1)
    assert not list((tmp_path / "s").glob("part-*"))
