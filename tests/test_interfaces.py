"""The ways in and out: NumPy and torch, ``out``, strides, the module, libmolgrid's call, dtypes."""

import functools

import numpy as np
import pytest
import torch
from support.scenes import (
    DERIVATIVE_BAR,
    DTYPES,
    LAYOUTS,
    MODES,
    RADII,
    TYPES,
    assert_close,
    assert_outputs,
    assert_same_bits,
    evaluate,
    make_scene,
    mode_id,
)

import gridgrad as gg

PRECISIONS = pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)


def numpy_scene(scene):
    names = ("center", "coords", "types", "radii", "batch")
    return scene.replace(**{name: scene[name].numpy() for name in names if scene[name] is not None})


def strided(array):
    """Return an equal tensor whose memory is scattered: every other element of a larger, reversed layout."""
    if array is None:
        return None
    larger = torch.full([2 * size + 1 for size in reversed(array.shape)], -12345, dtype=array.dtype)
    view = larger[tuple(slice(1, None, 2) for _ in array.shape)].permute(*reversed(range(array.dim())))
    view.copy_(array)
    return view


@PRECISIONS
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
def test_numpy_in_numpy_out(mode, dtype):
    """Same numbers, same dtype, and arrays all the way."""
    scene = make_scene(*mode, dtype=dtype)
    cotangents = scene.cotangents()
    arrays = [None if array is None else array.numpy() for array in cotangents]
    maker = gg.GridMaker(**scene.settings)
    found, expected = evaluate(maker, numpy_scene(scene).replace(), arrays), evaluate(maker, scene, cotangents)
    for name, value in expected.items():
        if value is None:
            assert found[name] is None
            continue
        assert isinstance(found[name], np.ndarray) and isinstance(value, torch.Tensor), name
        assert found[name].dtype == {torch.float64: np.float64, torch.float32: np.float32}[dtype], name
        assert_same_bits(found[name], value, name)


def test_numpy_arrays_of_any_layout():
    """Fortran order, negative strides, read-only, byte-swapped."""
    scene = make_scene("quadratic")
    maker = gg.GridMaker(**scene.settings)
    expected = maker.forward(*scene.inputs).numpy()
    center, coords, types, radii = (array.numpy() for array in scene.inputs)
    read_only = coords.copy()
    read_only.setflags(write=False)
    for changed in (
        np.asfortranarray(coords),
        coords[::-1].copy()[::-1],
        read_only,
        np.repeat(coords, 2, 0)[::2],
        coords.astype(">f8"),
    ):
        found = maker.forward(center, changed, np.asfortranarray(types), radii)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("integer", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_integer_types_of_any_width(integer):
    scene = make_scene("quadratic", type_mode="index")
    kept = scene.types >= 0
    scene = scene.atoms(kept)
    maker = gg.GridMaker(**scene.settings)
    expected = maker.forward(*scene.inputs, n_types=3)
    types = torch.from_numpy(scene.types.numpy().astype(integer))
    assert_same_bits(maker.forward(scene.center, scene.coords, types, scene.radii, n_types=3), expected)
    assert_same_bits(gg.coords2grid(maker, scene.center, scene.coords, types, scene.radii, n_types=3), expected)


@PRECISIONS
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quadratic"], ids=mode_id)
def test_scattered_memory(mode, dtype):
    """Inputs and cotangents that are not contiguous give the same bits."""
    scene = make_scene(*mode, dtype=dtype)
    maker, cotangents = gg.GridMaker(**scene.settings), scene.cotangents()
    scattered = scene.replace(
        **{name: strided(scene[name]) for name in ("center", "coords", "types", "radii", "batch")}
    )
    assert not scattered.coords.is_contiguous()
    found, expected = evaluate(maker, scattered, list(map(strided, cotangents))), evaluate(maker, scene, cotangents)
    for name, value in expected.items():
        if value is not None:
            assert_same_bits(found[name], value, name)


@PRECISIONS
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_mode", TYPES)
def test_expanded_tensors(type_mode, layout, dtype):
    """``sum().backward()`` hands in an expanded gradient; equal atoms may be expanded too."""
    scene = make_scene("quadratic", "per_atom", type_mode, layout, dtype=dtype)
    scene = scene.replace(radii=torch.tensor(1.1, dtype=dtype).expand(scene.radii.shape))
    assert scene.reference().margin(*scene.inputs, **scene.grouping) > 1e-6
    coords = scene.coords.clone().requires_grad_()
    maker = gg.GridMaker(**scene.settings)
    gg.coords2grid(maker, scene.center, coords, scene.types, scene.radii, **scene.grouping).sum().backward()
    ones = torch.ones_like(scene.cotangents()[0])
    expected = scene.reference().backward(*scene.inputs, ones, batch=scene.batch)[0]
    assert_close(coords.grad, expected, DERIVATIVE_BAR[dtype], "grad_coords")


@PRECISIONS
@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quadratic"], ids=mode_id)
def test_out(mode, kind, dtype):
    """Every element is written, whatever was there; the array itself comes back."""
    scene = make_scene(*mode, dtype=dtype)
    maker = gg.GridMaker(**scene.settings)
    expected = maker.forward(*scene.inputs, **scene.grouping)
    out = torch.full_like(expected, float("nan"))
    if kind == "numpy":
        out, scene = out.numpy(), numpy_scene(scene)
    assert maker.forward(*scene.inputs, **scene.grouping, out=out) is out
    assert_same_bits(out, expected)


def test_out_may_be_part_of_a_larger_array():
    scene = make_scene("quadratic")
    maker = gg.GridMaker(**scene.settings)
    whole = torch.full((3, *maker.grid_dimensions(3)), 7.0, dtype=torch.float64)
    maker.forward(*scene.inputs, out=whole[1])
    assert_same_bits(whole[1], maker.forward(*scene.inputs))
    assert (whole[[0, 2]] == 7).all()


@PRECISIONS
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("type_mode", TYPES)
def test_all_entrances_agree(type_mode, radius_mode, layout, dtype):
    scene = make_scene("quintic", radius_mode, type_mode, layout, dtype=dtype, center_per_example=False)
    maker = gg.GridMaker(**scene.settings)
    atoms, ragged = scene.inputs[1:], {"batch": scene.batch, "batch_size": scene.batch_size}
    expected = maker.forward(*scene.inputs, **scene.grouping)
    assert_same_bits(gg.coords2grid(maker, *scene.inputs, **scene.grouping), expected)
    n_types = scene.n_types if type_mode == "index" else None
    for center in (tuple(scene.center.tolist()), scene.center):
        module = gg.Coords2Grid(maker, center=center, n_types=n_types)
        assert_same_bits(module(*atoms, **ragged), expected)
    for center in (tuple(scene.center.tolist()), scene.center.tolist(), scene.center.numpy()):
        assert_same_bits(gg.coords2grid(maker, center, *atoms, **scene.grouping), expected)
    if type_mode == "vector" and layout != "ragged":
        assert_same_bits(gg.Coords2GridFunction.apply(maker, *scene.inputs), expected)


def test_default_center_of_the_module_is_the_origin():
    scene = make_scene("quadratic")
    maker = gg.GridMaker(**scene.settings)
    atoms = scene.coords - scene.center, scene.types, scene.radii
    assert_same_bits(gg.Coords2Grid(maker)(*atoms), gg.coords2grid(maker, (0, 0, 0), *atoms))


def test_module_has_no_parameters_and_follows_dtype():
    """It is a layer without weights: nothing to train, an empty state, any dtype of input."""
    module = gg.Coords2Grid(gg.GridMaker(0.5, 3), center=(0.1, 0.2, 0.3))
    assert not list(module.parameters()) and not module.state_dict()
    assert repr(module).startswith("Coords2Grid(")
    for dtype in DTYPES:
        grid = module(torch.zeros((1, 3), dtype=dtype), torch.ones((1, 2), dtype=dtype), torch.ones(1, dtype=dtype))
        assert grid.dtype == dtype and grid.shape == (2, 7, 7, 7)


@pytest.mark.parametrize("function", ["coords2grid", "module", "libmolgrid"])
def test_backward_fills_grad(function):
    """``backward`` through every differentiable entrance accumulates into ``.grad`` of all leaves."""
    scene = make_scene("quadratic", center_per_example=False)
    maker = gg.GridMaker(**scene.settings)
    leaves = [array.clone().requires_grad_() for array in scene.inputs[1:]]
    call = {
        "coords2grid": functools.partial(gg.coords2grid, maker, scene.center),
        "module": gg.Coords2Grid(maker, scene.center),
        "libmolgrid": functools.partial(gg.Coords2GridFunction.apply, maker, scene.center),
    }[function]
    grad_density = scene.cotangents()[0]
    expected = scene.reference().backward(*scene.inputs, grad_density)
    for repetition in (1, 2):
        call(*leaves).backward(grad_density)
        for leaf, target in zip(leaves, expected):
            assert_close(leaf.grad, repetition * target, 1e-12, "grad")


def test_no_graph_without_gradients():
    scene = make_scene("quadratic")
    maker = gg.GridMaker(**scene.settings)
    assert not gg.coords2grid(maker, *scene.inputs).requires_grad
    coords = scene.coords.clone().requires_grad_()
    inputs = scene.center, coords, scene.types, scene.radii
    assert gg.coords2grid(maker, *inputs).requires_grad
    assert not maker.forward(*inputs).requires_grad
    with torch.no_grad():
        assert not gg.coords2grid(maker, *inputs).requires_grad
    with torch.inference_mode():
        assert_same_bits(gg.coords2grid(maker, *inputs).clone(), maker.forward(*scene.inputs))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quadratic"], ids=mode_id)
def test_inputs_are_left_alone(mode):
    scene = make_scene(*mode)
    before = scene.replace(**{name: scene[name].clone() for name in ("center", "coords", "types", "radii")})
    cotangents, copies = scene.cotangents(), scene.cotangents()
    evaluate(gg.GridMaker(**scene.settings), scene, cotangents)
    for name in ("center", "coords", "types", "radii"):
        assert torch.equal(scene[name], before[name]), name
    assert all(a is None or torch.equal(a, b) for a, b in zip(cotangents, copies))


def test_batch_size_defaults_to_the_last_example():
    scene = make_scene("quadratic", layout="ragged", center_per_example=False, seed=2)
    assert scene.batch[-1] == 2
    maker = gg.GridMaker(**scene.settings)
    whole = maker.forward(*scene.inputs, **scene.grouping)
    assert_same_bits(maker.forward(*scene.inputs, batch=scene.batch), whole[:3])
    assert_same_bits(maker.forward(*scene.inputs, batch=scene.batch.int(), batch_size=4), whole)


@PRECISIONS
def test_an_example_does_not_depend_on_its_neighbours(dtype):
    """Each grid of a batch equals the grid of the same atoms alone."""
    scene = make_scene("quadratic", layout="ragged", dtype=dtype, n_atoms=11, n_types=2)
    maker = gg.GridMaker(**scene.settings)
    whole = maker.forward(*scene.inputs, **scene.grouping)
    for example in range(scene.batch_size):
        member = scene.batch == example
        alone = maker.forward(scene.center[example], scene.coords[member], scene.types[member], scene.radii[member])
        assert_same_bits(whole[example], alone, f"example {example}")


def test_outputs_are_of_the_input_precision():
    for dtype in DTYPES:
        scene = make_scene("quadratic", dtype=dtype)
        assert_outputs(evaluate(gg.GridMaker(**scene.settings), scene), evaluate(scene.reference(), scene), dtype)
