"""The atom types of smina and gnina, and gnina's channels.

Names, elements and radii are those of libmolgrid's `GninaIndexTyper`, the maps to channels those of its
`defaultGninaReceptorTyper` and `defaultGninaLigandTyper`: Sunseri and Koes, "libmolgrid: Graphics Processing Unit
Accelerated Molecular Gridding for Deep Learning Applications", J. Chem. Inf. Model. 60, 1079-1084 (2020),
doi:10.1021/acs.jcim.9b01145. The XS radii are those of X-Score and AutoDock Vina.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gridgrad.mol.chemistry import Chemistry
from gridgrad.mol.molecule import Molecule
from gridgrad.mol.openbabel import as_open_babel

__all__ = ["GNINA_LIGAND_MAP", "GNINA_RECEPTOR_MAP", "GNINA_TYPES", "GninaType", "GninaTyper", "smina_types"]


class GninaType(NamedTuple):
    """One of smina's atom types: name, atomic number (0: any), XS and covalent radius in angstrom."""

    name: str
    element: int
    xs_radius: float
    covalent_radius: float


GNINA_TYPES = tuple(
    GninaType(*row)
    for row in (
        ("Hydrogen", 1, 0.37, 0.37),
        ("PolarHydrogen", 1, 0.37, 0.37),
        ("AliphaticCarbonXSHydrophobe", 6, 1.9, 0.77),
        ("AliphaticCarbonXSNonHydrophobe", 6, 1.9, 0.77),
        ("AromaticCarbonXSHydrophobe", 6, 1.9, 0.77),
        ("AromaticCarbonXSNonHydrophobe", 6, 1.9, 0.77),
        ("Nitrogen", 7, 1.8, 0.75),
        ("NitrogenXSDonor", 7, 1.8, 0.75),
        ("NitrogenXSDonorAcceptor", 7, 1.8, 0.75),
        ("NitrogenXSAcceptor", 7, 1.8, 0.75),
        ("Oxygen", 8, 1.7, 0.73),
        ("OxygenXSDonor", 8, 1.7, 0.73),
        ("OxygenXSDonorAcceptor", 8, 1.7, 0.73),
        ("OxygenXSAcceptor", 8, 1.7, 0.73),
        ("Sulfur", 16, 2.0, 1.02),
        ("SulfurAcceptor", 16, 2.0, 1.02),
        ("Phosphorus", 15, 2.1, 1.06),
        ("Fluorine", 9, 1.5, 0.71),
        ("Chlorine", 17, 1.8, 0.99),
        ("Bromine", 35, 2.0, 1.14),
        ("Iodine", 53, 2.2, 1.33),
        ("Magnesium", 12, 1.2, 1.30),
        ("Manganese", 25, 1.2, 1.39),
        ("Zinc", 30, 1.2, 1.31),
        ("Calcium", 20, 1.2, 1.74),
        ("Iron", 26, 1.2, 1.25),
        ("GenericMetal", 0, 1.2, 1.75),
        ("Boron", 5, 1.92, 0.90),
    )
)
"""The 28 types of smina, by number."""

_INDEX = {kind.name: index for index, kind in enumerate(GNINA_TYPES)}
_GENERIC = _INDEX["GenericMetal"]

GNINA_RECEPTOR_MAP = tuple(
    tuple(line.split())
    for line in (
        "AliphaticCarbonXSHydrophobe",
        "AliphaticCarbonXSNonHydrophobe",
        "AromaticCarbonXSHydrophobe",
        "AromaticCarbonXSNonHydrophobe",
        "Bromine Iodine Chlorine Fluorine",
        "Nitrogen NitrogenXSAcceptor",
        "NitrogenXSDonor NitrogenXSDonorAcceptor",
        "Oxygen OxygenXSAcceptor",
        "OxygenXSDonorAcceptor OxygenXSDonor",
        "Sulfur SulfurAcceptor",
        "Phosphorus",
        "Calcium",
        "Zinc",
        "GenericMetal Boron Manganese Magnesium Iron",
    )
)
"""gnina's 14 channels of a receptor: the types of each. Hydrogens are in none."""

GNINA_LIGAND_MAP = (
    *GNINA_RECEPTOR_MAP[:4],
    ("Bromine", "Iodine"),
    ("Chlorine",),
    ("Fluorine",),
    *GNINA_RECEPTOR_MAP[5:11],
    ("GenericMetal", "Boron", "Manganese", "Magnesium", "Zinc", "Calcium", "Iron"),
)
"""gnina's 14 channels of a ligand: the types of each. Hydrogens are in none."""

_MAPS = {None: tuple((kind.name,) for kind in GNINA_TYPES), "receptor": GNINA_RECEPTOR_MAP, "ligand": GNINA_LIGAND_MAP}


def _channel_of_type(groups: tuple[tuple[str, ...], ...]) -> np.ndarray:
    channel = {name: index for index, group in enumerate(groups) for name in group}
    return np.array([channel.get(kind.name, -1) for kind in GNINA_TYPES], dtype=np.int64)


_CHANNELS = {part: _channel_of_type(groups) for part, groups in _MAPS.items()}
_NAMES = {part: tuple("_".join(group) for group in groups) for part, groups in _MAPS.items()}
_RADII = {
    "xs": np.array([kind.xs_radius for kind in GNINA_TYPES]),
    "covalent": np.array([kind.covalent_radius for kind in GNINA_TYPES]),
}

_BY_ELEMENT = np.full(256, _GENERIC, dtype=np.int64)
for _index, _kind in reversed(tuple(enumerate(GNINA_TYPES))):
    if _kind.element:
        _BY_ELEMENT[_kind.element] = _index  # of several the first, which bonds then change
_BY_ELEMENT[34] = _INDEX["Sulfur"]

_HETERO = np.ones(256, dtype=bool)
_HETERO[[1, 6]] = False
_POLAR = np.zeros(256, dtype=bool)  # a hydrogen on one of these is polar
_POLAR[[7, 8, 15, 16]] = True


@dataclass(frozen=True)
class GninaTyper:
    """smina's atom types in gnina's channels.

    Types follow from bonds, aromaticity, charges and hydrogens, those of the file and those that fill the valences.
    A carbon is a non-hydrophobe beside any atom but carbon and hydrogen. A nitrogen accepts unless it has four
    neighbours, or three and is conjugated; oxygen always accepts, sulfur with a negative charge; with a hydrogen they
    donate. Selenium counts as sulfur; an element without a type of its own is a generic metal.

    Parameters
    ----------
    part : {"receptor", "ligand"} or None, default None
        Channels: gnina's 14 of a receptor or of a ligand, in which hydrogens have none and are ignored; None for the
        28 types themselves.
    radii : {"xs", "covalent"}, default "xs"
        Which radii: those of X-Score, which gnina uses, or covalent ones.
    openbabel : bool, default False
        Type a structure without hydrogens as libmolgrid does through Open Babel, where that differs from the chemistry:
        see `gridgrad.mol.openbabel`. For networks that were trained on such types.
    """

    part: str | None = None
    radii: str = "xs"
    openbabel: bool = False

    def __post_init__(self):
        if self.part not in _MAPS:
            raise ValueError(f"part: got {self.part!r}, expected 'receptor', 'ligand' or None")
        if self.radii not in _RADII:
            raise ValueError(f"radii: got {self.radii!r}, expected 'xs' or 'covalent'")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels: the types of each, joined by "_" as in libmolgrid."""
        return _NAMES[self.part]

    @property
    def type_radii(self) -> np.ndarray:
        """Radius of each of smina's 28 types in angstrom, (28,)."""
        return _RADII[self.radii].copy()

    @property
    def channel_radii(self) -> np.ndarray | None:
        """Radius of each channel in angstrom where the channel fixes it: (28,) without a part, otherwise None."""
        return self.type_radii if self.part is None else None

    def from_types(self, types: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return channels and radii of atoms whose smina types are known, from a file of types for instance.

        Parameters
        ----------
        types : array_like of int, shape (N,)
            Numbers in `GNINA_TYPES`; negative for an atom to ignore. A number above 27 is a generic metal.

        Returns
        -------
        types : ndarray of int64, shape (N,)
            Channel of each atom, -1 where it has none.
        radii : ndarray of float64, shape (N,)
            Radii in angstrom.
        channels : tuple of str
            Names of the channels.
        """
        types = np.asarray(types)
        if types.ndim != 1 or types.dtype.kind not in "iu":
            raise ValueError(f"types: got {types.dtype} of shape {types.shape}, expected integers (N,)")
        known = np.where((types < 0) | (types >= len(GNINA_TYPES)), _GENERIC, types)
        return np.where(types < 0, -1, _CHANNELS[self.part][known]), _RADII[self.radii][known], self.channels

    def __call__(self, molecule: Molecule) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return channels (N,), radii (N,) and channel names.

        Raises
        ------
        MoleculeError
            If the chemistry of the molecule cannot be had, or an atom is a dummy.
        """
        return self.from_types(smina_types(molecule, self.openbabel))


def smina_types(molecule: Molecule, openbabel: bool = False) -> np.ndarray:
    """Return the number of each atom's type in `GNINA_TYPES`; `openbabel` as in `GninaTyper`."""
    dummies = np.flatnonzero(molecule.elements == 0)
    if len(dummies):
        raise molecule.error(molecule.unknown_element(dummies[0]))
    chemistry = molecule.chemistry()
    if openbabel and not molecule.has_bond_orders:
        chemistry = as_open_babel(chemistry, molecule.coords)
    types = _types(chemistry)
    return np.where(chemistry.by_element, _BY_ELEMENT[chemistry.elements], types)


def _types(chemistry: Chemistry) -> np.ndarray:
    z, h = chemistry.elements, chemistry.hydrogens > 0
    types = _BY_ELEMENT[z]

    polar = chemistry.count_neighbors(_POLAR[z]) > 0
    types[(z == 1) & polar] = _INDEX["PolarHydrogen"]

    carbon = z == 6
    hetero = chemistry.count_neighbors(_HETERO[z]) > 0
    types[carbon] += 2 * chemistry.aromatic[carbon] + hetero[carbon]

    nitrogen = z == 7
    # conjugated: a multiple bond of its own or of a neighbour that is carbon, nitrogen, oxygen or aromatic
    spreads = (chemistry.unsaturated & (z >= 6) & (z <= 8)) | chemistry.aromatic
    conjugated = chemistry.unsaturated | (chemistry.count_neighbors(spreads) > 0)
    degree = chemistry.degree
    accepts = ~(((degree == 4) & ~conjugated) | ((degree == 3) & conjugated))
    types[nitrogen & accepts] = np.where(h, _INDEX["NitrogenXSDonorAcceptor"], _INDEX["NitrogenXSAcceptor"])[
        nitrogen & accepts
    ]
    types[nitrogen & ~accepts & h] = _INDEX["NitrogenXSDonor"]

    oxygen = z == 8
    types[oxygen] = np.where(h, _INDEX["OxygenXSDonorAcceptor"], _INDEX["OxygenXSAcceptor"])[oxygen]
    types[(z == 16) & (chemistry.charges == -1)] = _INDEX["SulfurAcceptor"]
    return types
