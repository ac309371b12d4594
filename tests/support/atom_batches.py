"""Small batches of random atoms with every field set."""

import numpy as np
import torch

from gridgrad.data import AtomBatch

COUNTS = (3, 0, 5, 1)
CHANNELS = ("C", "N", "O")


def make_batch(vectors=False, by_type=False, dtype=torch.float32, counts=COUNTS, seed=0, **changes):
    """Return a batch of the examples `counts` with three channels, two parts and two labels."""
    generator = torch.Generator().manual_seed(seed)
    n, b = sum(counts), len(counts)
    fields = {
        "coords": torch.randn(n, 3, generator=generator, dtype=dtype),
        "types": torch.rand(n, 3, generator=generator, dtype=dtype)
        if vectors
        else torch.randint(-1, 3, (n,), generator=generator),
        "radii": 1 + torch.rand(3 if by_type else n, generator=generator, dtype=dtype),
        "offsets": torch.tensor([0, *np.cumsum(counts, dtype=int)]),
        "center": torch.randn(b, 3, generator=generator, dtype=dtype),
        "labels": {"active": torch.arange(b), "affinity": torch.rand(b, 2, generator=generator)},
        "names": [f"molecule {i}" for i in range(b)],
        "channels": CHANNELS,
        "part": torch.randint(0, 2, (n,), generator=generator, dtype=torch.uint8),
        "parts": ("receptor", "ligand"),
        "radius_type_indexed": by_type,
    }
    return AtomBatch(**fields | changes)


def molecules(counts, seed, **settings):
    """A store in memory: molecules without centres, labels and parts."""
    return make_batch(counts=counts, seed=seed, center=None, labels={}, part=None, parts=(), **settings)


def assert_same(found, expected):
    """Every field of two batches is the same, to the bit."""
    for name in ("coords", "types", "radii", "offsets", "center", "part", "fixed"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype and torch.equal(a, b), name
    assert found.labels.keys() == expected.labels.keys()
    for name in found.labels:
        assert torch.equal(found.labels[name], expected.labels[name]), name
    for name in ("names", "channels", "parts", "radius_type_indexed"):
        assert getattr(found, name) == getattr(expected, name), name
