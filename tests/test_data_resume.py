"""The state of samplers and of the loader: an epoch goes on from where one stopped."""

import collections
import itertools
import json
import pickle

import pytest
import torch
from support.epochs import dataset, joined, samplers

from gridgrad.data import DataLoader


def loader_of(number, **options):
    sampler = samplers(rank=1, world_size=2)[number]
    options |= {"batch_sampler": sampler} if number == 2 else {"sampler": sampler, "batch_size": 5}
    return DataLoader(dataset(), **options)


def rows_of(batches):
    return [batch.labels["row"].tolist() for batch in batches]


@pytest.mark.parametrize("number", range(3))
def test_going_on(number):
    """From any batch on, without workers: the rest of the epoch and the epochs after it are the same."""
    loader = loader_of(number)
    epochs = [rows_of(loader) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    for epoch, stop in itertools.product((0, 1), range(len(epochs[0]) + 1)):
        first = loader_of(number)
        for _ in range(epoch):
            collections.deque(first, maxlen=0)
        rows = rows_of(itertools.islice(first, stop)) if stop else []
        state = json.loads(json.dumps(first.state_dict()))
        second = loader_of(number)
        second.load_state_dict(state)
        assert second.state_dict() == state
        assert rows + rows_of(second) == epochs[epoch]
        assert rows_of(second) == epochs[epoch + 1]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("persistent", [False, True])
def test_going_on_while_workers_run_ahead(number, persistent):
    """With all of the epoch prefetched the state counts what the loop was given; another number of workers goes on."""
    epochs = [rows_of(loader) for loader in [loader_of(number)] for _ in range(2)]
    options = {"num_workers": 2, "prefetch_factor": 20, "persistent_workers": persistent}
    first, second = loader_of(number, **options), loader_of(number, **(options | {"num_workers": 1}))
    batches = iter(first)
    rows = rows_of(next(batches) for _ in range(2))
    state = first.state_dict()
    del batches
    assert state["epoch"] == 0 and state["position"] == (2 if number == 2 else 10)
    second.load_state_dict(pickle.loads(pickle.dumps(state)))
    assert rows + rows_of(second) == epochs[0]
    assert second.state_dict() == {**state, "epoch": 1, "position": 0}
    assert rows_of(second) == epochs[1]


def test_a_loop_that_is_left_begins_anew():
    """As with torch: only `load_state_dict` goes on."""
    loader = loader_of(0)
    first = rows_of(itertools.islice(loader, 2))
    assert rows_of(loader)[:2] == first


def test_other_loaders():
    """torch's own loader does not say what was used: the caller does, or the state is refused."""
    sampler = samplers()[1]
    loader = torch.utils.data.DataLoader(range(48), batch_size=4, sampler=sampler)
    assert sampler.state_dict()["position"] == 0
    batches = [batch.tolist() for batch in itertools.islice(loader, 3)]
    with pytest.raises(RuntimeError, match=r"^state_dict: rows were handed out, .*; expected"):
        sampler.state_dict()
    sampler.advance(12)
    second = samplers()[1]
    second.load_state_dict(sampler.state_dict())
    second.set_epoch(0)  # as trainers do before each epoch
    assert joined(batches) + list(second) == list(samplers()[1])
    second.set_epoch(1)
    assert second.state_dict()["position"] == 0
    loader = DataLoader(dataset(), shuffle=True, batch_size=4)
    assert sorted(joined(rows_of(loader))) == list(range(48))
    for call in (loader.state_dict, lambda: loader.load_state_dict({})):
        with pytest.raises(TypeError, match=r"^sampler: RandomSampler; expected one of gridgrad.data"):
            call()


@pytest.mark.parametrize("number", range(3))
def test_pickle(number):
    sampler = samplers()[number]
    sampler.set_epoch(2)
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy.state_dict() == sampler.state_dict() and list(copy) == list(sampler)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"world_size": 2},
        {"n_rows": 47},
        {"position": -1},
        {"position": "3"},
        {"epoch": None},
        {"epoch": -2},
    ],
)
@pytest.mark.parametrize("number", range(3))
def test_foreign_states(number, change):
    sampler = samplers()[number]
    with pytest.raises(ValueError, match=r"^state_dict: .*; expected"):
        sampler.load_state_dict({**sampler.state_dict(), **change})
    assert sampler.epoch == sampler.position == 0
