"""torch.autocast: computed in float32 from whatever comes in, handed on in the dtype of the context."""

import pytest
import torch
from support.rows import row
from support.scenes import LAYOUTS, assert_close, assert_same_bits, make_scene

import gridgrad as gg

HALVES = (torch.bfloat16, torch.float16)


def scene_and_maker(layout="padded", dtype=torch.float32):
    scene = make_scene("quadratic", "per_atom", "vector", layout, dtype=dtype)
    return scene, gg.GridMaker(**scene.settings)


@row("`torch.autocast`: float32 atoms")
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_atoms(layout, half):
    """The grid is the float32 one, rounded once; the gradients are those of float32 for the rounded cotangent."""
    scene, maker = scene_and_maker(layout)
    coords = scene.coords.clone().requires_grad_()
    expected = gg.coords2grid(maker, scene.center, coords, *scene.inputs[2:], **scene.grouping)
    with torch.autocast("cpu", dtype=half):
        grid = gg.coords2grid(maker, scene.center, coords, *scene.inputs[2:], **scene.grouping)
    assert grid.dtype == half
    assert torch.equal(grid, expected.to(half))
    cotangent = torch.randn(grid.shape, generator=torch.Generator().manual_seed(1)).to(half)
    (found,) = torch.autograd.grad(grid, coords, cotangent)
    assert_same_bits(found, torch.autograd.grad(expected, coords, cotangent.float())[0])


@row("`torch.autocast`: float16 and bfloat16 atoms")
@pytest.mark.parametrize("half", HALVES)
def test_half_atoms(half):
    """Half-precision inputs are widened, not refused, and get gradients of their own dtype."""
    scene, maker = scene_and_maker()
    types = scene.types.to(half).requires_grad_()
    with torch.autocast("cpu", dtype=half):
        grid = gg.coords2grid(maker, scene.center, scene.coords, types, scene.radii.to(half))
        module = gg.Coords2Grid(maker)(scene.coords.to(half), types, scene.radii.to(half))
    expected = gg.coords2grid(maker, scene.center, scene.coords, types.detach().float(), scene.radii.to(half).float())
    assert torch.equal(grid, expected.to(half)) and module.dtype == half
    grid.sum().backward()
    assert types.grad.dtype == half


@row("`torch.autocast`: float64 atoms stay float64")
def test_float64_atoms():
    scene, maker = scene_and_maker(dtype=torch.float64)
    expected = gg.coords2grid(maker, *scene.inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gg.coords2grid(maker, *scene.inputs)
    assert found.dtype == torch.float64
    assert_same_bits(found, expected)


@row("double backward under `torch.autocast`")
def test_double_backward():
    """A gradient penalty in the context equals the one outside to the precision of the context."""
    scene, maker = scene_and_maker()
    results = []
    for enabled in (True, False):
        coords = scene.coords.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            grid = gg.coords2grid(maker, scene.center, coords, *scene.inputs[2:])
            (gradient,) = torch.autograd.grad(grid.float().square().sum(), coords, create_graph=True)
            gradient.square().sum().backward()
        assert gradient.dtype == coords.grad.dtype == torch.float32
        results.append(coords.grad)
    assert_close(*results, 2e-2, "grad_coords")


@row("`coords2points` under `torch.autocast`")
@pytest.mark.parametrize("half", HALVES)
def test_points(half):
    """The densities are those of the same float32 numbers, rounded once; gradients have the dtypes of the inputs."""
    scene, maker = scene_and_maker("single")
    inputs = [value.to(half).requires_grad_() for value in (scene.coords + 0.3, *scene.inputs[1:])]
    widened = [value.detach().float().requires_grad_() for value in inputs]
    expected = gg.coords2points(maker, *widened)
    with torch.autocast("cpu", dtype=half):
        found = gg.coords2points(maker, *inputs)
    assert found.dtype == half and expected.any()
    assert torch.equal(found, expected.to(half))
    ones = torch.ones_like(expected)
    gradients = torch.autograd.grad(found, inputs, ones.to(half))
    for value, target in zip(gradients, torch.autograd.grad(expected, widened, ones), strict=True):
        assert value.dtype == half
        assert torch.equal(value, target.to(half))


def test_nested_contexts():
    """An inner context that is switched off gives float32 back."""
    scene, maker = scene_and_maker()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert gg.coords2grid(maker, *scene.inputs).dtype == torch.float32


def test_no_autocast_no_half():
    """Without a context half-precision atoms are an error that says what is expected."""
    scene, maker = scene_and_maker()
    with pytest.raises(TypeError, match=r"coords: dtype torch\.float16; expected torch\.float32 or torch\.float64"):
        gg.coords2grid(maker, scene.center, scene.coords.half(), *scene.inputs[2:])
