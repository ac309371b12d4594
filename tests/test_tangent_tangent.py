"""The second derivative of the density along two directions, and what it closes: see "After the second order"."""

import functools

import pytest
import torch
from support.rows import row
from support.scenes import (
    DERIVATIVE_BAR,
    DTYPES,
    MODES,
    TAILS,
    assert_close,
    assert_same_bits,
    make_scene,
    mode_id,
)
from torch.autograd import forward_ad, functional, gradcheck
from torch.func import grad, jacfwd, jvp, vmap

import gridgrad as gg

NAMES = ("coords", "types", "radii")
BAR = 1e-10
SMALL = {"n_atoms": 3, "n_types": 2, "dimension": (1.0, 1.5, 1.0)}
MODERN = [mode for mode in MODES if mode[0] == "quintic"]
ABSENT = [(present_u, present_v) for present_u in range(8) for present_v in range(present_u, 8)]


def directions_of(scene, seed=0):
    """Two random directions, each (coords, types or None, radii)."""
    return [tuple(scene.cotangents(seed)[1:]), tuple(scene.cotangents(seed + 1)[1:])]


def operator_inputs(scene):
    """Return what operators take: (coords, types, radii, offsets, centers), (spec, center, n_types)."""
    offsets = None
    if scene.batch is not None:
        offsets = torch.ops.gridgrad.batch_offsets(scene.batch, scene.batch_size)
    centers, center = scene.center.double(), [0.0] * 3
    if centers.dim() == 1:
        centers, center = None, [float(x) for x in centers]
    settings = gg.GridMaker(**scene.settings).spec, center, scene.n_types
    return (scene.coords, scene.types, scene.radii, offsets, centers), settings


def operator(scene, u, v):
    atoms, settings = operator_inputs(scene)
    return torch.ops.gridgrad.density_tangent_tangent(*atoms, *u, *v, *settings)


def expected(scene, u, v):
    return scene.reference().second_derivative(*scene.inputs, u, v, **scene.grouping)


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_against_the_oracle(mode, dtype):
    scene = make_scene(*mode, dtype=dtype, center_per_example=dtype == torch.float64)
    u, v = directions_of(scene)
    found = operator(scene, u, v)
    assert found.dtype == dtype
    assert_close(found, expected(scene, u, v), DERIVATIVE_BAR[dtype], "second derivative")


@pytest.mark.parametrize(("present_u", "present_v"), ABSENT)
@pytest.mark.parametrize("radius_mode", ["per_atom", "by_type"])
def test_absent_directions(radius_mode, present_u, present_v):
    """A part of a direction that is absent is zero: each of the eight subsets of each."""
    scene = make_scene("quintic", radius_mode, "vector", "single", **SMALL)
    u, v = (
        tuple(part if present >> i & 1 else None for i, part in enumerate(direction))
        for direction, present in zip(directions_of(scene), (present_u, present_v))
    )
    assert_close(operator(scene, u, v), expected(scene, u, v), 1e-12, "second derivative")


@pytest.mark.parametrize("mode", MODERN, ids=mode_id)
def test_symmetric(mode):
    scene = make_scene(*mode)
    u, v = directions_of(scene)
    assert_close(operator(scene, u, v), operator(scene, v, u), 1e-14, "the other way round")


@pytest.mark.parametrize("tail", TAILS)
def test_same_bits_with_any_number_of_threads(tail, threads):
    scene = make_scene(tail, "per_atom", "vector", "single", n_atoms=40, dimension=(16.0, 12.0, 14.0), margin=0.0)
    u, v = directions_of(scene)
    threads(1)
    alone = operator(scene, u, v)
    threads(2)
    assert_same_bits(operator(scene, u, v), alone)


def test_nan_in_nan_out():
    """A weight, or the change of a weight, that is not zero spreads the NaN of its atom over its channel."""
    scene = make_scene("quintic", "per_atom", "vector", "single", **SMALL)
    u, v = (tuple(torch.zeros_like(part) for part in direction) for direction in directions_of(scene))
    coords = scene.coords.clone()
    coords[1, 2] = torch.nan
    for holder in ("types", "u", "v"):
        weights = {"types": torch.zeros_like(scene.types), "u": u[1].clone(), "v": v[1].clone()}
        weights[holder][1, 0] = 1.0
        broken = scene.replace(coords=coords, types=weights["types"])
        found = operator(broken, (u[0], weights["u"], u[2]), (v[0], weights["v"], v[2]))
        assert found[0].isnan().all() and (found[1] == 0).all(), holder


def test_nothing_to_do():
    """No atoms, no examples, no direction."""
    scene = make_scene("quintic", "per_atom", "vector", "single", **SMALL)
    nobody = scene.atoms(torch.zeros(len(scene.coords), dtype=torch.bool))
    nowhere = (None, None, None)
    assert (operator(nobody, *directions_of(nobody)) == 0).all()
    assert (operator(scene, nowhere, directions_of(scene)[0]) == 0).all()
    empty = make_scene("quintic", "per_atom", "vector", "padded", **SMALL)
    empty = empty.replace(**{name: empty[name][:0] for name in ("center", "coords", "types", "radii")})
    assert operator(empty, *directions_of(empty)).shape[0] == 0


# ---- reverse: the second-order atom outputs by grad_density ----------------------------------------------------------


def second_order(density, scene, names):
    """Return leaves (grad_density, u, v) and a function of them: the gradient of <u, second order of the atoms>."""
    grad_density, *v = scene.cotangents()
    leaves = [grad_density.clone().requires_grad_()]
    leaves += [part.clone().requires_grad_() for part, name in zip(v, NAMES) if name in names]

    def products(cotangent, *directions):
        atoms = {name: scene[name].clone().requires_grad_() for name in names}
        inputs = [atoms.get(name, scene[name]) for name in NAMES]
        grid = density(scene.center, *inputs, **scene.grouping)
        first = torch.autograd.grad(grid, list(atoms.values()), cotangent, create_graph=True)
        total = sum((gradient * direction).sum() for gradient, direction in zip(first, directions))
        return torch.autograd.grad(total, list(atoms.values()), create_graph=True, materialize_grads=True)

    return leaves, products


def names_of(scene):
    return NAMES if scene.types.is_floating_point() else ("coords", "radii")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] != "binary"], ids=mode_id)
def test_derivative_by_grad_density(mode):
    scene = make_scene(*mode)
    results = []
    for density in (functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings)), scene.reference().forward):
        leaves, products = second_order(density, scene, names_of(scene))
        total = sum(product.sin().sum() for product in products(*leaves))
        results.append(torch.autograd.grad(total, leaves))
    for found, target in zip(*results):
        assert_close(found, target, 1e-12)


@pytest.mark.parametrize("mode", MODERN, ids=mode_id)
def test_gradcheck_of_the_composition(mode):
    """Numerically, forward and reverse, of the products as a function of grad_density and the directions."""
    scene = make_scene(*mode, **SMALL)
    leaves, products = second_order(functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings)), scene, NAMES[:1])
    assert gradcheck(products, leaves, fast_mode=True)


@pytest.mark.parametrize("mode", MODERN, ids=mode_id)
def test_gradcheck_of_the_operator(mode):
    """Bilinear in the directions: both modes, batched, and the second derivative of the form itself."""
    scene = make_scene(*mode, **SMALL)
    u, v = directions_of(scene)
    present = [part.clone().requires_grad_() for part in (*u, *v) if part is not None]

    def form(*parts):
        parts = iter(parts)
        return operator(scene, *(tuple(None if p is None else next(parts) for p in d) for d in (u, v)))

    assert gradcheck(form, present, fast_mode=True, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(form, present, fast_mode=True)


# ---- forward over forward --------------------------------------------------------------------------------------------


def density_pair(scene, names):
    """The density of the named inputs, by the package and by the oracle."""

    def of(density):
        def function(*leaves):
            given = dict(zip(names, leaves))
            return density(*(given.get(name, scene[name]) for name in ("center", *NAMES)), **scene.grouping)

        return function

    return of(functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings))), of(scene.reference().forward)


@row("`jvp` of `jvp`")
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_jvp_of_jvp(mode):
    """In every input, the centre included, each with another tangent."""
    scene = make_scene(*mode, **SMALL)
    names = ("center", *names_of(scene))
    leaves = tuple(scene[name] for name in names)
    generator = torch.Generator().manual_seed(4)
    u, v = (tuple(torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves) for _ in "uv")
    found, target = (jvp(lambda *x, f=f: jvp(f, x, v)[1], leaves, u)[1] for f in density_pair(scene, names))
    assert_close(found, target, BAR)


@row("`jacfwd(jacfwd(f))`")
@pytest.mark.parametrize("names", [("coords",), ("types",), ("radii",), ("coords", "radii")], ids=mode_id)
@pytest.mark.parametrize("layout", ["single", "padded", "ragged"])
def test_jacfwd_of_jacfwd(layout, names):
    scene = make_scene("quintic", "per_atom", "vector", layout, n_atoms=2, n_types=2, dimension=(0.5, 0.5, 1.0))
    leaves = tuple(scene[name] for name in names)
    every = tuple(range(len(names)))
    found, target = (jacfwd(jacfwd(f, every), every)(*leaves) for f in density_pair(scene, names))
    for value, wanted in zip(torch.utils._pytree.tree_leaves(found), torch.utils._pytree.tree_leaves(target)):
        assert_close(value, wanted, BAR)


@row("dual numbers of the operator `density_tangent`")
@pytest.mark.parametrize("mode", MODERN, ids=mode_id)
def test_dual_numbers_of_a_tangent(mode):
    """Torch nests neither dual numbers nor them and `jvp`; the operator that forward mode calls takes them."""
    scene = make_scene(*mode, **SMALL)
    u, v = directions_of(scene)
    atoms, settings = operator_inputs(scene)
    with forward_ad.dual_level():
        pairs = zip(atoms, u)
        duals = [atom if part is None else forward_ad.make_dual(atom, part) for atom, part in pairs]
        grid = torch.ops.gridgrad.density_tangent(*duals, *atoms[3:], *v, *settings)
        tangent = forward_ad.unpack_dual(grid).tangent
    assert_close(tangent, expected(scene, u, v), 1e-12)


@row("`vmap` of `jvp` of `jvp`")
@pytest.mark.parametrize("mode", MODERN, ids=mode_id)
def test_vmap_of_jvp_of_jvp(mode):
    """Mapped over directions: one launch, the same numbers as one after the other."""
    scene = make_scene(*mode, **SMALL)
    (density, _), leaves = density_pair(scene, ("coords", "radii")), (scene.coords, scene.radii)
    generator = torch.Generator().manual_seed(5)
    many = tuple(torch.randn((3, *leaf.shape), generator=generator, dtype=leaf.dtype) for leaf in leaves)

    def second(*u):
        return jvp(lambda *x: jvp(density, x, u)[1], leaves, u)[1]

    for i, grid in enumerate(vmap(second)(*many)):
        assert_close(grid, second(*(u[i] for u in many)), 1e-14)


# ---- Hessians behind which parameters stand --------------------------------------------------------------------------


def energy_of(density, scene):
    """An energy that reads the grid through parameters: (coords, parameters) -> scalar."""

    def energy(coords, mix, shift):
        grid = density(scene.center, coords, scene.types, scene.radii, **scene.grouping)
        return (torch.tensordot(grid, mix, ([-4], [0])) + shift).tanh().square().sum()

    return energy


@row(
    "`backward()` through `functional.hvp(create_graph=True)` into parameters behind the density",
    "`grad` of `jvp` of `grad`: parameters behind a Hessian-vector product",
)
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_parameters_behind_a_hessian_vector_product(mode):
    scene = make_scene(*mode, **SMALL)
    v = scene.cotangents()[1]
    results = []
    for density in (functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings)), scene.reference().forward):
        energy = energy_of(density, scene)
        generator = torch.Generator().manual_seed(6)
        mix = torch.randn(scene.n_types, generator=generator, dtype=torch.float64, requires_grad=True)
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
        product = functional.hvp(lambda x: energy(x, mix, shift), scene.coords, v, create_graph=True)[1]  # noqa: B023
        product.square().sum().backward(inputs=[mix, shift])

        def loss(mix, shift):
            return jvp(lambda x: grad(energy)(x, mix, shift), (scene.coords,), (v,))[1].square().sum()  # noqa: B023

        results.append((mix.grad, shift.grad, *grad(loss, (0, 1))(mix.detach(), shift.detach())))
    for found, target in zip(*results):
        assert_close(found, target, BAR)


def test_third_derivative_is_refused_by_name():
    """Of the form itself, whatever asks for it."""
    scene = make_scene("quintic", "per_atom", "vector", "single", **SMALL)
    u, v = directions_of(scene)
    for name in NAMES:
        moved = scene.replace(**{name: scene[name].clone().requires_grad_()})
        with pytest.raises(RuntimeError, match=f"third derivative.*{name}"):
            operator(moved, u, v).sum().backward()
    with pytest.raises(RuntimeError, match="third derivative"):
        jvp(lambda x: operator(scene.replace(coords=x), u, v), (scene.coords,), (u[0],))
