"""How much memory this process may have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


def _control_groups() -> Iterator[tuple[Path, PurePosixPath, str]]:
    """Yield root, path and file of the limit of the control groups that may limit memory, of both versions."""
    try:
        lines = PROC_CGROUP.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield CGROUP_ROOT, PurePosixPath(path), "memory.max"
        elif "memory" in controllers.split(","):
            yield CGROUP_ROOT / "memory", PurePosixPath(path), "memory.limit_in_bytes"


def memory_limit() -> int:
    """Return the memory that this process may have: the machine's, or less by a control group (a container, a job).

    Returns
    -------
    int
        Bytes. Read at each call: a limit may change while a process runs.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for root, path, name in _control_groups():
        for group in (path, *path.parents):  # every group above has a say
            try:
                text = (root / group.relative_to("/") / name).read_text()
            except (OSError, ValueError):  # in a container, groups above its own are not to be seen
                continue
            if text.strip() != "max":
                limits.append(int(text))
    return min(limits)
