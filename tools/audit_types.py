"""Type every molecule of many files by GninaTyper: each atom gets a type, and the same one from PDB and from mmCIF.

The receptors of posebusters are also written as mmCIF by gemmi and typed again. Counted are atoms that are typed by
their element alone, because RDKit cannot understand their bonds, and generic metals, which are all elements without a
type of their own.

    python tools/audit_types.py                        structures of installed packages
    python tools/audit_types.py FILE FOLDER ...        others
    python tools/audit_types.py --packages FOLDER      packages installed elsewhere (site-packages), as dockstring

The exit status is 1 if a file is not typed, or differently from its mmCIF. Packages that are not there are named.
"""

import argparse
import pathlib
import sys
import tempfile
import time

from audit_atoms import mmcif_files, package_files, suffix

from gridgrad.mol import GNINA_TYPES, GninaTyper, MoleculeError, read_molecules

STRUCTURES = (".pdb", ".ent", ".pdbqt", ".cif", ".mmcif")
GENERIC = next(number for number, kind in enumerate(GNINA_TYPES) if kind.name == "GenericMetal")


def types_by_place(path):
    """Return the molecules of a file, their types by position, and how many are typed by element."""
    types, by_element = {}, 0
    for molecule in read_molecules(path, skip_unknown=True, flat=True):
        kinds = GninaTyper()(molecule)[0]
        places = ((molecule.record, *place) for place in molecule.coords.round(3).tolist())
        types |= dict(zip(places, kinds.tolist(), strict=True))
        by_element += molecule.by_element
    return types, by_element


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--packages", action="append", default=[], type=pathlib.Path)
    options = parser.parse_args()
    found = [p for f in options.files for p in (sorted(f.rglob("*")) if f.is_dir() else [f])]
    paths = found if options.files else list(package_files(options.packages))
    paths = [path for path in paths if suffix(path) in STRUCTURES and path.is_file()]
    failed, atoms, elements, differ = 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'file':<52} {'atoms':>7} {'by element':>10} {'generic':>7} {'s':>6}  as mmCIF")
        for path in paths:
            start = time.perf_counter()
            try:
                types, by_element = types_by_place(path)
            except MoleculeError as error:
                failed += 1
                print(f"{path.name[:52]:<52} NOT TYPED: {error}", flush=True)
                continue
            seconds, verdict = time.perf_counter() - start, ""
            for copy in mmcif_files([path], pathlib.Path(folder)):
                same = types_by_place(copy)[0] == types
                differ += not same
                verdict = "the same" if same else "DIFFERENT"
            generic = sum(kind == GENERIC for kind in types.values())
            print(
                f"{path.name[:52]:<52} {len(types):>7} {by_element:>10} {generic:>7} {seconds:>6.1f}  {verdict}",
                flush=True,
            )
            atoms, elements = atoms + len(types), elements + by_element
    print(f"{len(paths)} files, {atoms} atoms typed, {elements} of them by element; "
          f"{failed} files not typed, {differ} different from mmCIF")  # fmt: skip
    return int(failed + differ > 0)


if __name__ == "__main__":
    sys.exit(main())
