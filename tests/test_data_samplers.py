"""Samplers: every row as often as promised, on every rank and worker."""

import collections
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.epochs import CLASSES, COUNTS, dataset, joined, samplers

from gridgrad.data import AtomBudgetBatchSampler, BalancedSampler, StratifiedSampler

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=60)
WORLDS = st.integers(1, 4)


def on_all_ranks(make, world_size):
    return [list(make(rank=rank, world_size=world_size)) for rank in range(world_size)]


def assert_by_turns(rows, keys):
    """Each window of as many draws as there are strata has one of each; within a stratum the same of the next key."""
    if not keys:
        return
    key, *others = keys
    n = len(set(key))
    drawn = [key[row] for row in rows]
    for start in range(0, len(rows) - n + 1, n):
        assert len(set(drawn[start : start + n])) == n
    for value in set(key):
        inner = [row for row in rows if key[row] == value]
        names = {row: i for i, row in enumerate(np.flatnonzero(np.asarray(key) == value).tolist())}
        assert_by_turns([names[row] for row in inner], [[k[row] for row in names] for k in others])


# --- strata -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), min_size=1, max_size=40), WORLDS)
def test_strata(rows, world_size):
    """Rounds are whole on every rank, epochs are as large or small as they say, no row leads by more than one."""
    keys = list(zip(*rows))
    for n_keys, size in itertools.product((1, 2, 3), ("large", "small")):
        try:
            ranks = on_all_ranks(
                lambda n=n_keys, s=size, **w: StratifiedSampler(*keys[:n], epoch_size=s, seed=3, **w), world_size
            )
        except ValueError as error:
            if size == "large" or "the rounds of a small epoch" not in str(error):
                raise
            continue
        assert len({len(given) for given in ranks}) == 1
        everything = joined(ranks)
        assert_by_turns(everything, keys[:n_keys])
        times = collections.Counter(everything)
        if size == "large":
            assert set(times) == set(range(len(rows)))
        else:
            assert max(times.values()) == 1
        for stratum in set(zip(*keys[:n_keys])):
            members = [row for row, key in enumerate(zip(*keys[:n_keys])) if key == stratum]
            assert max(times[row] for row in members) - min(times[row] for row in members) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_plain_order(world_size):
    """One stratum whose rows the ranks can share: each row once, at random."""
    for size in ("large", "small"):
        ranks = on_all_ranks(lambda size=size, **w: StratifiedSampler(["a"] * 48, epoch_size=size, **w), world_size)
        assert sorted(joined(ranks)) == list(range(48)) and joined(ranks) != list(range(48))


def test_classes():
    """Of 37 and 1000 rows: batches are half and half; a large epoch repeats the few, a small one drops of the many."""
    labels = np.repeat([False, True], [1000, 37])
    for size, n in (("large", 2000), ("small", 74)):
        rows = np.array(list(BalancedSampler(labels, epoch_size=size)))
        assert len(rows) == n == len(BalancedSampler(labels, epoch_size=size))
        assert (labels[rows[: n // 8 * 8]].reshape(-1, 8).sum(1) == 4).all()
    times = np.bincount(np.array(list(BalancedSampler(labels))), minlength=1037)
    assert (times[:1000] == 1).all() and set(times[1000:]) == {27, 28}


def test_sizes_of_nested_epochs():
    """A large epoch ends when the stratum that lasts longest is through, a small one with the first."""
    receptor, label = ["a"] * 7 + ["b"] * 3, [0, 0, 0, 0, 0, 1, 1, 0, 1, 1]
    # strata: a0 5, a1 2, b0 1, b1 2; whose turn comes every fourth draw
    assert len(StratifiedSampler(receptor, label)) == 20
    assert len(StratifiedSampler(receptor, label, epoch_size="small")) == 4
    assert len(StratifiedSampler(receptor)) == 14
    assert len(StratifiedSampler(label, receptor, ["x"] * 10)) == 20


@pytest.mark.parametrize("kind", [StratifiedSampler, BalancedSampler])
def test_seeds_and_epochs(kind):
    """The order follows from seed and epoch, in any process, and differs between any two of them."""
    labels = [0, 1] * 50
    orders = {}
    for seed, epoch in itertools.product(range(3), range(3)):
        sampler, again = kind(labels, seed=seed), kind(labels, seed=seed)
        again.set_epoch(7)
        assert len(list(again)) == 100
        for s in (sampler, again):
            s.set_epoch(epoch)
        orders[seed, epoch] = tuple(sampler)
        assert orders[seed, epoch] == tuple(again) == tuple(sampler)
    assert len(set(orders.values())) == 9


# --- atom budgets -----------------------------------------------------------------------------------------------------


@given(SIZES, st.integers(0, 30), st.integers(1, 9), WORLDS, st.booleans())
def test_budgets(sizes, more, max_examples, world_size, with_sampler):
    """Each row once, within the limits, as many batches on each rank, and not more of them than there must be."""
    max_atoms = max(*sizes, 1) + more

    def make(rank=0, world_size=1):
        if with_sampler:
            sampler = StratifiedSampler([0] * len(sizes), epoch_size="small", seed=2, rank=rank, world_size=world_size)
            return AtomBudgetBatchSampler(sizes, max_atoms, max_examples=max_examples, sampler=sampler)
        return AtomBudgetBatchSampler(
            sizes, max_atoms, max_examples=max_examples, seed=2, rank=rank, world_size=world_size
        )

    try:
        ranks = on_all_ranks(make, world_size)
    except ValueError as error:
        if world_size == 1 or not str(error).startswith(("n_atoms: ", "max_atoms: ", "world_size: ")):
            raise
        return
    batches = joined(ranks)
    rows = joined(batches)
    if with_sampler:
        assert len(rows) == len(set(rows)) == len(sizes) // world_size * world_size
    else:
        assert sorted(rows) == list(range(len(sizes)))
    assert len({len(given) for given in ranks}) == 1 and len(make(0, world_size)) == len(ranks[0])
    assert all(batch and len(batch) <= max_examples for batch in batches)
    assert max(sum(sizes[row] for row in batch) for batch in batches) <= max_atoms
    in_order = [ranks[i % world_size][i // world_size] for i in range(len(batches))]
    assert len(batches) < _first_fit(joined(in_order), sizes, max_atoms, max_examples) + world_size


def _first_fit(rows, sizes, max_atoms, max_examples):
    """Count batches that are filled one row after the other."""
    n = atoms = examples = 0
    for row in rows:
        if n == 0 or atoms + sizes[row] > max_atoms or examples == max_examples:
            n, atoms, examples = n + 1, 0, 0
        atoms, examples = atoms + sizes[row], examples + 1
    return n


def test_budgets_are_used():
    """Batches of molecules of 20 to 60 atoms fill their budget, all but one to within a molecule."""
    sizes = np.random.default_rng(0).integers(20, 61, 5000)
    sampler = AtomBudgetBatchSampler(sizes, 3000)
    atoms = np.sort([sizes[batch].sum() for batch in sampler])
    assert atoms[1] > 3000 - 2 * 60 and atoms[-1] <= 3000
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first and sorted(joined(sampler)) == list(range(5000))


def test_budget_in_the_order_of_a_sampler():
    """Batches of both classes, each row as often as the sampler says."""
    inner = BalancedSampler(CLASSES, seed=1)
    sampler = AtomBudgetBatchSampler(COUNTS, 20, sampler=inner)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        inner.set_epoch(epoch)
        assert joined(sampler) == list(inner)
    assert sampler.seed == 1


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_two_ranks_of_two_workers(tmp_path):
    """Together they give every row once, in equally many batches."""
    tests = Path(__file__).parent
    command = [sys.executable, str(tests / "support" / "two_ranks.py"), str(tmp_path / "meet")]
    environment = os.environ | {"PYTHONPATH": str(tests)}
    ranks = [
        subprocess.Popen(
            [*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=180) for rank in ranks]
    except subprocess.TimeoutExpired:
        pytest.skip("gloo does not work here: took longer than 180 s")
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    if any("gloo" in errors.lower() and not output for output, errors in outputs):
        pytest.skip(f"gloo does not work here: {outputs[0][1].strip().splitlines()[-1:]}")
    assert all(output for output, _ in outputs), outputs[0][1] + outputs[1][1]
    first, second = (json.loads(output) for output, _ in outputs)
    for name in first:
        rows = joined(first[name] + second[name])
        assert len(first[name]) == len(second[name]) > 1
        assert sorted(rows) == list(range(48)) if name != "small" else len(set(rows)) == len(rows) == 32
    assert all(np.array(COUNTS)[rows].sum() <= 20 for rows in first["budget"] + second["budget"])
    assert all(np.array(CLASSES)[rows].sum() == 2 for rows in first["small"] + second["small"])


class Shares(torch.utils.data.IterableDataset):
    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        return iter(self.sampler)


@pytest.mark.parametrize("number", range(3))
def test_a_sampler_in_workers(number):
    """Where workers run the sampler, each has its share of what its rank has."""
    ranks = {"rank": 1, "world_size": 2}
    loader = torch.utils.data.DataLoader(Shares(samplers(**ranks)[number]), batch_size=None, num_workers=2)
    key = str if number == 2 else int
    assert sorted(loader, key=key) == sorted(samplers(**ranks)[number], key=key)


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StratifiedSampler(), r"keys: of \[\] rows; expected one or more"),
        (lambda: StratifiedSampler([]), r"keys: of \[0\] rows; expected"),
        (lambda: StratifiedSampler([0], [0, 1]), r"keys: of \[1, 2\] rows; expected"),
        (
            lambda: StratifiedSampler([0], [0.5]),
            r"keys\[1\]: float64 of shape \(1,\); expected .*numpy.digitize",
        ),
        (lambda: StratifiedSampler([[0]]), r"keys\[0\]: int64 of shape \(1, 1\); expected"),
        (lambda: StratifiedSampler([0], epoch_size="huge"), r"epoch_size: 'huge'; expected 'large' or 'small'"),
        (lambda: StratifiedSampler([0], seed=-1), r"seed: -1; expected an integer >= 0"),
        (lambda: StratifiedSampler([0], seed=0.5), r"seed: 0.5; expected an integer"),
        (lambda: StratifiedSampler([0], rank=1), r"rank: 1 with world_size None; expected both or neither"),
        (lambda: StratifiedSampler([0], rank=2, world_size=2), r"rank: 2; expected less than world_size, 2"),
        (
            lambda: StratifiedSampler([0, 1], epoch_size="small", rank=0, world_size=2),
            r"world_size: 2; expected at most 1, the rounds of a small epoch",
        ),
        (lambda: BalancedSampler([0.5]), r"labels: float64 of shape \(1,\); expected integers"),
        (lambda: AtomBudgetBatchSampler([5, 9], 8), r"n_atoms: row 1 has 9; expected at most max_atoms = 8"),
        (lambda: AtomBudgetBatchSampler([5.0], 8), r"n_atoms: float64 of shape \(1,\); expected integers >= 0"),
        (lambda: AtomBudgetBatchSampler([-1], 8), r"n_atoms: int64 of shape \(1,\); expected integers >= 0"),
        (lambda: AtomBudgetBatchSampler([], 8), r"n_atoms: .*; expected"),
        (lambda: AtomBudgetBatchSampler([5], 0), r"max_atoms: 0; expected an integer >= 1"),
        (lambda: AtomBudgetBatchSampler([5], 8, max_examples=0), r"max_examples: 0; expected an integer >= 1"),
        (lambda: AtomBudgetBatchSampler([5], 8, rank=0, world_size=2), r"n_atoms: 1 rows; expected at least 2"),
        (
            lambda: list(AtomBudgetBatchSampler([5] * 3, 8, rank=0, world_size=2)),
            r"max_atoms: 8 makes 3 batches of 3 rows; expected enough rows for a multiple of 2",
        ),
        (lambda: AtomBudgetBatchSampler([5], 8, sampler=range(1)), r"sampler: range; expected a StratifiedSampler"),
        (
            lambda: AtomBudgetBatchSampler([5], 8, sampler=BalancedSampler([0]), seed=0),
            r"seed, rank, world_size: given",
        ),
        (lambda: AtomBudgetBatchSampler([5], 8, sampler=BalancedSampler([0, 1])), r"sampler: of 2 rows; expected 1"),
        (lambda: BalancedSampler([0]).set_epoch(-1), r"epoch: -1; expected an integer >= 0"),
        (lambda: BalancedSampler([0]).advance(-1), r"n: -1; expected an integer >= 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        make()


def test_counted_atoms():
    """The counts are those of the batches, also of what is left out."""
    rows = dataset()
    assert rows.count_atoms().tolist() == list(COUNTS)
