"""Small molecule files that readers stumble over, and what has to come out of each."""

from dataclasses import dataclass, field
from itertools import count

from support.mol_data import METHANOL, METHANOL_BONDS, molblock

ALT, UNKNOWN = "alternative locations", "unknown elements"


@dataclass(frozen=True)
class Trap:
    """A file, and what is read of it with `skip_unknown`.

    For each record that is read the number of atoms and how many are left out, by reason; for each record that is not
    (None: the whole file) a part of what is said about it; the elements of the first record, where they are not plain.
    """

    text: str
    atoms: tuple = ()
    left_out: tuple = ()
    refused: dict = field(default_factory=dict)
    elements: str = ""


# --- PDB --------------------------------------------------------------------------------------------------------------


def atom(serial, name, residue="ALA", number=1, *, alt=" ", occ=1.0, chain="A", code=" ", segment="", element=None,
         record="ATOM", left=False, z=None):  # fmt: skip
    """One line of a PDB file; the place follows from the serial number."""
    x, y, z = 1.5 * (serial % 17), 1.4 * (serial % 13), 1.0 + 0.01 * serial if z is None else z
    element = name.strip(" 0123456789'")[:1] if element is None else element
    columns = f"{name:<4}" if left or len(name) == 4 else f" {name:<3}"
    serial = f"{serial:5d}" if serial < 100_000 else "*****"
    return (
        f"{record:<6}{serial} {columns}{alt}{residue:>3} {chain}{number:4d}{code}   {x:8.3f}{y:8.3f}{z:8.3f}"
        f"{occ:6.2f}  0.00      {segment:<4}{element:>2}\n"
    )


def pdb(*lines):
    """Text of a PDB file; a line is text or the arguments of `atom`."""
    serials = count(1)
    return "".join(line if isinstance(line, str) else atom(next(serials), **line) for line in lines)


def atoms(names, **options):
    return [{"name": name, **options} for name in names.split()]


def conformers(names, *labels, **options):
    """Atoms of every label and occupancy, atom by atom."""
    return [{"name": name, "alt": alt, "occ": occ, **options} for name in names.split() for alt, occ in labels]


def waters(number_of, count, names="O H1 H2"):
    return [row for i in range(count) for row in atoms(names, residue="HOH", number=number_of(i), chain="W")]


def at(number, residue="SER"):
    return {"number": number, "residue": residue}


BACKBONE = atoms("N CA C O", **at(7))
SIDE = "CB OG"

PDB = {
    # nothing of this is an alternative location
    "wrapped_waters": Trap(pdb(*waters(lambda i: i % 10_000, 10_050, "O")), (10_050,)),
    "waters_of_one_number": Trap(pdb(*waters(lambda i: 1, 9)), (27,)),
    "serials_beyond_99999": Trap(pdb(*waters(lambda i: i % 10_000, 100_100, "O")), (100_100,)),
    "ligand_with_a_number_of_its_protein": Trap(
        pdb(*BACKBONE, *atoms(SIDE, **at(7)), *atoms("C1 C2 CB OG O1", record="HETATM", **at(7, "LIG"))), (11,)
    ),
    "hydrogens_of_one_name": Trap(pdb(*BACKBONE, *atoms("H H H", **at(7))), (7,)),
    "repeated_atom_names": Trap(pdb(*atoms("C C C O O N", residue="LIG", record="HETATM")), (6,)),
    "chains_without_a_name": Trap(pdb(*BACKBONE, *BACKBONE, "TER\n", *BACKBONE), (12,)),
    "segments": Trap(
        pdb(*(row for s in ("PROA", "PROB", "WAT1") for row in atoms("N CA C O", chain=" ", segment=s, element=""))),
        (12,), elements="N C C O N C C O N C C O",
    ),
    "interleaved_chains": Trap(pdb(*(row for name in "NCO" for c in "AB" for row in atoms(name, chain=c))), (6,)),
    "insertion_codes": Trap(pdb(*(row for code in " AB" for row in atoms("N CA C O", number=52, code=code))), (12,)),
    "one_label_and_no_rival": Trap(pdb(*BACKBONE, *conformers(SIDE, ("A", 0.5), **at(7))), (6,)),
    "one_label_twice": Trap(pdb(*conformers("O", ("A", 0.5), **at(1, "HOH")), *BACKBONE,
                                *conformers("O", ("A", 0.5), **at(1, "HOH"))), (6,)),
    "labels_without_a_common_atom": Trap(
        pdb(*BACKBONE, *conformers("CB", ("A", 0.5), **at(7)), *conformers("OG", ("B", 0.5), **at(7))), (6,)
    ),
    "labels_of_a_ligand_and_its_residue": Trap(
        pdb(*conformers("CA CB", ("A", 0.5), **at(7)), *conformers("C1 O1", ("A", 0.5), **at(7, "LIG"))), (4,)
    ),
    "after_the_end": Trap(pdb(*BACKBONE, "END\n", *BACKBONE[:3], "END\n"), (4, 3)),
    "after_a_model": Trap(
        pdb("MODEL        1\n", *BACKBONE, "ENDMDL\n", *BACKBONE[:2], "MODEL        2\n", *BACKBONE, "ENDMDL\nEND\n"),
        (4, 2, 4),
    ),
    "an_error_after_a_model": Trap(
        pdb("MODEL        1\n", *BACKBONE, "ENDMDL\n", " ATOM\n"), (4,), refused={2: "in column 1"}
    ),
    "models_that_do_not_end": Trap(pdb("MODEL        1\n", *BACKBONE, "MODEL        2\n", *BACKBONE), (4, 4)),
    "an_empty_model": Trap(
        pdb("MODEL        1\nENDMDL\nMODEL        2\n", *BACKBONE, "ENDMDL\n"), (4,), refused={1: "no atoms"}
    ),
    "byte_order_mark": Trap("\ufeff" + pdb(*BACKBONE), (4,)),
    "other_line_ends": Trap(pdb(*BACKBONE).replace("\n", "\r\n"), (4,)),
    "lower_case_records": Trap(pdb(*BACKBONE).replace("ATOM", "atom"), (4,)),
    "line_numbers_at_the_end": Trap(
        "".join(f"{line[:72]}1ABC{i:4d}\n" for i, line in enumerate(pdb(*BACKBONE).split("\n")[:-1], 120)), (4,),
        elements="N C C O",
    ),
    # alternative locations
    "higher_occupancy": Trap(pdb(*BACKBONE, *conformers(SIDE, ("A", 0.4), ("B", 0.6), **at(7))), (6,), ({ALT: 2},)),
    "first_among_equals": Trap(pdb(*BACKBONE, *conformers(SIDE, ("B", 0.5), ("A", 0.5), **at(7))), (6,), ({ALT: 2},)),
    "as_a_whole": Trap(
        pdb(*BACKBONE, *conformers("CB", ("A", 0.9), ("B", 0.6), **at(7)),
            *conformers("OG", ("A", 0.1), ("B", 0.6), **at(7))), (6,), ({ALT: 2},)
    ),
    "unequal_conformers": Trap(
        pdb(*BACKBONE, *conformers(SIDE, ("A", 0.6), **at(7)), *conformers("CB", ("B", 0.4), **at(7))),
        (6,), ({ALT: 1},),
    ),
    "block_after_block": Trap(
        pdb(*(row for label in (("A", 0.4), ("B", 0.6)) for row in conformers("C C O", label, residue="LIG"))),
        (3,), ({ALT: 3},),
    ),
    "far_apart": Trap(
        pdb(*BACKBONE, *conformers(SIDE, ("A", 0.4), **at(7)), *atoms("N CA C", **at(8)),
            *conformers(SIDE, ("B", 0.6), **at(7))), (9,), ({ALT: 2},)
    ),
    "first_without_a_label": Trap(
        pdb(*BACKBONE, *conformers("CB", (" ", 0.6), ("B", 0.4), **at(7))), (5,), ({ALT: 1},)
    ),
    "two_groups_in_a_residue": Trap(
        pdb(*BACKBONE, *conformers("CB", ("A", 0.4), ("B", 0.6), **at(7)),
            *conformers("OG", ("C", 0.7), ("D", 0.3), **at(7))), (6,), ({ALT: 2},)
    ),
    "two_residues_at_one_place": Trap(
        pdb(*(row for name in ("N", "CA", "C") for row in (*conformers(name, ("A", 0.4), **at(22, "PRO")),
                                                           *conformers(name, ("B", 0.6), **at(22))))),
        (3,), ({ALT: 3},),
    ),
    "one_residue_after_the_other": Trap(
        pdb(*conformers("N CA C", ("A", 0.6), **at(22, "PRO")), *conformers("N CA C CB", ("B", 0.4), **at(22))),
        (3,), ({ALT: 4},),
    ),
    "deuterium": Trap(
        pdb(*BACKBONE, *conformers("H", ("A", 0.4), **at(7)), *conformers("D", ("B", 0.6), element="D", **at(7))),
        (5,), ({ALT: 1},),
    ),
    "waters_with_labels": Trap(
        pdb(*(row for number in (1, 2, 1) for row in conformers("O", ("A", 0.5), ("B", 0.5), **at(number, "HOH")))),
        (3,), ({ALT: 3},),
    ),
    "two_chains_without_a_name": Trap(
        pdb(*BACKBONE, *conformers(SIDE, ("A", 0.4), ("B", 0.6), **at(7)), *atoms("N CA", **at(8)),
            *BACKBONE, *atoms(SIDE, **at(7))), (14,), ({ALT: 2},),
    ),
    # elements
    "no_element_column": Trap(
        pdb(*atoms("N CA C O CB CG CD HG11 1HD2 OXT", element="", **at(1, "ILE"))), (10,),
        elements="N C C O C C C H H O",
    ),
    "names_in_the_first_column": Trap(
        pdb(*atoms("N CA CD CE HG NE OXT SE ZN", element="", left=True, **at(1, "ARG"))[:7]), (7,),
        elements="N C C C H N O",
    ),
    "ions": Trap(
        pdb(*(row for name in ("ZN", "NA", "CL", "SOD", "POT", "CLA", "CAL", "MG")
              for row in atoms(name, element="", record="HETATM", **at(1, name)))), (8,),
        elements="Zn Na Cl Na K Cl Ca Mg",
    ),
    "ligand_without_elements": Trap(
        pdb(*atoms("C1 N2 O3", element="", **at(1, "LIG")), *atoms("CL1 BR2", element="", left=True, **at(1, "LIG"))),
        (5,), elements="C N O Cl Br",
    ),
    "sites_without_an_element": Trap(
        pdb(*atoms("O H1 H2", element="", **at(1, "HOH")), *atoms("MW LP1", element="", **at(1, "HOH"))),
        (3,), ({UNKNOWN: 2},),
    ),
    "one_dummy": Trap(pdb(*BACKBONE, *atoms("X1", element="*", **at(1, "DUM"))), (4,), ({UNKNOWN: 1},)),
    "no_such_element": Trap(pdb(*BACKBONE, *atoms("Q1", element="QQ", **at(1, "LIG"))), (4,), ({UNKNOWN: 1},)),
    # refused
    "stars_for_a_coordinate": Trap(
        pdb(*BACKBONE).replace("   3.000", "********", 1), refused={1: r"atom 2: columns 31 to 38 are '\*{8}'"}
    ),
    "other_letters": Trap(pdb(*BACKBONE).replace(" CA ", " Cα ").replace(" SER", " Sér"), (4,)),
    "digits_that_are_none": Trap(pdb(*BACKBONE).replace("   3.000", "   3_000", 1), refused={1: "columns 31 to 38"}),
    "beyond_numbers": Trap(pdb(*BACKBONE).replace("   3.000", "   1e400", 1), refused={1: "columns 31 to 38"}),
    "no_coordinate": Trap(pdb(*BACKBONE).replace("   3.000", " " * 8, 1), refused={1: "atom 2: columns 31 to 38"}),
    "cut_off": Trap(pdb(*BACKBONE)[:-40], refused={1: "atom 4: cut off"}),
    "indented": Trap("   " + pdb(*BACKBONE).replace("\n", "\n   "), refused={1: "in column 1"}),
}  # fmt: skip


# --- PDBQT ------------------------------------------------------------------------------------------------------------


def pdbqt(names_and_types, residue="LIG"):
    lines = []
    for serial, word in enumerate(names_and_types.split(), start=1):
        name, _, kind = word.partition(":")
        line = atom(serial, name, residue, element="", record="HETATM", z=2.0 + serial)
        lines.append(f"{line[:66]:<70}{-0.123:6.3f} {kind:<2}\n")
    return "".join(lines)


LIGAND = "C1:C C2:A N3:NA N4:N O5:OA S6:SA H7:HD H8:H CL:Cl BR:BR F:F ZN:Zn"
PDBQT = {
    "types": Trap(f"ROOT\n{pdbqt(LIGAND)}ENDROOT\nTORSDOF 0\n", (12,), elements="C C N N O S H H Cl Br F Zn"),
    "poses": Trap("".join(f"MODEL {i}\nREMARK  Name = lig\n{pdbqt(LIGAND)}ENDMDL\n" for i in (1, 2, 3)), (12, 12, 12)),
    "glue_and_sodium": Trap(pdbqt("C1:CG0 G1:G0 NA:Na W:W"), (2,), ({UNKNOWN: 2},), elements="C Na"),
    "no_type": Trap(pdbqt("C1:C N2:"), (1,), ({UNKNOWN: 1},)),
}


# --- CIF --------------------------------------------------------------------------------------------------------------

SITE = (
    "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id", "label_seq_id",
    "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num",
)  # fmt: skip


def mmcif(table, without=(), block="X", keys=SITE):
    """An mmCIF block from rows "atom alt residue asym number occupancy model"."""
    lines = [f"data_{block}", "loop_", *(f"_atom_site.{key}" for key in keys if key not in without)]
    for i, row in enumerate(table.strip().split("\n"), start=1):
        name, alt, residue, asym, number, occ, model = row.split()
        values = ["ATOM", str(i), name[0], name, alt, residue, asym, ".", f"{i}.0", "2.5", f"{1 + i}.0", occ, number,
                  "A", model]  # fmt: skip
        lines.append(" ".join(value for key, value in zip(SITE, values, strict=True) if key not in without))
    return "\n".join([*lines, "#", ""])


def table(*rows):
    return "\n".join(rows)


ONE_ATOM = ("ATOM", "1", "N", "N", ".", "SER", "A", "1", "1", "2", "3", "1", "7", "A", "1")
PLAIN = table("N . SER A 7 1 1", "CA . SER A 7 1 1", "C . SER A 7 1 1")
COMPONENT = (
    "comp_id", "atom_id", "type_symbol", "model_Cartn_x", "model_Cartn_y", "model_Cartn_z", "pdbx_model_Cartn_x_ideal",
    "pdbx_model_Cartn_y_ideal", "pdbx_model_Cartn_z_ideal",
)  # fmt: skip


def component(own, ideal):
    """A component of the PDB's dictionary; the coordinates of its atoms C, O, H as text."""
    lines = ["data_MOH", "_chem_comp.id MOH", "loop_", *(f"_chem_comp_atom.{key}" for key in COMPONENT)]
    lines += [f"MOH {s}1 {s} {a} {b}" for s, a, b in zip("COH", own, ideal, strict=True)]
    lines += ["loop_", "_chem_comp_bond.comp_id", "_chem_comp_bond.atom_id_1", "_chem_comp_bond.atom_id_2"]
    return "\n".join([*lines, "MOH C1 O1", "MOH O1 H1", "#", ""])


PLACES, IDEAL, NONE = ("0 0 1", "1.4 0 1", "2 1 1"), ("5 0 1", "6.4 0 1", "7 1 1"), ("? ? ?",) * 3

CRYSTAL = """data_small
_cell_length_a 10
_cell_length_b 11
_cell_length_c 12
_cell_angle_alpha 90
_cell_angle_beta 100
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 21/c'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_disorder_assembly
_atom_site_disorder_group
C1 C 0.1(2) 0.2 0.3 1 . .
O1A O2- 0.2 0.2 0.3 0.4 A 1
O1B O 0.3 0.2 0.3 0.6 A 2
C2 C 0.12 0.25 0.3 1 . .
C3B C 0.32 0.3 0.3 0.6 A 2
C3A C 0.22 0.3 0.3 0.4 A 1
CG1 Cnt 0.5 0.5 0.5 1 . .
"""

CIF = {
    "wrapped_waters": Trap(mmcif(table(*(f"O . HOH W {i % 100} 1 1" for i in range(250)))), (250,)),
    "ligand_with_a_number_of_its_protein": Trap(mmcif(table(PLAIN, "C1 . LIG B 7 1 1", "CA . LIG B 7 1 1")), (5,)),
    "repeated_atom_names": Trap(mmcif(table(*["C . LIG B 1 1 1"] * 4)), (4,)),
    "alternatives": Trap(
        mmcif(table(PLAIN, *(f"{n} {a} SER A 7 {o} 1" for n in ("CB", "OG") for a, o in (("A", 0.3), ("B", 0.7))))),
        (5,), ({ALT: 2},),
    ),
    "no_numbers": Trap(mmcif(PLAIN, without=["id"]), (3,)),
    "no_type_symbols": Trap(
        mmcif(table(PLAIN, "CL1 . LIG B 1 1 1", "O9 . LIG B 1 1 1"), without=["type_symbol"]), (4,), ({UNKNOWN: 1},),
        elements="N C C O",
    ),
    "no_author_numbers": Trap(
        mmcif(table(PLAIN, *(f"O {a} HOH W . 0.5 1" for a in "AB" * 3)), without=["auth_seq_id", "auth_asym_id"]),
        (6,), ({ALT: 3},),
    ),
    "no_asym": Trap(mmcif(PLAIN, without=["label_asym_id"]), refused={1: "gemmi reads 0 of 3 atoms"}),
    "one_atom_and_no_loop": Trap(
        "data_X\n" + "".join(f"_atom_site.{k} {v}\n" for k, v in zip(SITE, ONE_ATOM, strict=True)), (1,)
    ),
    "models_and_blocks": Trap(
        mmcif(table(PLAIN, *(row[:-1] + "2" for row in PLAIN.split("\n"))))
        + "data_nothing\n_a.b 1\n_c.d\n;text\ndata_text\n;\n" + mmcif(PLAIN, block="Y"), (3, 3, 3),
    ),
    "a_block_that_does_not_parse": Trap(
        mmcif(PLAIN).replace("_atom_site.id", "") + mmcif(PLAIN, block="Y"), (3,), refused={1: "gemmi cannot parse"}
    ),
    "component": Trap(component(PLACES, IDEAL), (3,)),
    "component_with_ideal_places_only": Trap(component(NONE, IDEAL), (3,)),
    "component_with_a_place_missing": Trap(component((*PLACES[:2], "? ? ?"), IDEAL), (3,)),
    "component_at_one_point": Trap(component(("0.0 0.0 0.0",) * 3, IDEAL), (3,)),
    "component_without_places": Trap(component(NONE, NONE), refused={1: "no coordinates"}),
    "crystal": Trap(CRYSTAL, (4,), ({ALT: 2, UNKNOWN: 1},), elements="C O C C"),
    "crystal_without_a_cell": Trap(CRYSTAL.replace("_cell_length", "_length"), refused={1: "without a unit cell"}),
    "crystal_without_labels": Trap(
        CRYSTAL.replace("_atom_site_label", "_atom_site_tag"), refused={1: "gemmi reads 0 of 7 atoms"}
    ),
    "a_stranger_in_the_loop": Trap(
        mmcif(PLAIN).replace("_atom_site.group_PDB", "_group"), refused={1: "_group in the loop of _atom_site"}
    ),
    "component_without_elements": Trap(
        component(PLACES, IDEAL).replace("_atom.type_symbol", "_atom.symbol"), refused={1: "gemmi reads 0 of 3 atoms"}
    ),
    "reflections": Trap("data_r\nloop_\n_refln.index_h\n_refln.index_k\n1 2\n", refused={None: "got _refln"}),
}  # fmt: skip


# --- SDF, MOL2, XYZ ---------------------------------------------------------------------------------------------------

SDF_TEXT = molblock(METHANOL, METHANOL_BONDS)
V3000 = """v3000
  test    0101260000 3D

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 3 2 0 0 0
M  V30 BEGIN ATOM
M  V30 1 C 0 0 1 0
M  V30 2 O 1.4 0 1 0
M  V30 3 Qq 2 1 1 0
M  V30 END ATOM
M  V30 BEGIN BOND
M  V30 1 1 1 2
M  V30 2 1 2 3
M  V30 END BOND
M  V30 END CTAB
M  END
"""
SDF = {
    "plain": Trap(f"{SDF_TEXT}$$$$\n" * 3, (6, 6, 6)),
    "dummies": Trap(
        "".join(SDF_TEXT.replace(" O  ", f" {s:<3}") + "$$$$\n" for s in ("*", "Q", "A", "R#", "Du", "Qq", "LP")),
        (5,) * 7, ({UNKNOWN: 1},) * 7,
    ),
    "other_case": Trap(SDF_TEXT.replace(" O  ", " o  "), (6,), elements="C O H H H H"),
    "deuterium": Trap(SDF_TEXT.replace(" H  ", " D  "), (6,), elements="C O H H H H"),
    "v3000": Trap(V3000, (2,), ({UNKNOWN: 1},)),
}  # fmt: skip


def mol2(kinds):
    """A MOL2 record of atoms of these types, the first bonded to all others."""
    kinds = kinds.split()
    lines = ["@<TRIPOS>MOLECULE", "trap", f" {len(kinds)} {len(kinds) - 1}", "SMALL", "NO_CHARGES", "", "@<TRIPOS>ATOM"]
    lines += [f"{i} X{i} {i}.0 0.5 1.{i} {kind} 1 LIG 0.0" for i, kind in enumerate(kinds, start=1)]
    lines += ["@<TRIPOS>BOND", *(f"{i} 1 {i + 1} 1" for i in range(1, len(kinds))), ""]
    return "\n".join(lines)


MOL2 = {
    "empty_title": Trap(mol2("C.3 O.3").replace("trap", ""), (2,)),
    "negative_counts": Trap(mol2("C.3 O.3").replace(" 2 1", "-1 9"), refused={1: "the counts are -1 9, expected 2 1"}),
    "types": Trap(mol2("C.3 C.ar N.pl3 O.co2 S.O2 Cl Br H Zn"), (9,), elements="C C N O S Cl Br H Zn"),
    "lone_pairs_and_wildcards": Trap(mol2("C.3 LP Du HAL HEV HET ANY O.3"), (2,), ({UNKNOWN: 6},)),
    "types_of_a_force_field": Trap(mol2("C.3 ca O.3"), (2,), ({UNKNOWN: 1},)),
}
XYZ = {
    "two_records": Trap("2\nfirst\nC 0 0 1\nO 1.4 0 1\n\n3\nsecond\nO 0 0 1\nH 1 0 1\nH 0 1 1\n", (2, 3)),
    "more_columns": Trap("2\n\nC 0 0 1 -0.3 1 2 3\nO\t1.4 0 1.D0 0.3 0 0 0\n", (2,)),
    "other_symbols": Trap("4\n\n6 0 0 1\ncl 1 0 1\nBR 2 0 1\nC12 3 1*^-1 1\n", (4,), elements="C Cl Br C"),
    "ghosts": Trap("3\n\nC 0 0 1\nX 1 0 1\nBq 2 0 1\n", (1,), ({UNKNOWN: 2},)),
    "extended": Trap('1\nLattice="1 0 0 0 1 0 0 0 1" Properties=species:S:1:pos:R:3:forces:R:3\nC 0 0 1 5 6 7\n', (1,)),
    "other_columns": Trap("1\nProperties=pos:R:3:species:S:1\n0 0 1 C\n", refused={1: "other columns"}),
    "too_few": Trap("2\nfirst\nC 0 0 1\nO 1.4 0 1\n3\nsecond\nO 0 0 1\n", (2,), refused={2: "truncated: 1 of 3"}),
    "a_short_row": Trap("2\n\nC 0 0 1\nO 1.4\n", refused={1: "atom 2: got 'O 1.4'"}),
    "an_endless_count": Trap(f"{10**30}\n\nC 0 0 1\n", refused={1: "truncated: 1 of 10"}),
    "no_count": Trap("C 0 0 1\nO 1.4 0 1\n", refused={1: "expected the number of atoms"}),
}  # fmt: skip

TRAPS = {
    f"{name}.{suffix}": trap
    for suffix, traps in {"pdb": PDB, "pdbqt": PDBQT, "cif": CIF, "sdf": SDF, "mol2": MOL2, "xyz": XYZ}.items()
    for name, trap in traps.items()
}
