"""``torch.ops.gridgrad.*`` by name: arguments that do not fit one another are refused before an address is taken."""

import pytest
import torch
from support.rows import row
from support.scenes import assert_same_bits, evaluate, make_scene
from torch.utils._python_dispatch import TorchDispatchMode

import gridgrad as gg

N, T, B = 5, 3, 3
GRID = (7, 5, 6)
GRAD_GRADS = ("grad_grad_coords", "grad_grad_types", "grad_grad_radii")
PAIRS = ("u_coords", "u_types", "u_radii", "v_coords", "v_types", "v_radii")
ATOMS = ("coords", "types", "radii", "offsets", "centers")
GRID_OF = ("spec", "center", "n_types")
OPERATORS = {
    "density": (*ATOMS, *GRID_OF),
    "density_tangent": (*ATOMS, *GRAD_GRADS, *GRID_OF),
    "density_tangent_tangent": (*ATOMS, *PAIRS, *GRID_OF),
    "density_backward": (*ATOMS, "grad_density", *GRID_OF, "needs"),
    "density_backward_backward": (*ATOMS, "grad_density", *GRAD_GRADS, *GRID_OF, "needs"),
    "density_relevance": (*ATOMS, "density", "relevance", *GRID_OF),
}


def ones(*shape, dtype=torch.float64, **options):
    return torch.ones(shape, dtype=dtype, **options)


def arguments(layout="single", type_mode="vector", radius_type_indexed=False, radii_per_example=False):
    """Arguments by name, of all operators, that fit one another."""
    lead = (B, N) if layout == "padded" else (N,)
    radii = (T,) if radius_type_indexed else lead
    if radii_per_example:
        radii = (B, T)
    types = ones(*lead, T) if type_mode == "vector" else torch.zeros(lead, dtype=torch.int64)
    grid = ones(T, *GRID) if layout == "single" else ones(B, T, *GRID)
    directions = ones(*lead, 3), ones(*lead, T) if type_mode == "vector" else None, ones(*radii)
    return {
        "coords": torch.zeros((*lead, 3), dtype=torch.float64), "types": types, "radii": ones(*radii),
        "offsets": torch.tensor([0, 2, 2, 5]) if layout == "ragged" else None,
        **dict(zip((*GRAD_GRADS, *PAIRS), 3 * directions)), "grad_density": grid, "density": grid, "relevance": grid,
        "centers": None, "center": [0.1, 0.2, 0.3],
        "spec": gg.GridMaker(0.5, (3.0, 2.0, 2.5), radius_type_indexed=radius_type_indexed).spec,
        "n_types": T, "needs": [True, True, True],
    }  # fmt: skip


def call(operator, given):
    return getattr(torch.ops.gridgrad, operator)(*(given[name] for name in OPERATORS[operator]))


def floats(name, *shapes):
    """Wrong shapes, wrong dtypes and another device, for a float argument."""
    good = arguments()[name].shape
    bad = [ones(*shape) for shape in (*shapes, (0,), (), (1, *good))]
    return [(name, value) for value in (*bad, ones(*good, dtype=torch.float32), ones(*good, device="meta"))]


MISFITS = [
    *floats("coords", (4, 3), (6, 3), (15,), (5, 2), (5, 4), (1, 1, 5, 3)),
    ("coords", torch.zeros((5, 3), dtype=torch.int64)), ("coords", ones(5, 3, dtype=torch.float16)),
    *floats("types", (4, 3), (6, 3), (5, 2), (5, 4), (5,), (3, 5)),
    ("types", torch.zeros((5, 3), dtype=torch.int64)), ("types", torch.zeros(4, dtype=torch.int64)),
    ("types", torch.zeros(5, dtype=torch.int32)), ("types", torch.zeros(5, dtype=torch.bool)),
    *floats("radii", (4,), (6,), (5, 1), (3,)), ("radii", torch.ones(5, dtype=torch.int64)),
    ("radii", -ones(5)), ("types", torch.full((5,), 3)), ("types", torch.full((5,), 2**62)),
    ("n_types", 2), ("n_types", 4), ("n_types", 0), ("n_types", -3), ("n_types", 2**40),
    ("spec", ""), ("spec", "{}"), ("spec", "[1]"), ("spec", "x" * 10000), ("center", []), ("center", [0.0]),
    ("center", [0.0] * 4), *(("centers", ones(*shape)) for shape in ((3,), (0, 3), (2, 3), (1, 2), (1, 1, 3))),
    ("centers", ones(1, 3, dtype=torch.float32)), ("centers", ones(1, 3, device="meta")),
    ("spec", gg.GridMaker(0.5, 3.0).spec.replace("tail", "tails")),
    *floats("grad_density", (3, 7, 5), (4, 7, 5, 6), (3, 6, 5, 7), (2, 7, 5, 6)),
    *floats("density", (3, 7, 5, 5)), *floats("relevance", (3, 7, 4, 6)),
    *floats("grad_grad_coords", (4, 3), (5, 2)), *floats("grad_grad_types", (5, 2), (4, 3)),
    *floats("grad_grad_radii", (4,), (3,)), *floats("u_coords", (4, 3)), *floats("v_types", (5, 2)),
    *floats("v_radii", (4,)),
    ("needs", [True, True]), ("needs", []), ("needs", [True] * 4),
]  # fmt: skip


def blamed(name, value):
    """Where a wrong number of atoms or of channels shows."""
    if name == "coords":
        return ("coords", "types")
    if name == "n_types":
        return ("n_types", "types", "grad_density", "density")
    return (name, "n_types") if name == "types" else (name,)


CASES = [(operator, *misfit) for operator, names in OPERATORS.items() for misfit in MISFITS if misfit[0] in names]


@row(
    "`torch.ops.gridgrad.*` with arguments that do not fit one another",
    outcome="`TypeError`, `ValueError`: the argument, what was seen, what is expected",
)
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize(("operator", "name", "value"), CASES)
def test_misfits(operator, name, value, recorded):
    given = {**arguments(), name: value}
    if recorded and operator != "density_relevance":
        given["radii"] = given["radii"].detach().clone().requires_grad_(given["radii"].is_floating_point())
    with pytest.raises(
        (TypeError, ValueError, MemoryError), match=rf"^({'|'.join(blamed(name, value))}): .*; expected"
    ):
        call(operator, given)


RAGGED = [
    [0, 2, 2, 6], [0, 2, 2, 4], [1, 2, 2, 5], [0, 3, 2, 5], [0, -1, 2, 5], [0, 2**62, 2, 5], [-(2**62), 2, 2, 5], [],
    [[0, 2, 2, 5]], 0,
]  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("offsets", RAGGED)
@pytest.mark.parametrize("by_type", [False, True])
def test_offsets(operator, offsets, by_type):
    given = arguments("ragged", radius_type_indexed=by_type)
    call(operator, given)
    given["offsets"] = torch.tensor(offsets, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^offsets: .*; expected"):
        call(operator, given)


@pytest.mark.parametrize("operator", OPERATORS)
def test_offsets_of_other_kinds(operator):
    good = torch.tensor([0, 2, 2, 5])
    for offsets in (good.int(), good.double(), good.to("meta")):
        with pytest.raises((TypeError, ValueError), match=r"^offsets: .*; expected"):
            call(operator, {**arguments("ragged"), "offsets": offsets})
    with pytest.raises(ValueError, match=r"^coords: shape \(3, 5, 3\) with offsets; expected \(N, 3\)"):
        call(operator, {**arguments("padded"), "offsets": good})
    given, strided = arguments("ragged"), torch.stack([good, good + 1], 1)[:, 0]
    for found, expected in zip(call(operator, {**given, "offsets": strided}), call(operator, given)):
        assert_same_bits(found, expected)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("layout", "shape"), [("padded", (2, T)), ("ragged", (4, T)), ("single", (2, T))])
def test_radii_by_type_and_example(operator, layout, shape):
    """(B, T), as vmap makes them, with the B of the call."""
    if layout != "single":
        call(operator, arguments(layout, radius_type_indexed=True, radii_per_example=True))
    given = arguments(layout, radius_type_indexed=True)
    given |= dict.fromkeys(("radii", "grad_grad_radii", "u_radii", "v_radii"), ones(*shape))
    with pytest.raises(ValueError, match=r"^radii: shape .*; expected"):
        call(operator, given)


@pytest.mark.parametrize(
    ("batch", "batch_size", "name"),
    [
        (torch.zeros(3), 1, "batch"),
        (torch.zeros(3, dtype=torch.int16), 1, "batch"),
        (torch.tensor(0), 1, "batch"),
        (torch.tensor([0, 2, 1]), 3, "batch"),
        (torch.tensor([-1, 0]), 3, "batch"),
        (torch.tensor([0, 3]), 3, "batch"),
        (torch.tensor([0, 3]), -1, "batch_size"),
    ],
)
def test_batch_offsets(batch, batch_size, name):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: .*; expected"):
        torch.ops.gridgrad.batch_offsets(batch, batch_size)


def test_a_saved_tensor_that_was_replaced():
    """``.data`` is not watched by autograd: backward looks at the sizes again."""
    given = arguments()
    coords = given["coords"].clone().requires_grad_()
    density = torch.ops.gridgrad.density(
        coords, given["types"], given["radii"], None, None, given["spec"], (0, 0, 0), T
    )
    coords.data = torch.zeros((5000, 3), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^types: shape \(5, 3\); expected \(5000, 3\)"):
        density.sum().backward()


def test_atoms_of_no_example():
    """Where nothing can be checked without waiting for a GPU, outputs are zero and not what memory held."""
    empty = {**arguments("padded"), "coords": torch.zeros((0, N, 3), dtype=torch.float64), "types": ones(0, N, T)}
    empty |= {"radii": ones(0, N), "grad_density": ones(0, T, *GRID)}
    assert [output.shape[0] for output in call("density_backward", empty)] == [0, 0, 0]
    by_type = {**empty, "radii": ones(T), "spec": arguments(radius_type_indexed=True)["spec"]}
    assert not call("density_backward", by_type)[2].any()


class Everything(TorchDispatchMode):
    """A mode that changes nothing: all operators go through the dispatcher."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("layout", ["single", "padded", "ragged"])
def test_good_arguments_go_through(layout):
    """What GridMaker computes directly and through the dispatcher is the same."""
    scene = make_scene("quintic", "by_type", "vector", layout)
    maker = gg.GridMaker(**scene.settings)
    expected = evaluate(maker, scene)
    with Everything():
        found = evaluate(maker, scene)
    for name, value in expected.items():
        assert_same_bits(found[name], value, name)
