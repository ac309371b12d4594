"""DataLoader: torch's, which knows how much of an epoch it has handed out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from gridgrad.data.collate import collate
from gridgrad.data.samplers import ResumableSampler

__all__ = ["DataLoader"]


class DataLoader(torch.utils.data.DataLoader):
    """torch's DataLoader, which collates into an `AtomBatch` and, with a sampler of this package, resumes in mid-epoch.

    ``state_dict()`` counts the batches that the loop has been given, not those that workers have prepared ahead;
    ``load_state_dict`` of another such loader goes on with the next one. After the last batch of an epoch the sampler
    goes to the next epoch by itself.

    Parameters
    ----------
    dataset, **options
        As for `torch.utils.data.DataLoader`. `collate_fn` is `collate` by default.
    """

    def __init__(
        self, dataset: Any, *args: Any, collate_fn: Callable[[list[Any]], Any] = collate, **options: Any
    ) -> None:
        super().__init__(dataset, *args, collate_fn=collate_fn, **options)  # type: ignore[misc]  # args may hold it too

    def _resumable(self) -> tuple[ResumableSampler | None, int]:
        """Return the sampler, and how many of its items make a batch."""
        if isinstance(self.batch_sampler, ResumableSampler):
            return self.batch_sampler, 1
        sampler = getattr(self.batch_sampler, "sampler", self.sampler)
        size = getattr(self.batch_sampler, "batch_size", 1)
        return sampler if isinstance(sampler, ResumableSampler) else None, size

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a class of its own
        sampler, size = self._resumable()
        for batch in super().__iter__():
            if sampler is not None:
                sampler.advance(size)
            yield batch
        if sampler is not None:
            sampler.set_epoch(sampler.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the sampler after the batches that were handed out.

        Returns
        -------
        dict
            What `load_state_dict` takes.
        """
        return self._sampler_of_state().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where another loader was: the next loop goes on with the batch after the last one that it handed out.

        Parameters
        ----------
        state : dict
            What `state_dict` returned.
        """
        self._sampler_of_state().load_state_dict(state)

    def _sampler_of_state(self) -> ResumableSampler:
        sampler = self._resumable()[0]
        if sampler is None:
            raise TypeError(
                f"sampler: {type(self.sampler).__name__}; expected one of gridgrad.data, which can be resumed"
            )
        return sampler
