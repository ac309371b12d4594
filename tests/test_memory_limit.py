"""A grid is refused by the memory that the process may have: that of the machine or of its control groups."""

import os

import pytest
import torch

import gridgrad as gg
from gridgrad.autograd import memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
V2 = "0::/user.slice/job.scope\n"
V1 = "9:name=systemd:/job\n4:cpu,memory:/batch/job\n0::/\n"
HIERARCHIES = {  # lines of /proc/self/cgroup, files below the root, the limit
    "no files": (V2, {}, MACHINE),
    "version 2": (V2, {"user.slice/job.scope/memory.max": 2**29}, 2**29),
    "version 2, no limit": (V2, {"user.slice/job.scope/memory.max": "max"}, MACHINE),
    "a group above has less": (
        V2,
        {"user.slice/job.scope/memory.max": 2**30, "user.slice/memory.max": 2**28, "memory.max": "max"},
        2**28,
    ),
    "version 1": (V1, {"memory/batch/job/memory.limit_in_bytes": 2**29}, 2**29),
    "version 1, no limit": (V1, {"memory/batch/job/memory.limit_in_bytes": 9223372036854771712}, MACHINE),
    "version 1, a group above": (
        V1,
        {"memory/batch/job/memory.limit_in_bytes": 2**30, "memory/batch/memory.limit_in_bytes": 2**27},
        2**27,
    ),
    "a container, which sees its own group as the root": ("0::/\n", {"memory.max": 2**26}, 2**26),
    "a container that sees where it is": ("0::/docker/1f00\n", {"memory.max": 2**26}, 2**26),
    "a path above the root": ("0::/../other\n", {"memory.max": 2**26}, 2**26),
}


@pytest.fixture
def control_groups(monkeypatch, tmp_path):
    """Function that writes /proc/self/cgroup and the files of /sys/fs/cgroup."""

    def write(lines, files):
        (tmp_path / "cgroup").write_text(lines)
        for name, limit in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{limit}\n")

    monkeypatch.setattr(memory, "PROC_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CGROUP_ROOT", tmp_path / "root")
    return write


@pytest.mark.parametrize("case", HIERARCHIES)
def test_limit(control_groups, case):
    lines, files, expected = HIERARCHIES[case]
    control_groups(lines, files)
    assert memory.memory_limit() == expected


def test_no_control_groups(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "PROC_CGROUP", tmp_path / "missing")
    assert memory.memory_limit() == MACHINE


def test_grids_are_refused_by_the_limit_of_the_moment(control_groups):
    maker = gg.GridMaker(0.5, 63.5)  # 128 points an axis: 80 MiB in ten channels
    atoms = (0, 0, 0), torch.zeros(4, 1, 3), torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, 1)
    control_groups("0::/\n", {"memory.max": 2**40})
    assert maker.forward(*atoms, n_types=10).shape == (4, 10, 128, 128, 128)
    control_groups("0::/\n", {"memory.max": 300 * 2**20})
    message = r"density: shape \(4, 10, 128, 128, 128\) would take 0\.3 GiB; .* this process has 0\.3 GiB"
    for call in (maker.forward, lambda *a, **k: gg.coords2grid(maker, *a, **k)):
        with pytest.raises(MemoryError, match=message):
            call(*atoms, n_types=10)
