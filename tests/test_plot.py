"""Pictures: geometry, colours, and a page that stands alone."""

import base64
import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.browser import browse
from support.mol_data import cdk2, posebusters

import gridgrad as gg

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("rdkit", reason="rdkit is not installed")

from gridgrad.io import DensityGrid
from gridgrad.mol import grid_atoms, join_atoms, read_molecules, type_atoms
from gridgrad.plot import draw_gradient, draw_grid, page, write_page
from gridgrad.plot.projection import blend, project, project_axis
from gridgrad.plot.scene import channel_color, principal_axes, sticks


@pytest.fixture(scope="module")
def ligand():
    return next(read_molecules(cdk2()))


@pytest.fixture(scope="module")
def grid(ligand):
    gm = gg.GridMaker(dimension=(16, 15, 14))
    return grid_atoms(gm, type_atoms(ligand), ligand.coords.mean(axis=0), name=ligand.name)


def image_of(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def scene_of(path):
    text = path.read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="scene">(.*?)</script>', text, re.DOTALL).group(1)
    return json.loads(data)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_guessed_bonds_are_those_of_the_file():
    box = np.array([[-100.0, 100.0]] * 3)
    for molecule in read_molecules(cdk2()):
        guessed = sticks(dataclasses.replace(molecule, bonds=None), box).bonds
        assert sorted(map(sorted, guessed.tolist())) == sorted(map(sorted, molecule.bonds.tolist()))


def test_sticks_are_cut_at_the_box(ligand):
    box = np.array([[-100.0, 0.5], [-100.0, 100.0], [-100.0, 100.0]])
    shown = sticks(ligand, box)
    inside = ligand.coords[:, 0] <= 0.5
    np.testing.assert_array_equal(shown.coords, ligand.coords[inside])
    lengths = np.linalg.norm(np.diff(shown.coords[shown.bonds], axis=1), axis=2)
    assert 0 < len(shown.bonds) < len(ligand.bonds) and lengths.max() < 1.7
    near = shown.near(np.array([shown.coords[0]]), 2.0)
    assert 1 < len(near.elements) < len(shown.elements)
    assert np.linalg.norm(near.coords - shown.coords[0], axis=1).max() < 2.0


def test_principal_axes_lay_a_molecule_flat(ligand):
    axes = principal_axes(ligand.coords)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    spread = (ligand.coords @ axes.T).std(axis=0)
    assert spread[0] > spread[1] > spread[2]


def test_projection_keeps_the_integral_from_every_side(ligand, grid):
    expected = {
        name: v.sum() * grid.resolution**3 for name, v in zip(grid.channels, grid.density, strict=True) if v.any()
    }
    for axes in (np.eye(3), np.eye(3)[[2, 0, 1]], principal_axes(ligand.coords)):
        flat = ligand.coords @ axes.T
        view = project(grid, axes, flat.min(axis=0) - 3, flat.max(axis=0) + 3)
        integral = view.columns.sum(axis=(1, 2)) * (0.15**2)
        assert view.channels == tuple(expected)
        np.testing.assert_allclose(integral, list(expected.values()), rtol=0.02)


def test_projection_puts_an_atom_where_the_sticks_are():
    density = np.zeros((1, 13, 13, 13), dtype=np.float32)
    density[0, 3, 8, 5] = 1
    grid = DensityGrid(density, ("C",), np.array([10.0, 20.0, 30.0]), 0.5)
    place = np.array([[11.5, 24.0, 32.5]])
    axes = principal_axes(np.random.default_rng(0).normal(size=(9, 3)))
    low, high = (place @ axes.T)[0] - 2.0, (place @ axes.T)[0] + 2.0
    view = project(grid, axes, low, high)
    row, column = np.unravel_index(view.columns[0].argmax(), view.columns[0].shape)
    seen = low[:2] + 0.15 * np.array([column, row])
    np.testing.assert_allclose(seen, view.rotate(place)[0, :2], atol=0.15)


@pytest.mark.parametrize(("axis", "across", "up"), [("x", "y", "z"), ("y", "x", "z"), ("z", "x", "y")])
def test_axis_projection_shows_the_right_axes(axis, across, up):
    density = np.zeros((1, 5, 6, 7), dtype=np.float32)
    density[0, 1, 2, 3] = 9
    grid = DensityGrid(density, ("N",), np.zeros(3), 1.0)
    image, box, names = project_axis(grid, axis)
    size, spot = dict(zip("xyz", (5, 6, 7), strict=True)), dict(zip("xyz", (1, 2, 3), strict=True))
    assert names == (across, up) and image.shape == (size[up], size[across], 3)
    assert box == (-0.5, size[across] - 0.5, -0.5, size[up] - 0.5)
    dark = np.argwhere(image.sum(axis=2) < 2.9)
    assert dark.tolist() == [[spot[up], spot[across]]]


# --- colours ----------------------------------------------------------------------------------------------------------


def test_channels_have_different_colors():
    elements = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I", "other")
    colors = [channel_color(name, index) for index, name in enumerate(elements)]
    assert len(set(colors)) == len(colors)
    assert channel_color("ligand N", 5) == channel_color("receptor N", 1) == channel_color("N", 0)
    mine = [channel_color(name, index) for index, name in enumerate(("donor", "acceptor", "aromatic"))]
    assert len(set(mine)) == 3


def test_blend_is_white_without_density_and_takes_the_hue_of_the_channel():
    columns = np.array([[[0.0, 5.0, 0.0]], [[0.0, 0.0, 5.0]]])
    image = blend(columns, ("N", "O"))[0]
    np.testing.assert_array_equal(image[0], [1, 1, 1])
    assert image[1].argmax() == 2 and image[2].argmax() == 0
    assert (blend(columns / 5, ("N", "O"))[0, 1] > image[1]).all()


# --- files ------------------------------------------------------------------------------------------------------------


def test_png_of_a_ligand(tmp_path, ligand, grid):
    path = tmp_path / "grid.png"
    draw_grid(path, grid, ligand)
    image = image_of(path)
    assert image.shape[0] > 700 and image.shape[1] > 1000
    bluish = (image[..., 2] > image[..., 0] + 0.2).mean()
    reddish = (image[..., 0] > image[..., 2] + 0.2).mean()
    white = (image == 1).all(axis=2).mean()
    assert bluish > 0.01 and reddish > 0.005 and 0.3 < white < 0.95
    assert list(tmp_path.iterdir()) == [path]


def test_png_of_a_complex_and_of_an_empty_box(tmp_path):
    ligand = next(read_molecules(posebusters("1ia1", "ligand.sdf")))
    receptor = next(read_molecules(posebusters("1ia1", "protein_one_lig_removed.pdb")))
    atoms = join_atoms(receptor=type_atoms(receptor), ligand=type_atoms(ligand))
    gm = gg.GridMaker(dimension=16)
    draw_grid(tmp_path / "a.png", grid_atoms(gm, atoms, ligand.coords.mean(axis=0)), ligand, receptor)
    draw_grid(tmp_path / "b.png", grid_atoms(gm, type_atoms(ligand), np.full(3, 500.0)), ligand)
    pocket, empty = image_of(tmp_path / "a.png"), image_of(tmp_path / "b.png")
    assert (pocket == 1).all(axis=2).mean() < (empty == 1).all(axis=2).mean()
    assert (empty < 0.5).any()


@pytest.mark.parametrize("bonds", [True, False], ids=["bonds", "none"])
def test_png_of_a_gradient_has_arrows(tmp_path, ligand, grid, bonds):
    """Also of a molecule of an XYZ file, whose bonds are guessed."""
    path = tmp_path / "gradient.png"
    ligand = ligand if bonds else dataclasses.replace(ligand, bonds=None)
    grad_coords = np.random.default_rng(1).normal(size=ligand.coords.shape)
    draw_gradient(path, grid, ligand, ligand.coords + 0.3, grad_coords, "caption")
    image = image_of(path)
    arrows = (np.abs(image - np.array([0xB5, 0x17, 0x9E]) / 255) < 0.02).all(axis=2)
    assert arrows.sum() > 500
    assert not arrows[:, : image.shape[1] // 2].any()


def test_page_holds_the_grid_and_stands_alone(tmp_path, ligand, grid):
    path = tmp_path / "grid.html"
    write_page(path, grid, ligand)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=|https?://|@[A-Z]+@|import\s*\(|fetch\s*\(", text)
    scene = scene_of(path)
    assert [channel["name"] for channel in scene["channels"]] == ["H", "C", "N", "O"]
    for channel in scene["channels"]:
        index = grid.channels.index(channel["name"])
        values = np.frombuffer(base64.b64decode(channel["values"]), dtype=np.uint8).reshape(channel["shape"])
        density = np.zeros_like(grid.density[index])
        density[tuple(slice(a, a + n) for a, n in zip(channel["start"], channel["shape"], strict=True))] = values
        np.testing.assert_allclose(density * (channel["peak"] / 255), grid.density[index], atol=channel["peak"] / 500)
    coords = np.frombuffer(base64.b64decode(scene["sticks"][0]["coords"]), dtype="<f4").reshape(-1, 3)
    np.testing.assert_allclose(coords, ligand.coords, atol=1e-5)
    np.testing.assert_allclose(scene["extent"], grid.extent)
    assert list(tmp_path.iterdir()) == [path]


def test_page_of_a_molecule_with_a_hostile_name(tmp_path, ligand, grid):
    name = "</script><script>alert(1)</script> @CODE@"
    write_page(tmp_path / "g.html", dataclasses.replace(grid, name=name), ligand)
    text = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert scene_of(tmp_path / "g.html")["title"] == name
    assert text.count("function surface(") == 1


def test_page_of_a_grid_without_density(tmp_path, ligand):
    empty = grid_atoms(gg.GridMaker(dimension=6), type_atoms(ligand), np.full(3, 500.0), name="far")
    write_page(tmp_path / "g.html", empty, ligand)
    assert scene_of(tmp_path / "g.html")["channels"] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's JavaScript")
def test_surface_is_a_closed_sphere_that_faces_outward(tmp_path):
    gm = gg.GridMaker(dimension=6, resolution=0.5)
    density = gm.forward((0.0, 0.0, 0.0), np.zeros((1, 3)), np.zeros(1, dtype=np.int64), np.full(1, 1.7), n_types=1)
    grid = DensityGrid(density, ("C",), np.full(3, -3.0), 0.5)
    scene = {"extent": grid.extent.tolist(), "resolution": 0.5, "channels": [page._channel(grid, 0)]}
    code = (Path(page.__file__).parent / "meshes.js").read_text(encoding="utf-8")
    script = tmp_path / "run.js"
    script.write_text(
        f"const document = {{ getElementById: () => ({{ textContent: {json.dumps(json.dumps(scene))} }}) }};\n{code}\n"
        "const mesh = surface({ ...scene.channels[0], ...padded(scene.channels[0]) }, 0.5);\n"
        "console.log(JSON.stringify(Object.fromEntries(Object.entries(mesh).map(([k, v]) => [k, Array.from(v)]))));\n"
    )
    mesh = json.loads(subprocess.run(["node", script], capture_output=True, text=True, check=True).stdout)
    position = np.reshape(mesh["position"], (-1, 3))
    normal, triangles = np.reshape(mesh["normal"], (-1, 3)), np.reshape(mesh["index"], (-1, 3))
    radius = 1.7 * np.sqrt(np.log(2) / 2)  # exp(-2 d^2 / R^2) = 1/2
    np.testing.assert_allclose(np.linalg.norm(position, axis=1), radius, atol=0.08)
    assert ((normal * position).sum(axis=1) > 0.97 * np.linalg.norm(position, axis=1)).all()
    a, b, c = position[triangles].transpose(1, 0, 2)
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) > 0).all()
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


@pytest.mark.usefixtures("chromium")
def test_page_opens_in_a_browser(tmp_path, ligand, grid):
    path = tmp_path / "grid.html"
    write_page(path, grid, ligand)
    for budget in (4000, 16000, 64000):  # of virtual time, which may pass before the first frame is drawn
        run = browse(
            path.as_uri(), "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            f"--virtual-time-budget={budget}", "--dump-dom",
        )  # fmt: skip
        if "x 0" in run.stdout:
            break
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    if any("no WebGL" in line for line in console):
        pytest.skip("this browser has no WebGL 2")
    assert not [line for line in console if "rror" in line]
    assert len(re.findall(r"Σ \d", run.stdout)) == 4
    assert "x 0" in run.stdout and "0.30" in run.stdout
