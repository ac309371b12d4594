"""Work on several processes: results in order, few items underway, and a process that dies costs one item."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any

__all__ = ["WorkerDiedError", "available_cores", "map_ordered", "warm_up"]

_AHEAD = 4
"""Items underway for each worker."""

_PRELOAD = ["gridgrad.data", "gridgrad.mol", "rdkit.Chem", "gemmi"]
"""What workers need, imported once by the server that they are forked from."""

_SAFE_PATH = "PYTHONSAFEPATH"
_STARTING = threading.Lock()  # of those who change the environment, which the whole process shares


class WorkerDiedError(RuntimeError):
    """A worker process died of an item: it crashed, or the system ended it."""


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ordered(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int, died: Callable[[Any, WorkerDiedError], Any]
) -> Iterator[Any]:
    """Apply a function to items on several processes.

    Parameters
    ----------
    function : callable
        What to do with an item; it and the items are pickled.
    items : iterable
        Taken as they are needed.
    workers : int
        Processes; 0 to work in this one.
    died : callable
        Gives the result of an item that a worker died of, from the item and the error.

    Yields
    ------
    object
        The results, in the order of the items.

    Raises
    ------
    ChildProcessError
        If the processes do not even start, say because they cannot import the function.
    """
    if workers == 0:
        yield from map(function, items)
        return
    items = iter(items)
    underway: deque[tuple[Any, Future]] = deque()
    pool = _pool(function, workers)
    ready = _submit(pool, _is_ready)
    try:
        while True:
            for item in items:
                underway.append((item, _submit(pool, _call, item)))
                if len(underway) >= _AHEAD * workers:
                    break
            if not underway:
                return
            item, future = underway.popleft()
            try:
                result = future.result()
            except BrokenProcessPool as error:
                if ready.exception() is not None:
                    raise ChildProcessError(
                        "workers: the processes do not start; expected that they can import what they work with"
                    ) from error
                # which of them it was cannot be told: each runs alone in a process
                pool.shutdown(wait=True, cancel_futures=True)
                again = [(item, future), *underway]
                with ThreadPoolExecutor(workers) as threads:
                    alone = threads.map(lambda pair: _alone(function, pair[0], pair[1], died), again)
                    underway = deque(zip((item for item, _ in again), alone, strict=True))
                pool = _pool(function, workers)
                continue
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, *call: Any) -> Future:
    """Submit a call; if the pool is broken already, return a future that says so."""
    try:
        return pool.submit(*call)
    except BrokenProcessPool as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _alone(function: Callable, item: Any, before: Future, died: Callable) -> Future:
    """Return a finished future of an item; if it broke with the pool, it runs again in a process of its own."""
    if before.done() and before.exception() is None:
        return before
    future: Future = Future()
    with _pool(function, 1) as pool:
        try:
            future.set_result(pool.submit(_call, item).result())
        except BrokenProcessPool as error:
            future.set_result(died(item, WorkerDiedError(str(error))))
        except Exception as error:
            future.set_exception(error)
    return future


def warm_up() -> None:
    """Start the process that workers are forked from, which imports what they need while the caller goes on."""
    multiprocessing.set_forkserver_preload(_PRELOAD)
    with _STARTING:
        before = os.environ.get(_SAFE_PATH)
        os.environ[_SAFE_PATH] = "1"  # it would import from the current folder, which may be a checkout of gridgrad
        try:
            forkserver.ensure_running()
        finally:
            if before is None:
                del os.environ[_SAFE_PATH]
            else:
                os.environ[_SAFE_PATH] = before


def _pool(function: Callable, workers: int) -> ProcessPoolExecutor:
    """Start workers that know the function, neither by fork, since torch has threads, nor each with its own imports."""
    warm_up()
    return ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), _begin, (function,))


_function: Callable[[Any], Any]


def _begin(function: Callable) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


def _is_ready() -> None:
    """Do nothing, in a worker that has begun."""


def _call(item: Any) -> Any:
    return _function(item)
