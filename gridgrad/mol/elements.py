"""Element symbols and van der Waals radii.

Main group: table 12 of Mantina, Chamberlin, Valero, Cramer and Truhlar, "Consistent van der Waals radii for the whole
main group", J. Phys. Chem. A 113, 5806-5812 (2009), doi:10.1021/jp8111556. That table keeps the radii of Bondi,
J. Phys. Chem. 68, 441-451 (1964), takes hydrogen from Rowland and Taylor, J. Phys. Chem. 100, 7384-7391 (1996), and
adds the sixteen elements that Bondi left out.

d and f block, which that table leaves out: table 1 of Alvarez, "A cartography of the van der Waals territories",
Dalton Trans. 42, 8617-8636 (2013), doi:10.1039/c3dt50599e. An element in neither table has no radius here.
"""

from __future__ import annotations

__all__ = ["SYMBOLS", "VDW_RADII", "atomic_number"]

_ORDER = """
    * H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo
    Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl
    Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""

SYMBOLS = tuple(_ORDER.split())
"""Symbols by atomic number; 0 is the dummy atom ``*``."""

_MAIN_GROUP = """
    H 1.10                                                                                          He 1.40
    Li 1.81  Be 1.53                            B 1.92   C 1.70   N 1.55   O 1.52   F 1.47   Ne 1.54
    Na 2.27  Mg 1.73                            Al 1.84  Si 2.10  P 1.80   S 1.80   Cl 1.75  Ar 1.88
    K 2.75   Ca 2.31                            Ga 1.87  Ge 2.11  As 1.85  Se 1.90  Br 1.83  Kr 2.02
    Rb 3.03  Sr 2.49                            In 1.93  Sn 2.17  Sb 2.06  Te 2.06  I 1.98   Xe 2.16
    Cs 3.43  Ba 2.68                            Tl 1.96  Pb 2.02  Bi 2.07  Po 1.97  At 2.02  Rn 2.20
    Fr 3.48  Ra 2.83
"""

_D_AND_F_BLOCK = """
    Sc 2.58  Ti 2.46  V 2.42   Cr 2.45  Mn 2.45  Fe 2.44  Co 2.40  Ni 2.40  Cu 2.38  Zn 2.39
    Y 2.75   Zr 2.52  Nb 2.56  Mo 2.45  Tc 2.44  Ru 2.46  Rh 2.44  Pd 2.15  Ag 2.53  Cd 2.49
    Hf 2.63  Ta 2.53  W 2.57   Re 2.49  Os 2.48  Ir 2.41  Pt 2.29  Au 2.32  Hg 2.45
    La 2.98  Ce 2.88  Pr 2.92  Nd 2.95  Sm 2.90  Eu 2.87  Gd 2.83  Tb 2.79  Dy 2.87  Ho 2.81  Er 2.83  Tm 2.79
    Yb 2.80  Lu 2.74  Ac 2.80  Th 2.93  Pa 2.88  U 2.71   Np 2.82  Pu 2.81  Am 2.83  Cm 3.05  Bk 3.40  Cf 3.05
    Es 2.70
"""


def _table(text: str) -> dict[str, float]:
    words = text.split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


VDW_RADII = _table(_MAIN_GROUP) | _table(_D_AND_F_BLOCK)
"""Van der Waals radius in angstrom by element symbol."""

_NUMBERS = {symbol.upper(): number for number, symbol in enumerate(SYMBOLS)} | {"D": 1, "T": 1}


def atomic_number(symbol: str) -> int:
    """Atomic number of an element symbol in any case; deuterium and tritium are hydrogen.

    Raises
    ------
    ValueError
        If there is no such element.
    """
    try:
        return _NUMBERS[symbol.strip().upper()]
    except KeyError:
        raise ValueError(f"element: got {symbol!r}, expected the symbol of a chemical element") from None
