"""Scenes: random atoms on small grids in every mode, and the yardsticks the numerical tests share."""

import dataclasses
import functools
import itertools

import numpy as np
import torch
from support.reference import Reference

TAILS = ("quadratic", "truncated", "quintic", "binary")
RADII = ("per_atom", "by_type")
TYPES = ("vector", "index")
LAYOUTS = ("single", "padded", "ragged")
DTYPES = (torch.float64, torch.float32)
MODES = tuple(itertools.product(TAILS, RADII, TYPES, LAYOUTS))

DENSITY_BAR = {torch.float64: 1e-12, torch.float32: 2e-6}
DERIVATIVE_BAR = {torch.float64: 1e-12, torch.float32: 2e-5}
ORDER_1 = ("grad_coords", "grad_types", "grad_radii")
ORDER_2 = ("grad_grad_density", *ORDER_1)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Settings of a grid with atoms on it; the names are those of ``gridgrad.coords2grid``."""

    settings: dict
    center: torch.Tensor
    coords: torch.Tensor
    types: torch.Tensor
    radii: torch.Tensor
    n_types: int
    batch: torch.Tensor | None = None
    batch_size: int | None = None

    def __getitem__(self, name):
        return getattr(self, name)

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)

    def to(self, dtype):
        """Convert the floating point inputs."""
        changes = {name: self[name].to(dtype) for name in ("center", "coords", "radii")}
        if self.types.is_floating_point():
            changes["types"] = self.types.to(dtype)
        return self.replace(**changes)

    @property
    def dtype(self):
        return self.coords.dtype

    @property
    def inputs(self):
        """Positional inputs of ``density`` in the order center, coords, types, radii."""
        return self.center, self.coords, self.types, self.radii

    @property
    def grouping(self):
        return {"n_types": self.n_types, "batch": self.batch, "batch_size": self.batch_size}

    def reference(self, dtype=torch.float64):
        return Reference(**self.settings, dtype=dtype)

    def cotangents(self, seed=1):
        """Random ``grad_density`` and ``grad_grad_coords``, ``_types`` (None for index types), ``_radii``."""
        generator = torch.Generator().manual_seed(seed)
        grid = (self.n_types, *self.reference().shape)
        if self.batch is not None:
            grid = (self.batch_size, *grid)
        elif self.coords.dim() == 3:
            grid = (len(self.coords), *grid)
        shapes = [
            grid,
            self.coords.shape,
            self.types.shape if self.types.is_floating_point() else None,
            self.radii.shape,
        ]
        return [
            None if shape is None else torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)
            for shape in shapes
        ]

    def atoms(self, kept):
        """Return the scene with only the atoms that the mask ``kept`` (N,) selects; not for padded scenes."""
        changes = {name: self[name][kept] for name in ("coords", "types")}
        if not self.settings["radius_type_indexed"]:
            changes["radii"] = self.radii[kept]
        if self.batch is not None:
            changes["batch"] = self.batch[kept]
        return self.replace(**changes)


def tail_settings(tail, multiple=1.0):
    """Settings of ``GridMaker`` that select a profile; ``negative`` is the Gaussian cut by a negative multiple."""
    if tail == "binary":
        return {"binary": True, "gaussian_radius_multiple": multiple}
    if tail == "negative":
        return {"gaussian_radius_multiple": -multiple}
    return {"tail": tail, "gaussian_radius_multiple": multiple}


@functools.cache
def make_scene(
    tail="quadratic",
    radius_mode="per_atom",
    type_mode="vector",
    layout="single",
    *,
    dtype=torch.float64,
    seed=0,
    n_atoms=5,
    n_types=3,
    resolution=0.5,
    dimension=(3.0, 2.0, 2.5),
    multiple=1.0,
    radius_scale=1.0,
    center_per_example=True,
    margin=1e-5,
):
    """Draw a scene; draw again until no voxel lies within ``margin`` Å of a sphere where the profile is not smooth.

    Padded and ragged scenes hold three examples. A padded one ends in index -1 or zero weights; in a ragged one the
    second example and the last are empty.
    """
    settings = dict(
        resolution=resolution,
        dimension=dimension,
        radius_type_indexed=radius_mode == "by_type",
        radius_scale=radius_scale,
        **tail_settings(tail, multiple),
    )
    for attempt in range(1000):
        rng = np.random.default_rng([seed, attempt])
        lead = {"single": (n_atoms,), "padded": (3, n_atoms), "ragged": (n_atoms,)}[layout]
        batch = batch_size = None
        if layout == "ragged":
            batch, batch_size = torch.as_tensor(np.sort(rng.choice([0, 2], n_atoms))), 4
        center = rng.normal(size=(3,))
        if layout != "single" and center_per_example:
            center = rng.normal(size=(batch_size or 3, 3))
        middle = center if center.ndim == 1 else center[batch.numpy()] if layout == "ragged" else center[:, None]
        coords = middle + rng.uniform(-0.55, 0.55, (*lead, 3)) * np.asarray(dimension)
        radii = rng.uniform(0.7, 1.3, (n_types,) if radius_mode == "by_type" else lead)
        if type_mode == "index":
            types = rng.integers(0, n_types, lead)
            if n_atoms > 2:
                types[..., n_atoms // 2] = -1
        else:
            types = rng.uniform(0.2, 1.5, (*lead, n_types)) * (rng.random((*lead, n_types)) < 0.7)
        if layout == "padded" and n_atoms > 1:
            types[1, n_atoms // 2 :] = -1 if type_mode == "index" else 0
        coords, types, radii, center = map(torch.as_tensor, (coords, types, radii, center))
        scene = Scene(settings, center, coords, types, radii, n_types, batch, batch_size).to(dtype)
        if scene.reference().margin(*scene.inputs, **scene.grouping) > margin:
            return scene
    raise AssertionError(f"no scene with a margin of {margin} Å")


def evaluate(grid, scene, cotangents=None):
    """Return every output of orders 0, 1 and 2 and the relevance by name; ``grid`` is a GridMaker or a Reference."""
    grad_density, *grad_grads = cotangents or scene.cotangents()
    density = grid.forward(*scene.inputs, **scene.grouping)
    first = grid.backward(*scene.inputs, grad_density, batch=scene.batch)
    second = grid.backward_gradients(*scene.inputs, grad_density, *grad_grads, batch=scene.batch)
    relevance = grid.backward_relevance(*scene.inputs, density, grad_density, batch=scene.batch)
    return {
        "density": density,
        "relevance": relevance,
        **{f"order 1 {name}": value for name, value in zip(ORDER_1, first, strict=True)},
        **{f"order 2 {name}": value for name, value in zip(ORDER_2, second, strict=True)},
    }


@functools.cache
def expected_outputs(mode, dtype):
    """Return the oracle's outputs for the default scene of a mode."""
    scene = make_scene(*mode, dtype=dtype)
    return evaluate(scene.reference(), scene)


def assert_outputs(found, expected, dtype):
    """Assert that all outputs of ``evaluate`` agree within the bars of ``dtype``."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        bars = DENSITY_BAR if name == "density" else DERIVATIVE_BAR
        assert value is None or found[name].dtype == dtype, f"{name}: {found[name].dtype}"
        assert_close(found[name], value, bars[dtype], name)


def mode_id(value):
    """Readable test id of a mode, a tail, a dtype or a plain value."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value).removeprefix("torch.")


def relative_error(found, expected):
    """Return the relative L2 error over a whole output; absolute where the expected output is zero throughout."""
    found = torch.as_tensor(found).detach().to(torch.float64)
    expected = torch.as_tensor(expected).detach().to(torch.float64)
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    assert bool(torch.isfinite(found).all()), "not finite"
    norm = float(torch.linalg.vector_norm(expected))
    return float(torch.linalg.vector_norm(found - expected)) / (norm or 1.0)


def assert_close(found, expected, bar, name="density"):
    """Assert equality up to a relative L2 error; None only matches None."""
    if expected is None:
        assert found is None, f"{name}: expected None"
        return
    assert found is not None, f"{name}: None"
    error = relative_error(found, expected)
    assert error <= bar, f"{name}: relative error {error:.2e}, bar {bar:.0e}"


def assert_same_bits(found, expected, name=""):
    """Assert that two arrays carry the same bits, NaN included."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape, name
    integer = {torch.float64: torch.int64, torch.float32: torch.int32}[found.dtype]
    assert torch.equal(found.contiguous().view(integer), expected.contiguous().view(integer)), f"{name}: bits differ"


def all_outputs():
    """Return the outputs of every mode in both precisions by name; for runs under other settings of the process."""
    import gridgrad as gg

    found = {}
    for dtype, mode in itertools.product(DTYPES, MODES):
        scene = make_scene(*mode, dtype=dtype)
        for name, value in evaluate(gg.GridMaker(**scene.settings), scene).items():
            if value is not None:
                found[dtype, mode, name] = value
    return found
