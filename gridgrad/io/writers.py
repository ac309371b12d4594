"""Writers. Files appear complete or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.atomic import atomic_files, real_path
from gridgrad.extras import require
from gridgrad.io.density import DensityGrid

__all__ = ["FORMATS", "check_output", "write"]


def write(path: str | Path, grid: DensityGrid, channel: str = "total", *, overwrite: bool = True) -> list[Path]:
    """Write a density grid; the suffix decides the format, see `FORMATS`.

    ``.npz`` and ``.pt`` hold every channel, with origin, resolution, names and ``grid.extra``. OpenDX (``.dx``) and
    MRC/CCP4 (``.mrc``, ``.map``, ``.ccp4``) hold one volume: the sum of the channels, or the one that `channel` names.
    MRC files place point 0 by the ORIGIN words of the MRC2014 standard; PyMOL heeds them in ``.mrc`` and ``.map`` files
    but not in ``.ccp4`` files.
    With ``channel="each"`` every channel that is not empty goes to a file of its own, ``OUT_NAME.SUFFIX``.

    Parameters
    ----------
    path : str or Path
        The file.
    grid : DensityGrid
        What to write.
    channel : str, default "total"
        "total", "each", or a channel's name; for one-volume formats only.
    overwrite : bool, default True
        Replace files that are there already.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If the format is unknown or `channel` does not fit it.
    FileExistsError
        If a file is there already, unless `overwrite`.
    OSError
        If the folder does not exist, the disk is full or whatever else keeps the file from being written.
    """
    path = check_output(path, channel)
    writer = FORMATS[path.suffix.lower()]
    if writer in _WHOLE:
        with atomic_files([path], overwrite=overwrite) as (temporary,):
            writer(temporary, grid)
        return [path]
    volumes = grid.volumes(channel)
    if channel == "each":
        files = _channel_files(path, grid.channels)
        paths = [files[name] for name in volumes]
    else:
        paths = [path]
    with atomic_files(paths, overwrite=overwrite) as temporaries:
        for temporary, (name, volume) in zip(temporaries, volumes.items(), strict=True):
            writer(temporary, volume, grid, f"{grid.name} {name}".strip())
    return paths


def check_output(path: str | Path, channel: str = "total") -> Path:
    """Refuse an output file that cannot be written, before any work is done.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    ValueError
        If the suffix is unknown, or the format holds all channels and `channel` asks for one.
    FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError
        If the folder does not exist or cannot be written to, or the file is a folder.
    ImportError
        If the format needs a package that is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"output: unknown format {suffix!r} of {path}, expected one of {', '.join(FORMATS)}")
    check_folder(path)
    writer = FORMATS[suffix]
    if writer in _WHOLE and channel != "total":
        raise ValueError(
            f"channel: got {channel!r}, but {suffix} holds all channels; expected .dx, .mrc, .map or .ccp4"
        )
    if writer in _NEEDS:
        require(_NEEDS[writer], "mol")
    return path


def check_folder(path: Path) -> None:
    """Refuse a file whose folder does not exist or cannot be written to, or that is a folder, a pipe or a device."""
    path = real_path(path)
    if not path.parent.exists():
        raise FileNotFoundError(f"output: the folder {path.parent} of {path} does not exist")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"output: {path.parent} is a file, expected a folder for {path.name}")
    if path.is_dir():
        raise IsADirectoryError(f"output: {path} is a folder, expected a file")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"output: the folder {path.parent} of {path} cannot be written to")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"output: {path} is a pipe or a device, expected a file")


def check_picture(path: Path, suffix: str, module: str | None) -> None:
    """Refuse a picture's file with another suffix, in a bad folder, or without the package that draws it."""
    if path.suffix.lower() != suffix:
        raise ValueError(f"output: unknown format {path.suffix!r} of {path}, expected {suffix}")
    check_folder(path)
    if module is not None:
        require(module, "plot")


def _channel_files(path: Path, channels: Sequence[str]) -> dict[str, Path]:
    """Return a file for each channel; the names differ even where case does not count."""
    files: dict[str, Path] = {}
    taken: set[str] = set()
    for channel in channels:
        name = safe = re.sub(r"[^\w.+-]+", "-", channel)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{safe}-{number}"
        taken.add(name.casefold())
        files[channel] = path.with_name(f"{path.stem}_{name}{path.suffix}")
    return files


def _arrays(grid: DensityGrid) -> dict[str, Any]:
    fixed = {
        "density": grid.density,
        "origin": np.asarray(grid.origin, dtype=np.float64),
        "resolution": np.float64(grid.resolution),
    }
    return fixed | {key: value for key, value in grid.extra.items() if isinstance(value, np.ndarray)}


def _texts(grid: DensityGrid) -> dict[str, Any]:
    return {"name": grid.name} | {key: value for key, value in grid.extra.items() if isinstance(value, str)}


def _write_npz(path: Path, grid: DensityGrid) -> None:
    np.savez_compressed(path, channels=np.array(grid.channels), **_arrays(grid), **_texts(grid))


def _write_pt(path: Path, grid: DensityGrid) -> None:
    import torch

    tensors = {key: torch.from_numpy(np.array(value)) for key, value in _arrays(grid).items()}
    try:
        with open(path, "wb") as file:
            torch.save({**tensors, "channels": list(grid.channels), **_texts(grid)}, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # a full disk, and then torch's archive is not as it should be
            raise error.__context__ from error
        raise


def _write_dx(path: Path, volume: np.ndarray, grid: DensityGrid, label: str) -> None:
    opendx = require("gridData.OpenDX", "mol")
    components = {
        "positions": opendx.gridpositions(1, volume.shape, grid.origin, np.eye(3) * grid.resolution),
        "connections": opendx.gridconnections(2, volume.shape),
        "data": opendx.array(3, volume.astype(np.float64), type="double", typequote='"'),  # PyMOL reads no other type
    }
    # libmolgrid reads a file that begins with its header, not with comments
    opendx.field("density", components, comments=[]).write(str(path))


def _write_mrc(path: Path, volume: np.ndarray, grid: DensityGrid, label: str) -> None:
    with require("mrcfile", "mol").new(path, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(volume.transpose(2, 1, 0), dtype=np.float32))  # sections z, rows y, columns x
        mrc.set_volume()
        mrc.voxel_size = grid.resolution
        # MRC2014 ORIGIN words place point 0 exactly; NSTART can only place it at a multiple of the spacing and stays 0
        mrc.header.origin = tuple(np.asarray(grid.origin, dtype=np.float32))
        mrc.add_label("".join(c if " " <= c <= "~" else "?" for c in label)[:80])  # printable ASCII is all it takes


FORMATS: dict[str, Callable] = {
    ".npz": _write_npz, ".pt": _write_pt, ".dx": _write_dx, ".mrc": _write_mrc, ".map": _write_mrc, ".ccp4": _write_mrc,
}  # fmt: skip
"""Writer by file name suffix."""

_WHOLE = {_write_npz, _write_pt}
_NEEDS = {_write_dx: "gridData", _write_mrc: "mrcfile"}
