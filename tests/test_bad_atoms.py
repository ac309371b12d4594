"""Bad atoms, centres and batches: each error names the argument, says what was seen and what is expected."""

import functools

import numpy as np
import pytest
import torch
from support.refusals import ERRORS, assert_says, message, ones, zeros
from support.scenes import TYPES, make_scene

import gridgrad as gg

ATOMS, CHANNELS = 5, 3


def case(name, seen, errors=ERRORS, layout="single", type_mode="vector", radius_mode="per_atom", id=None, **changes):
    """A bad argument: the one to blame, what the message shows, and how the good call is changed."""
    return pytest.param(name, seen, errors, layout, type_mode, radius_mode, changes, id=id)


def uint64(last):
    return torch.from_numpy(np.array([0, 1, 2, 0, last], dtype=np.uint64))


BAD_ATOMS = [
    case("coords", (15,), ValueError, coords=zeros(15), id="coords-flat"),
    case("coords", (5, 4), ValueError, coords=zeros(5, 4), id="coords-4-columns"),
    case("coords", (1, 1, 5, 3), ValueError, coords=zeros(1, 1, 5, 3), id="coords-rank-4"),
    case("coords", (), ValueError, coords=zeros(), id="coords-scalar"),
    case("coords", "int64", TypeError, coords=zeros(5, 3, dtype=torch.int64), id="coords-integer"),
    case("coords", "float16", TypeError, coords=zeros(5, 3, dtype=torch.float16), id="coords-half"),
    case("coords", "bfloat16", TypeError, coords=zeros(5, 3, dtype=torch.bfloat16), id="coords-bfloat16"),
    case("coords", "complex128", TypeError, coords=zeros(5, 3, dtype=torch.complex128), id="coords-complex"),
    case("coords", "list", TypeError, coords=[[0.0, 0.0, 0.0]] * 5, id="coords-list"),
    case("coords", "NoneType", TypeError, coords=None, id="coords-None"),
    case("types", (5,), ERRORS, types=ones(5), id="types-float-1D"),
    case("types", (4, 3), ValueError, types=ones(4, 3), id="types-other-N"),
    case("types", (5, 3, 1), ValueError, types=ones(5, 3, 1), id="types-rank-3"),
    case("types", "float32", TypeError, types=ones(5, 3, dtype=torch.float32), id="types-other-dtype"),
    case("types", "bool", TypeError, types=ones(5, 3, dtype=torch.bool), id="types-bool"),
    case("types", "complex64", TypeError, types=ones(5, 3, dtype=torch.complex64), id="types-complex"),
    case("types", "list", TypeError, types=[0, 1, 2, 0, 1], id="types-list"),
    case("types", "types.to(coords.dtype)", ValueError, types=ones(5, 3, dtype=torch.int64), id="types-one-hot"),
    case("types", "types.to(coords.dtype)", TypeError, types=ones(5, 3, dtype=torch.bool), id="types-one-hot-bool"),
    case("types", (3, 5, 4), ValueError, layout="padded", types=ones(3, 5, 4, dtype=torch.int64), id="types-one-hot-T"),
    case("types", "float8", TypeError, types=ones(5, 3).to(torch.float8_e4m3fn), id="types-float8"),
    case("types", 2**63 - 1, ValueError, type_mode="index", types=uint64(2**63), id="index-uint64"),
    case("types", 2**63 - 1, ValueError, type_mode="index", types=uint64(2**64 - 1), id="index-uint64-largest"),
    case("types", (5, 1), ValueError, type_mode="index", types=zeros(5, 1, dtype=torch.int64), id="index-2D"),
    case("types", (6,), ValueError, type_mode="index", types=zeros(6, dtype=torch.int64), id="index-other-N"),
    case("types", 3, ValueError, type_mode="index", types=torch.tensor([0, 1, 3, 0, 1]), id="index-too-large"),
    case("types", 2**40, ValueError, type_mode="index", types=torch.tensor([0, 1, 2**40, 0, 1]), id="index-huge"),
    case("types", (3, 5), ValueError, layout="padded", types=ones(3, 5), id="types-padded-1D"),
    case("types", (3, 4, 3), ValueError, layout="padded", types=ones(3, 4, 3), id="types-padded-other-N"),
    case("types", (2, 5, 3), ValueError, layout="padded", types=ones(2, 5, 3), id="types-other-B"),
    case("n_types", None, ERRORS, type_mode="index", n_types=None, id="n_types-missing"),
    case("n_types", 4, ValueError, n_types=4, id="n_types-contradicts-types"),
    case("n_types", 0, ValueError, type_mode="index", n_types=0, id="n_types-zero"),
    case("n_types", -1, ValueError, type_mode="index", n_types=-1, id="n_types-negative"),
    case("n_types", 3.0, TypeError, type_mode="index", n_types=3.0, id="n_types-float"),
    case("n_types", "3", TypeError, type_mode="index", n_types="3", id="n_types-string"),
    case("n_types", "3.0", TypeError, n_types=3.0, id="n_types-float-of-vectors"),
    case("n_types", "True", TypeError, types=ones(5, 1), n_types=True, id="n_types-bool-of-vectors"),
    case("n_types", "True", TypeError, type_mode="index", n_types=True, id="n_types-bool"),
    case("n_types", "array([3, 3])", TypeError, n_types=np.array([3, 3]), id="n_types-array"),
    case("n_types", "array(3)", TypeError, type_mode="index", n_types=np.array(3), id="n_types-array-0D"),
    case("n_types", "tensor(3)", TypeError, type_mode="index", n_types=torch.tensor(3), id="n_types-tensor"),
    case("n_types", 0, ValueError, types=ones(5, 0), id="n_types-zero-of-vectors"),
    case("radii", (4,), ValueError, radii=ones(4), id="radii-other-N"),
    case("radii", (5, 1), ValueError, radii=ones(5, 1), id="radii-2D"),
    case("radii", (5,), ValueError, radius_mode="by_type", radii=ones(5), id="radii-not-T"),
    case("radii", (3,), ValueError, radii=ones(3), id="radii-T-but-per-atom"),
    case("radii", "float32", TypeError, radii=ones(5, dtype=torch.float32), id="radii-other-dtype"),
    case("radii", "int64", TypeError, radii=ones(5, dtype=torch.int64), id="radii-integer"),
    case("radii", -1.5, ValueError, radii=-1.5, id="radii-negative-number"),
    case("radii", "1000", ValueError, radii=10**400, id="radii-number-too-large"),
    case("radii", "bool", TypeError, radii=True, id="radii-bool"),
    case("radii", "list", TypeError, radii=[1.0] * 5, id="radii-list"),
    case("radii", 0.0, ValueError, radii=torch.tensor([1.0, 1, 0, 1, 1]).double(), id="radii-zero"),
    case("radii", -1.5, ValueError, radii=torch.tensor([1.0, 1, 1, 1, -1.5]).double(), id="radii-negative"),
    case("radii", -2.0, ValueError, radius_mode="by_type", radii=torch.tensor([1, -2.0, 1]).double(), id="T-negative"),
    case("radii", (3,), ValueError, layout="padded", radii=ones(3), id="radii-padded-1D"),
    case("center", (2,), ValueError, center=zeros(2), id="center-2"),
    case("center", (3, 3), ValueError, center=zeros(3, 3), id="center-many-for-one"),
    case("center", (2, 3), ValueError, layout="padded", center=zeros(2, 3), id="center-other-B"),
    case("center", (2, 3), ValueError, layout="ragged", center=zeros(2, 3), id="center-other-batch-size"),
    case("center", "float16", TypeError, center=zeros(3, dtype=torch.float16), id="center-half"),
    case("center", "complex64", TypeError, center=zeros(3, dtype=torch.complex64), id="center-complex"),
    case("center", "int64", TypeError, center=zeros(3, dtype=torch.int64), id="center-integer"),
    case("center", "None", TypeError, center=None, id="center-None"),
    case("center", "middle", TypeError, center="middle", id="center-string"),
    case("center", "array", TypeError, center=(np.ones(2), 0, 0), id="center-with-an-array"),
    case("center", "array", TypeError, center=(0, np.zeros(3), np.ones(1)), id="center-with-arrays"),
    case("center", "", TypeError, center=np.array([0, None, 0]), id="center-objects"),
    case("center", "", TypeError, center=np.ma.array([0.0, 1, 2], mask=[0, 1, 0]), id="center-masked"),
    case("center", "1000", TypeError, center=(0, 10**400, 0), id="center-huge"),
    case("center", "1j", TypeError, center=(0, 1j, 0), id="center-complex-number"),
    case("center", "tensor", TypeError, center=(zeros(2), zeros(3), 0), id="center-of-uneven-tensors"),
    case("center", "sparse", TypeError, center=zeros(3).to_sparse(), id="center-sparse"),
    case("center", (0, 3), ValueError, layout="padded", center=zeros(0, 3), id="center-none"),
    case("batch", (4,), ValueError, layout="ragged", batch=zeros(4, dtype=torch.int64), id="batch-other-N"),
    case("batch", (5, 1), ValueError, layout="ragged", batch=zeros(5, 1, dtype=torch.int64), id="batch-2D"),
    case("batch", "float64", TypeError, layout="ragged", batch=zeros(5), id="batch-float"),
    case("batch", "list", TypeError, layout="ragged", batch=[0, 0, 1, 1, 2], id="batch-list"),
    case("batch", "", ValueError, layout="ragged", batch=torch.tensor([0, 2, 1, 2, 3]), id="batch-unsorted"),
    case("batch", -1, ValueError, layout="ragged", batch=torch.tensor([-1, 0, 0, 1, 2]), id="batch-negative"),
    case("batch", 4, ValueError, layout="ragged", batch=torch.tensor([0, 0, 1, 1, 4]), id="batch-beyond-batch-size"),
    case("batch_size", -1, ValueError, layout="ragged", batch_size=-1, id="batch_size-negative"),
    case("batch_size", 2.0, ERRORS, layout="ragged", batch_size=2.0, id="batch_size-float"),
    case("batch_size", 2**63, ValueError, layout="ragged", batch_size=2**63, id="batch_size-beyond-int64"),
    case("batch_size", "int", ValueError, layout="ragged", batch_size=10**5000, id="batch_size-of-5000-digits"),
    case("n_types", "1000", ValueError, type_mode="index", n_types=10**400, id="n_types-of-400-digits"),
    case("batch_size", "True", TypeError, layout="ragged", batch_size=True, id="batch_size-bool"),
    case("batch_size", "array", TypeError, layout="ragged", batch_size=np.ones((30, 30)), id="batch_size-array"),
    case("batch_size", 2, ValueError, batch_size=2, id="batch_size-without-batch"),
]  # fmt: skip


def scene_with(layout, type_mode, radius_mode, changes):
    scene = make_scene(
        "quadratic", radius_mode, type_mode, layout, n_atoms=ATOMS, n_types=CHANNELS, center_per_example=False
    )
    return scene.replace(**changes)


@pytest.mark.parametrize("entrance", ["coords2grid", "forward"])
@pytest.mark.parametrize(("name", "seen", "errors", "layout", "type_mode", "radius_mode", "changes"), BAD_ATOMS)
def test_atoms(name, seen, errors, layout, type_mode, radius_mode, changes, entrance):
    scene = scene_with(layout, type_mode, radius_mode, changes)
    maker = gg.GridMaker(**scene.settings)
    call = maker.forward if entrance == "forward" else functools.partial(gg.coords2grid, maker)
    assert_says(message(call, *scene.inputs, **scene.grouping, errors=errors), name, seen)


@pytest.mark.parametrize(
    ("name", "seen", "errors", "layout", "type_mode", "radius_mode", "changes"),
    [bad for bad in BAD_ATOMS if bad.values[0] != "center"],
)
def test_atoms_of_the_module(name, seen, errors, layout, type_mode, radius_mode, changes):
    scene = scene_with(layout, type_mode, radius_mode, changes)
    call = gg.Coords2Grid(gg.GridMaker(**scene.settings), scene.center, scene.n_types)
    assert_says(message(call, *scene.inputs[1:], scene.batch, scene.batch_size, errors=errors), name, seen)


@pytest.mark.parametrize("type_mode", TYPES)
def test_device(type_mode):
    """Tensors on another device are refused by name, not copied."""
    scene = make_scene("quadratic", type_mode=type_mode)
    maker = gg.GridMaker(**scene.settings)
    for name in ("types", "radii", "center"):
        mixed = scene.replace(**{name: scene[name].to("meta")})
        text = message(gg.coords2grid, maker, *mixed.inputs, **mixed.grouping)
        assert_says(text, name, "meta", "cpu")


def test_ragged_coordinates_have_no_batch_dimension():
    scene = make_scene("quadratic", layout="padded")
    text = message(gg.coords2grid, gg.GridMaker(**scene.settings), *scene.inputs, batch=torch.tensor([0, 1, 2]))
    assert_says(text, "coords", (3, 5, 3))


@pytest.mark.parametrize("gm", [None, "GridMaker", gg.GridMaker])
def test_grid_maker(gm):
    scene = make_scene("quadratic")
    assert_says(message(gg.coords2grid, gm, *scene.inputs, errors=TypeError), "gm")
    assert_says(message(gg.Coords2Grid, gm, errors=TypeError), "gm")


@pytest.mark.parametrize("center", [(0, 0), (0, 0, 0, 0), [[0, 0, 0]], "middle", None])
def test_center_of_the_module(center):
    assert_says(message(gg.Coords2Grid, gg.GridMaker(), center), "center")
