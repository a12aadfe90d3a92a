"""Work for several processes: one thread each, results as they come."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import threadpoolctl

from xray2ctpa_core.errors import DeviceError

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_processes(
    make: Callable[[Item], Made], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Made]]:
    """(item, what ``make`` made of it) of each item, in the order in which they are done.

    Args:
        make: a function of a module, or a partial of one: the processes start anew and import it.
        items: all of them are handed out at once.
        workers: processes; 1 is this one, in the items' order. Each of them computes with one thread: how
            sums are added up depends on their number, and what is made shall not depend on ``workers``.

    Raises:
        DeviceError: a process was killed. Whatever ``make`` raises comes through; items not yet begun are
            dropped then.
    """
    if workers == 1:
        for item in items:
            with _on_one_thread():
                made = make(item)
            yield item, made
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_begin) as pool:
        futures = {pool.submit(make, item): item for item in items}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool as error:
            raise DeviceError(
                "A worker was killed, most likely for want of memory.",
                "Take fewer workers; the same command goes on where it stopped.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _on_one_thread() -> Iterator[None]:
    """What `_one_thread` does to a worker, in this process and for a while; the environment stays."""
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
    _one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed tells its workers nothing, and each of them keeps the others' queue open: they
    would wait for ever, with all that they have loaded."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _one_thread() -> None:
    """The workers share the processors: libraries that are not imported yet read the environment."""
    os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    threadpoolctl.threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "SimpleITK" in sys.modules:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(1)
