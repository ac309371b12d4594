"""Write gridgrad/mol/residues.tsv: bonds and charges of residues, cofactors and ions.

They come from the Chemical Component Dictionary of the wwPDB, in the public domain (CC0), as the package biotite
carries it. Components are neutral where they can be: acids and bases hold their hydrogens and have no charge. Metals
are ions beside their ligands. Hydrogens, stereochemistry and coordinates are left out.

    pip install biotite && python tools/make_residues.py
"""

import pathlib

from biotite.structure import info
from rdkit import Chem, RDLogger
from rdkit.Chem.MolStandardize import rdMolStandardize

OUTPUT = pathlib.Path(__file__).resolve().parents[1] / "gridgrad" / "mol" / "residues.tsv"

COMPONENTS = """
    ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL SEC PYL DAL DAR DSG DAS DCY DGN
    DGL DHI DIL DLE DLY MED DPN DPR DSN DTH DTR DTY DVA MSE SEP TPO PTR CSO CSD CSX OCS OCY CME CSS SMC YCM SCY SNC
    CAS CAF SCH SCS CSU KCX LLP MLY MLZ M3L ALY SLZ LYZ HYP PCA CGU TYS TYI TYQ IYR AGM 2MR DA2 CIR ORN NLE NVA AIB
    ABA SAR MVA MLE MAA NMM DBU DHA DBB 0AF TRQ HTR TRN BHD MEN MEQ MHO SME OMT HIC NEP 4HL FME CXM ACE NH2 NME NMA
    FOR CCS CR2 CRO CRQ GYS PIA NRQ CRF SUI A C G U I DA DC DG DT DI DU N DN PSU 5MU 5MC H2U 4SU OMC OMG OMU A2M 1MA
    2MA 6MA 1MG 2MG M2G 7MG G7M YYG QUO 5CM 8OG 5BU BRU CBR 5IU GTP GDP G2P GNP GSP GCP 5GP ATP ADP AMP ANP ACP AGS
    APC CTP CDP C5P UTP UDP U5P TTP TYD TMP DTP DGT DCP DUT DUP UMP DCM DCZ CMP PCG 2BA C2E ADN GMP CTN URI THM AP5
    A3P PPS NAD NAI NAP NDP NMN FAD FDA FMN FNR RBF COA ACO SCA CAO MLC CMC SAM SAH MTA SFG PLP PMP PXL TPP TDP THD
    TZD BTN BIO LPA H4B HBI BH4 BIP THG FOL FFO DHF MTX THF THH TMF C2F TOP CB3 B12 COB HEM HEC HEA HEB HAS HDD SRM
    BCL CLA CHL BPH PHO BCR LUT CYC PEB BLA CHD GSH GTS GDS GTX ASC MQ7 UQ1 UQ2 U10 PQQ SF4 FES F3S NAG NDG NGA A2G
    NGZ BM3 BMA MAN GAL GLA GLC BGC FUC FUL FCA FCB XYP XYS ARA AHR RIB RIP FRU SIA SLB NGC GCU BDP IDS IDR ADA GTR
    RAM MUR MUB AMU G6P BG6 F6P FBP G1P GL1 M6P 2FP 13P DG2 G3P 3PG 2PG PEP PYR LMT BOG BNG LDA DDM MYR PLM STE OLA
    ACD ARE CLR PC1 PCW POV PEE PEF LPP PGV CDL OLC OLB MPG TRD D10 D12 HEX OCT LHG LMG DGD SQD GOL EDO PEG PGE PG4
    1PE P6G PE4 2PE 12P 15P MPD MRD IPA EOH MOH BU1 BUD DIO DMS DMF ACN ACT ACY FMT CIT FLC TLA TAR SIN MLI MLT MAL
    LMR OAA AKG ICT LAC GLV OXL OXM BEZ TRS BTB MES EPE HEZ PIN BCN CAC IMD BME DTT DTV TCE TAU BET GAI URE GAU SPM
    SPD PUT ETA ETX CHT NHE CXS CPS MOE PO4 PI 2HP POP PPV DPO PIS SO4 SUL SO3 NO3 NO2 CO3 BCT CO2 CYN CMO NO OXY O2
    PER H2S AZI SCN NH4 NH3 OH HOH DOD O SOR XYL INS IHP I3P MYO TRE SUC LAT MAB CBI CTT G4D LI NA K RB CS MG CA SR
    BA MN MN3 FE FE2 CO 3CO NI 3NI CU CU1 ZN CD HG AG AU AU3 PT PT4 PB AL GA IN TL Y1 YT3 LA CE PR SM EU EU3 GD GD3
    TB HO HO3 ER3 YB YB2 LU CR V RU OS IR IR3 RH PD F CL BR IOD XE KR AR U1 CF BS3 SB
"""

ORDERS = {1: 1, 2: 2, 3: 3, 5: 1, 6: 2, 7: 3}  # of biotite's bond types; coordinative bonds are left out
METALS = Chem.MolFromSmarts("[!#1!#2!#5!#6!#7!#8!#9!#10!#14!#15!#16!#17!#18!#33!#34!#35!#36!#52!#53!#54]")


def heavy_atoms(component):
    """Return a component as an RDKit molecule of named atoms: no hydrogens, nothing bonded to a metal."""
    atoms = info.residue(component, allow_missing_coord=True)
    molecule = Chem.RWMol()
    for name, element, charge in zip(atoms.atom_name, atoms.element, atoms.charge):
        atom = Chem.Atom("H" if element == "D" else str(element).capitalize())
        atom.SetFormalCharge(int(charge))
        atom.SetProp("name", str(name))
        molecule.AddAtom(atom)
    metals = {index for (index,) in molecule.GetSubstructMatches(METALS)}
    for begin, end, kind in atoms.bonds.as_array().tolist():
        if kind in ORDERS and not metals & {begin, end}:
            molecule.AddBond(begin, end, Chem.BondType.values[ORDERS[kind]])
    for atom in molecule.GetAtoms():
        atom.SetNoImplicit(True)
        if metals and atom.GetAtomicNum() == 7 and not metals & {atom.GetIdx()}:
            # what a metal held: a nitrogen with too many bonds for no charge, or too few
            atom.SetFormalCharge(int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds())) - 3)
    return molecule.GetMol()


def neutral(component):
    """Return the SMILES of a component, neutral where it can be, and the names of its atoms in the same order."""
    molecule = heavy_atoms(component)
    Chem.SanitizeMol(molecule)
    if molecule.GetNumAtoms() > 1:
        molecule = Chem.RemoveAllHs(molecule)
        if not molecule.HasSubstructMatch(METALS):
            molecule = rdMolStandardize.Uncharger(force=True).uncharge(molecule)
    Chem.RemoveStereochemistry(molecule)
    if component == "ARG":  # of the neutral forms the one that Open Babel gives
        cz = next(atom for atom in molecule.GetAtoms() if atom.GetProp("name") == "CZ")
        molecule = Chem.RWMol(molecule)
        for bond in cz.GetBonds():
            other = bond.GetOtherAtom(cz).GetProp("name")
            molecule.GetBondBetweenAtoms(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()).SetBondType(
                Chem.BondType.DOUBLE if other == "NE" else Chem.BondType.SINGLE
            )
        for atom in molecule.GetAtoms():
            atom.SetNoImplicit(False)
            atom.SetNumExplicitHs(0)
        Chem.SanitizeMol(molecule)
    smiles = Chem.MolToSmiles(molecule)
    order = molecule.GetPropsAsDict(includePrivate=True, includeComputed=True)["_smilesAtomOutputOrder"]
    return smiles, [molecule.GetAtomWithIdx(index).GetProp("name") for index in order]


def main():
    RDLogger.DisableLog("rdApp.*")
    lines = ["# name, SMILES and atom names of components of the wwPDB (CC0); made by tools/make_residues.py"]
    for component in sorted(set(COMPONENTS.split())):
        try:
            smiles, names = neutral(component)
        except Exception as error:
            print(f"left out: {component}: {type(error).__name__}: {str(error).strip()[:100]}")
            continue
        lines.append("\t".join([component, smiles, " ".join(names)]))
    OUTPUT.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} components, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
