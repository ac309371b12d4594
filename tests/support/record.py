"""Write calls of the kernels and what the oracle expects of them, for `replay`.

``python -m support.record FILE [small|shared|past-cache]``: in every mode on small grids (by default), on grids that
several threads share, or a density on grids that are written past the cache.
"""

import itertools
import json
import sys

import numpy as np
from support.scenes import DENSITY_BAR, DERIVATIVE_BAR, DTYPES, MODES, evaluate, make_scene

import gridgrad as gg
from gridgrad.autograd import validate
from gridgrad.kernels import abi

GRADIENTS = {"grad_coords": "grad_coords", "grad_weights": "grad_types", "grad_radii": "grad_radii"}


# the atoms are sorted by cells, the grid is cut into slabs
SHARED = {"n_atoms": 20, "dimension": (11.5, 10.5, 11.0), "margin": 0.0}
PAST_CACHE = (  # the grid written past the cache, from a window of all rows and from one that moves along them
    {"n_atoms": 8, "n_types": 160, "dimension": 23.5},
    {"n_atoms": 8, "n_types": 62, "dimension": 32.0},
)


def arguments(scene):
    """Return what all kernels take, by name."""
    gm = gg.GridMaker(**scene.settings)
    atoms = validate.atoms(gm, *scene.inputs, **scene.grouping)
    types, is_index = atoms.types.numpy(), not atoms.types.is_floating_point()
    shape, n_examples = atoms.coords.shape, 1 if atoms.coords.dim() == 2 else len(atoms.coords)
    return {
        "coords": atoms.coords.numpy(),
        "index": types if is_index else None,
        "weights": None if is_index else types,
        "radii": atoms.radii.numpy(),
        "offsets": None if atoms.offsets is None else atoms.offsets.numpy(),
        "centers": None if atoms.centers is None else atoms.centers.numpy(),
        "geometry": np.frombuffer(gm.geometry(str(scene.dtype).removeprefix("torch."), atoms.center), np.uint8),
        "n_examples": n_examples if atoms.offsets is None else len(atoms.offsets) - 1,
        "n_atoms": shape[:-1].numel(),
        "n_types": atoms.n_types,
        "radius_example_stride": 0,
    }


def calls(scene):
    """Yield (kernel, arguments by name, expected outputs by name); an argument may be "previous" and an output."""
    cotangents = scene.cotangents()
    grad_density, v_coords, v_weights, v_radii = (None if array is None else array.numpy() for array in cotangents)
    expected = {name: value for name, value in evaluate(scene.reference(), scene).items() if value is not None}
    common, by_type = arguments(scene), scene.settings["radius_type_indexed"]
    tangents = {"grad_grad_coords": v_coords, "grad_grad_weights": v_weights, "grad_grad_radii": v_radii}
    yield "density", common, {"density": expected["density"]}
    relevance = {"density": "previous density", "relevance": grad_density}
    yield "density_relevance", common | relevance, {"atom_relevance": expected["relevance"]}
    yield "density_tangent", common | tangents, {"grad_grad_density": expected["order 2 grad_grad_density"]}
    directions = cotangents[1:], scene.cotangents(seed=2)[1:]
    both = scene.reference().second_derivative(*scene.inputs, *directions, **scene.grouping)
    named = zip((*abi.U, *abi.V), (part for direction in directions for part in direction), strict=True)
    pairs = {name: None if part is None else part.numpy() for name, part in named}
    yield "density_tangent_tangent", common | pairs, {"density_uv": both}
    for order, more in ((1, {}), (2, tangents)):
        wanted = {name: expected.get(f"order {order} {theirs}") for name, theirs in GRADIENTS.items()}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        grad_radii = wanted["grad_radii"]
        if by_type:
            wanted["grad_radii"] = np.empty(scene.types.shape)  # partial sums, compared once they are added
        yield (
            "density_backward" if order == 1 else "density_backward_backward",
            common | more | {"grad_density": grad_density},
            wanted,
        )
        if by_type:
            partials = {"partials": "previous grad_radii", "per_example": 0}
            yield "radii_sum", common | partials, {"grad_radii": grad_radii}


def all_calls(size):
    """Yield (mode, dtype, kernel, arguments, expected outputs)."""
    for dtype, mode in itertools.product(DTYPES, MODES):
        if size == "small" or (size == "shared" and mode[0] == "quintic"):
            shape = {} if size == "small" else SHARED
            for call in calls(make_scene(*mode, dtype=dtype, **shape)):
                yield mode, dtype, *call
    if size == "past-cache":
        mode = "quintic", "per_atom", "index"
        for dtype, shape in itertools.product(DTYPES, PAST_CACHE):
            scene = make_scene(*mode, dtype=dtype, margin=0, **shape)
            density = scene.reference().forward(*scene.inputs, **scene.grouping)
            yield mode, dtype, "density", arguments(scene), {"density": density}


def main(path, size="small"):
    """Write a .npz file: ``calls``, JSON, refers to the other arrays by number."""
    arrays, described = [], []

    def stored(value):
        if value is None or isinstance(value, (int, str)):
            return value
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}

    for mode, dtype, kernel, given, expected in all_calls(size):
        bars = DENSITY_BAR if kernel == "density" else DERIVATIVE_BAR
        partial = kernel.startswith("density_backward") and mode[1] == "by_type"
        described.append(
            {
                "kernel": kernel,
                "mode": "-".join(mode),
                "precision": str(dtype).removeprefix("torch."),
                "bar": bars[dtype],
                "arguments": {name: stored(value) for name, value in given.items()},
                "outputs": {name: stored(value) for name, value in expected.items()},
                "unchecked": ["grad_radii"] if partial else [],
            }
        )
    np.savez_compressed(path, *arrays, calls=json.dumps(described))


if __name__ == "__main__":
    main(*sys.argv[1:])
