"""Write calls of the kernels and what the oracle expects of them, for `replay`: ``python -m support.record FILE``."""

import itertools
import json
import sys

import numpy as np
from support.scenes import DENSITY_BAR, DERIVATIVE_BAR, DTYPES, MODES, evaluate, make_scene

import gridgrad as gg
from gridgrad.autograd import validate
from gridgrad.kernels import abi

GRADIENTS = {"grad_coords": "grad_coords", "grad_weights": "grad_types", "grad_radii": "grad_radii"}


def calls(mode, dtype):
    """Yield (kernel, arguments by name, expected outputs by name); an argument may be "previous" and an output."""
    scene = make_scene(*mode, dtype=dtype)
    gm, cotangents = gg.GridMaker(**scene.settings), scene.cotangents()
    grad_density, v_coords, v_weights, v_radii = (None if array is None else array.numpy() for array in cotangents)
    expected = {name: value for name, value in evaluate(scene.reference(), scene).items() if value is not None}
    atoms = validate.atoms(gm, *scene.inputs, **scene.grouping)
    types, is_index = atoms.types.numpy(), not atoms.types.is_floating_point()
    shape, n_examples = atoms.coords.shape, 1 if atoms.coords.dim() == 2 else len(atoms.coords)
    common = {
        "coords": atoms.coords.numpy(),
        "index": types if is_index else None,
        "weights": None if is_index else types,
        "radii": atoms.radii.numpy(),
        "offsets": None if atoms.offsets is None else atoms.offsets.numpy(),
        "centers": None if atoms.centers is None else atoms.centers.numpy(),
        "geometry": np.frombuffer(gm.geometry(str(dtype).removeprefix("torch."), atoms.center), np.uint8),
        "n_examples": n_examples if atoms.offsets is None else len(atoms.offsets) - 1,
        "n_atoms": shape[:-1].numel(),
        "n_types": atoms.n_types,
        "radius_example_stride": 0,
    }
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
        if gm.radius_type_indexed:
            wanted["grad_radii"] = np.empty(types.shape)  # partial sums, compared once they are added
        yield (
            "density_backward" if order == 1 else "density_backward_backward",
            common | more | {"grad_density": grad_density},
            wanted,
        )
        if gm.radius_type_indexed:
            partials = {"partials": "previous grad_radii", "per_example": 0}
            yield "radii_sum", common | partials, {"grad_radii": grad_radii}


def main(path):
    """Write a .npz file: ``calls``, JSON, refers to the other arrays by number."""
    arrays, described = [], []

    def stored(value):
        if value is None or isinstance(value, (int, str)):
            return value
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}

    for dtype, mode in itertools.product(DTYPES, MODES):
        for kernel, arguments, expected in calls(mode, dtype):
            bars = DENSITY_BAR if kernel == "density" else DERIVATIVE_BAR
            partial = kernel.startswith("density_backward") and mode[1] == "by_type"
            described.append(
                {
                    "kernel": kernel,
                    "mode": "-".join(mode),
                    "precision": str(dtype).removeprefix("torch."),
                    "bar": bars[dtype],
                    "arguments": {name: stored(value) for name, value in arguments.items()},
                    "outputs": {name: stored(value) for name, value in expected.items()},
                    "unchecked": ["grad_radii"] if partial else [],
                }
            )
    np.savez_compressed(path, *arrays, calls=json.dumps(described))


if __name__ == "__main__":
    main(sys.argv[1])
