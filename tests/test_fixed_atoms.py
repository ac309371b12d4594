"""`fixed`: atoms that are constants are in the density, have no gradients, and change no bit of anything else."""

import pytest
import torch
from support.scenes import MODES, assert_close, assert_same_bits, make_scene

import gridgrad as gg


def mask_like(scene):
    """Every second atom, so that fixed and other atoms share examples and channels."""
    return torch.arange(scene.coords[..., 0].numel()).reshape(scene.coords.shape[:-1]) % 2 == 0


def leaves(scene, *names):
    values = {name: scene[name].clone() for name in ("center", "coords", "types", "radii")}
    for name in names:
        values[name].requires_grad_()
    return values


def gridded(scene, values, fixed=None, maker=None):
    return gg.coords2grid(maker or gg.GridMaker(**scene.settings), **values, **scene.grouping, fixed=fixed)


def wanted(scene, center=False):
    """Inputs that can have gradients; radii by type and the centre are shared by fixed and other atoms."""
    names = ["coords"]
    names += ["types"] if scene.types.is_floating_point() else []
    return names + ["radii"] + ["center"] * center


def gradients(scene, names, fixed):
    """Density, first and second order of the inputs `names`, with cotangents that are zero for fixed atoms."""
    values = leaves(scene, *names)
    inputs = [values[name] for name in names]
    grad_density, *cotangents = scene.cotangents()
    cotangents = dict(zip(("coords", "types", "radii"), cotangents))
    cotangents["center"] = torch.ones_like(scene.center)
    grad_density = grad_density.requires_grad_()
    density = gridded(scene, values, fixed)
    first = torch.autograd.grad(density, inputs, grad_density, create_graph=True)
    along = []
    for name, gradient in zip(names, first):
        v = cotangents[name]
        if v.shape[: mask_like(scene).dim()] == mask_like(scene).shape:
            v = v.masked_fill(
                mask_like(scene).reshape(*mask_like(scene).shape, *(1,) * (v.dim() - scene.coords.dim() + 1)), 0
            )
        along.append((gradient * v).sum())
    second = torch.autograd.grad(sum(along), [grad_density, *inputs])
    return density.detach(), dict(zip(names, first)), dict(zip(("grad_density", *names), second))


@pytest.mark.parametrize("mode", MODES, ids="-".join)
def test_all_modes(mode):
    """Rows of atoms that move are those of the full calculation to the bit, rows of fixed atoms are zero."""
    scene = make_scene(*mode)
    fixed = mask_like(scene)
    by_type = scene.settings["radius_type_indexed"]
    names = [name for name in wanted(scene) if not (by_type and name == "radii")]
    density, first, second = gradients(scene, names, None)
    found_density, found_first, found_second = gradients(scene, names, fixed)
    assert_same_bits(found_density, density)
    for name in names:
        assert_same_bits(found_first[name][~fixed], first[name][~fixed])
        assert_same_bits(found_second[name][~fixed], second[name][~fixed])
        assert not found_first[name][fixed].any() and not found_second[name][fixed].any()
    assert_same_bits(found_second["grad_density"], second["grad_density"])


@pytest.mark.parametrize("mode", [m for m in MODES if m[0] == "quintic"], ids="-".join)
def test_what_atoms_share(mode):
    """The centre, and radii by type, get what all atoms add to their gradients, fixed ones too."""
    scene = make_scene(*mode)
    for names in (["center"], ["center", "radii"], ["radii"]):
        values, full = leaves(scene, *names), leaves(scene, *names)
        weights = scene.cotangents()[0]
        found = torch.autograd.grad(gridded(scene, values, mask_like(scene)), [values[n] for n in names], weights)
        expected = torch.autograd.grad(gridded(scene, full), [full[n] for n in names], weights)
        for name, a, b in zip(names, found, expected):
            if name == "radii" and not scene.settings["radius_type_indexed"]:
                b = b.masked_fill(mask_like(scene), 0)
            assert_close(a, b, 1e-12, name)


def test_gradgradcheck():
    scene = make_scene("quintic", "per_atom", "vector", "ragged", resolution=1.0)
    fixed = mask_like(scene)

    def f(coords, types, radii):
        values = {"center": scene.center, "coords": coords, "types": types, "radii": radii}
        held = {
            n: torch.where(fixed.reshape(-1, *(1,) * (values[n].dim() - 1)), scene[n], values[n]) for n in wanted(scene)
        }
        return gridded(scene, values | held, fixed)

    inputs = [scene[name].clone().requires_grad_() for name in wanted(scene)]
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


def test_transforms_and_compile():
    """Under torch.func, forward mode and torch.compile the numbers are the same."""
    scene = make_scene("quintic", "per_atom", "vector", "ragged")
    fixed, weights, maker = mask_like(scene), scene.cotangents()[0], gg.GridMaker(**scene.settings)

    def loss(coords):
        return (gridded(scene, {**leaves(scene), "coords": coords}, fixed, maker) * weights).sum()

    coords = scene.coords.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(coords), coords)
    assert expected.any() and not expected[fixed].any()
    assert_close(torch.func.grad(loss)(scene.coords), expected, 1e-12)
    tangent = torch.ones_like(scene.coords)
    assert_close(torch.func.jvp(loss, (scene.coords,), (tangent,))[1], (expected * tangent).sum(), 1e-12)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    (found,) = torch.autograd.grad(compiled(coords), coords)
    assert_close(found, expected, 1e-12)


def test_positions_that_are_not_finite():
    """A fixed atom at NaN fills its channel, as always, and takes no gradient from anyone."""
    scene = make_scene("quintic", "per_atom", "index", "single")
    values = leaves(scene, "coords")
    fixed = torch.arange(5) == 0
    with torch.no_grad():
        values["coords"][0, 1] = torch.nan
    density = gridded(scene, values, fixed)
    assert density[scene.types[0]].isnan().all()
    other = gg.coords2grid(gg.GridMaker(**scene.settings), scene.center, scene.coords, scene.types, scene.radii, 3)
    (gradient,) = torch.autograd.grad(density, values["coords"], torch.ones_like(density))
    values = leaves(scene, "coords")
    (expected,) = torch.autograd.grad(gridded(scene, values), values["coords"], torch.ones_like(other))
    assert_same_bits(gradient[1:], expected[1:])
    assert not gradient[0].any()


@pytest.mark.parametrize(
    "fixed", [torch.zeros(5), torch.zeros(4, dtype=torch.bool), torch.zeros(5, 1, dtype=torch.bool), [True] * 5]
)
def test_bad_masks(fixed):
    scene = make_scene("quintic", "per_atom", "index", "single")
    with pytest.raises((TypeError, ValueError), match=r"^fixed: .*; expected"):
        gridded(scene, leaves(scene), fixed)
