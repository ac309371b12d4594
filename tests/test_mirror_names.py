"""pyx/ and cuda/ are one text in two languages: the same functions in the same order, but for a list of differences."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAIRS = ("profile", "support", "atoms", "gather", "to_grid", "to_atoms", "density")
ALONE = {
    "pyx": {
        "block": "a block of chunks, in vectors of the compiler's; threads on the GPU",
        "entries": "chunks that atoms reach, sorted, so that each is stored once; a thread of the GPU holds its voxel",
        "planes": "what is added to them, channels in registers; the same",
        "workspace": "its memory",
        "order": "in which atoms are visited, so that neighbours share what is in a cache",
        "interrupt": "a launch returns at once and cannot be stopped",
    },
    "cuda": {
        "tile": "a tile lists the atoms that reach it; on the CPU the items of a thread visit them in turn",
        "channels": "in which of them a listed atom counts; on the CPU items know beforehand",
        "prepare": "what tiles find in common; on the CPU list_atoms of to_grid.pxd",
    },
}
"""Files without a counterpart."""
DIFFERENCES = (
    ("profile", "pyx", {"exp_nonpositive", "bits_of", "double_of"}, "tables of exponentials; a GPU has a unit for one"),
    (
        "profile",
        "cuda",
        {"real_abs", "real_ceil", "real_exp2", "real_floor", "real_fma", "real_max", "real_min", "real_rsqrt"}
        | {"core_of", "polynomial"},
        "one name for both precisions, computed in double precision on the CPU; several voxels at once",
    ),
    (
        "support",
        "pyx",
        {"fill_axis", "next_rows", "next_block", "chunk_of", "reach_along"},
        "blocks of chunks over tables, one an axis",
    ),
    (
        "support",
        "cuda",
        {"split", "delta_of", "square", "at_most", "rewind", "next_row", "next_piece", "line_of", "voxels_of"}
        | {"is_aligned", "offset_of", "read_at", "read_piece", "warp_sum", "block_sum"},
        "threads, which deal the pieces of rows out among them and add up what they have",
    ),
    (
        "atoms",
        "pyx",
        {"first_bad_index", "first_bad_offset", "first_bad_radius", "has_atom", "n_weights"},
        "looked for, and counted, before anything is written",
    ),
    (
        "atoms",
        "cuda",
        {"read_once", "channel_of", "good_radius"},
        "reported where it is read: nobody waits for the GPU, and nobody has copied indices and offsets",
    ),
    (
        "to_grid",
        "pyx",
        {"is_dense", "next_group", "is_lost", "slabs_of", "most_terms", "find_items", "list_atoms"},
        "items know their atoms and channels beforehand; a block of the GPU looks for its own",
    ),
    (
        "to_grid",
        "pyx",
        {"add_to_grid", "add_to_window", "write_rows", "settle"},
        "where a thread adds up what it writes; on the GPU in registers",
    ),
    (
        "to_grid",
        "cuda",
        {"corner_of", "store", "profile_along"},
        "a thread writes what it holds in registers, and has phi_u, phi_v and phi_uv of a voxel",
    ),
    (
        "gather",
        "pyx",
        {"any_weight", "accumulate", "inner", "gather_each", "gather_group", "gather_groups", "clear_outside"},
        "sums over the channels of a block in scratch memory, in two ways; on the GPU a piece in registers",
    ),
    (
        "gather",
        "cuda",
        {"grids_of", "wants_theta", "asked_channels", "next_channel", "first_weight", "is_single", "gather_all"}
        | {"add_weights", "store_weights"},
        "the channels by a ballot; sums of lanes",
    ),
    (
        "to_atoms",
        "pyx",
        {"to_atoms", "atom_item", "reads_few_channels", "fill_second_order", "order_gradients"},
        "the loop over atoms, and a block of one again where something is not finite; the launch is a loop",
    ),
    (
        "to_atoms",
        "cuda",
        {
            "fill_gradients",
            "backward_theta",
            "backward_weights",
            "backward_backward_theta",
            "backward_backward_weights",
        },
        "a pass over the support for theta, and one for GROUP channels of weights; one over a block in scratch memory",
    ),
    (
        "density",
        "pyx",
        {"own_copy", "check_integers", "read_atoms", "tangents", "levels_here", "n_levels"},
        "structs from addresses, checked; initialisers in CUDA. What the processor has; the driver tells it of a GPU",
    ),
    ("density", "cuda", {"weight_bits", "list_cells"}, "launches before that of the tiles"),
)
"""File, the side that has them, functions, and why the other side has none."""


def functions(side, name):
    """Return the names of the functions of a file, in order."""
    (path,) = (ROOT / side).glob(f"{name}.*")
    text = path.read_text(encoding="utf-8")
    if side == "cuda":
        return re.findall(r"^(?:__(?:device|host)__ [^;{]*?)?\b([a-z]\w*)(?:, )?\((?=[^;]*?\),?\n?\s*\{)", text, re.M)
    return re.findall(r"^(?:(?:cdef|def) (?!struct|enum|extern)[^(\n]*?|    static [^(\n]*?)(\w+)\(", text, re.M)


def test_parsing():
    assert functions("cuda", "atoms")[:2] == ["read_once", "first_atom"]
    assert functions("cuda", "to_grid") == ["corner_of", "profile_along", "add_atom", "store", "fill_item", "to_grid"]
    assert functions("cuda", "density")[0] == "density"
    assert functions("pyx", "profile")[:3] == ["real_sqrt", "bits_of", "double_of"]
    assert functions("pyx", "density")[-1] == "radii_sum"


@pytest.mark.parametrize("name", PAIRS)
def test_functions(name):
    pyx, cuda = functions("pyx", name), functions("cuda", name)
    listed = {"pyx": set(), "cuda": set()}
    for file, side, names, _ in DIFFERENCES:
        if file == name:
            listed[side] |= names
    assert set(pyx) - set(cuda) == listed["pyx"], "only in pyx/"
    assert set(cuda) - set(pyx) == listed["cuda"], "only in cuda/"
    shared = [function for function in dict.fromkeys(pyx) if function in cuda]
    assert shared == [function for function in dict.fromkeys(cuda) if function in pyx], "in another order"


def test_files():
    for side, pattern in (("pyx", "*.p*"), ("cuda", "*.cu*")):
        assert {path.stem for path in (ROOT / side).glob(pattern)} == {*PAIRS, *ALONE[side]}


def test_differences_are_few():
    assert len(DIFFERENCES) <= 15
    assert all(reason for *_, reason in DIFFERENCES)


def names_of_the_tables():
    """Return the names that stand as code in the table of symbols and in that of words."""
    names = set()
    for page, start in (("mathematics", "| symbol |"), ("kernels", "| word |")):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        table = text[text.index(start) :].partition("\n\n")[0]
        names |= set(re.findall(r"`(\w+)`", table))
    return names


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the documentation beside the tests")
def test_the_vocabulary_names_what_there_is():
    """What a table says is called so is called so."""
    paths = [*ROOT.glob("pyx/*.p*"), *ROOT.glob("cuda/*.cu*"), *(ROOT / "gridgrad").rglob("*.py")]
    known = set(re.findall(r"\w+", " ".join(path.read_text(encoding="utf-8") for path in paths)))
    names = names_of_the_tables()
    assert len(names) > 60
    assert names - known == {"t_X"}  # any X
