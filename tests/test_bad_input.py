"""Every bad argument gives an error that names it, says what was seen and what is expected; nothing is written."""

import functools
import types

import numpy as np
import pytest
import torch
from support.scenes import TYPES, make_scene

import gridgrad as gg
from gridgrad.autograd import grids

ERRORS = (TypeError, ValueError)
ATOMS, CHANNELS = 5, 3
ORDER_1 = ("center", "coords", "types", "radii", "grad_density")
GRAD_GRADS = ("grad_grad_coords", "grad_grad_types", "grad_grad_radii")


def message(call, *arguments, errors=ERRORS, **keywords):
    with pytest.raises(errors) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def assert_says(text, name, *seen):
    """The message starts with the argument and contains what was seen and what is expected."""
    assert text.startswith(f"{name}:"), text
    for part in seen:
        assert str(part) in text, f"{part!r} is not in {text!r}"
    assert "; expected" in text and "\n" not in text, text


def case(name, seen, errors=ERRORS, layout="single", type_mode="vector", radius_mode="per_atom", id=None, **changes):
    """A bad argument: the one to blame, what the message shows, and how the good call is changed."""
    return pytest.param(name, seen, errors, layout, type_mode, radius_mode, changes, id=id)


def zeros(*shape, dtype=torch.float64, **kwargs):
    return torch.zeros(shape, dtype=dtype, **kwargs)


def ones(*shape, dtype=torch.float64):
    return torch.ones(shape, dtype=dtype)


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


@pytest.mark.parametrize(
    ("settings", "name", "seen"),
    [
        ({"resolution": 0}, "resolution", "0"),
        ({"resolution": -0.5}, "resolution", "-0.5"),
        ({"resolution": float("nan")}, "resolution", "nan"),
        ({"resolution": float("inf")}, "resolution", "inf"),
        ({"resolution": "0.5"}, "resolution", "'0.5'"),
        ({"resolution": None}, "resolution", "None"),
        ({"resolution": True}, "resolution", "True"),
        ({"dimension": 0}, "dimension", "0"),
        ({"dimension": -1.0}, "dimension", "-1.0"),
        ({"dimension": float("nan")}, "dimension", "nan"),
        ({"dimension": float("inf")}, "dimension", "inf"),
        ({"dimension": (8.0, 8.0)}, "dimension", "2"),
        ({"dimension": (8.0, 8.0, 8.0, 8.0)}, "dimension", "4"),
        ({"dimension": (8.0, -8.0, 8.0)}, "dimension", "-8.0"),
        ({"dimension": (8.0, float("nan"), 8.0)}, "dimension", "nan"),
        ({"dimension": "8"}, "dimension", "'8'"),
        ({"dimension": None}, "dimension", "None"),
        ({"radius_scale": 0.0}, "radius_scale", "0.0"),
        ({"radius_scale": -1.0}, "radius_scale", "-1.0"),
        ({"radius_scale": float("nan")}, "radius_scale", "nan"),
        ({"radius_scale": "1"}, "radius_scale", "'1'"),
        ({"gaussian_radius_multiple": 0.0}, "gaussian_radius_multiple", "0.0"),
        ({"gaussian_radius_multiple": float("nan")}, "gaussian_radius_multiple", "nan"),
        ({"gaussian_radius_multiple": float("inf")}, "gaussian_radius_multiple", "inf"),
        ({"gaussian_radius_multiple": "1"}, "gaussian_radius_multiple", "'1'"),
        ({"resolution": 5e-324}, "resolution", "5e-324"),
        ({"resolution": 1e-8}, "resolution", "1e-08"),
        ({"resolution": 10**400}, "resolution", "1000"),
        ({"resolution": 10**5000}, "resolution", "int"),
        ({"resolution": np.array(0.5)}, "resolution", "array(0.5)"),
        ({"dimension": 10**400}, "dimension", "1000"),
        ({"dimension": (8.0, 10**400, 8.0)}, "dimension", "1000"),
        ({"dimension": 1e308}, "resolution", "0.5 in a box of (1e+308, 1e+308, 1e+308)"),
        ({"dimension": {1.0, 2.0, 3.0}}, "dimension", "{1.0, 2.0, 3.0}"),
        ({"dimension": np.ones((3, 3))}, "dimension", "[1.0, 1.0, 1.0]"),
        ({"dimension": torch.ones(3)}, "dimension", "tensor"),
        ({"radius_scale": 10**400}, "radius_scale", "1000"),
        ({"gaussian_radius_multiple": 10**400}, "gaussian_radius_multiple", "1000"),
        ({"gaussian_radius_multiple": -(10**400)}, "gaussian_radius_multiple", "1000"),
        ({"gaussian_radius_multiple": -1e-4}, "gaussian_radius_multiple", "-0.0001"),
        ({"gaussian_radius_multiple": 1e100, "tail": "quintic"}, "gaussian_radius_multiple", "1e+100"),
        ({"gaussian_radius_multiple": 0.3, "tail": "quintic"}, "gaussian_radius_multiple", "0.3"),
        ({"tail": np.array(["quintic", "quadratic"])}, "tail", "array(['quint"),
        ({"binary": np.array([True, False])}, "binary", "array([ True"),
        ({"tail": "cubic"}, "tail", "'cubic'"),
        ({"tail": None}, "tail", "None"),
        ({"tail": ["quadratic"]}, "tail", "quadratic"),
        ({"binary": 1}, "binary", "1"),
        ({"binary": "yes"}, "binary", "'yes'"),
        ({"radius_type_indexed": "no"}, "radius_type_indexed", "'no'"),
    ],
)
def test_settings(settings, name, seen):
    text = message(gg.GridMaker, **settings)
    assert_says(text, name, seen)
    assert "\n" not in text and len(text) < 300


def test_unknown_setting():
    assert "tails" in message(gg.GridMaker, tails="quadratic", errors=TypeError)


@pytest.mark.parametrize("entrance", ["coords2grid", "forward"])
def test_grid_too_large_for_memory(entrance):
    """The message says how many GiB: 20001^3 points of float32 in two channels are 59,613 GiB."""
    maker = gg.GridMaker(0.01, 200.0)
    atoms = torch.zeros((1, 3)), torch.zeros(1, dtype=torch.int64), torch.ones(1)
    call = maker.forward if entrance == "forward" else functools.partial(gg.coords2grid, maker)
    text = message(call, (0, 0, 0), *atoms, n_types=2, errors=(MemoryError, ValueError))
    assert "GiB" in text and "20001" in text
    number = [float(word.replace(",", "")) for word in text.split() if word.replace(",", "").replace(".", "").isdigit()]
    assert any(abs(value - 59613) < 60 for value in number), text


BAD_GRIDS = {
    "rank-3": (zeros(7, 5, 6), (7, 5, 6)),
    "extra-batch": (zeros(1, 3, 7, 5, 6), (1, 3, 7, 5, 6)),
    "other-X": (zeros(3, 6, 5, 6), (3, 6, 5, 6)),
    "exchanged-axes": (zeros(3, 6, 5, 7), (3, 6, 5, 7)),
    "other-T": (zeros(4, 7, 5, 6), (4, 7, 5, 6)),
    "other-dtype": (zeros(3, 7, 5, 6, dtype=torch.float32), "float32"),
    "integer": (zeros(3, 7, 5, 6, dtype=torch.int64), "int64"),
}


@pytest.mark.parametrize("kind", BAD_GRIDS)
def test_out(kind):
    """A wrong ``out`` is refused and left as it was."""
    scene = make_scene("quadratic")
    bad, seen = BAD_GRIDS[kind]
    out = bad.clone()
    text = message(gg.GridMaker(**scene.settings).forward, *scene.inputs, out=out)
    assert_says(text, "out", seen)
    assert torch.equal(out, bad)


def test_out_must_be_contiguous_and_writeable():
    scene = make_scene("quadratic")
    maker = gg.GridMaker(**scene.settings)
    scattered = zeros(3, 7, 5, 12)[..., ::2]
    assert_says(message(maker.forward, *scene.inputs, out=scattered), "out")
    frozen = np.zeros((3, 7, 5, 6))
    frozen.setflags(write=False)
    arrays = [array.numpy() for array in scene.inputs]
    assert_says(message(maker.forward, *arrays, out=frozen), "out")
    assert not scattered.any() and not frozen.any()
    assert_says(message(maker.forward, *scene.inputs, out="here"), "out")


@pytest.mark.parametrize("bad", ["coords", "types", "radii"])
def test_nothing_is_written_before_an_error(bad):
    """Values that lie on the CPU are checked before the first element of ``out`` changes."""
    scene = make_scene("quadratic", type_mode="index")
    value = {"coords": scene.coords.float(), "types": scene.types + 3, "radii": -scene.radii}[bad]
    scene = scene.replace(**{bad: value})
    out = torch.full((3, 7, 5, 6), 7.0, dtype=torch.float64)
    message(gg.GridMaker(**scene.settings).forward, *scene.inputs, **scene.grouping, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("kind", BAD_GRIDS)
@pytest.mark.parametrize("name", ["grad_density", "relevance", "density"])
def test_grids(name, kind):
    scene = make_scene("quadratic")
    maker = gg.GridMaker(**scene.settings)
    bad, seen = BAD_GRIDS[kind]
    good = zeros(3, 7, 5, 6)
    if name == "grad_density":
        text = message(maker.backward, *scene.inputs, bad)
        other = message(maker.backward_gradients, *scene.inputs, bad, None, None, None)
        assert other == text
    else:
        text = message(maker.backward_relevance, *scene.inputs, **{"density": good, "relevance": good, name: bad})
    if kind == "other-T":  # the number of channels is read from the grid, so types disagree with it
        assert text.startswith(("n_types:", f"{name}:")) and "4" in text
    else:
        assert_says(text, name, seen)


@pytest.mark.parametrize("name", GRAD_GRADS)
@pytest.mark.parametrize("problem", ["shape", "rank", "dtype", "kind"])
def test_directions(name, problem):
    scene = make_scene("quadratic")
    grad_density, *grad_grads = scene.cotangents()
    arrays = dict(zip(GRAD_GRADS, grad_grads))
    good = arrays[name]
    arrays[name] = {"shape": good[:-1], "rank": good[None], "dtype": good.float(), "kind": good.tolist()}[problem]
    text = message(gg.GridMaker(**scene.settings).backward_gradients, *scene.inputs, grad_density, **arrays)
    seen = {"dtype": "float32", "kind": "list"}.get(problem) or tuple(arrays[name].shape)
    assert_says(text, name, seen)


def test_a_direction_of_index_types():
    scene = make_scene("quadratic", type_mode="index")
    grad_density, grad_grad_coords, _, grad_grad_radii = scene.cotangents()
    maker = gg.GridMaker(**scene.settings)
    text = message(
        maker.backward_gradients, *scene.inputs, grad_density, grad_grad_coords, zeros(5, 3), grad_grad_radii
    )
    assert_says(text, "grad_grad_types")


def test_a_gradient_of_the_wrong_shape_from_autograd():
    """torch refuses it before the kernels see it."""
    scene = make_scene("quadratic")
    coords = scene.coords.clone().requires_grad_()
    density = gg.coords2grid(gg.GridMaker(**scene.settings), scene.center, coords, scene.types, scene.radii)
    with pytest.raises(RuntimeError):
        density.backward(zeros(3, 7, 5, 5))


def test_numpy_integer_coordinates():
    maker = gg.GridMaker(0.5, 3.0)
    arrays = np.zeros((2, 3), dtype=int), np.zeros(2, dtype=int), np.ones(2)
    assert_says(message(maker.forward, (0, 0, 0), *arrays, n_types=1, errors=TypeError), "coords", "int64")


def test_coords2grid_takes_tensors_only():
    """NumPy arrays would lose their gradients silently."""
    maker = gg.GridMaker(0.5, 3.0)
    arrays = np.zeros((2, 3)), np.ones((2, 1)), np.ones(2)
    assert_says(message(gg.coords2grid, maker, (0, 0, 0), *arrays, errors=TypeError), "coords", "ndarray")


def kinds():
    """Tensors that hold their elements in some other way than one by one, by name and what the message says of it."""
    dense = torch.ones(5, 3)
    jagged = [torch.ones(2, 3), torch.ones(3, 3)]
    return {
        "sparse": (dense.to_sparse(), "torch.sparse_coo"),
        "csr": (dense.to_sparse_csr(), "torch.sparse_csr"),
        "csc": (dense.to_sparse_csc(), "torch.sparse_csc"),
        "mkldnn": (dense.to_mkldnn() if torch.backends.mkldnn.is_available() else dense.to_sparse(), "torch."),
        "nested": (torch.nested.nested_tensor(jagged), "nested"),
        "jagged": (torch.nested.nested_tensor(jagged, layout=torch.jagged), "torch.jagged"),
        "quantized": (torch.quantize_per_tensor(dense, 0.1, 0, torch.quint8), ""),
    }


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("entrance", ["coords2grid", "forward"])
@pytest.mark.parametrize("kind", ["sparse", "csr", "csc", "mkldnn", "nested", "jagged", "quantized"])
@pytest.mark.parametrize("name", ["center", "coords", "types", "radii", "batch", "out", "grad_density"])
def test_kinds_of_tensors(name, kind, entrance):
    maker = gg.GridMaker(0.5, 3.0)
    bad, seen = kinds()[kind]
    given = {"center": torch.zeros(3), "coords": torch.zeros(5, 3), "types": torch.ones(5, 3), "radii": torch.ones(5)}
    if name in ("out", "grad_density"):
        call = maker.forward if name == "out" else maker.backward
    elif entrance == "forward":
        call = maker.forward
    else:
        call = functools.partial(gg.coords2grid, maker)
    assert_says(message(call, **{**given, name: bad}), name, seen)


@pytest.mark.parametrize("name", ["coords", "types", "radii", "center", "grad_density"])
@pytest.mark.parametrize("dtype", [object, "U3", "longdouble", "clongdouble", "M8[s]", [("x", "f4")]], ids=str)
def test_arrays_that_torch_does_not_have(name, dtype):
    maker = gg.GridMaker(0.5, 3.0)
    given = {"center": np.zeros(3), "coords": np.zeros((5, 3)), "types": np.ones((5, 3)), "radii": np.ones(5)}
    shapes = {**{key: value.shape for key, value in given.items()}, "grad_density": (3, 7, 7, 7)}
    given[name] = np.zeros(shapes[name], dtype=dtype)
    call = maker.backward if name == "grad_density" else maker.forward
    assert_says(message(call, **given, errors=TypeError), name, given[name].dtype)


@pytest.mark.parametrize("name", ["coords", "types", "radii", "center", "grad_density"])
def test_masked_arrays(name):
    """Their mask would be lost."""
    maker = gg.GridMaker(0.5, 3.0)
    given = {"center": np.zeros(3), "coords": np.zeros((5, 3)), "types": np.ones((5, 3)), "radii": np.ones(5)}
    given["grad_density"] = np.ones((3, 7, 7, 7))
    given[name] = np.ma.masked_equal(given[name], 7)
    assert_says(message(maker.backward, **given, errors=TypeError), name, "MaskedArray")


@pytest.mark.parametrize("batch_size", [2**31, 2**40, 2**62])
@pytest.mark.parametrize("entrance", ["coords2grid", "forward"])
def test_batches_beyond_memory(entrance, batch_size):
    """They are refused before memory is asked for, offsets included; so is a last example of such a number."""
    maker = gg.GridMaker(0.5, 3.0)
    call = maker.forward if entrance == "forward" else functools.partial(gg.coords2grid, maker)
    atoms = (0, 0, 0), torch.zeros(2, 3), torch.ones(2, 2), torch.ones(2)
    text = message(call, *atoms, batch=torch.tensor([0, 1]), batch_size=batch_size, errors=MemoryError)
    assert_says(text, "density", (batch_size, 2, 7, 7, 7), "GiB")
    text = message(call, *atoms, batch=torch.tensor([0, batch_size - 1]), errors=MemoryError)
    assert_says(text, "density", (batch_size, 2, 7, 7, 7), "GiB")


def test_batches_beyond_the_memory_of_a_gpu(monkeypatch):
    """What the machine has not, the device may have; where it has not either, nothing is asked for."""
    device = types.SimpleNamespace(total_memory=2**50)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    coords = types.SimpleNamespace(is_cuda=True, is_cpu=False, itemsize=4, device="cuda:0")
    grids.check_memory((2**40, 2, 2, 2, 2), coords)
    text = message(grids.check_memory, (2**45, 2, 2, 2, 2), coords, errors=MemoryError)
    assert_says(text, "density", (2**45, 2, 2, 2, 2), "cuda:0 has 1,048,576.0 GiB")
