"""Audit the readers of molecules: every atom of a file comes out, in its place, or is accounted for.

For each file the atoms are found by the few lines below, which share no code with the readers, and compared with what
`gridgrad.mol.read_molecules` yields: atoms in = atoms out + atoms left out, by reason + atoms of records refused; and
the atoms that come out have the positions of the file, in the order of the file.

    python tools/audit_atoms.py                        the files of installed packages, and those of the tests
    python tools/audit_atoms.py FILE FOLDER ...        others
    python tools/audit_atoms.py --packages FOLDER      packages installed elsewhere (site-packages), as dockstring

The exit status is 1 if a file does not add up. Packages that are not there are named.
"""

import argparse
import collections
import gzip
import importlib.util
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = {"posebusters": "datasets", "rdkit": ".", "dockstring": "resources/targets"}
TOLERANCE = 1e-6  # angstrom


# --- atoms by lines: for each record of a file the positions of its atoms, None where the line does not tell ----------


def place(words):
    try:
        return tuple(float(word) for word in words)
    except ValueError:
        return None


def pdb_atoms(lines):
    records, inside = [], False
    for line in lines:
        kind = line[:6].upper()
        if kind.startswith("MODEL"):
            records.append([])
            inside = True
        elif kind.strip() in ("ENDMDL", "END"):
            inside = False
        elif line.lstrip().upper().startswith(("ATOM", "HETATM")):
            if not inside:
                records.append([])
                inside = True
            records[-1].append(place((line[30:38], line[38:46], line[46:54])))
    return records


def sdf_atoms(lines):
    records, block = [], []
    for line in [*lines, "$$$$"]:
        if not line.startswith("$$$$"):
            block.append(line)
        elif any(line.strip() for line in block) or len(records) < sum(line.startswith("$$$$") for line in lines):
            rows = [line.split() for line in block if re.match(r"M  V30 +\d+ +\S+ +[-.\d]+ +[-.\d]+ +[-.\d]+ ", line)]
            if rows:
                records.append([place(words[4:7]) for words in rows])
            else:
                count = block[3][:3].strip() if len(block) > 3 else ""
                rows = block[4 : 4 + int(count)] if count.isdigit() else []
                records.append([place((row[:10], row[10:20], row[20:30])) for row in rows])
            block = []
    return records


def mol2_atoms(lines):
    records, section = [], ""
    for line in lines:
        if line.startswith("@<TRIPOS>"):
            section = line.strip()
            if section == "@<TRIPOS>MOLECULE":
                records.append([])
        elif section == "@<TRIPOS>ATOM" and line.strip():
            records[-1].append(place(line.split()[2:5]))
    return records


def xyz_atoms(lines):
    records, start = [], 0
    while start < len(lines):
        words = lines[start].split()
        if not words:
            start += 1
            continue
        count = int(words[0]) if words[0].isdigit() and len(words) == 1 else len(lines)
        rows = lines[start + 2 : start + 2 + count]
        records.append([place(row.upper().replace("D", "E").replace("*^", "E").split()[1:4]) for row in rows])
        start += 2 + count
    return records


TOKENS = re.compile(r"""^;.*?^;|'(?:[^'\n]|'(?=\S))*'|"(?:[^"\n]|"(?=\S))*"|\#[^\n]*|\S+""", re.M | re.S)


def cif_atoms(lines):
    """Find the rows of the loops of atoms; crystals in fractions of a cell have no positions here."""
    records = []
    for block in re.split(r"^data_", without_texts("\n".join(lines)), flags=re.M | re.I)[1:]:
        models = collections.defaultdict(list)
        for tags, values in loops([word for word in TOKENS.findall(block.partition("\n")[2]) if word[0] != "#"]):
            rows = [dict(zip(tags, values[i : i + len(tags)])) for i in range(0, len(values), len(tags))]
            if len(values) % len(tags):  # a broken loop says nothing of models
                rows = [{} for _ in rows]
            own, ideal = (
                [f"_chem_comp_atom.{key}" for key in keys]
                for keys in (
                    ("model_cartn_x", "model_cartn_y", "model_cartn_z"),
                    ("pdbx_model_cartn_x_ideal", "pdbx_model_cartn_y_ideal", "pdbx_model_cartn_z_ideal"),
                )
            )
            if "_atom_site.cartn_x" in tags:
                for row in rows:
                    where = [row.get(f"_atom_site.cartn_{axis}", "?") for axis in "xyz"]
                    models[row.get("_atom_site.pdbx_pdb_model_num", "1")].append(place(where))
            elif "_chem_comp_atom.atom_id" in tags:
                places = [[place(row.get(key, "?") for key in keys) for row in rows] for keys in (own, ideal)]
                good = [some for some in places if None not in some and len(set(some)) > 1]
                models["component"] = (good or [[None] * len(rows)])[0]
            elif "_atom_site_fract_x" in tags:
                models["crystal"] = [None] * len(rows)
        if len(models) > 1:  # a structure may define its components, without coordinates
            models.pop("component", None)
        records += models.values() or [[]] * ("_atom_site." in block.lower())
    return records


def without_texts(text):
    """Leave out fields of several lines: they are no coordinates, and may look like the beginning of a block."""
    return re.sub(r"^;.*?^;", "?", text, flags=re.M | re.S)


def loops(words):
    """Yield tags and values of loops, and the tags outside of loops as a loop of one row."""
    single, i = ([], []), 0
    while i < len(words):
        if words[i].lower() == "loop_":
            i, tags, values = i + 1, [], []
            while i < len(words) and words[i].startswith("_"):
                tags.append(words[i].lower())
                i += 1
            while i < len(words) and not words[i].startswith("_") and words[i].lower() != "loop_":
                values.append(re.sub(r"\(\d+\)$", "", words[i]))
                i += 1
            yield tags, values
        elif words[i].startswith("_") and i + 1 < len(words):
            single[0].append(words[i].lower())
            single[1].append(words[i + 1])
            i += 2
        else:
            i += 1
    if single[0]:
        yield single


ATOMS = {
    ".pdb": pdb_atoms, ".ent": pdb_atoms, ".pdbqt": pdb_atoms, ".sdf": sdf_atoms, ".sd": sdf_atoms, ".mol": sdf_atoms,
    ".mol2": mol2_atoms, ".xyz": xyz_atoms, ".cif": cif_atoms, ".mmcif": cif_atoms,
}  # fmt: skip


def atoms_of(path):
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    lines = data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").split("\n")
    return ATOMS[suffix(path)](lines[:-1] if lines[-1] == "" else lines)


def suffix(path):
    return next((s.lower() for s in reversed(path.suffixes) if s.lower() != ".gz"), "")


# --- the comparison ---------------------------------------------------------------------------------------------------


class Audit:
    """What one file holds and what was read of it."""

    def __init__(self, path):
        from gridgrad.mol import read_molecules

        self.path, self.errors, self.left_out = path, [], collections.Counter()
        records = atoms_of(path)
        molecules = list(read_molecules(path, skip_unknown=True, flat=True, on_error=self.errors.append))
        self.inside = sum(map(len, records))
        self.out = sum(map(len, molecules))
        for molecule in molecules:
            self.left_out.update(molecule.left_out)
        lost = [error.record for error in self.errors if error.record is not None]
        self.refused = sum(len(records[record - 1]) for record in lost if record <= len(records))
        self.problems = []
        if len(records) != len(molecules) + len(lost):
            self.problems.append(f"{len(records)} records, read {len(molecules)}, refused {len(lost)}")
        if self.inside != self.out + self.left_out.total() + self.refused:
            self.problems.append("atoms do not add up")
        for molecule in molecules:
            if molecule.record <= len(records) and not in_order(molecule.coords, records[molecule.record - 1]):
                self.problems.append(f"record {molecule.record}: atoms at other places")

    def __str__(self):
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        refused = f"{self.refused} refused ({len(self.errors)}: {self.errors[0].reason})" if self.errors else ""
        remarks = "; ".join(filter(None, (left_out, refused, *self.problems)))
        verdict = "NO" if self.problems else "ok"
        return f"{verdict} {self.path.name[:52]:<52} {self.inside:>7} {self.out:>7}  {remarks[:160]}"


def in_order(coords, places):
    """Whether the positions are among those of the file, in the same order."""
    rest = iter(places)
    return all(
        any(there is None or max(abs(a - b) for a, b in zip(here, there)) < TOLERANCE for there in rest)
        for here in coords.tolist()
    )


def package_files(packages):
    """Yield the molecule files of packages, from the interpreter's or from another folder of packages."""
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        homes = [pathlib.Path(place, package) for place in packages] + [
            pathlib.Path(place) for place in (spec.submodule_search_locations if spec else ())
        ]
        home = next((home / folder for home in homes if (home / folder).is_dir()), None)
        if home is None:
            print(f"skipped: {package} is not installed")
            continue
        yield from sorted(path for path in home.rglob("*") if suffix(path) in ATOMS and path.is_file())


def trap_files(folder):
    """Write the files of the tests, each of which holds a trap."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.traps import TRAPS

    for name, trap in TRAPS.items():
        (folder / name).write_text(trap.text, newline="")
        yield folder / name


def mmcif_files(paths, folder):
    """Write the receptors of posebusters as mmCIF, by gemmi."""
    import gemmi

    for path in paths:
        if path.name.endswith("_protein_one_lig_removed.pdb"):
            structure = gemmi.read_structure(str(path))
            structure.setup_entities()
            written = folder / f"{path.stem}.cif"
            structure.make_mmcif_document().write_file(str(written))
            yield written


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--packages", action="append", default=[], type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.files:
            found = [p for f in options.files for p in (sorted(f.rglob("*")) if f.is_dir() else [f])]
            paths = [path for path in found if suffix(path) in ATOMS and path.is_file()]
        else:
            paths = list(package_files(options.packages))
            paths += [*mmcif_files(paths, pathlib.Path(folder)), *trap_files(pathlib.Path(folder))]
        print(f"   {'file':<52} {'in':>7} {'out':>7}  left out, refused")
        audits = []
        for path in paths:
            audits.append(Audit(path))
            print(audits[-1], flush=True)
    left_out = sum((audit.left_out for audit in audits), collections.Counter())
    wrong = sum(bool(audit.problems) for audit in audits)
    print(
        f"{len(audits)} files: {sum(a.inside for a in audits)} atoms in, {sum(a.out for a in audits)} out, "
        + "".join(f"{count} left out as {reason}, " for reason, count in left_out.items())
        + f"{sum(a.refused for a in audits)} in refused records; {wrong} files do not add up"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
