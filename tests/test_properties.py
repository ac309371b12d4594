"""hypothesis: any shape, dtype, memory layout, box and profile against the oracle."""

import dataclasses

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.scenes import (
    DENSITY_BAR,
    DERIVATIVE_BAR,
    DTYPES,
    LAYOUTS,
    RADII,
    TAILS,
    TYPES,
    Scene,
    assert_close,
    assert_outputs,
    assert_same_bits,
    evaluate,
    tail_settings,
)

import gridgrad as gg

MEMORY = ("contiguous", "transposed", "every other", "shifted")


@st.composite
def scenes(draw, dtypes=DTYPES, layouts=LAYOUTS):
    """Scenes with an atom well inside every grid and no voxel on a sphere where the profile is not smooth."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    layout, dtype = draw(st.sampled_from(layouts)), draw(st.sampled_from(dtypes))
    radius_mode, type_mode = draw(st.sampled_from(RADII)), draw(st.sampled_from(TYPES))
    n_types = draw(st.integers(1, 9), label="n_types")
    resolution = draw(st.sampled_from([0.3, 0.5, 0.77, 1.0]))
    points = [draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 36))]
    dimension = tuple(resolution * (count - 1 + rng.uniform(0.05, 0.4)) for count in points)
    multiple = draw(st.sampled_from([0.8, 1.0, 1.25, 2.0]))
    radius_scale = draw(st.sampled_from([0.9, 1.0, 1.3]))
    batch = batch_size = None
    if layout == "ragged":
        sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5), label="atoms per example")
        assume(sum(sizes))
        batch_size = len(sizes)
        batch = torch.repeat_interleave(torch.arange(batch_size), torch.tensor(sizes))
        lead, centers = (sum(sizes),), batch_size
    else:
        n_atoms, centers = draw(st.integers(1, 12), label="n_atoms"), draw(st.integers(1, 4), label="examples")
        lead = (n_atoms,) if layout == "single" else (centers, n_atoms)
    per_example = layout != "single" and draw(st.booleans(), label="center per example")
    center = rng.normal(size=(centers, 3)) if per_example else rng.normal(size=3)
    middle = center
    if per_example:
        middle = center[batch.numpy()] if layout == "ragged" else center[:, None]
    reach = np.maximum(dimension, resolution)
    coords = middle + rng.uniform(-0.7, 0.7, (*lead, 3)) * reach
    coords[..., 0, :] = (middle[..., 0, :] if per_example else middle) + rng.uniform(
        -0.3, 0.3, coords[..., 0, :].shape
    ) * reach
    types = rng.integers(-1, n_types, lead)
    types[..., 0] = rng.integers(0, n_types, types[..., 0].shape)
    if type_mode == "vector":
        low = draw(st.sampled_from([0.1, -1.5]), label="smallest weight")
        types = rng.uniform(low, 1.5, (*lead, n_types)) * (rng.random((*lead, n_types)) < 0.6)
        types[..., 0, :] = 1.0
    radii = rng.uniform(0.8, 2.0, n_types if radius_mode == "by_type" else lead)
    keywords = {
        "resolution": resolution,
        "dimension": dimension,
        "radius_scale": radius_scale,
        "radius_type_indexed": radius_mode == "by_type",
        **tail_settings(draw(st.sampled_from([*TAILS, "negative"])), multiple),
    }
    arrays = [torch.as_tensor(array) for array in (center, coords, types, radii)]
    scene = Scene(keywords, *arrays, n_types, batch, batch_size).to(dtype)
    reference = scene.reference()
    assert reference.shape == tuple(points)
    assume(reference.margin(*scene.inputs, **scene.grouping) > 1e-5)
    return scene


def rearranged(array, memory):
    """Return an equal tensor in another memory layout."""
    if array is None or memory == "contiguous" or array.dim() == 0:
        return array
    if memory == "transposed":
        return array.transpose(0, -1).contiguous().transpose(0, -1)
    if memory == "every other":
        return torch.stack([array, torch.zeros_like(array)], -1)[..., 0]
    return torch.cat([array.new_ones(1), array.flatten()])[1:].view(array.shape)


@settings(max_examples=100)
@given(scene=scenes(), memory=st.tuples(*[st.sampled_from(MEMORY)] * 8), seed=st.integers(0, 99))
def test_every_output_against_the_oracle(scene, memory, seed):
    cotangents = scene.cotangents(seed)
    expected = evaluate(scene.reference(), scene, cotangents)
    names = ("center", "coords", "types", "radii")
    scene = scene.replace(**{name: rearranged(scene[name], kind) for name, kind in zip(names, memory)})
    cotangents = [rearranged(array, kind) for array, kind in zip(cotangents, memory[4:])]
    found = evaluate(gg.GridMaker(**scene.settings), scene, cotangents)
    if scene.types.is_floating_point() and (scene.types < 0).any():
        # weights of both signs cancel: the shares of a density near zero lose their digits in any arithmetic
        del found["relevance"], expected["relevance"]
    assert_outputs(found, expected, scene.dtype)


@settings(max_examples=50)
@given(
    scene=scenes(dtypes=DTYPES[:1]), asked=st.sets(st.sampled_from(["center", "coords", "types", "radii"]), min_size=1)
)
def test_autograd_twice(scene, asked):
    """Any subset of the inputs, through a nonlinear loss."""
    if not scene.types.is_floating_point():
        asked = asked - {"types"} or {"coords"}
    asked = sorted(asked)
    results = []
    maker, reference = gg.GridMaker(**scene.settings), scene.reference()
    for density in (lambda *a, **k: gg.coords2grid(maker, *a, **k), reference.forward):
        inputs = {f.name: scene[f.name] for f in dataclasses.fields(scene)[1:5]}
        leaves = {name: inputs[name].clone().requires_grad_() for name in asked}
        grid = density(*(inputs | leaves).values(), **scene.grouping)
        first = torch.autograd.grad((grid * grid.sin()).sum(), list(leaves.values()), create_graph=True)
        second = torch.autograd.grad(sum(gradient.cos().sum() for gradient in first), list(leaves.values()))
        results.append((grid, *first, *second))
    for found, expected in zip(*results):
        assert_close(found, expected, DERIVATIVE_BAR[torch.float64], f"derivatives by {asked}")


@settings(max_examples=50)
@given(scene=scenes(layouts=("single", "padded")), extra=st.integers(1, 4), vector=st.booleans())
def test_padding_changes_nothing(scene, extra, vector):
    """Atoms of index -1 or zero weight at the end leave the density's bits alone."""
    maker = gg.GridMaker(**scene.settings)
    before = maker.forward(*scene.inputs, **scene.grouping)

    def padded(array, value):
        shape = list(array.shape)
        shape[scene.coords.dim() - 2] = extra
        return torch.cat([array, array.new_full(shape, value)], scene.coords.dim() - 2)

    types = padded(scene.types, 0.0 if scene.types.is_floating_point() else -1)
    radii = scene.radii if scene.settings["radius_type_indexed"] else padded(scene.radii, 1.0)
    after = maker.forward(scene.center, padded(scene.coords, 0.25), types, radii, **scene.grouping)
    assert_same_bits(after, before)


@settings(max_examples=50)
@given(scene=scenes(layouts=("ragged",)))
def test_ragged_equals_one_by_one(scene):
    """A ragged batch is its examples, the empty ones included."""
    maker = gg.GridMaker(**scene.settings)
    whole = maker.forward(*scene.inputs, **scene.grouping)
    assert len(whole) == scene.batch_size
    for example, grid in enumerate(whole):
        member = scene.batch == example
        center = scene.center[example] if scene.center.dim() == 2 else scene.center
        radii = scene.radii if scene.settings["radius_type_indexed"] else scene.radii[member]
        alone = maker.forward(center, scene.coords[member], scene.types[member], radii, n_types=scene.n_types)
        assert_close(grid, alone, DENSITY_BAR[scene.dtype], f"example {example}")
