"""Work for several processes: one thread each, results as they come."""

import concurrent.futures
import contextlib
import errno
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import threadpoolctl

from xray2ctpa_core.errors import DeviceError

Item = TypeVar("Item")
Made = TypeVar("Made")

#: How often an item may kill its process before it is given up.
TRIES = 3
#: Items that an error names.
_NAMED = 5


def in_processes(
    make: Callable[[Item], Made],
    items: Iterable[Item],
    workers: int,
    killed: Callable[[Item], Made] | None = None,
) -> Iterator[tuple[Item, Made]]:
    """(item, what ``make`` made of it) of each item, in the order in which they are done.

    An item that kills its process stops no other: those that were under way are tried again, each alone in a
    process of its own, TRIES times, so that no innocent one is blamed.

    Args:
        make: a function of a module, or a partial of one: the processes start anew and import it.
        items: handed out as processes become free.
        workers: processes; 1 is this one, in the items' order. Each of them computes with one thread: how
            sums are added up depends on their number, and what is made shall not depend on ``workers``.
            0 is this one with all its threads.
        killed: what stands for an item that killed its process each time; without it such items are named in
            an error when all others are done.

    Raises:
        DeviceError: items killed their processes and there is no ``killed``; or shared memory is full.
            Whatever ``make`` raises comes through; items not yet begun are dropped then.
    """
    if workers <= 1:
        for item in items:
            with _on_one_thread() if workers else contextlib.nullcontext():
                made = make(item)
            yield item, made
        return
    waiting, lost = iter(items), []
    while suspects := (yield from _until_killed(make, waiting, workers)):
        for item in suspects:
            for _ in range(TRIES):  # whether it had begun when the pool broke is not known
                if not (yield from _until_killed(make, iter([item]), 1)):
                    break
            else:
                if killed is None:
                    lost.append(item)
                else:
                    yield item, killed(item)
    if lost:
        raise DeviceError(
            f"Expected each worker to live, got one killed {TRIES} times by each of: "
            f"{', '.join(map(str, lost[:_NAMED]))}.",
            "Most likely memory is short: take fewer workers; the same command goes on where it stopped.",
        )


def _until_killed(
    make: Callable[[Item], Made], waiting: Iterator[Item], workers: int
) -> Generator[tuple[Item, Made], None, list[Item]]:
    """Yields what is made, until nothing is waiting or a worker is killed; returns what was under way then.

    No more items than workers are handed out at a time: the pool does not say which of them it had begun.
    """
    context = multiprocessing.get_context("spawn")
    with _shared_memory(), concurrent.futures.ProcessPoolExecutor(workers, context, _begin) as pool:
        under_way: dict[concurrent.futures.Future[Made], Item] = {}
        refused: list[Item] = []
        try:
            while True:
                for item in itertools.islice(waiting, workers - len(under_way)):
                    refused = [item]
                    under_way[pool.submit(make, item)] = item
                    refused = []
                if not under_way:
                    return []
                done, _ = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    made = future.result()
                    yield under_way.pop(future), made
        except BrokenProcessPool:
            return [*under_way.values(), *refused]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _shared_memory() -> Iterator[None]:
    """Within, a full /dev/shm, where processes keep what they share, is said to be full."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        raise DeviceError(
            "Expected room in shared memory (/dev/shm) to start workers, got none.",
            "Empty /dev/shm, give the container more (docker run --shm-size), or set workers=1.",
        ) from error


@contextlib.contextmanager
def _on_one_thread() -> Iterator[None]:
    """What `one_thread` does to a worker, in this process and for a while; the environment stays."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    with threadpoolctl.threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(threads)


def _begin() -> None:
    """What each worker does first."""
    one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed tells its workers nothing, and each of them keeps the others' queue open: they
    would wait for ever, with all that they have loaded."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def one_thread() -> None:
    """The workers share the processors: libraries that are not imported yet read the environment."""
    os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    threadpoolctl.threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "SimpleITK" in sys.modules:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(1)
