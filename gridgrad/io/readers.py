"""Readers of density grids. Nothing is unpickled, and nothing larger than the limit is read."""

from __future__ import annotations

import bz2
import gzip
import math
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.extras import require
from gridgrad.io.density import DensityGrid

__all__ = ["SIZE_LIMIT", "read"]

SIZE_LIMIT = 2**32
"""Bytes of arrays, or of text, that a grid file may hold unless the caller says otherwise: 4 GiB."""


def read(path: str | Path, *, size_limit: int = SIZE_LIMIT) -> DensityGrid:
    """Read a density grid that `write` or another program has written; the suffix decides the format.

    ``.npz`` and ``.pt`` files are those of `write`, with every channel and ``extra``. OpenDX (``.dx``) and MRC/CCP4
    (``.mrc``, ``.map``, ``.ccp4``) files hold one volume, which becomes the channel "total"; any axis order of MRC is
    understood, and an origin in the ORIGIN words or, if these are 0, in NSTART.

    Parameters
    ----------
    path : str or Path
        The file.
    size_limit : int, default 2**32
        Largest size of its arrays in bytes, told by the headers before any memory is asked for.

    Returns
    -------
    DensityGrid
        The grid: float32 of MRC files, float64 of OpenDX files, as it was written otherwise.

    Raises
    ------
    ValueError
        If the format is unknown; if the file is truncated or broken, larger than `size_limit`, would have to be
        unpickled, has a density that is not finite, or is a grid whose spacing is not the same along x, y and z.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"input: unknown format {suffix!r} of {path}, expected one of {', '.join(_READERS)}")
    try:
        grid = _READERS[suffix](path, size_limit)
    except ValueError as error:
        raise ValueError(f"{path}: {_cut(error)}") from error
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # zip, zlib, NumPy and torch raise what they like for bytes that make no sense
        if isinstance(error, OSError) and error.filename:
            raise
        raise ValueError(f"{path}: truncated or broken: {_cut(error)}") from error
    if not np.isfinite(grid.density).all():
        place = tuple(np.argwhere(~np.isfinite(grid.density))[0].tolist())
        raise ValueError(f"{path}: density: got {grid.density[place]} at {place}, expected finite numbers")
    return grid


def _cut(error: Exception) -> str:
    """Return the first 300 characters of a message: zip and NumPy put what they have found into theirs."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


# --- .npz and .pt -----------------------------------------------------------------------------------------------------


def _read_npz(path: Path, size_limit: int) -> DensityGrid:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                shape, dtype = _npy_header(file)
            size_limit -= math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError(f"{member}: got Python objects, expected numbers or text: nothing is unpickled")
            if size_limit < 0:
                raise ValueError(f"{member}: got shape {shape} of {dtype}, which is beyond the limit of size")
            with archive.open(member) as file:
                arrays[member.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    return _whole(arrays)


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"got version {version} of NumPy's format, expected 1.0 or 2.0")
    return shape, dtype


def _read_pt(path: Path, size_limit: int) -> DensityGrid:
    import torch

    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > size_limit:
        raise ValueError(f"got {size} bytes, expected at most {size_limit}")
    found = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(found, dict):
        raise ValueError(f"got a {type(found).__name__}, expected a dictionary of tensors")
    tensors = {key: value for key, value in found.items() if torch.is_tensor(value)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())  # of views, too
    if size > size_limit:
        raise ValueError(f"got tensors of {size} bytes, expected at most {size_limit}")
    try:
        return _whole(found | {key: tensor.detach().numpy() for key, tensor in tensors.items()})
    except TypeError as error:
        raise ValueError(f"got a tensor that NumPy does not know: {error}") from error


def _whole(arrays: dict[str, Any]) -> DensityGrid:
    """Make a grid of what a file of all channels holds."""
    missing = {"density", "origin", "resolution", "channels"} - arrays.keys()
    if missing:
        raise ValueError(f"got no {', '.join(sorted(missing))}, expected a file that gridgrad.io.write has written")
    density, origin, resolution = (np.asarray(arrays.pop(key)) for key in ("density", "origin", "resolution"))
    if density.dtype.kind != "f":
        raise ValueError(f"density: got {density.dtype}, expected floating-point numbers")
    channels = tuple(map(str, np.atleast_1d(np.asarray(arrays.pop("channels"), dtype=np.str_))))
    extra: dict[str, Any] = {}
    for key, value in arrays.items():
        if isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind == "U"):
            extra[str(key)] = str(value)
        elif isinstance(value, np.ndarray):
            extra[str(key)] = value
        else:
            raise ValueError(f"{key}: got a {type(value).__name__}, expected numbers or text")
    return _grid(density, channels, origin, resolution, extra.pop("name", ""), extra)


def _grid(
    density: np.ndarray, channels: tuple[str, ...], origin: Any, resolution: Any, name: str = "", extra: Any = None
) -> DensityGrid:
    origin, spacing = np.asarray(origin, dtype=np.float64), np.asarray(resolution, dtype=np.float64)
    if not np.isfinite(origin).all():
        raise ValueError(f"origin: got {origin.tolist()}, expected finite numbers")
    if spacing.shape != () or not 0 < spacing < math.inf:
        raise ValueError(f"resolution: got {spacing.tolist()}, expected one positive number")
    return DensityGrid(density, channels, origin, float(spacing), name, extra or {})


# --- OpenDX -----------------------------------------------------------------------------------------------------------

_NUMBERS = r"\s+([-+.\deE]+)" * 3
_DX_HEADER = [
    re.compile(rf"\s*{line}\s*", re.ASCII)
    for line in (
        r"object\s+\S+\s+class\s+gridpositions\s+counts\s+(\d+)\s+(\d+)\s+(\d+)",
        f"origin{_NUMBERS}", f"delta{_NUMBERS}", f"delta{_NUMBERS}", f"delta{_NUMBERS}",
        r"object\s+\S+\s+class\s+gridconnections\s+counts\s+\d+\s+\d+\s+\d+",
        r"object\s+\S+\s+class\s+array\s+type\s+\S+\s+rank\s+0\s+items\s+\[?\s*(\d+)\]?\s+data\s+follows",
    )
]  # fmt: skip
_DX_END = re.compile(r"^\s*(?:attribute|object|component)\b", re.M)


def _read_dx(path: Path, size_limit: int) -> DensityGrid:
    """Read the OpenDX that molecular programs write. GridDataFormats does not return from a truncated file."""
    with open(path, "rb") as file:
        data = file.read(size_limit + 1)
    if len(data) > size_limit:
        raise ValueError(f"got more than {size_limit} bytes, the limit of size")
    text = data.decode("utf-8", errors="replace")
    header: list[str] = []
    place = 0
    for pattern in _DX_HEADER:
        line = "#"
        while line.lstrip().startswith("#") or (line.isspace() and place < len(text)):
            end = text.find("\n", place) + 1 or len(text)
            line, place = text[place:end], end
        found = pattern.fullmatch(line)
        if found is None:
            raise ValueError(f"truncated or broken: got {line.strip()[:80]!r}, expected {_words(pattern)}")
        header += found.groups()
    counts, items = tuple(map(int, header[:3])), int(header[-1])
    origin, delta = np.array(header[3:6], dtype=np.float64), np.array(header[6:15], dtype=np.float64).reshape(3, 3)
    if math.prod(counts) != items:
        raise ValueError(f"got {items} items for {counts} points")
    last = _DX_END.search(text, place)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # a word that is no number, before NumPy 2.4
        try:
            density = np.fromstring(text[place : last.start() if last else None], sep=" ")
        except (DeprecationWarning, ValueError):
            raise ValueError("broken: expected numbers only in the array") from None
    if density.size != items:
        raise ValueError(f"truncated or broken: got {density.size} values, expected {items}")
    return _grid(density.reshape(1, *counts), ("total",), origin, _isotropic(delta), path.stem)


def _words(pattern: re.Pattern) -> str:
    """Name the line that a pattern of the header stands for."""
    return " ".join(re.findall(r"[a-z]{3,}", pattern.pattern))


def _isotropic(delta: np.ndarray) -> float:
    """Return the spacing of a grid from the steps along its axes, (3, 3)."""
    spacing = delta[0, 0]
    if not np.allclose(delta, spacing * np.eye(3), rtol=1e-5, atol=1e-6 * abs(spacing)):
        raise ValueError(f"delta: got {delta.tolist()}, expected the same spacing along x, y and z")
    return spacing


# --- MRC --------------------------------------------------------------------------------------------------------------


def _read_mrc(path: Path, size_limit: int) -> DensityGrid:
    with open(path, "rb") as file:
        magic = file.read(2)
    unpackers: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}  # as mrcfile does
    unpacked = unpackers.get(magic, open)
    with unpacked(path, "rb") as file:
        file.seek(size_limit)
        if file.read(1):
            raise ValueError(f"got more than {size_limit} bytes, the limit of size")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            with require("mrcfile", "mol").open(path) as mrc:
                header, data, voxel = mrc.header.copy(), np.array(mrc.data), mrc.voxel_size.copy()
        except RuntimeWarning as warning:
            raise ValueError(f"broken: {warning}") from None
    if data.ndim != 3 or data.dtype.kind not in "fiu":
        raise ValueError(f"got {data.dtype} of shape {data.shape}, expected a volume of real numbers")
    axes = [int(header[f"map{axis}"]) - 1 for axis in "crs"]  # of columns, rows, sections
    if sorted(axes) != [0, 1, 2]:
        raise ValueError(f"MAPC, MAPR, MAPS: got {[axis + 1 for axis in axes]}, expected 1, 2, 3 in some order")
    angles = [float(header.cellb[name]) for name in ("alpha", "beta", "gamma")]
    if not np.allclose(angles, 90, atol=1e-3):
        raise ValueError(f"cell: got the angles {angles}, expected 90 degrees")
    spacing = np.array([voxel[axis] for axis in "xyz"], dtype=np.float64)
    resolution = _isotropic(np.diag(spacing))
    origin = np.array([header.origin[axis] for axis in "xyz"], dtype=np.float64)
    if not origin.any():
        start = np.zeros(3)
        start[axes] = [int(header[f"n{axis}start"]) for axis in "xyz"]  # of columns, rows, sections
        origin = start * resolution
    density = data.transpose([2 - axes.index(axis) for axis in range(3)])  # data: sections, rows, columns
    return _grid(density[None].astype(np.float32), ("total",), origin, float(f"{resolution:.7g}"), path.stem)


_READERS: dict[str, Callable[[Path, int], DensityGrid]] = {
    ".npz": _read_npz, ".pt": _read_pt, ".dx": _read_dx, ".mrc": _read_mrc, ".map": _read_mrc, ".ccp4": _read_mrc,
}  # fmt: skip
