"""What a user writes, with the types that a checker has to find; `mypy` reads this file, nothing runs it.

A call of the public API that gets other types than these, or is refused though it is right, is an error of mypy.
"""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from torch import Tensor

import gridgrad as gg
from gridgrad.data import (
    AtomBatch,
    AtomBudgetBatchSampler,
    AtomStore,
    BalancedSampler,
    ComplexDataset,
    DataLoader,
    MolCache,
    RandomRigid,
    Rigid,
    TypesTable,
    collate,
    read_gninatypes,
    read_molcache2,
    read_types,
    write_gninatypes,
    write_store,
)
from gridgrad.fit import fit_atoms
from gridgrad.io import DensityGrid, read, write
from gridgrad.mol import (
    ElementTyper,
    GninaTyper,
    Molecule,
    TypedAtoms,
    count_records,
    grid_atoms,
    read_molecules,
    type_atoms,
)

Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]


def grids() -> gg.GridMaker:
    gg.GridMaker(0.5, (23.5, 12, 7.5), tail="quintic", radius_scale=1)
    gm = gg.GridMaker(resolution=0.5, dimension=23.5)
    assert_type(gm.dimension, tuple[float, float, float])
    assert_type(gm.spatial_grid_dimensions(), tuple[int, int, int])
    assert_type(gm.grid_dimensions(14), tuple[int, int, int, int])
    return gm


def derivatives(gm: gg.GridMaker, coords: Tensor, types: Tensor, radii: Tensor) -> None:
    density = gg.coords2grid(gm, (0.0, 0.0, 0.0), coords, types, radii, n_types=4)
    assert_type(density, Tensor)
    gg.coords2grid(gm, coords.mean(0), coords, types, 1.7, batch=types.long(), batch_size=2, fixed=types > 0)
    assert_type(gm.forward((0, 0, 0), coords, types, radii), Tensor)
    assert_type(gm.backward((0, 0, 0), coords, types, radii, density), tuple[Tensor, Tensor | None, Tensor])
    second = gm.backward_gradients(coords[0], coords, types, radii, density, coords, None, radii)
    assert_type(second, tuple[Tensor, Tensor, Tensor | None, Tensor])
    assert_type(gm.backward_relevance((0, 0, 0), coords, types, radii, density, density), Tensor)


def arrays(gm: gg.GridMaker, coords: Array, types: Array, radii: Array) -> Array:
    density = gm.forward(np.zeros(3), coords, types, radii, n_types=4)
    assert_type(density, Array)
    return gm.backward((0.0, 0.0, 0.0), coords, types, radii, density)[0]


def layer(gm: gg.GridMaker, batch: AtomBatch) -> Tensor:
    net = torch.nn.Sequential(gg.Coords2Grid(gm, n_types=28), torch.nn.Flatten())
    assert_type(gg.Coords2Grid(gm, center=(0, 0, 0)).forward(batch), Tensor)
    gg.Coords2Grid(gm).forward(batch.coords, batch.types, batch.radii, center=(0.0, 0.0, 1.0))
    assert_type(batch.center, Tensor | None)
    found: Tensor = net(batch.to("cpu"))
    return found


def files(path: Path) -> DensityGrid:
    grid = read(path)
    assert_type(grid, DensityGrid)
    assert_type(write("grid.npz", grid, overwrite=False), list[Path])
    return grid


def molecules(path: Path, gm: gg.GridMaker) -> TypedAtoms:
    for molecule in read_molecules(path, hydrogens=False, on_error=lambda error: print(error.reason, error.record)):
        assert_type(molecule, Molecule)
        atoms = type_atoms(molecule, GninaTyper("ligand"))
        grid_atoms(gm, atoms, molecule.coords.mean(axis=0))
    assert_type(count_records(path), int)
    return type_atoms(molecule, ElementTyper())


def data(path: Path, atoms: TypedAtoms) -> DataLoader:
    write_store(path, [("name", atoms)])
    write_gninatypes(path, atoms)
    store = AtomStore(path)
    assert_type(store[0], AtomBatch)
    assert_type(store[[0, 1]], AtomBatch)
    assert_type(read_gninatypes(path), TypedAtoms)
    assert_type(read_molcache2(path), MolCache)
    table = read_types(path, n_labels=1)
    assert_type(table, TypesTable)
    assert_type(collate([store[0], store[1]]), AtomBatch)
    moved, motion = RandomRigid(translation=2.0, generator=torch.Generator())(store[0])
    assert_type(motion, Rigid)
    assert_type(motion.inverse()(moved), AtomBatch)
    dataset = ComplexDataset({"ligand": store}, rows={"ligand": [0, 1]}, labels={"affinity": [1.0, 2.0]})
    sampler = AtomBudgetBatchSampler([10, 20], max_atoms=1000, sampler=BalancedSampler([0, 1], seed=1))
    return DataLoader(dataset, batch_sampler=sampler)


def fit(gm: gg.GridMaker, density: Tensor) -> AtomBatch:
    return fit_atoms(gm, density, torch.full((4,), 1.7), n_atoms=20)
