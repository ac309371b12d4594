"""Rigid motions of the examples of a batch: rotations and translations, given or drawn at random."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from gridgrad.autograd._torch import is_transforming
from gridgrad.data.batch import AtomBatch

__all__ = ["RandomRigid", "Rigid"]

_CHUNK = 8192  # atoms that are moved together, with 15 numbers each: they stay in a core's cache

# Row 4 i + j holds what q_i q_j adds to the nine elements of the rotation matrix of the quaternion q = (w, x, y, z)
_FROM_PRODUCTS = torch.zeros(4, 4, 3, 3, dtype=torch.float64)
for _a, _b, _c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    _FROM_PRODUCTS[0, 0, _a, _a] = _FROM_PRODUCTS[_a + 1, _a + 1, _a, _a] = 1  # w^2 + x^2 - y^2 - z^2
    _FROM_PRODUCTS[_b + 1, _b + 1, _a, _a] = _FROM_PRODUCTS[_c + 1, _c + 1, _a, _a] = -1
    _FROM_PRODUCTS[_a + 1, _b + 1, _a, _b] = _FROM_PRODUCTS[_a + 1, _b + 1, _b, _a] = 2  # 2 (x y -+ w z)
    _FROM_PRODUCTS[0, _c + 1, _a, _b], _FROM_PRODUCTS[0, _c + 1, _b, _a] = -2, 2
_FROM_PRODUCTS = _FROM_PRODUCTS.reshape(16, 9)


@dataclass(frozen=True, eq=False)
class Rigid:
    r"""One rigid motion per example: :math:`x \mapsto Q\,(x - o) + o + t`.

    ``rigid(batch)`` moves the atoms of a batch, ``rigid.inverse()(batch)`` moves them back, ``(b @ a)(batch)`` is
    ``b(a(batch))``. Boxes stay where they are. Differentiable in all that it is made of and in what it moves.

    Parameters
    ----------
    rotation : Tensor
        (B, 3, 3) orthogonal matrices Q.
    translation : Tensor
        (B, 3) translations t in angstrom.
    origin : Tensor
        (B, 3) points o, in angstrom, about which is rotated; of the dtype of the others or float64, in which it is
        subtracted and added.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """

    rotation: Tensor
    translation: Tensor
    origin: Tensor

    def __post_init__(self):
        for name in ("rotation", "translation", "origin"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                seen = f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name}: {seen}; expected a torch.Tensor of floating point numbers")
            shape = (self.rotation.shape[0] if self.rotation.dim() else 0, 3, 3)[: 3 if name == "rotation" else 2]
            if value.shape != shape:
                raise ValueError(f"{name}: shape {tuple(value.shape)}; expected {shape}")
            wide = name == "origin" and value.dtype is torch.float64
            if not (value.dtype == self.rotation.dtype or wide) or value.device != self.rotation.device:
                raise ValueError(
                    f"{name}: {value.dtype} on {value.device}; expected {self.rotation.dtype} on "
                    f"{self.rotation.device}, as rotation"
                )

    def __len__(self) -> int:
        return self.rotation.shape[0]

    def __getitem__(self, index) -> Rigid:
        """Return the motions of some examples; an integer selects a batch of one."""
        index = [index] if isinstance(index, numbers.Integral) else index
        return self._map(lambda value: value[index])

    def _map(self, change) -> Rigid:
        return Rigid(change(self.rotation), change(self.translation), change(self.origin))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Rigid:
        """Return the motions on another device or in another precision.

        Parameters
        ----------
        device : torch.device or str, optional
            Where to.
        dtype : torch.dtype, optional
            The precision; an origin in float64 keeps it.

        Returns
        -------
        Rigid
            The motions.
        """
        moved = self._map(lambda value: value.to(device=device))
        origin = moved.origin if moved.origin.dtype is torch.float64 else moved.origin.to(dtype=dtype)
        return Rigid(moved.rotation.to(dtype=dtype), moved.translation.to(dtype=dtype), origin)

    def inverse(self) -> Rigid:
        """Return the motions back.

        Returns
        -------
        Rigid
            Rotates by the transposed matrices about the place where the origin went.
        """
        return Rigid(self.rotation.mT, -self.translation, self.origin + self.translation)

    def __matmul__(self, first: Rigid) -> Rigid:
        """Return the motions that `first` and then these amount to."""
        if not isinstance(first, Rigid):
            return NotImplemented
        if len(first) != len(self):
            raise ValueError(f"first: {len(first)} motions; expected {len(self)}, one per example")
        moved = first.origin + first.translation  # where the first leaves its origin
        arm = (self.rotation @ (moved - self.origin).to(self.rotation.dtype).unsqueeze(-1)).squeeze(-1)
        translation = (arm + self.origin + self.translation - first.origin).to(self.translation.dtype)
        return Rigid(self.rotation @ first.rotation, translation, first.origin)

    def __call__(self, batch: AtomBatch, *, in_place: bool = False) -> AtomBatch:
        """Move the atoms of a batch.

        Parameters
        ----------
        batch : AtomBatch
            As many examples as there are motions.
        in_place : bool, default False
            Where coordinates are on a CPU and no graph is recorded: write over them, not into new memory.

        Returns
        -------
        AtomBatch
            The batch with other coordinates; its centres stay.
        """
        if not isinstance(batch, AtomBatch):
            raise TypeError(f"batch: {type(batch).__name__}; expected an AtomBatch")
        if len(batch) != len(self):
            raise ValueError(f"batch: {len(batch)} examples; expected {len(self)}, one per motion")
        same = self.rotation.dtype == batch.dtype and self.rotation.device == batch.device
        rigid = self if same else self.to(batch.device, batch.dtype)
        tensors = batch.coords, rigid.rotation, rigid.translation, rigid.origin
        if (
            batch.device.type != "cpu"
            or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
            or is_transforming()
            or torch.compiler.is_compiling()
        ):
            return batch.changed(coords=rigid._move(batch.coords, batch.batch))
        coords, rotation, translation, origin = (tensor.detach().numpy() for tensor in tensors)
        moved = coords if in_place else np.empty_like(coords, order="C")
        _move_arrays(coords, np.diff(batch.offsets.numpy()), rotation, translation, origin, moved)
        return batch if in_place else batch.changed(coords=torch.from_numpy(moved))

    def _move(self, coords: Tensor, batch: Tensor) -> Tensor:
        """Return (N, 3), differentiable."""
        x, y, z = (coords - self.origin.index_select(0, batch)).to(coords.dtype).unbind(1)
        q = self.rotation.mT.index_select(0, batch)
        rotated = q[:, 0] * x.unsqueeze(1) + q[:, 1] * y.unsqueeze(1) + q[:, 2] * z.unsqueeze(1)
        return (rotated + (self.origin + self.translation).index_select(0, batch)).to(coords.dtype)


def _move_arrays(
    coords: np.ndarray,
    n_atoms: np.ndarray,
    rotation: np.ndarray,
    translation: np.ndarray,
    origin: np.ndarray,
    moved: np.ndarray,
) -> None:
    """Write the same numbers as `Rigid._move`, to the bit, an order of magnitude faster on a CPU.

    Axis by axis, since NumPy and torch are slow along a last axis of three, and some examples at a time, in scratch.
    """
    places, turns = np.concatenate([origin.T, (origin + translation).T]), rotation.T.reshape(9, -1)
    ends = n_atoms.cumsum()
    first = start = 0
    while first < len(ends):
        last = max(int(ends.searchsorted(start + _CHUNK, side="right")), first + 1)
        end = int(ends[last - 1])
        place, turn = (columns[:, first:last].repeat(n_atoms[first:last], axis=1) for columns in (places, turns))
        x, y, z = np.subtract(coords[start:end].T, place[:3]).astype(coords.dtype, copy=False)
        by_x, by_y, by_z = turn[:3], turn[3:6], turn[6:]
        by_x *= x
        by_y *= y
        by_z *= z
        by_x += by_y
        by_x += by_z
        np.add(by_x, place[3:], out=moved[start:end].T, casting="same_kind")
        first, start = last, end


@dataclass(frozen=True, eq=False)
class RandomRigid:
    """Rotations and translations at random, one per example: ``batch, rigid = random_rigid(batch)``.

    Rotations are uniform on SO(3), about the centre of the box: four normal numbers, divided by their norm, are a
    quaternion that is uniform on the sphere S3, which covers the rotations evenly (Shoemake, Uniform random rotations,
    in Graphics Gems III, Academic Press 1992, 124-132; for the sphere: Muller, Communications of the ACM 1959, 2 (4),
    19-20). Translations in a ball are three coordinates of a point that is uniform on the sphere S4, as one coordinate
    of a point on S2 is uniform in an interval (Harman and Lacko, Journal of Multivariate Analysis 2010, 101, 2297).

    Parameters
    ----------
    translation : float or (float, float, float), default 0.0
        Largest translation in angstrom: the radius of a ball, or half the edges of a box, in which it is uniform.
    within : {"ball", "box"}, default "ball"
        Which of them. libmolgrid translates within a box.
    rotate : bool, default True
        False: no rotation.
    angle : float, default 180.0
        Largest angle of the rotations, in degrees; they are uniform among the rotations by no more than that.
    generator : torch.Generator, optional
        Where the random numbers come from, by default torch's own. They are drawn on its device, in float64, and then
        brought to that of the batch: the same generator gives the same motions on every device. In a worker of a
        DataLoader, where a copy of the generator would draw what its siblings draw, it is torch's own, which the
        DataLoader seeds, differently for each worker and epoch, from its own generator.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """

    translation: float | Sequence[float] = 0.0
    within: str = "ball"
    rotate: bool = True
    generator: torch.Generator | None = None
    angle: float = 180.0

    def __post_init__(self):
        if self.within not in ("ball", "box"):
            raise ValueError(f"within: {self.within!r}; expected 'ball' or 'box'")
        number = isinstance(self.translation, numbers.Real)
        lengths: Any = (self.translation,) if number else self.translation
        three = self.within == "box" and isinstance(lengths, Sequence) and len(lengths) == 3
        if not (number or three) or not all(isinstance(t, numbers.Real) and 0 <= float(t) < math.inf for t in lengths):
            expected = "a number >= 0" if self.within == "ball" else "a number >= 0, or three (x, y, z)"
            raise ValueError(f"translation: {self.translation!r}; expected {expected}")
        object.__setattr__(self, "translation", float(lengths[0]) if number else tuple(map(float, lengths)))
        if not isinstance(self.angle, numbers.Real) or not 0 < self.angle <= 180:
            raise ValueError(f"angle: {self.angle!r}; expected a number of degrees, more than 0 and at most 180")
        if self.generator is not None and not isinstance(self.generator, torch.Generator):
            raise TypeError(f"generator: {type(self.generator).__name__}; expected a torch.Generator")

    def __getstate__(self):
        """Let the generator, which does not pickle, travel as its state."""
        state = dict(self.__dict__)
        if self.generator is not None:
            state["generator"] = self.generator.device, self.generator.get_state()
        return state

    def __setstate__(self, state):
        if state["generator"] is not None:
            device, numbers_to_come = state["generator"]
            state["generator"] = torch.Generator(device).set_state(numbers_to_come)
        self.__dict__.update(state)

    @property
    def farthest(self) -> np.ndarray:
        """ndarray: (3,) largest translation along each axis, in angstrom."""
        return np.zeros(3) + self.translation

    @property
    def farthest_distance(self) -> float:
        """float: Largest length of a translation, in angstrom."""
        return float(self.farthest[0] if self.within == "ball" else np.linalg.norm(self.farthest))

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw rotations and translations.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        rotation : Tensor
            (n, 3, 3) float64.
        translation : Tensor
            (n, 3) float64.
        """
        generator = None if get_worker_info() else self.generator
        device = torch.device("cpu") if generator is None else generator.device
        normal: Any = torch.randn(n, 9, generator=generator, dtype=torch.float64, device=device)
        products: Any = _FROM_PRODUCTS.to(device)
        if normal.is_cpu:  # in NumPy, which takes half the time for little
            normal, products = normal.numpy(), products.numpy()
        if self.rotate:
            q: Any = normal[:, :4] if self.angle == 180 else _narrowed(normal[:, :4], math.radians(self.angle))
            q = (q[:, :, None] * q[:, None, :]).reshape(n, 16) / (q * q).sum(1, keepdims=True)
            rotation = torch.as_tensor(q @ products).reshape(n, 3, 3)
        else:
            rotation = torch.eye(3, dtype=torch.float64, device=device).expand(n, 3, 3)
        if self.within == "ball":
            v = normal[:, 4:]
            return rotation, torch.as_tensor(v[:, :3] * (self.farthest_distance / (v * v).sum(1, keepdims=True) ** 0.5))
        edges = 2 * torch.from_numpy(self.farthest).to(device)
        return rotation, (torch.rand(n, 3, generator=generator, dtype=torch.float64, device=device) - 0.5) * edges

    def draw_for(self, batch: AtomBatch) -> Rigid:
        """Draw a motion for each example of a batch.

        Parameters
        ----------
        batch : AtomBatch
            With centres, about which is rotated.

        Returns
        -------
        Rigid
            The motions, on the device and in the precision of the coordinates; `origin` is the centre as it is.

        Raises
        ------
        ValueError
            If the batch has no centres.
        """
        if not isinstance(batch, AtomBatch):
            raise TypeError(f"batch: {type(batch).__name__}; expected an AtomBatch")
        if batch.center is None:
            raise ValueError("batch: no centres, about which is rotated; expected a batch with center (B, 3)")
        rotation, translation = (
            value.to(batch.device, batch.dtype, non_blocking=True) for value in self.draw(len(batch))
        )
        return Rigid(rotation, translation, batch.center)

    def __call__(self, batch: AtomBatch) -> tuple[AtomBatch, Rigid]:
        """Draw a motion for each example and move its atoms.

        Parameters
        ----------
        batch : AtomBatch
            With centres, about which is rotated.

        Returns
        -------
        batch : AtomBatch
            The batch with other coordinates; its centres stay.
        rigid : Rigid
            What was done to it.

        Raises
        ------
        ValueError
            If the batch has no centres.
        """
        rigid = self.draw_for(batch)
        return rigid(batch), rigid


def _narrowed(q: np.ndarray | Tensor, largest: float) -> np.ndarray | Tensor:
    """Return quaternions (n, 4) of rotations about the same axes, uniform among those by at most `largest` radians.

    The angle t of a uniform rotation is distributed as t - sin t. The angle that has the same rank among those up to
    `largest` is the root of t - sin t = c: convex, so Newton's method from below goes beyond it once, then down to it.
    """
    q = torch.as_tensor(q)
    angle = 2 * torch.atan2(q[:, 1:].norm(dim=1), q[:, 0].abs())
    c = (angle - angle.sin()) * ((largest - math.sin(largest)) / math.pi)
    angle = (6 * c).pow(1 / 3)
    for _ in range(6):
        angle = angle - (angle - angle.sin() - c) / (1 - angle.cos()).clamp(min=1e-30)
    axis = q[:, 1:] / q[:, 1:].norm(dim=1, keepdim=True) * q[:, :1].sign()
    narrowed = torch.cat([(angle / 2).cos()[:, None], axis * (angle / 2).sin()[:, None]], dim=1)
    return narrowed.numpy() if narrowed.is_cpu else narrowed
