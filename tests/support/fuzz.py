"""Calls of the public API with odd arguments: each gives what the oracle gives, or an error that names the argument.

``python -m support.fuzz FIRST COUNT`` makes the calls with these numbers, one after the other, and prints as JSON how
many ended how and what is wrong. The number of each call goes to standard error before it is made, so that a crash of
the interpreter tells which one it was.
"""

import decimal
import fractions
import json
import math
import numbers
import random
import re
import sys
import warnings

import numpy as np
import torch
from support.reference import Reference
from support.scenes import DENSITY_BAR, DERIVATIVE_BAR, make_scene, relative_error

import gridgrad as gg

ATOMS = ("center", "coords", "types", "radii")
GROUPS = ("n_types", "batch", "batch_size")
GRIDS = ("grad_density", "density", "relevance")
DIRECTIONS = ("grad_grad_coords", "grad_grad_types", "grad_grad_radii")
ENTRANCES = {
    "coords2grid": (*ATOMS, *GROUPS, "fixed"),
    "Coords2Grid": ("center", "coords", "types", "radii", "batch", "batch_size"),
    "forward": (*ATOMS, *GROUPS, "out"),
    "backward": (*ATOMS, "grad_density", "batch"),
    "backward_gradients": (*ATOMS, "grad_density", *DIRECTIONS, "batch"),
    "backward_relevance": (*ATOMS, "density", "relevance", "batch"),
}
ARRAYS = ("coords", "types", "radii", "offsets", "centers")
GRID = ("spec", "center", "n_types")
OPERATORS = {
    "density": ("forward", (*ARRAYS, *GRID)),
    "density_backward": ("backward", (*ARRAYS, "grad_density", *GRID, "needs")),
    "density_tangent": ("backward_gradients", (*ARRAYS, *DIRECTIONS, *GRID)),
    "density_backward_backward": (
        "backward_gradients", (*ARRAYS, "grad_density", *DIRECTIONS, *GRID, "needs"),
    ),
    "density_relevance": ("backward_relevance", (*ARRAYS, "density", "relevance", *GRID)),
}  # fmt: skip
SETTINGS = (
    "resolution", "dimension", "binary", "radius_type_indexed", "radius_scale", "gaussian_radius_multiple", "tail",
)  # fmt: skip
REFUSALS = (TypeError, ValueError, MemoryError)


def odd_things(rng):
    """Something that is no argument at all, or by accident."""
    return rng.choice([
        lambda: None, lambda: True, lambda: 0, lambda: 1, lambda: 3, lambda: -1, lambda: 2**40, lambda: 2**63,
        lambda: 10**400, lambda: 10**5000, lambda: 0.5, lambda: -0.0, lambda: 5e-324, lambda: 1e308,
        lambda: math.inf, lambda: math.nan, lambda: 1j, lambda: "", lambda: "quintic", lambda: b"x", list, tuple, dict,
        set, object, lambda: [1, 2, 3], lambda: [[1.0, 2, 3]] * 3, lambda: (1, [2], 3), lambda: range(3),
        lambda: (x for x in (1, 2, 3)), lambda: np.float32(1.5), lambda: np.int8(3), lambda: np.bool_(True),
        lambda: np.longdouble(1.5), lambda: fractions.Fraction(3, 2), lambda: decimal.Decimal("1.5"),
        lambda: np.array(2.0), lambda: np.zeros(3), lambda: np.zeros((5, 3), dtype=object), lambda: np.array(["a"] * 3),
        lambda: np.zeros(3, dtype=np.longdouble), lambda: np.ma.masked,
        lambda: np.ma.array([1.0, 2, 3], mask=[0, 1, 0]),
        lambda: torch.tensor(1.5), lambda: torch.zeros(0), lambda: torch.zeros(3), lambda: torch.zeros(0, 3),
        lambda: torch.ones(5, 3, dtype=torch.complex64), lambda: torch.ones(5, 3).to_sparse(), lambda: torch.Tensor,
        lambda: torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)]), lambda: gg.GridMaker,
        lambda: [torch.zeros(()), torch.ones(()), 2.0], lambda: np.datetime64("2026-01-01"), lambda: torch.float32,
    ])()  # fmt: skip


def elements_changed(rng, value):
    """Other values: zeros, signs, what is not finite, indices that are too large."""
    value = value.clone()
    if not value.numel():
        return value
    flat, where = value.view(-1), rng.randrange(value.numel())
    if value.is_floating_point():
        flat[where] = rng.choice([0.0, -0.0, -1.5, 30.0, 1e30, math.inf, -math.inf, math.nan, 5e-324])
    elif value.dtype != torch.bool:
        flat[where] = rng.choice([-1, -5, 0, 2, 3, 2**31, 2**62, -(2**63)])
    return value


def shape_changed(rng, value):
    return rng.choice([
        lambda: value[:-1], lambda: value[..., :-1], lambda: value.unsqueeze(0), lambda: value.unsqueeze(-1),
        lambda: value.flatten(), lambda: value.transpose(0, -1), lambda: torch.cat([value, value]),
        lambda: value.new_zeros(()), lambda: value[:0], lambda: value.new_zeros(0),
    ])()  # fmt: skip


def kind_changed(rng, value):
    """The same numbers in another dtype, kind of tensor or array; some are refused, none may be misread."""
    array = value.numpy()
    doubled = torch.stack([value, value], -1)
    masked = np.ma.array(array, mask=np.zeros(array.shape, dtype=bool))
    return rng.choice([
        lambda: value.double(), lambda: value.float(), lambda: value.half(), lambda: value.bfloat16(),
        lambda: value.long(), lambda: value.int(), lambda: value.to(torch.uint8), lambda: value.bool(),
        lambda: value.to(torch.complex128), lambda: value.to("meta"), lambda: value.to_sparse(),
        lambda: torch.nn.Parameter(value.clone(), requires_grad=value.is_floating_point()),
        lambda: value.clone().requires_grad_(value.is_floating_point()), lambda: doubled[..., 0],
        lambda: value.flip(0).flip(0), lambda: torch._neg_view(-value) if value.dtype != torch.bool else value,
        lambda: torch._efficientzerotensor(value.shape, dtype=value.dtype), lambda: value.tolist(), lambda: list(value),
        lambda: value.expand(2, *value.shape), lambda: value.as_subclass(Subclass), lambda: in_inference(value),
        lambda: array, lambda: np.asfortranarray(array), lambda: array[::-1][::-1], lambda: read_only(array),
        lambda: array.astype(array.dtype.newbyteorder()), lambda: masked, lambda: array.astype(object),
        lambda: array.astype(np.longdouble), lambda: array.astype(np.uint64), lambda: array.astype(np.int16),
    ])()  # fmt: skip


class Subclass(torch.Tensor):
    """A tensor of somebody else's."""


def in_inference(value):
    with torch.inference_mode():
        return value.clone()


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def odd(rng, value):
    if not isinstance(value, torch.Tensor) or rng.random() < 0.25:
        return odd_things(rng)
    change = rng.choice([elements_changed, shape_changed, kind_changed])
    try:
        return change(rng, value)
    except (RuntimeError, TypeError, IndexError):  # there is no such thing
        return odd_things(rng)


def plain(value):
    """Return an argument as a plain tensor of float64 or int64, as a human reads it; None stays None."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        rows = [[float(x) for x in row] if np.ndim(row) else float(row) for row in value]
        return torch.tensor(rows, dtype=torch.float64)
    if isinstance(value, numbers.Real):
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, torch.Tensor):
        value = value.detach().as_subclass(torch.Tensor).clone().resolve_neg()
        return value.double() if value.is_floating_point() else value.long()
    array = np.asarray(value)
    exact = array.dtype.kind in "iub" and not (array.size and array.max() >= 2**63)
    return torch.from_numpy(array.astype(np.int64 if exact else np.float64))


def describe(value):
    if isinstance(value, (torch.Tensor, np.ndarray)):
        shape = "" if getattr(value, "is_nested", False) else tuple(value.shape)
        return f"{type(value).__name__}{shape} {value.dtype}"
    try:
        return repr(value)[:60]
    except ValueError:
        return type(value).__name__


class Case:
    """One call: a good one of which up to two arguments are made odd."""

    def __init__(self, number):
        self.rng = rng = random.Random(number)
        self.scene = scene = make_scene(
            rng.choice(["quadratic", "quintic", "truncated", "binary"]), rng.choice(["per_atom", "by_type"]),
            rng.choice(["vector", "index"]), rng.choice(["single", "padded", "ragged"]),
            dtype=rng.choice([torch.float32, torch.float64]), seed=rng.randrange(4),
            center_per_example=rng.random() < 0.5,
        )  # fmt: skip
        self.settings = dict(scene.settings)
        self.entrance = rng.choice([*ENTRANCES, "operator", "GridMaker"])
        self.names, self.arguments = SETTINGS, self.settings
        if self.entrance == "operator":
            self.operator = rng.choice(list(OPERATORS))
            self.entrance, self.names = OPERATORS[self.operator]
        else:
            self.operator = None
            self.names = ENTRANCES.get(self.entrance, SETTINGS)
        if self.entrance != "GridMaker":
            good = self.good()
            self.arguments = {name: good[name] for name in self.names}
        for name in rng.sample(self.names, rng.choice([0, 1, 1, 1, 2])):
            self.arguments[name] = self.odd(name)

    def good(self):
        """Return arguments of every entrance that are as they should be."""
        scene, rng = self.scene, self.rng
        good = {name: scene[name] for name in (*ATOMS, *GROUPS)}
        good |= dict(zip(("grad_density", *DIRECTIONS), scene.cotangents()))
        grid = good["grad_density"]
        good |= {"density": grid.abs() + 1, "relevance": grid, "out": torch.zeros_like(grid), "needs": [True] * 3}
        good["fixed"] = torch.arange(scene.coords[..., 0].numel()).reshape(scene.coords.shape[:-1]) % 2 == 0
        for optional in ("fixed", "out"):
            if rng.random() < 0.5:
                good[optional] = None
        if self.operator:
            good["centers"] = None
            if scene.center.dim() == 2 or rng.random() < 0.5:
                n_examples = scene.batch_size or (len(scene.coords) if scene.coords.dim() == 3 else 1)
                good["centers"] = scene.center.double().expand(n_examples, 3).clone()
            good["center"] = scene.center.tolist() if good["centers"] is None else [0.0, 0.0, 0.0]
            good["spec"] = gg.GridMaker(**self.settings).spec
            good["offsets"] = None
            if scene.batch is not None:
                good["offsets"] = torch.searchsorted(scene.batch, torch.arange(scene.batch_size + 1))
        return good

    def odd(self, name):
        """Return something odd for an argument; operators take what their schema says, torch sees to it."""
        rng, value = self.rng, self.arguments.get(name)
        if not self.operator:
            return odd_things(rng) if self.entrance == "GridMaker" else odd(rng, value)
        if isinstance(value, torch.Tensor):
            change = rng.choice([elements_changed, shape_changed, lambda _, x: x.to("meta"), lambda _, x: x.half()])
            try:
                return change(rng, value)
            except (RuntimeError, IndexError):
                return value.new_zeros(7)
        return {
            "n_types": rng.choice([-1, 0, 2, 4, 2**40, 2**62]), "needs": [True] * rng.choice([0, 2, 4]),
            "spec": rng.choice(["", "{}", "null", '{"resolution": 1}', gg.GridMaker(0.7, 3.0).spec]),
            "offsets": torch.tensor(rng.choice([[0], [0, 5], [5, 0], []])), "grad_grad_types": None,
            "centers": torch.zeros(7, 3), "center": rng.choice([[], [0.0] * 2, [0.0] * 4, [math.nan] * 3, [1e300] * 3]),
        }[name]  # fmt: skip

    def __str__(self):
        name = self.operator or self.entrance
        return f"{name}({', '.join(f'{key}={describe(value)}' for key, value in self.arguments.items())})"

    def call(self):
        """Make the call."""
        if self.operator:
            return getattr(torch.ops.gridgrad, self.operator)(*self.arguments.values())
        maker = gg.GridMaker(**self.settings)
        if self.entrance == "GridMaker":
            return maker
        if self.entrance == "coords2grid":
            return gg.coords2grid(maker, **self.arguments)
        if self.entrance == "Coords2Grid":
            return gg.Coords2Grid(maker, n_types=self.scene.n_types)(**self.arguments)
        return getattr(maker, self.entrance)(**self.arguments)

    def expected(self):
        """Return what the oracle makes of the arguments; None where values or kinks leave nothing to compare."""
        given, settings = dict(self.arguments), self.settings
        if self.operator:
            settings = json.loads(given["spec"])
            offsets = given.pop("offsets")
            centers = given.pop("centers")
            if centers is not None:
                given["center"] = centers[0] if offsets is None and given["coords"].dim() == 2 else centers
            given["batch"] = None
            if offsets is not None:
                given["batch"] = torch.repeat_interleave(offsets.diff())
                given["batch_size"] = len(offsets) - 1
        oracle = Reference(**settings)
        center = (0.0, 0.0, 0.0) if given["center"] is None else given["center"]
        center, coords, types, radii = map(plain, (center, given["coords"], given["types"], given["radii"]))
        n_types = types.shape[-1] if types.is_floating_point() else int(given.get("n_types") or self.scene.n_types)
        if radii.dim() == 0:
            radii = radii.expand((n_types,) if oracle.radius_type_indexed else coords.shape[:-1])
        atoms, batch = (center, coords, types, radii), plain(given["batch"])
        size = given.get("batch_size")
        if batch is not None:
            size = int(size if size is not None else batch[-1] + 1 if len(batch) else 0)
        finite = all(value.isfinite().all() for value in atoms)
        if not finite or oracle.margin(*atoms, n_types, batch, size) < 1e-5:
            return None
        grids = {name: plain(given[name]) for name in (*GRIDS, *DIRECTIONS) if name in given}
        if self.operator == "density_tangent":
            grids["grad_density"] = torch.zeros_like(oracle.forward(*atoms, n_types, batch, size))
        if self.entrance == "backward":
            return oracle.backward(*atoms, grids["grad_density"], batch=batch)
        if self.entrance == "backward_gradients":
            both = oracle.backward_gradients(*atoms, **grids, batch=batch)
            return {"density_tangent": both[:1], "density_backward_backward": both[1:]}.get(self.operator, both)
        if self.entrance == "backward_relevance":
            grids = {name: grids[name] for name in ("density", "relevance")}
            return (oracle.backward_relevance(*atoms, **grids, batch=batch),)
        return (oracle.forward(*atoms, n_types, batch, size),)

    def check(self, found):
        """Return what is wrong with a result, or None."""
        if self.entrance == "GridMaker":
            points = tuple(round(side / float(found.resolution)) + 1 for side in found.dimension)
            return None if found.spatial_grid_dimensions() == points else "points"
        found = found if isinstance(found, tuple) else (found,)
        if any(isinstance(value, torch.Tensor) and value.is_meta for value in found):
            return None
        expected = self.expected()
        if expected is None:
            return None
        bars = DENSITY_BAR if self.entrance in ("coords2grid", "Coords2Grid", "forward") else DERIVATIVE_BAR
        for order, (value, target) in enumerate(zip(found, expected, strict=True)):
            if target is None:
                if value is not None and not (self.operator and value.shape == (0,)):
                    return f"output {order} is {describe(value)}, expected None"
                continue
            if value is None:
                return f"output {order} is None, expected {describe(target)}"
            value = torch.as_tensor(value).detach().as_subclass(torch.Tensor)
            if value.shape != target.shape:
                return f"output {order} has shape {tuple(value.shape)}, expected {tuple(target.shape)}"
            if value.dtype == torch.float32:
                target = target.where(~(target.abs() < 1e-30), 0.0)  # it underflows
                value = value.where(~(value.abs() < 1e-30), 0.0)
            if target.isfinite().all():
                if not value.isfinite().all():
                    return f"output {order} is not finite"
                error = relative_error(value, target)
                if not error <= bars[value.dtype]:
                    return f"output {order}: relative error {error:.1e}"
            COMPARED.append(order)
        return None


COMPARED = []


def changed(before, after):
    """Whether an argument of a call is no longer what it was."""
    if isinstance(before, torch.Tensor) and before.layout is torch.strided and not (before.is_nested or before.is_meta):
        return not torch.equal(torch.nan_to_num(before.detach()), torch.nan_to_num(after.detach()))
    return False


def copied(value):
    strided = isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_nested
    return value.detach().clone() if strided else value


def run(number):
    """Make a call; return how it ended and what is wrong with it."""
    case = Case(number)
    before = {name: copied(value) for name, value in case.arguments.items()}
    try:
        found = case.call()
    except REFUSALS as error:
        text = str(error)
        names = (*case.names, "density", "n_types") if case.entrance == "Coords2Grid" else (*case.names, "density")
        ending = "refused"
        wrong = None
        if not re.match(rf"({'|'.join(names)}): .*; expected", text) or "\n" in text or len(text) > 400:
            wrong = f"message: {text[:300]}"
    except Exception as error:
        ending, wrong = "raised", f"{type(error).__name__}: {str(error)[:300]}"
    else:
        ending = "returned"
        try:
            wrong = case.check(found)
        except Exception as error:
            wrong = f"accepted, and the oracle says {type(error).__name__}: {str(error)[:200]}"
    for name, value in before.items():
        if (name != "out" or ending != "returned") and changed(value, case.arguments[name]):
            wrong = f"{name} was written to"
    return ending, None if wrong is None else f"{number}: {case}: {wrong}"


def main(first, count):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    endings, problems = {}, []
    for number in range(first, first + count):
        print(number, file=sys.stderr, flush=True)
        ending, wrong = run(number)
        endings[ending] = endings.get(ending, 0) + 1
        if wrong:
            problems.append(wrong)
    print(json.dumps({"endings": endings, "compared": len(COMPARED), "problems": problems}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
