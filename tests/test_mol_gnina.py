"""smina's types and gnina's channels: the table, types known by hand, what hydrogens and formats must not change."""

import dataclasses
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from support.mol_data import cdk2, posebusters

Chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")

from gridgrad.mol import (
    GNINA_LIGAND_MAP,
    GNINA_RECEPTOR_MAP,
    GNINA_TYPES,
    ElementTyper,
    GninaTyper,
    MappedTyper,
    MoleculeError,
    OneHotTyper,
    join_atoms,
    read_map,
    read_molecules,
    type_atoms,
)

NUMBER = {kind.name: number for number, kind in enumerate(GNINA_TYPES)}


def record(tmp_path, smiles):
    """The molecule of a SMILES on a line, hydrogens as written."""
    parameters = Chem.SmilesParserParams()
    parameters.removeHs = False
    molecule = Chem.MolFromSmiles(smiles, parameters)
    molecule.AddConformer(Chem.Conformer(molecule.GetNumAtoms()))
    for index in range(molecule.GetNumAtoms()):
        molecule.GetConformer().SetAtomPosition(index, (1.4 * index, 0.0, 0.0))
    path = tmp_path / "m.mol"
    path.write_text(Chem.MolToMolBlock(molecule))
    return next(read_molecules(path, flat=True))


def names(molecule):
    types, _, channels = GninaTyper()(molecule)
    return [channels[index] for index in types]


def test_the_table():
    assert len(GNINA_TYPES) == 28
    rows = {0: (1, 0.37, 0.37), 5: (6, 1.9, 0.77), 9: (7, 1.8, 0.75), 13: (8, 1.7, 0.73), 15: (16, 2.0, 1.02),
            16: (15, 2.1, 1.06), 17: (9, 1.5, 0.71), 20: (53, 2.2, 1.33), 24: (20, 1.2, 1.74), 26: (0, 1.2, 1.75),
            27: (5, 1.92, 0.9)}  # fmt: skip
    for number, row in rows.items():
        assert tuple(GNINA_TYPES[number])[1:] == row
    assert len({kind.name for kind in GNINA_TYPES}) == 28


def test_the_channels_of_the_parts():
    receptor = [[2], [3], [4], [5], [17, 18, 19, 20], [6, 9], [7, 8], [10, 13], [11, 12], [14, 15], [16], [24], [23],
                [21, 22, 25, 26, 27]]  # fmt: skip
    ligand = [[2], [3], [4], [5], [19, 20], [18], [17], [6, 9], [7, 8], [10, 13], [11, 12], [14, 15], [16],
              [21, 22, 23, 24, 25, 26, 27]]  # fmt: skip
    for part, groups, table in (("receptor", receptor, GNINA_RECEPTOR_MAP), ("ligand", ligand, GNINA_LIGAND_MAP)):
        assert [sorted(NUMBER[name] for name in group) for group in table] == groups
        typer = GninaTyper(part)
        types, radii, channels = typer.from_types(np.arange(28))
        assert types.tolist() == [next((c for c, g in enumerate(groups) if k in g), -1) for k in range(28)]
        assert channels == typer.channels and len(channels) == 14
        np.testing.assert_array_equal(radii, [kind.xs_radius for kind in GNINA_TYPES])
        assert typer.channel_radii is None
    assert GninaTyper("ligand").channels[4:7] == ("Bromine_Iodine", "Chlorine", "Fluorine")
    raw = GninaTyper(radii="covalent")
    np.testing.assert_array_equal(raw.channel_radii, [kind.covalent_radius for kind in GNINA_TYPES])
    assert raw.from_types(np.array([-1, 27, 28]))[0].tolist() == [-1, 27, 26]


C, N, O = "AliphaticCarbonXS", "NitrogenXS", "OxygenXS"  # noqa: E741
HYDROPHOBE, NONHYDROPHOBE, ARO = C + "Hydrophobe", C + "NonHydrophobe", "AromaticCarbonXS"


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CCO", [HYDROPHOBE, NONHYDROPHOBE, O + "DonorAcceptor"]),
        ("CC(=O)N", [HYDROPHOBE, NONHYDROPHOBE, O + "Acceptor", N + "Donor"]),
        ("CN(C)C=O", [NONHYDROPHOBE, "Nitrogen", NONHYDROPHOBE, NONHYDROPHOBE, O + "Acceptor"]),
        ("C[NH3+]", [NONHYDROPHOBE, N + "Donor"]),
        ("CN", [NONHYDROPHOBE, N + "DonorAcceptor"]),
        ("CN(C)C", [NONHYDROPHOBE, N + "Acceptor", NONHYDROPHOBE, NONHYDROPHOBE]),
        ("C#N", [NONHYDROPHOBE, N + "Acceptor"]),
        ("C=N", [NONHYDROPHOBE, N + "DonorAcceptor"]),
        ("NC(=N)N", [N + "Donor", NONHYDROPHOBE, N + "DonorAcceptor", N + "Donor"]),
        ("CS(=O)(=O)N", [NONHYDROPHOBE, "Sulfur", O + "Acceptor", O + "Acceptor", N + "DonorAcceptor"]),
        ("C[N+](=O)[O-]", [NONHYDROPHOBE, "Nitrogen", O + "Acceptor", O + "Acceptor"]),
        ("C[S-]", [NONHYDROPHOBE, "SulfurAcceptor"]),
        ("CSC", [NONHYDROPHOBE, "Sulfur", NONHYDROPHOBE]),
        ("C[Se]C", [NONHYDROPHOBE, "Sulfur", NONHYDROPHOBE]),
        ("CP", [NONHYDROPHOBE, "Phosphorus"]),
        ("FCCl", ["Fluorine", NONHYDROPHOBE, "Chlorine"]),
        ("BrCI", ["Bromine", NONHYDROPHOBE, "Iodine"]),
        ("CB(O)O", [NONHYDROPHOBE, "Boron", O + "DonorAcceptor", O + "DonorAcceptor"]),
        ("C[Si](C)(C)C", [NONHYDROPHOBE, "GenericMetal", *[NONHYDROPHOBE] * 3]),
        ("c1ccccc1N", [*[ARO + "Hydrophobe"] * 5, ARO + "NonHydrophobe", N + "Donor"]),
        ("c1c[nH]cc1", [ARO + "Hydrophobe", ARO + "NonHydrophobe", N + "Donor", ARO + "NonHydrophobe",
                        ARO + "Hydrophobe"]),
        ("c1ccncc1", [*[ARO + "Hydrophobe"] * 2, ARO + "NonHydrophobe", N + "Acceptor", ARO + "NonHydrophobe",
                      ARO + "Hydrophobe"]),
        ("[Na+].[Mg+2].[Mn+2].[Zn+2].[Ca+2].[Fe+2].[Cu+2].O",
         ["GenericMetal", "Magnesium", "Manganese", "Zinc", "Calcium", "Iron", "GenericMetal", O + "DonorAcceptor"]),
        ("[H]C([H])([H])O[H]", ["Hydrogen", NONHYDROPHOBE, "Hydrogen", "Hydrogen", O + "DonorAcceptor",
                                "PolarHydrogen"]),
    ],
)  # fmt: skip
def test_types_by_hand(tmp_path, smiles, expected):
    assert names(record(tmp_path, smiles)) == expected


def test_leaving_hydrogens_out_changes_no_other_atom():
    typer = GninaTyper()
    for full, heavy in zip(read_molecules(cdk2()), read_molecules(cdk2(), hydrogens=False), strict=True):
        expected = typer(full)[0][full.elements != 1]
        np.testing.assert_array_equal(typer(heavy)[0], expected)
        hydrogens = [atom.GetTotalNumHs(includeNeighbors=True) for atom in full.to_rdkit().GetAtoms()]
        kept = [atom.GetTotalNumHs(includeNeighbors=True) for atom in heavy.to_rdkit().GetAtoms()]
        assert kept == np.array(hydrogens)[full.elements != 1].tolist()


def test_receptor_and_ligand_side_by_side():
    receptor = next(read_molecules(posebusters("1uou", "protein_one_lig_removed.pdb")))
    ligand = next(read_molecules(posebusters("1uou", "ligand.sdf")))
    parts = {
        "receptor": type_atoms(receptor, GninaTyper("receptor")),
        "ligand": type_atoms(ligand, GninaTyper("ligand")),
    }
    both = join_atoms(**parts)
    assert len(both.channels) == 28 and both.channels[14] == "ligand AliphaticCarbonXSHydrophobe"
    types = both.types[len(receptor) :]
    np.testing.assert_array_equal(types, np.where(parts["ligand"].types < 0, -1, parts["ligand"].types + 14))
    assert (types[ligand.elements == 1] == -1).all() and (types[ligand.elements != 1] >= 14).all()
    assert both.channels[types[ligand.elements == 17][0]] == "ligand Chlorine"


def test_bad_arguments(tmp_path):
    for bad in (lambda: GninaTyper("protein"), lambda: GninaTyper(radii="vdw"), lambda: GninaTyper().from_types([0.5])):
        with pytest.raises(ValueError, match=r"^(part|radii|types): got .*expected"):
            bad()
    with pytest.raises(MoleculeError, match=r"atom 2 is .*dummy"):
        GninaTyper()(record(tmp_path, "C*"))


def test_maps_merge_select_and_rename(tmp_path):
    ligand = next(read_molecules(cdk2()))
    elements = ElementTyper()
    typer = MappedTyper(elements, {"carbon": ["C"], "polar": ["N", "O"]}, other="rest")
    types, radii, channels = typer(ligand)
    symbols = np.array(elements.channels)[elements(ligand)[0]]
    expected = [{"C": "carbon", "N": "polar", "O": "polar"}.get(symbol, "rest") for symbol in symbols]
    assert [channels[index] for index in types] == expected and channels == typer.channels
    np.testing.assert_array_equal(radii, elements(ligand)[1])
    subset = MappedTyper(elements, [["N"], ["O", "S"]])
    assert subset.channels == ("N", "O_S")
    assert set(subset(ligand)[0][symbols == "C"]) == {-1}
    vectors = type_atoms(ligand, MappedTyper(OneHotTyper(elements), typer.groups, other="rest"))
    np.testing.assert_array_equal(vectors.types, type_atoms(ligand, typer).vector_types())

    path = tmp_path / "ligand.map"
    path.write_text("\n".join(" ".join(group) for group in GNINA_LIGAND_MAP) + "\n\n")
    mapped = MappedTyper(GninaTyper(), read_map(path))
    assert mapped.channels == GninaTyper("ligand").channels
    np.testing.assert_array_equal(mapped(ligand)[0], GninaTyper("ligand")(ligand)[0])
    for groups in ({"a": ["Q"]}, {"a": ["C"], "b": ["C"]}, {}, {"rest": ["C"]}):
        with pytest.raises(ValueError, match="groups: got"):
            MappedTyper(elements, groups, other="rest" if groups else None)


@pytest.mark.parametrize("typer", [GninaTyper("ligand"), OneHotTyper(GninaTyper()),
                                   MappedTyper(GninaTyper(), GNINA_RECEPTOR_MAP)])  # fmt: skip
def test_typers_pickle(typer):
    ligand = next(read_molecules(cdk2()))
    copy = pickle.loads(pickle.dumps(typer))
    assert copy.channels == typer.channels and copy == typer and repr(copy) == repr(typer)
    assert hash(copy) == hash(typer) and MappedTyper(typer, [typer.channels[:1]]) != typer
    for ours, theirs in zip(typer(pickle.loads(pickle.dumps(ligand)))[:2], copy(ligand)[:2]):
        np.testing.assert_array_equal(ours, theirs)


def turned(molecule, axes):
    return dataclasses.replace(molecule, coords=molecule.coords[:, axes] * [1, -1, -1])


def test_open_babels_types_where_hydrogens_are_absent():
    """Its rings with nitrogen are not aromatic, and its acids depend on which way is up."""
    receptor = next(read_molecules(posebusters("1uou", "protein_one_lig_removed.pdb")))
    chemical, babel = GninaTyper(), GninaTyper(openbabel=True)
    names = np.array(chemical.channels)
    where = {name: receptor.sites.residue_names == name for name in ("TRP", "HIS", "TYR")}
    of_ring = np.char.startswith(names, "Aromatic")
    counts = {
        name: [of_ring[typer(receptor)[0][mask]].sum() for typer in (chemical, babel)] for name, mask in where.items()
    }
    assert counts == {"TRP": [32, 0], "HIS": [18, 0], "TYR": [6, 6]}
    rings = where["TRP"] | where["HIS"]
    nitrogens = receptor.elements == 7
    side = ~np.isin(receptor.sites.atom_names, ["N"])
    assert set(names[babel(receptor)[0][rings & nitrogens & side]]) == {"NitrogenXSAcceptor"}
    assert list(names[chemical(receptor)[0][rings & nitrogens & side]]).count("NitrogenXSDonor") == 10

    acids = np.isin(receptor.sites.residue_names, ["ASP", "GLU"]) & (receptor.elements == 8)
    other = turned(receptor, [1, 0, 2])
    np.testing.assert_array_equal(chemical(receptor)[0], chemical(other)[0])
    changed = babel(receptor)[0] != babel(other)[0]
    assert changed.any() and not changed[~acids & ~np.isin(receptor.sites.atom_names, ["O", "OXT"])].any()

    full = receptor.with_hydrogens()
    np.testing.assert_array_equal(babel(full)[0], chemical(full)[0])
    ligand = next(read_molecules(posebusters("1uou", "ligand.sdf")))
    np.testing.assert_array_equal(babel(ligand)[0], chemical(ligand)[0])


def test_the_table_of_the_page():
    page = Path(__file__).resolve().parents[1] / "docs" / "molecules.md"
    if not page.exists():
        pytest.skip("needs the documentation beside the tests")
    lines = re.findall(r"^\| \d+ \|.*$", page.read_text(encoding="utf-8"), re.M)
    parts = [GninaTyper(part).from_types(range(28))[0] for part in ("receptor", "ligand")]
    for number, (line, kind) in enumerate(zip(lines, GNINA_TYPES, strict=True)):
        index, name, _, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        channels = ["–" if part[number] < 0 else str(part[number]) for part in parts]
        assert (index, name) == (str(number), kind.name)
        assert rest == [f"{kind.xs_radius:.2f}", f"{kind.covalent_radius:.2f}", *channels]
