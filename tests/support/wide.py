"""Right calls of any size against the oracle, within what rounding of the inputs can move the result.

Lengths, weights and cotangents have any order of magnitude, boxes and centres lie anywhere. The yardstick of a call is
how far the oracle moves when every input is moved by a rounding of its dtype. Points within some roundings of a sphere
on which a profile is not smooth get no cotangent. ``python -m support.wide FIRST COUNT`` prints the largest error of
each output in units of the yardstick.
"""

import sys

import numpy as np
import torch
from support.reference import Reference
from support.scenes import LAYOUTS, ORDER_1, ORDER_2, RADII, TAILS, TYPES, Scene, tail_settings

import gridgrad as gg

BAR = 8
"""Largest error in units of the yardstick."""

MOVES = 4
KINK = 64  # roundings from a sphere within which a point gets no cotangent
EXPONENTS = {torch.float32: (5, 8), torch.float64: (6, 30)}
"""Largest powers of ten of lengths, and of weights and cotangents."""


class Call:
    """One call: the scene, its cotangents, and points that do not count."""

    def __init__(self, number):
        self.rng = rng = np.random.default_rng(number)
        dtype = torch.float32 if rng.random() < 0.6 else torch.float64
        self.eps = torch.finfo(dtype).eps
        lengths, weights = EXPONENTS[dtype]
        self.length = 10.0 ** rng.uniform(-lengths, lengths)
        self.entrance = rng.choice(["methods", "coords2grid", "Coords2Grid"])
        self.scene = self._scene(10.0 ** rng.uniform(-weights, weights)).to(dtype)
        self.gap = KINK * self.eps * self._reach()
        self.smooth = self._smooth_points()
        size = 10.0 ** rng.uniform(-weights, weights)
        grid, coords, types, radii = self.scene.cotangents(number)
        grid = grid * self.smooth.to(grid.dtype) * size
        # motions are small against lengths and weights, as those of an optimizer are
        directions = [coords * self.length, None if types is None else types * self.scene.types.abs().max(),
                      radii * self.length]  # fmt: skip
        self.cotangents = [grid, *directions]

    def _scene(self, weight):
        rng, length = self.rng, self.length
        radius_mode, type_mode, layout = rng.choice(RADII), rng.choice(TYPES), rng.choice(LAYOUTS)
        resolution = length * rng.uniform(0.3, 1)
        points = [*rng.integers(1, 8, 2), rng.choice([1, 5, 17, 40])]
        dimension = tuple(resolution * (count - 1 + rng.uniform(0.05, 0.4)) for count in points)
        n_types, n_atoms = int(rng.integers(1, 6)), int(rng.integers(1, 9))
        examples = 1 if layout == "single" else int(rng.integers(1, 4))
        lead = (examples, n_atoms) if layout == "padded" else (n_atoms,)
        batch = torch.as_tensor(np.sort(rng.integers(0, examples, n_atoms))) if layout == "ragged" else None
        far = length * 10.0 ** rng.uniform(-2, 4)
        center = far * rng.normal(size=(examples, 3) if layout != "single" and rng.random() < 0.5 else 3)
        middle = center if center.ndim == 1 else center[batch] if layout == "ragged" else center[:, None]
        coords = middle + rng.uniform(-0.7, 0.7, (*lead, 3)) * np.maximum(dimension, resolution)
        radii = length * 10.0 ** rng.uniform(-0.5, 1.5, n_types if radius_mode == "by_type" else lead)
        types = rng.integers(-1, n_types, lead)
        if type_mode == "vector":
            types = weight * rng.uniform(0.1, 1.5, (*lead, n_types)) * (rng.random((*lead, n_types)) < 0.7)
        keywords = {
            "resolution": resolution, "dimension": dimension, "radius_scale": rng.choice([0.5, 1.0, 1.3]),
            "radius_type_indexed": radius_mode == "by_type",
            **tail_settings(rng.choice([*TAILS, "negative"]), rng.choice([0.8, 1.0, 1.25, 2.0])),
        }  # fmt: skip
        arrays = map(torch.as_tensor, (center, coords, types, radii))
        return Scene(keywords, *arrays, n_types, batch, None if batch is None else examples)

    def _reach(self):
        """The largest of the lengths that are subtracted from each other."""
        coords, center, radii = (self.scene[name].abs().max().double() for name in ("coords", "center", "radii"))
        return coords + center + sum(self.scene.settings["dimension"]) + 3 * radii

    def _smooth_points(self):
        """Return where no atom's profile has a kink nearby, ([B,] 1, X, Y, Z)."""
        oracle, scene = self.scene.reference(), self.scene
        masks = []
        for position, _, radius in oracle._examples(*scene.inputs, scene.n_types, scene.batch, scene.batch_size):
            distance = torch.cdist(position, oracle.points, compute_mode="donot_use_mm_for_euclid_dist")[:, None]
            near = [((distance - kink * radius[:, :, None]).abs() < self.gap).flatten(0, 1) for kink in oracle.kinks]
            masks.append(~torch.cat(near).any(0).reshape(1, *oracle.shape))
        return masks[0] if scene.batch is None and scene.coords.dim() == 2 else torch.stack(masks)

    def expected(self, moved=None):
        """Return all outputs of the oracle; with a generator, after a rounding of every input."""
        scene, cotangents = self.scene, self.cotangents
        if moved is not None:

            def rounded(value, size=None):
                if value is None or not value.is_floating_point():
                    return value
                value = value.double()
                noise = 2 * torch.rand(value.shape, generator=moved, dtype=torch.float64) - 1
                return value + self.eps * noise * (value.abs() if size is None else size)

            changes = {name: rounded(scene[name]) for name in ("types", "radii")}
            scene = scene.replace(coords=rounded(scene.coords, self._reach() - 3 * scene.radii.max()), **changes)
            cotangents = [rounded(value) for value in cotangents]
        oracle: Reference = scene.reference()
        grid = cotangents[0]
        density = oracle.forward(*scene.inputs, **scene.grouping)
        first = oracle.backward(*scene.inputs, grid, batch=scene.batch)
        second = oracle.backward_gradients(*scene.inputs, *cotangents, batch=scene.batch)
        return self._named(density, first, second)

    def _named(self, density, first, second):
        outputs = {"density": density * self.smooth}
        outputs |= {f"order 1 {name}": value for name, value in zip(ORDER_1, first, strict=True)}
        outputs |= {f"order 2 {name}": value for name, value in zip(ORDER_2, second, strict=True)}
        outputs["order 2 grad_grad_density"] = outputs["order 2 grad_grad_density"] * self.smooth
        return outputs

    def found(self):
        """Return the outputs of the package by name."""
        scene, maker = self.scene, gg.GridMaker(**self.scene.settings)
        grid, *directions = self.cotangents
        if self.entrance == "methods":
            density = maker.forward(*scene.inputs, **scene.grouping)
            first = maker.backward(*scene.inputs, grid, batch=scene.batch)
            second = maker.backward_gradients(*scene.inputs, grid, *directions, batch=scene.batch)
        else:
            leaves = [scene[name].clone() for name in ("coords", "types", "radii")]
            leaves = [leaf.requires_grad_(leaf.is_floating_point()) for leaf in leaves]
            grid = grid.clone().requires_grad_()
            if self.entrance == "coords2grid":
                density = gg.coords2grid(maker, scene.center, *leaves, **scene.grouping)
            else:
                layer = gg.Coords2Grid(maker, n_types=scene.n_types)
                density = layer(*leaves, batch=scene.batch, batch_size=scene.batch_size, center=scene.center)
            asked = [leaf for leaf in leaves if leaf.requires_grad]
            first = torch.autograd.grad(density, asked, grid, create_graph=True)
            total = sum((a * b).sum() for a, b in zip(first, (d for d in directions if d is not None), strict=True))
            second = torch.autograd.grad(total, [grid, *asked], materialize_grads=True)
            if len(asked) == 2:  # index types
                first, second = (first[0], None, first[1]), (*second[:2], None, second[2])
        return self._named(density, first, second)

    def errors(self):
        """Return the error of each output in units of its yardstick."""
        expected, found = self.expected(), self.found()
        generator = torch.Generator().manual_seed(0)
        moved = [self.expected(generator) for _ in range(MOVES)]
        errors = {}
        for name, value in expected.items():
            if value is None:
                assert found[name] is None, name
                continue
            output = found[name].detach()
            assert output.dtype == self.scene.dtype and output.shape == value.shape, name
            assert output.isfinite().all(), f"{name}: not finite"
            norm = torch.linalg.vector_norm
            step = max(norm(other[name] - value) for other in moved) + self.eps * norm(value)
            step = step + torch.finfo(output.dtype).tiny * value.numel() ** 0.5  # underflow
            errors[name] = float(norm(output.double() - value) / step)
        return errors


def main(first, count):
    largest = {}
    for number in range(first, first + count):
        for name, error in Call(number).errors().items():
            largest[name] = max(largest.get(name, (0.0, 0)), (error, number))
    for name, (error, number) in sorted(largest.items(), key=lambda item: -item[1][0]):
        print(f"{name:<28} {error:8.3f}  call {number}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(int, sys.argv[1:]))
