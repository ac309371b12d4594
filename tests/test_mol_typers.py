"""Elements, van der Waals radii, typers and their hook."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.mol_data import METHANOL, METHANOL_BONDS, cdk2, molblock

import gridgrad as gg
from gridgrad.mol import (
    SYMBOLS,
    VDW_RADII,
    ElementTyper,
    Molecule,
    MoleculeError,
    grid_atoms,
    join_atoms,
    read_molecules,
    type_atoms,
)


def molecule(*symbols):
    elements = np.array([SYMBOLS.index(symbol) for symbol in symbols], dtype=np.int64)
    coords = np.random.default_rng(len(symbols)).uniform(-2, 2, (len(symbols), 3))
    return Molecule(elements, coords, None, "made", Path("made.sdf"), 4)


def test_symbols_are_in_the_order_of_the_periodic_table():
    assert len(SYMBOLS) == 119 and len(set(SYMBOLS)) == 119
    rdchem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
    table = rdchem.GetPeriodicTable()
    assert list(SYMBOLS[1:]) == [table.GetElementSymbol(number) for number in range(1, 119)]


@pytest.mark.parametrize(
    ("symbol", "radius"),
    [("H", 1.10), ("C", 1.70), ("N", 1.55), ("O", 1.52), ("F", 1.47), ("P", 1.80), ("S", 1.80), ("Cl", 1.75),
     ("Br", 1.83), ("I", 1.98), ("B", 1.92), ("Ca", 2.31), ("Li", 1.81), ("Fe", 2.44), ("Zn", 2.39), ("U", 2.71)],
)  # fmt: skip
def test_radii_of_the_cited_tables(symbol, radius):
    assert VDW_RADII[symbol] == radius


def test_the_tables_cover_what_their_papers_cover():
    main_group = {
        s for n, s in enumerate(SYMBOLS) if n and not (21 <= n <= 30 or 39 <= n <= 48 or 57 <= n <= 80 or n > 88)
    }
    assert len(main_group) == 44 and main_group <= set(VDW_RADII)
    assert set(VDW_RADII) - main_group == set(SYMBOLS[21:31] + SYMBOLS[39:49] + SYMBOLS[57:81] + SYMBOLS[89:100]) - {
        "Pm"
    }
    assert all(1.0 < radius < 3.5 for radius in VDW_RADII.values())


def test_bondi_radii_agree_with_gemmi():
    gemmi = pytest.importorskip("gemmi", reason="gemmi is not installed")
    for symbol in ("C", "N", "O", "F", "P", "S", "Cl", "I", "Si", "Se", "Mg", "Na", "K", "Ca", "B"):
        assert gemmi.Element(symbol).vdw_r == pytest.approx(VDW_RADII[symbol], abs=1e-6)


def test_element_typer_channels_and_radii():
    types, radii, channels = ElementTyper()(molecule("C", "H", "O", "Zn", "I", "Fe", "C"))
    assert [channels[t] for t in types] == ["C", "H", "O", "other", "I", "other", "C"]
    np.testing.assert_array_equal(radii, [1.70, 1.10, 1.52, 2.39, 1.98, 2.44, 1.70])
    assert channels == ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I", "other")
    assert ElementTyper().without_hydrogen().channels == channels[1:]


def test_element_typer_options():
    typer = ElementTyper(("c", "ZN"), other=None, radii={"C": 1.9, "Zn": 1.39})
    types, radii, channels = typer(molecule("Zn", "C"))
    assert channels == ("C", "Zn") and types.tolist() == [1, 0] and radii.tolist() == [1.39, 1.9]
    with pytest.raises(MoleculeError, match=r"made.sdf, record 4: atom 2 is O, which has no channel"):
        typer(molecule("C", "O"))
    with pytest.raises(ValueError, match="element: got 'Qq'"):
        ElementTyper(("Qq",))
    for wrong in ((), ("C", "C"), ("*",)):
        with pytest.raises(ValueError, match="elements: got"):
            ElementTyper(wrong)


@pytest.mark.parametrize(
    ("symbols", "match"), [(("C", "*"), "atom 2 is .*dummy"), (("Pm",), "no van der Waals radius")]
)
def test_atoms_without_element_or_radius(symbols, match):
    with pytest.raises(MoleculeError, match=match):
        type_atoms(molecule(*symbols))
    assert len(type_atoms(molecule("Pm"), ElementTyper(radii={"Pm": 2.9}))) == 1


@pytest.mark.parametrize(
    ("returned", "match"),
    [
        (([0, 1], [1.0, 1.0], ("a",)), "type index 1, expected less than the 1"),
        (([0], [1.0, 1.0], ("a",)), r"types are int64 of shape \(1,\)"),
        (([0.0, 0.0], [1.0, 1.0], ("a",)), r"types are float64 of shape \(2,\)"),
        ((np.zeros((2, 3)), [1.0, 1.0], ("a", "b")), r"shape \(2, 3\)"),
        (([0, 0], [1.0, 0.0], ("a",)), "radii"),
        (([0, 0], [1.0, np.nan], ("a",)), "radii"),
        (([0, 0], [1.0], ("a",)), "radii"),
        (([0, 0], [1.0, 1.0], ()), "channel names"),
        (([0, 0], [1.0, 1.0], ("a", "a")), "channel names"),
        (([0, 0], [1.0, 1.0], (1,)), "channel names"),
    ],
)
def test_typers_are_checked(returned, match):
    with pytest.raises(MoleculeError, match=f"typer: .*{match}"):
        type_atoms(molecule("C", "O"), lambda _: returned)


def test_joined_parts_have_channels_of_their_own():
    first = type_atoms(molecule("C", "O", "Fe"))
    second = type_atoms(molecule("N", "C"), lambda m: (np.array([-1, 0]), np.ones(2), ("hot", "cold")))
    both = join_atoms(receptor=first, ligand=second)
    assert both.channels == (*(f"receptor {c}" for c in first.channels), "ligand hot", "ligand cold")
    assert both.types.tolist() == [1, 3, 10, -1, 11]
    np.testing.assert_array_equal(both.coords, np.concatenate([first.coords, second.coords]))
    weights = dataclasses.replace(second, types=np.array([[0.5, 0.25], [0.0, 2.0]]))
    mixed = join_atoms(receptor=first, ligand=weights)
    np.testing.assert_array_equal(mixed.types[:3], both.vector_types()[:3])
    np.testing.assert_array_equal(mixed.types[3:, 11:], weights.types)
    assert not mixed.types[3:, :11].any()
    assert not both.vector_types()[3].any()


def test_grid_atoms_is_coords2grid(tmp_path):
    gm = gg.GridMaker(dimension=(8, 9, 10))
    atoms = type_atoms(molecule("C", "O", "N", "Cl"))
    center = np.array([0.3, -0.2, 0.1])
    grid = grid_atoms(gm, atoms, center, dtype=torch.float64, name="made")
    expected = gm.forward(tuple(center), atoms.coords, atoms.types, atoms.radii, n_types=11)
    np.testing.assert_allclose(grid.density, expected, atol=1e-13)
    np.testing.assert_allclose(grid.origin, center - [4, 4.5, 5])
    weights = dataclasses.replace(atoms, types=atoms.vector_types())
    np.testing.assert_allclose(grid_atoms(gm, weights, center, dtype=torch.float64).density, expected, atol=1e-13)


def test_far_from_the_origin_float32_keeps_its_digits():
    gm, atoms = gg.GridMaker(dimension=8), type_atoms(molecule("C", "O", "N"))
    near = grid_atoms(gm, atoms, np.zeros(3)).density
    shift = np.array([4096.0, -2048.0, 8192.0])
    far = grid_atoms(gm, dataclasses.replace(atoms, coords=atoms.coords + shift), shift).density
    np.testing.assert_allclose(far, near, atol=2e-6)


def test_a_typer_may_ask_for_the_chemistry(tmp_path):
    pytest.importorskip("rdkit", reason="rdkit is not installed")

    def aromatic(m):
        flags = [atom.GetIsAromatic() for atom in m.to_rdkit().GetAtoms()]
        return np.array(flags, dtype=np.int64), np.full(len(m), 1.7), ("aliphatic", "aromatic")

    ligand = next(read_molecules(cdk2(), hydrogens=False))
    assert type_atoms(ligand, aromatic).types.sum() == 9  # the purine of the first ligand
    path = tmp_path / "m.sdf"
    path.write_text(molblock(METHANOL, METHANOL_BONDS))
    assert type_atoms(next(read_molecules(path)), aromatic).types.sum() == 0
