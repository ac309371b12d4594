"""Orders 0, 1, 2 and the relevance of every mode against the oracle."""

import itertools

import pytest
import torch
from support.scenes import (
    DERIVATIVE_BAR,
    DTYPES,
    LAYOUTS,
    MODES,
    RADII,
    TAILS,
    TYPES,
    assert_close,
    assert_outputs,
    evaluate,
    expected_outputs,
    make_scene,
    mode_id,
)

import gridgrad as gg

PRECISIONS = pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
POINTS_ALONG_Z = {1: 0.1, 2: 0.5, 5: 2.0, 15: 7.0, 16: 7.5, 17: 8.0, 33: 16.0}


def check(scene, cotangents=None):
    """Compare every output with the oracle and return the outputs."""
    cotangents = cotangents or scene.cotangents()
    found = evaluate(gg.GridMaker(**scene.settings), scene, cotangents)
    assert_outputs(found, evaluate(scene.reference(), scene, cotangents), scene.dtype)
    return found


@PRECISIONS
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_every_mode(mode, dtype):
    scene = make_scene(*mode, dtype=dtype)
    assert_outputs(evaluate(gg.GridMaker(**scene.settings), scene), expected_outputs(mode, dtype), dtype)


@PRECISIONS
@pytest.mark.parametrize("multiple", [0.8, 1.5, 2.0])
@pytest.mark.parametrize("tail", [*TAILS, "negative"])
def test_width_of_the_gaussian(tail, multiple, dtype):
    check(make_scene(tail, multiple=multiple, dtype=dtype, dimension=(3.0, 4.0, 3.5)))


@PRECISIONS
@pytest.mark.parametrize("radius_scale", [0.6, 1.75])
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("tail", TAILS)
def test_radius_scale(tail, radius_mode, radius_scale, dtype):
    check(make_scene(tail, radius_mode, radius_scale=radius_scale, dtype=dtype))


@PRECISIONS
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("points", POINTS_ALONG_Z)
def test_points_along_z(points, type_mode, dtype):
    scene = make_scene(
        "quadratic", "per_atom", type_mode, dimension=(1.5, 1.0, POINTS_ALONG_Z[points]), dtype=dtype, n_atoms=12
    )
    assert check(scene)["density"].shape == (3, 4, 3, points)


@PRECISIONS
@pytest.mark.parametrize("shape", sorted(set(itertools.permutations((1, 5, 17)))), ids=mode_id)
def test_boxes(shape, dtype):
    scene = make_scene(dimension=tuple(POINTS_ALONG_Z[points] for points in shape), dtype=dtype, n_atoms=9)
    assert check(scene)["density"].shape == (3, *shape)


@PRECISIONS
@pytest.mark.parametrize(
    ("resolution", "dimension"), [(0.3, (3.1, 2.2, 4.05)), (0.7, (4.2, 3.5, 5.6)), (1.0, (5.0, 5.0, 5.0))]
)
def test_resolutions(resolution, dimension, dtype):
    check(make_scene(resolution=resolution, dimension=dimension, dtype=dtype, n_atoms=8))


@PRECISIONS
@pytest.mark.parametrize("n_types", [1, 2, 4, 7, 16, 33])
@pytest.mark.parametrize("type_mode", TYPES)
def test_numbers_of_types(type_mode, n_types, dtype):
    check(make_scene("quadratic", "by_type", type_mode, n_types=n_types, dtype=dtype, n_atoms=10))


@PRECISIONS
@pytest.mark.parametrize("n_atoms", [1, 2, 63, 130])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_of_atoms(layout, n_atoms, dtype):
    check(make_scene("quintic", "per_atom", "vector", layout, n_atoms=n_atoms, dtype=dtype, margin=1e-6))


@PRECISIONS
@pytest.mark.parametrize("layout", ["padded", "ragged"])
@pytest.mark.parametrize("type_mode", TYPES)
def test_one_center_for_all_examples(type_mode, layout, dtype):
    check(make_scene("quadratic", "per_atom", type_mode, layout, center_per_example=False, dtype=dtype))


@PRECISIONS
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("tail", TAILS)
def test_one_radius_covers_the_whole_grid(tail, type_mode, dtype):
    scene = make_scene(tail, "per_atom", type_mode, dtype=dtype)
    radii = scene.radii.clone()
    radii[0] = 40.0
    found = check(scene.replace(radii=radii))["density"]
    channel = scene.types[0] if type_mode == "index" else scene.types[0].argmax()
    assert (found[channel] > 0).all()


@PRECISIONS
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_mode", TYPES)
def test_radii_of_every_size(type_mode, layout, dtype):
    """From spheres between the voxels to spheres around everything, side by side."""
    scene = make_scene("quintic", "per_atom", type_mode, layout, dtype=dtype, n_atoms=9)
    scene = scene.replace(radii=torch.logspace(-2, 3, 9, dtype=dtype).expand(scene.radii.shape))
    assert scene.reference().margin(*scene.inputs, **scene.grouping) > 1e-6
    check(scene)


@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("type_mode", TYPES)
def test_larger_grid(type_mode, radius_mode):
    """Many atoms that share their neighbourhoods, many more that do not."""
    check(
        make_scene("quadratic", radius_mode, type_mode, n_atoms=60, n_types=2, dimension=(6.0, 7.0, 8.0), margin=1e-9)
    )


def test_crowd():
    """All atoms within one voxel, and a few apart."""
    scene = make_scene("quintic", n_atoms=150, dimension=(6.0, 6.0, 8.0), margin=0.0)
    scene = scene.replace(coords=scene.center + 0.05 * (scene.coords - scene.center))
    assert scene.reference().margin(*scene.inputs) > 1e-9
    check(scene)


@PRECISIONS
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("type_mode", TYPES)
def test_many_examples(type_mode, radius_mode, dtype):
    """Forty examples, a third of them empty."""
    scene = make_scene("quadratic", radius_mode, type_mode, "ragged", n_atoms=60, dtype=dtype, center_per_example=False)
    generator = torch.Generator().manual_seed(1)
    batch = torch.randint(0, 26, (60,), generator=generator).sort().values
    check(scene.replace(batch=batch * 3 // 2, batch_size=40))


@PRECISIONS
@pytest.mark.parametrize("radius_mode", RADII)
def test_no_atom_reaches_the_grid(radius_mode, dtype):
    """Far away in every direction: zero density and zero gradients, the one by the weights too."""
    scene = make_scene("quadratic", radius_mode, n_atoms=6, dtype=dtype)
    away = torch.tensor([[20.0, 0, 0], [-20, 0, 0], [0, 20, 0], [0, -1e10, 0], [0, 0, 1e15], [0, 0, -1e6]], dtype=dtype)
    for value in check(scene.replace(coords=scene.center + away)).values():
        assert not value.any()


@PRECISIONS
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("tail", TAILS)
def test_atoms_on_grid_points(tail, radius_mode, type_mode, dtype):
    """At d = 0 nothing is singular."""
    scene = make_scene(tail, radius_mode, type_mode, dtype=dtype, n_atoms=4)
    scene = scene.replace(
        center=torch.zeros(3, dtype=dtype),
        coords=torch.tensor([[-1.5, -1.0, -1.25], [0, 0, 0.25], [0.5, 1, -0.75], [1.5, 1, 1.25]], dtype=dtype),
    )
    assert scene.reference().margin(*scene.inputs, **scene.grouping) > 1e-6
    check(scene)


@PRECISIONS
@pytest.mark.parametrize("tail", TAILS)
def test_voxels_exactly_on_a_kink(tail, dtype):
    """Distances of exactly one radius (m) and one and a half (the cutoff): ``s <= m^2`` and ``s <= x_f^2`` hold."""
    scene = make_scene(tail, dtype=dtype, n_atoms=2, n_types=1)
    check(
        scene.replace(
            center=torch.zeros(3, dtype=dtype),
            coords=torch.tensor([[0, 0, 0.25], [0.5, -0.5, -0.25]], dtype=dtype),
            types=torch.ones((2, 1), dtype=dtype),
            radii=torch.ones(2, dtype=dtype),
        )
    )


@PRECISIONS
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_atoms(layout, type_mode, radius_mode, dtype):
    """N = 0 gives a grid of zeros and empty gradients; shared radii get a zero gradient."""
    scene = make_scene("quadratic", radius_mode, type_mode, layout, dtype=dtype)
    changes = {
        name: scene[name][..., :0, :] if name == "coords" else scene[name] for name in ("coords", "types", "radii")
    }
    changes["types"] = scene.types[..., :0, :] if type_mode == "vector" else scene.types[..., :0]
    if radius_mode == "per_atom":
        changes["radii"] = scene.radii[..., :0]
    if layout == "ragged":
        changes["batch"] = scene.batch[:0]
    for value in check(scene.replace(**changes)).values():
        assert value is None or not value.any()


@PRECISIONS
@pytest.mark.parametrize("type_mode", TYPES)
def test_empty_examples(type_mode, dtype):
    """Examples 1 and 3 of a ragged scene hold no atom: their grids are zero."""
    found = check(make_scene("quadratic", "per_atom", type_mode, "ragged", dtype=dtype))
    for name in ("density", "order 2 grad_grad_density"):
        filled = found[name].flatten(1).any(1).tolist()
        assert filled == [True, False, True, False], name


@PRECISIONS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_where_weights_are_zero(layout, dtype):
    """The gradient by a weight does not depend on it, so it is there where the weight is zero."""
    scene = make_scene("quintic", "by_type", "vector", layout, dtype=dtype)
    found = check(scene.replace(types=torch.zeros_like(scene.types)))
    assert not found["density"].any() and not found["order 1 grad_coords"].any()
    for name in ("order 1 grad_types", "order 2 grad_types", "order 2 grad_grad_density", "order 2 grad_coords"):
        assert found[name].abs().max() > 1e-3, name


@PRECISIONS
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quadratic"], ids=mode_id)
def test_absent_cotangents_are_zero(mode, dtype):
    """Any of ``grad_grad_coords``, ``grad_grad_types``, ``grad_grad_radii`` may be None."""
    scene = make_scene(*mode, dtype=dtype)
    maker, reference = gg.GridMaker(**scene.settings), scene.reference()
    grad_density, *grad_grads = scene.cotangents()
    for given in itertools.product([True, False], repeat=3):
        chosen = [array if keep else None for array, keep in zip(grad_grads, given)]
        found, expected = (
            each.backward_gradients(*scene.inputs, grad_density, *chosen, batch=scene.batch)
            for each in (maker, reference)
        )
        for value, target in zip(found, expected):
            assert_close(value, target, DERIVATIVE_BAR[dtype], f"given {given}")


@PRECISIONS
@pytest.mark.parametrize("value", [1e18, 1e30, 3e38])
@pytest.mark.parametrize("type_mode", TYPES)
def test_squares_that_overflow(type_mode, value, dtype):
    """Finite positions so far away that float32 cannot hold the squared distance are outside, not NaN."""
    scene = make_scene("quadratic", type_mode=type_mode, n_atoms=4, dtype=dtype, seed=1)
    coords = scene.coords.clone()
    coords[0, 2], coords[1, 0] = value, -value
    near = scene.replace(coords=coords, center=torch.zeros(3, dtype=dtype))
    cotangents = near.cotangents()
    found = evaluate(gg.GridMaker(**scene.settings), near, cotangents)
    assert found["density"].any()
    gone = near.replace(coords=torch.where(coords.abs() > 1e9, torch.full_like(coords, 1e5), coords))
    assert_outputs(found, evaluate(scene.reference(), gone, cotangents), dtype)
