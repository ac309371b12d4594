"""Memory and time of reading molecule files with many records: memory must not grow with their number.

Each format is read in a process of its own, from a pipe that a second process feeds with small records of
tests/support/traps.py, so no file has to be made.

    python tools/reading_memory.py [--records 1000000] [FORMAT ...]
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TRAPS = {
    "sdf": "plain", "mol2": "types", "xyz": "two_records", "pdb": "segments", "pdbqt": "poses", "cif": "alternatives",
}  # fmt: skip


def resident():
    """Return the memory of this process in MiB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def feed(pipe, text, records):
    """Write at least so many records."""
    with open(pipe, "w") as file:
        for _ in range(records):
            file.write(text)
    os._exit(0)


def measure(kind, records):
    """Read and print a row."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.traps import TRAPS as FILES

    from gridgrad.mol import read_molecules

    trap = FILES[f"{TRAPS[kind]}.{kind}"]
    text = f"MODEL        1\n{trap.text}ENDMDL\n" if kind == "pdb" else trap.text
    with tempfile.TemporaryDirectory() as folder:
        pipe = pathlib.Path(folder, f"pipe.{kind}")
        os.mkfifo(pipe)
        if os.fork() == 0:
            feed(pipe, text, -(-records // len(trap.atoms)))
        start, early, atoms = time.process_time(), 0.0, 0
        for number, molecule in enumerate(read_molecules(pipe), start=1):
            atoms += len(molecule)
            if number == records // 100:
                early = resident()
        microseconds = 1e6 * (time.process_time() - start) / number
    size = len(text.encode()) / len(trap.atoms)
    row = f"{kind:<6} {atoms / number:>6.0f} {size:>6.0f} {number:>9} {early:>9.1f} {resident():>8.1f}"
    print(f"{row} {microseconds:>7.0f}", flush=True)
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT")
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    if unknown := set(options.formats) - TRAPS.keys():
        parser.error(f"FORMAT: got {', '.join(unknown)}, expected {', '.join(TRAPS)}")
    print("format  atoms  bytes   records  MiB early MiB late  µs/rec")
    failed = 0
    for kind in options.formats or TRAPS:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            measure(kind, options.records)
        failed |= os.waitpid(child, 0)[1]
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
