"""Dense oracle: density grids in plain torch, differentiated by torch's autograd alone.

Every voxel meets every atom, so the cost is ``O(N T X Y Z)`` in time and memory; nothing here is shared with the
package. The profiles come from their defining equations:

* ``quadratic``: ``A s + B sqrt(s) + C`` with ``A = 4 m^2 g``, ``B = -(4 m + 8 m^3) g``, ``C = (4 m^4 + 4 m^2 + 1) g``,
  ``g = exp(-2 m^2)``, which meets the Gaussian in value and slope at ``m`` and ends flat at ``(1 + 2 m^2) / (2 m)``;
  Since ``C = B^2 / (4 A)``, it is evaluated as ``A (sqrt(s) + B / (2 A))^2``, which keeps its accuracy at the end;
* ``quintic``: six conditions (value, first and second derivative at both ends) solved as a 6 x 6 linear system;
* ``truncated``: the Gaussian, cut at ``m``;
* binary: the indicator of ``s < 1``.

Inputs must be finite. What the package promises for NaN and infinity is tested by leaving such atoms out here.
"""

import math

import numpy as np
import torch
from torch.func import jvp


def quadratic_coefficients(multiple):
    """Return ``(A, B, C)`` of ``A s + B sqrt(s) + C``."""
    square = multiple * multiple
    scale = math.exp(-2.0 * square)
    return 4.0 * square * scale, -(4.0 * multiple + 8.0 * multiple * square) * scale, (2.0 * square + 1.0) ** 2 * scale


def quintic_coefficients(multiple):
    """Return ``c`` with ``phi = sum_n c[n] y^n``, ``y = (x_f - u) / (x_f - m)`` in [0, 1], ``u = sqrt(s)``."""
    width = (1.0 + 2.0 * multiple**2) / (2.0 * multiple) - multiple
    gaussian = math.exp(-2.0 * multiple**2)
    at_multiple = (gaussian, -4.0 * multiple * gaussian, (16.0 * multiple**2 - 4.0) * gaussian)
    rows, values = [], []
    for y, jet in ((0.0, (0.0, 0.0, 0.0)), (1.0, at_multiple)):
        for order, value in enumerate(jet):
            rows.append([math.perm(n, order) * y ** (n - order) if n >= order else 0.0 for n in range(6)])
            values.append(value * (-width) ** order)
    return np.linalg.solve(np.array(rows), np.array(values)).tolist()


class Reference:
    """Densities and their derivatives up to the second order on a dense grid.

    Parameters
    ----------
    resolution, dimension, binary, radius_type_indexed, radius_scale, gaussian_radius_multiple, tail
        As for ``gridgrad.GridMaker``.
    dtype : torch.dtype
        Precision of the whole calculation; inputs are converted to it.
    """

    def __init__(
        self,
        resolution=0.5,
        dimension=23.5,
        *,
        binary=False,
        radius_type_indexed=False,
        radius_scale=1.0,
        gaussian_radius_multiple=1.0,
        tail="quadratic",
        dtype=torch.float64,
    ):
        dimension = (dimension,) * 3 if isinstance(dimension, (int, float)) else tuple(dimension)
        self.dtype = dtype
        self.shape = tuple(round(length / resolution) + 1 for length in dimension)
        axes = [
            torch.arange(count, dtype=dtype) * resolution - length / 2 for count, length in zip(self.shape, dimension)
        ]
        self.points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        self.radius_scale = radius_scale
        self.radius_type_indexed = radius_type_indexed
        self.multiple = abs(gaussian_radius_multiple)
        self.kind = "binary" if binary else "truncated" if gaussian_radius_multiple < 0 else tail

    @property
    def cutoff(self):
        """Distance, in radii, beyond which an atom contributes nothing."""
        if self.kind == "binary":
            return 1.0
        return self.multiple if self.kind == "truncated" else (1.0 + 2.0 * self.multiple**2) / (2.0 * self.multiple)

    @property
    def kinks(self):
        """Distances, in radii, at which the profile is not smooth."""
        return {self.cutoff} if self.kind in ("binary", "truncated") else {self.multiple, self.cutoff}

    def profile(self, s):
        """Return ``phi(s)``, differentiable as often as autograd likes."""
        if self.kind == "binary":
            return (s < 1.0).to(s.dtype) + 0.0 * s
        core = torch.exp(-2.0 * s)
        if self.kind == "truncated":
            return torch.where(s <= self.multiple**2, core, torch.zeros_like(s))
        in_tail = (s > self.multiple**2) & (s <= self.cutoff**2)
        s_tail = torch.where(in_tail, s, torch.full_like(s, self.cutoff**2))
        u = torch.sqrt(s_tail)
        if self.kind == "quadratic":
            a, b, _ = quadratic_coefficients(self.multiple)
            tail = a * (u + b / (2.0 * a)) ** 2
        elif self.kind == "quintic":
            y = (self.cutoff - u) / (self.cutoff - self.multiple)
            tail = torch.zeros_like(y)
            for coefficient in reversed(quintic_coefficients(self.multiple)):
                tail = tail * y + coefficient
        else:
            raise ValueError(f"tail: {self.kind!r}")
        outside = torch.where(in_tail, tail, torch.zeros_like(s))
        return torch.where(s <= self.multiple**2, core, outside)

    def _convert(self, array):
        return torch.as_tensor(array).to(self.dtype)

    def _examples(self, center, coords, types, radii, n_types, batch, batch_size):
        """Yield, for each example, the shifted coordinates, the weights (n, T) and the radii, (n, T) or (n, 1)."""
        coords, radii, center = self._convert(coords), self._convert(radii), self._convert(center)
        types = torch.as_tensor(types)
        if batch is not None:
            batch = torch.as_tensor(batch)
            if batch_size is None:
                batch_size = int(batch[-1]) + 1 if len(batch) else 0
            members = [torch.nonzero(batch == example)[:, 0] for example in range(batch_size)]
        elif coords.dim() == 3:
            members = list(range(len(coords)))
        else:
            members = [slice(None)]
        for example, member in enumerate(members):
            position = coords[member] - (center[example] if center.dim() == 2 else center)
            if self.radius_type_indexed:
                radius = radii.expand(len(position), -1)
            else:
                radius = radii[member][:, None]
            if types.is_floating_point():
                weights = types[member].to(self.dtype)
            else:
                kept = types[member] >= 0
                position, radius = position[kept], radius[kept]
                weights = torch.nn.functional.one_hot(types[member][kept].long(), n_types).to(self.dtype)
            yield position, weights, radius * self.radius_scale

    def scaled_squares(self, position, radius):
        """Return ``s`` of every atom, type (or 1) and voxel, (n, T or 1, P)."""
        square = ((self.points - position[:, None]) ** 2).sum(-1)
        return square[:, None] / radius[:, :, None] ** 2

    def forward(self, center, coords, types, radii, n_types=None, batch=None, batch_size=None):
        """Return the density, ([B,] T, X, Y, Z)."""
        types = torch.as_tensor(types)
        if types.is_floating_point():
            n_types = types.shape[-1]
        grids = [
            (weights[:, :, None] * self.profile(self.scaled_squares(position, radius)))
            .sum(0)
            .reshape(n_types, *self.shape)
            for position, weights, radius in self._examples(center, coords, types, radii, n_types, batch, batch_size)
        ]
        if batch is None and coords.ndim == 2:
            return grids[0]
        return torch.stack(grids) if grids else torch.zeros((0, n_types, *self.shape), dtype=self.dtype)

    def _leaves(self, coords, types, radii):
        types = torch.as_tensor(types)
        leaves = [self._convert(coords).detach().clone().requires_grad_()]
        leaves.append(types.to(self.dtype).detach().clone().requires_grad_() if types.is_floating_point() else types)
        leaves.append(self._convert(radii).detach().clone().requires_grad_())
        return leaves

    @staticmethod
    def _derivative(output, inputs, cotangent=None, create_graph=False):
        """Reverse-mode derivative; None for inputs that are not differentiable, zero for those that do not matter."""
        asked = [array for array in inputs if array is not None and array.requires_grad]
        found = (
            torch.autograd.grad(output, asked, cotangent, create_graph=create_graph, materialize_grads=True)
            if output.requires_grad
            else [torch.zeros_like(array) for array in asked]
        )
        found = iter(found)
        return tuple(next(found) if array is not None and array.requires_grad else None for array in inputs)

    def backward(self, center, coords, types, radii, grad_density, batch=None):
        """Return ``(grad_coords, grad_types, grad_radii)``; the type gradient is None for index types."""
        grad_density = self._convert(grad_density)
        leaves = self._leaves(coords, types, radii)
        n_types, batch_size = grad_density.shape[-4], None if batch is None else len(grad_density)
        density = self.forward(center, *leaves, n_types, batch, batch_size)
        return self._derivative(density, leaves, grad_density)

    def backward_gradients(
        self,
        center,
        coords,
        types,
        radii,
        grad_density,
        grad_grad_coords=None,
        grad_grad_types=None,
        grad_grad_radii=None,
        batch=None,
    ):
        """Return ``(grad_grad_density, grad_coords, grad_types, grad_radii)``."""
        grad_density = self._convert(grad_density).detach().clone().requires_grad_()
        leaves = self._leaves(coords, types, radii)
        n_types, batch_size = grad_density.shape[-4], None if batch is None else len(grad_density)
        density = self.forward(center, *leaves, n_types, batch, batch_size)
        first = self._derivative(density, leaves, grad_density, create_graph=True)
        total = torch.zeros((), dtype=self.dtype)
        for gradient, cotangent in zip(first, (grad_grad_coords, grad_grad_types, grad_grad_radii)):
            if gradient is not None and cotangent is not None:
                total = total + (gradient * self._convert(cotangent)).sum()
        return self._derivative(total, [grad_density, *leaves])

    def second_derivative(self, center, coords, types, radii, u, v, n_types=None, batch=None, batch_size=None):
        """Return the second derivative of the density along ``u`` and ``v``, each (coords, types, radii) or None."""
        types = torch.as_tensor(types)

        def moved(a, b):
            arrays = []
            for value, along_u, along_v in zip((coords, types, radii), u, v):
                for step, along in ((a, along_u), (b, along_v)):
                    if along is not None and (value is not types or types.is_floating_point()):
                        value = self._convert(value) + step * self._convert(along)
                arrays.append(value)
            return self.forward(center, *arrays, n_types, batch, batch_size)

        zero, one = torch.zeros((), dtype=self.dtype), torch.ones((), dtype=self.dtype)

        def first(a):
            return jvp(lambda b: moved(a, b), (zero,), (one,))[1]

        return jvp(first, (zero,), (one,))[1]

    def backward_relevance(self, center, coords, types, radii, density, relevance, batch=None):
        """Return each atom's relevance, summed over the voxels and types to which it contributes."""
        density, relevance = self._convert(density), self._convert(relevance)
        types = torch.as_tensor(types)
        n_types = density.shape[-4]
        share = torch.where(density == 0, torch.zeros_like(density), relevance / density).reshape(
            -1, n_types, math.prod(self.shape)
        )
        result = torch.zeros(coords.shape[:-1], dtype=self.dtype)
        examples = self._examples(center, coords, types, radii, n_types, batch, len(share))
        batch = None if batch is None else torch.as_tensor(batch)
        for example, (position, weights, radius) in enumerate(examples):
            contribution = weights[:, :, None] * self.profile(self.scaled_squares(position, radius))
            kept = torch.ones(coords.shape[:-1], dtype=torch.bool)
            if not types.is_floating_point():
                kept &= types >= 0
            if batch is not None:
                kept &= batch == example
            elif coords.ndim == 3:
                kept &= torch.arange(len(coords))[:, None] == example
            result[kept] = (contribution * share[example]).sum((1, 2))
        return result

    def margin(self, center, coords, types, radii, n_types=None, batch=None, batch_size=None):
        """Return the smallest gap, in Å, between a voxel and a sphere on which an atom's profile is not smooth."""
        smallest = math.inf
        for position, _, radius in self._examples(center, coords, types, radii, n_types, batch, batch_size):
            distance = torch.cdist(position, self.points, compute_mode="donot_use_mm_for_euclid_dist")[:, None]
            for kink in self.kinks:
                gaps = (distance - kink * radius[:, :, None]).abs()
                smallest = min(smallest, float(gaps.min()) if gaps.numel() else math.inf)
        return smallest
