"""Files in memory without being read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

__all__ = ["map_file"]


def map_file(path: Path, size: int) -> np.ndarray:
    """Map a file into memory, to be read only.

    The file is closed again: there may be more such files than a process may have open.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Its size in bytes, at least 1.

    Returns
    -------
    ndarray of uint8, shape (size,)
        Its bytes.
    """
    mapping = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    mapping.flags.writeable = False
    return mapping
