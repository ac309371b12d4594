"""Measure how many drug-like ligands a second are read, sanitized and typed, on one core.

The ligands are those of RDKit's cdk2.sdf and egfr.sdf, 412 with 41 atoms on average. "read" is what `read_molecules`
takes, RDKit's parser above all; "sanitize" is RDKit's, once a molecule that is asked for its chemistry; "type" is the
rest: from the sanitized molecule to types and radii. Processor time, medians over rounds in which the steps take turns.

    python tools/measure_typing.py
"""

import argparse
import pathlib
import statistics
import time

from rdkit import RDConfig

from gridgrad.mol import ElementTyper, GninaTyper, PropertyTyper, read_molecules
from gridgrad.mol.chemistry import perceive, sanitize

CONTRIB = pathlib.Path(RDConfig.RDContribDir)
FILES = CONTRIB / "Fastcluster" / "testdata" / "cdk2.sdf", CONTRIB / "PBF" / "testData" / "egfr.sdf"
TYPERS = {
    "ElementTyper()": ElementTyper(),
    "GninaTyper('ligand')": GninaTyper("ligand"),
    "PropertyTyper()": PropertyTyper(),
}


def measure():
    """Return seconds by step."""
    start = time.process_time()
    molecules = [molecule for path in FILES for molecule in read_molecules(path)]
    seconds = {"read": time.process_time() - start}
    start = time.process_time()
    sanitized = [sanitize(molecule._rdkit()) for molecule in molecules]
    seconds["sanitize"] = time.process_time() - start
    for name, typer in TYPERS.items():
        start = time.process_time()
        for molecule, parts in zip(molecules, sanitized):
            if name != "ElementTyper()":
                molecule.__dict__["_chemistry"] = perceive(*parts)  # in place of a chemistry that sanitizes again
            typer(molecule)
        seconds[f"type: {name}"] = time.process_time() - start
    return len(molecules), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = [measure() for _ in range(parser.parse_args().rounds)]
    count = rounds[0][0]
    print(f"{count} ligands: ligands a second, microseconds a ligand")
    for step in rounds[0][1]:
        seconds = statistics.median(times[step] for _, times in rounds)
        print(f"  {step:<28} {count / seconds:>9.0f} {1e6 * seconds / count:>9.0f}")


if __name__ == "__main__":
    main()
