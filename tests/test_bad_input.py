"""Bad settings, grids, directions and kinds of arrays are refused by name before anything is written."""

import functools
import types

import numpy as np
import pytest
import torch
from support.refusals import assert_says, message, zeros
from support.scenes import make_scene

import gridgrad as gg
from gridgrad.autograd import grids

GRAD_GRADS = ("grad_grad_coords", "grad_grad_types", "grad_grad_radii")


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
