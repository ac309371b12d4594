"""Layer-wise relevance: each atom's share of a voxel's relevance is its share of the density there."""

import pytest
import torch
from support.scenes import DERIVATIVE_BAR, DTYPES, MODES, TYPES, assert_close, make_scene, mode_id

import gridgrad as gg

PRECISIONS = pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)


def shares_of(scene, relevance, density=None):
    maker = gg.GridMaker(**scene.settings)
    density = maker.forward(*scene.inputs, **scene.grouping) if density is None else density
    return maker.backward_relevance(*scene.inputs, density, relevance, batch=scene.batch)


@PRECISIONS
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_relevance_is_conserved(mode, dtype):
    """Summed over the atoms, what is handed out is the relevance of the voxels that any atom reaches."""
    scene = make_scene(*mode, dtype=dtype)
    density = gg.GridMaker(**scene.settings).forward(*scene.inputs, **scene.grouping)
    relevance = scene.cotangents()[0].abs()
    shares = shares_of(scene, relevance, density)
    assert shares.shape == scene.coords.shape[:-1] and shares.dtype == dtype
    assert shares.sum().item() == pytest.approx(relevance[density != 0].sum().item(), rel=DERIVATIVE_BAR[dtype])


@PRECISIONS
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_relevance_equal_to_the_density(mode, dtype):
    """With relevance = density every atom receives its own integral: gradient by weight times weight."""
    scene = make_scene(*mode, dtype=dtype)
    density = scene.reference().forward(*scene.inputs, **scene.grouping).to(dtype)
    shares = shares_of(scene, density, density)
    weights = scene.types
    if not weights.is_floating_point():
        weights = torch.nn.functional.one_hot(weights.clamp(min=0), scene.n_types) * (weights >= 0)[..., None]
    weights = weights.double()
    everywhere = torch.ones_like(density)
    inputs = scene.replace(types=weights).inputs
    _, by_weight, _ = scene.reference().backward(*inputs, everywhere, scene.batch)
    assert_close(shares, (weights * by_weight).sum(-1), DERIVATIVE_BAR[dtype], "relevance")


@PRECISIONS
@pytest.mark.parametrize("type_mode", TYPES)
def test_linear_in_the_relevance(type_mode, dtype):
    scene = make_scene("quintic", "by_type", type_mode, dtype=dtype)
    first, second = (scene.cotangents(seed)[0] for seed in (1, 2))
    whole = shares_of(scene, 2 * first - second)
    assert_close(
        whole, 2 * shares_of(scene, first) - shares_of(scene, second), 10 * torch.finfo(dtype).eps, "relevance"
    )


def test_one_atom_receives_everything():
    """Alone in its channel, an atom gets the relevance of all voxels that it reaches, near the cutoff too."""
    scene = make_scene("quadratic", "per_atom", "index", n_atoms=2, n_types=2)
    scene = scene.replace(types=torch.tensor([0, 1]))
    density = scene.reference().forward(*scene.inputs, n_types=2)
    relevance = scene.cotangents()[0]
    expected = [relevance[k][density[k] > 0].sum().item() for k in (0, 1)]
    assert shares_of(scene, relevance).tolist() == pytest.approx(expected, rel=1e-12)


def test_nothing_where_the_density_is_zero():
    """Relevance of voxels without density is not handed out, whatever its value."""
    scene = make_scene("truncated", "per_atom", "vector")
    density = gg.GridMaker(**scene.settings).forward(*scene.inputs)
    relevance = scene.cotangents()[0]
    altered = torch.where(density == 0, torch.full_like(relevance, 1e30), relevance)
    assert (density == 0).any()
    assert torch.equal(shares_of(scene, relevance), shares_of(scene, altered))


def test_cancelling_weights():
    """Where weights of both signs cancel exactly the density is zero, and such a voxel hands out nothing."""
    scene = make_scene("quadratic", "per_atom", "vector", n_atoms=2, n_types=1)
    scene = scene.replace(
        coords=scene.coords[:1].repeat(2, 1), types=torch.tensor([[1.0], [-1.0]]).double(), radii=torch.ones(2).double()
    )
    assert not shares_of(scene, scene.cotangents()[0]).any()
