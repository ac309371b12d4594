"""What the CUDA kernels cannot count is refused before anything is launched; nothing of such a size is made here."""

import pytest

from gridgrad import GridMaker
from gridgrad.kernels import abi

ROW = abi.Launch(256, 8, 8, 16, 0)
VISITING = [kernel for kernel in abi.GPU_KERNELS.values() if kernel.visits_atoms]
EVERY = pytest.mark.parametrize("kernel", VISITING, ids=lambda kernel: kernel.name)
MOST, TOO_MANY = abi.MAX_COUNT, abi.MAX_COUNT + 1


def blocks(kernel, points=(4, 4, 4), **given):
    """Count the blocks of a call of these sizes."""
    maker = GridMaker(1.0, tuple(n - 0.9 for n in points))
    assert maker.spatial_grid_dimensions() == points
    sizes = {"n_examples": 1, "n_atoms": 1, "n_types": 1, "per_example": 1, "n_parts": 1, "cell_scale": 1}
    given = {"geometry": maker.geometry("float64"), **sizes, **given}
    return kernel.blocks(ROW)([given.get(name, 0) for name in kernel.formats])


@EVERY
@pytest.mark.parametrize("what", ["n_atoms", "n_types"])
def test_atoms_and_types_are_counted_in_32_bits(kernel, what):
    assert blocks(kernel, **{what: MOST}) == (MOST if (kernel.block, what) == (abi.ATOM, "n_atoms") else 1)
    with pytest.raises(ValueError, match=rf"{kernel.name}: .*{TOO_MANY} {what[2:]}.*; expected at most {MOST} of each"):
        blocks(kernel, **{what: TOO_MANY})


@EVERY
@pytest.mark.parametrize("axis", range(3))
def test_points_along_an_axis_are_counted_in_32_bits(kernel, axis):
    points = [1, 1, 1]
    points[axis] = MOST
    assert blocks(kernel, tuple(points)) >= 1
    points[axis] = TOO_MANY
    with pytest.raises(ValueError, match=f"{' x '.join(map(str, points))} points; .* along each axis"):
        blocks(kernel, tuple(points))


@EVERY
def test_rows_along_z_are_counted_in_32_bits(kernel):
    """2^32 - 1 of them are not too many; those of tiles and cells count along each axis."""
    most, too_many = (2**16 + 1, 2**16 - 1, 1), (2**16, 2**16, 1)
    assert most[0] * most[1] == abi.MAX_ROWS == too_many[0] * too_many[1] - 1
    assert blocks(kernel, most) >= 1
    if kernel.block == abi.ATOM:
        with pytest.raises(ValueError, match="65536 x 65536 rows along z; expected at most 4294967295"):
            blocks(kernel, too_many)
    else:
        assert blocks(kernel, too_many) == 2**26


@EVERY
def test_numbers_of_centers_are_counted_in_32_bits(kernel):
    most, own = abi.MAX_CENTERS, 8
    assert blocks(kernel, n_examples=most, centers=own) == blocks(kernel, n_examples=most)
    assert blocks(kernel, n_examples=most + 1) >= 1
    with pytest.raises(ValueError, match=f"{most + 1} examples with a centre each; expected at most {most}"):
        blocks(kernel, n_examples=most + 1, centers=own)


@pytest.mark.parametrize("kernel", abi.GPU_KERNELS.values(), ids=lambda kernel: kernel.name)
def test_blocks_are_as_many_as_cuda_launches(kernel):
    if kernel.block == abi.ATOM:  # refused before
        with pytest.raises(ValueError, match=f"{abi.MAX_BLOCKS} atoms"):
            blocks(kernel, n_atoms=abi.MAX_BLOCKS)
        return
    assert blocks(kernel, n_examples=abi.MAX_BLOCKS) == abi.MAX_BLOCKS
    with pytest.raises(ValueError, match=rf"{kernel.name}: {2**31} blocks; expected at most {abi.MAX_BLOCKS}: split"):
        blocks(kernel, n_examples=2**31)
