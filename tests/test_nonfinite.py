"""NaN in, NaN out, and only there; an infinite position is outside; a weight of zero hides everything."""

import pytest
import torch
from support.scenes import (
    DENSITY_BAR,
    DERIVATIVE_BAR,
    DTYPES,
    RADII,
    TAILS,
    TYPES,
    assert_close,
    assert_outputs,
    evaluate,
    make_scene,
    mode_id,
)

import gridgrad as gg

NAN, INFINITY = float("nan"), float("inf")
PRECISIONS = pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
RAGGED_OR_SINGLE = pytest.mark.parametrize("layout", ["single", "ragged"])
WEIGHTS = ((1.0, 0.0, 2.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.5, 1.0))


def scene_of_four(tail, radius_mode, type_mode, layout, dtype):
    """Four atoms, of which the first counts in channel 2 and, as a vector, in channel 0, but never in channel 1."""
    scene = make_scene(tail, radius_mode, type_mode, layout, dtype=dtype, n_atoms=4)
    types = torch.tensor(WEIGHTS, dtype=dtype) if type_mode == "vector" else torch.tensor([2, 1, 0, 1])
    return scene.replace(types=types)


def spoil(scene, name, index, value):
    array = scene[name].clone()
    array[index] = value
    return scene.replace(**{name: array})


def run(scene, cotangents):
    return evaluate(gg.GridMaker(**scene.settings), scene, cotangents)


def without_first(scene, cotangents):
    """Return the oracle's outputs for the scene without its first atom."""
    grad_density, grad_grad_coords, grad_grad_types, grad_grad_radii = cotangents
    cotangents = [
        grad_density,
        grad_grad_coords[1:],
        None if grad_grad_types is None else grad_grad_types[1:],
        grad_grad_radii if scene.settings["radius_type_indexed"] else grad_grad_radii[1:],
    ]
    rest = scene.atoms(slice(1, None))
    return evaluate(rest.reference(), rest, cotangents)


def split_grid(scene, grid):
    """Return the grid of the example of the first atom, (T, X, Y, Z), and those of the others."""
    if scene.batch is None:
        return grid, grid[:0]
    example = torch.arange(len(grid)) == scene.batch[0]
    return grid[example][0], grid[~example]


def check_spread(scene, outputs, expected, name, spoiled):
    """Channels ``spoiled`` of the example of the first atom are NaN throughout; all others are as if it were absent."""
    bar = (DENSITY_BAR if name == "density" else DERIVATIVE_BAR)[scene.dtype]
    (found, elsewhere), (target, target_elsewhere) = (split_grid(scene, each[name]) for each in (outputs, expected))
    assert_close(elsewhere, target_elsewhere, bar, name)
    for k in range(3):
        if k in spoiled:
            assert found[k].isnan().all(), f"{name}, channel {k}"
        else:
            assert_close(found[k], target[k], bar, f"{name}, channel {k}")


@PRECISIONS
@RAGGED_OR_SINGLE
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("name", "index"), [("coords", (0, 0)), ("coords", (0, 1)), ("coords", (0, 2)), ("radii", 0)])
def test_nan_position_or_radius(name, index, tail, type_mode, layout, dtype):
    """Its channels turn NaN, its own gradients too; everything else is untouched."""
    scene = spoil(scene_of_four(tail, "per_atom", type_mode, layout, dtype), name, index, NAN)
    cotangents = scene.cotangents()
    found, expected = run(scene, cotangents), without_first(scene, cotangents)
    spoiled = [2] if type_mode == "index" else [0, 2]
    check_spread(scene, found, expected, "density", spoiled)
    if type_mode == "index":
        check_spread(scene, found, expected, "order 2 grad_grad_density", spoiled)
    for key in (key for key in found if key.startswith("order") and "density" not in key and found[key] is not None):
        assert found[key][0].isnan().all(), key
        assert_close(found[key][1:], expected[key], DERIVATIVE_BAR[dtype], key)


@PRECISIONS
@RAGGED_OR_SINGLE
@pytest.mark.parametrize("type_mode", TYPES)
def test_nan_radius_of_a_type(type_mode, layout, dtype):
    """Channel 2 turns NaN in every example that has an atom in it."""
    scene = spoil(scene_of_four("quadratic", "by_type", type_mode, layout, dtype), "radii", 2, NAN)
    maker = gg.GridMaker(**scene.settings)
    density = maker.forward(*scene.inputs, **scene.grouping)
    usual = spoil(scene, "radii", 2, 1.0)
    expected = usual.reference().forward(*usual.inputs, **usual.grouping)
    members = scene.types == 2 if type_mode == "index" else scene.types[:, 2] != 0
    if layout == "single":
        density, expected = density[None], expected[None]
        occupied = {0}
    else:
        occupied = set(scene.batch[members].tolist())
    for example in range(len(density)):
        assert_close(density[example, :2], expected[example, :2], DENSITY_BAR[dtype])
        assert density[example, 2].isnan().all() if example in occupied else not density[example, 2].any()
    grad_coords, grad_types, grad_radii = maker.backward(
        *scene.inputs, torch.ones_like(density).reshape(scene.cotangents()[0].shape), batch=scene.batch
    )
    assert grad_radii.isnan().tolist() == [False, False, True]
    assert grad_coords.isnan().all(1).tolist() == grad_coords.isnan().any(1).tolist() == members.tolist()
    assert grad_types is None or grad_types.isnan().any(0).tolist() == [False, False, True]


@PRECISIONS
@RAGGED_OR_SINGLE
@pytest.mark.parametrize("radius_mode", RADII)
def test_nan_weight(radius_mode, layout, dtype):
    """Only the channel of that weight."""
    scene = spoil(scene_of_four("quintic", radius_mode, "vector", layout, dtype), "types", (0, 1), NAN)
    cotangents = scene.cotangents()
    found = run(scene, cotangents)
    usual = spoil(scene, "types", (0, 1), 1.0)
    expected = evaluate(usual.reference(), usual, cotangents)
    for name in ("density", "order 2 grad_grad_density"):
        check_spread(scene, found, expected, name, [1])
    for key in ("order 1 grad_coords", "order 2 grad_coords"):
        assert found[key][0].isnan().all(), key
        assert_close(found[key][1:], expected[key][1:], DERIVATIVE_BAR[dtype], key)
    for key in ("order 1 grad_radii", "order 2 grad_radii"):
        spoiled = found[key].isnan().tolist()
        assert spoiled == ([False, True, False] if radius_mode == "by_type" else [True, False, False, False]), key


@PRECISIONS
@RAGGED_OR_SINGLE
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("value", [INFINITY, -INFINITY])
def test_infinite_position(value, tail, type_mode, radius_mode, layout, dtype):
    """Nothing in any output and zero gradients."""
    scene = spoil(scene_of_four(tail, radius_mode, type_mode, layout, dtype), "coords", (0, 1), value)
    cotangents = scene.cotangents()
    found, expected = run(scene, cotangents), without_first(scene, cotangents)
    for name, target in expected.items():
        if target is None:
            continue
        bar = (DENSITY_BAR if name == "density" else DERIVATIVE_BAR)[dtype]
        if found[name].shape == target.shape:
            assert_close(found[name], target, bar, name)
        else:
            assert not found[name][0].any(), name
            assert_close(found[name][1:], target, bar, name)


@PRECISIONS
@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("layout", ["padded", "single"])
def test_ignored_atoms_may_hold_anything(layout, radius_mode, value, dtype):
    """Index -1: coordinates and radii of the padding are never looked at; its gradients are zero."""
    scene = make_scene("quadratic", radius_mode, "index", layout, dtype=dtype)
    ignored = scene.types < 0
    assert ignored.any()
    cotangents = scene.cotangents()
    expected = evaluate(scene.reference(), scene, cotangents)
    scene = spoil(scene, "coords", ignored, value)
    if radius_mode == "per_atom":
        scene = spoil(scene, "radii", ignored, value)
    assert_outputs(run(scene, cotangents), expected, dtype)


@PRECISIONS
@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("layout", ["padded", "single", "ragged"])
def test_atoms_of_zero_weight_may_lie_anywhere(layout, value, dtype):
    """They contribute nothing, also along a direction that leaves their weights at zero."""
    scene = make_scene("quadratic", "per_atom", "vector", layout, dtype=dtype)
    hidden = torch.zeros(scene.coords.shape[:-1], dtype=torch.bool)
    hidden[..., -1] = True
    scene = spoil(scene, "types", hidden, 0.0)
    cotangents = scene.cotangents()
    cotangents[2][hidden] = 0.0
    expected = evaluate(scene.reference(), scene, cotangents)
    found = run(spoil(scene, "coords", hidden, value), cotangents)
    bar = DERIVATIVE_BAR[dtype]
    assert_close(found["density"], expected["density"], DENSITY_BAR[dtype])
    assert_close(found["relevance"], expected["relevance"], bar, "relevance")
    assert_close(found["order 2 grad_grad_density"], expected["order 2 grad_grad_density"], bar, "grad_grad_density")
    for key in (key for key in found if key.startswith("order") and "density" not in key):
        assert_close(found[key][~hidden], expected[key][~hidden], bar, key)
    for key in ("order 1 grad_coords", "order 1 grad_radii"):
        assert not found[key][hidden].any(), key


@PRECISIONS
def test_nan_in_grad_density_reaches_the_atoms_near_it(dtype):
    scene = make_scene("quadratic", n_atoms=2, dtype=dtype)
    scene = scene.replace(coords=scene.center + torch.tensor([[-1.2, 0, 0], [9.0, 0, 0]], dtype=dtype))
    grad_density = scene.cotangents()[0]
    grad_density[0, 1, 2, 3] = NAN
    gradients = gg.GridMaker(**scene.settings).backward(
        *scene.replace(types=torch.ones_like(scene.types)).inputs, grad_density
    )
    for gradient in gradients:
        assert gradient[0].isnan().any() and not gradient[1].any()
