"""Work for several processes: all of it comes back, and what kills its worker is named and stops no other.

The workers start anew, so what they make is made by functions of the standard library.
"""

import math
import os
import signal
import subprocess
import sys

import psutil
import pytest
import torch
from threadpoolctl import threadpool_info

from xray2ctpa_core.errors import DeviceError
from xray2ctpa_core.workers import in_processes


def test_every_item_comes_with_what_was_made_of_it() -> None:
    made = dict(in_processes(math.factorial, range(6), 2))
    assert made == {0: 1, 1: 1, 2: 2, 3: 6, 4: 24, 5: 120}


def test_workers_compute_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert list(in_processes(os.getenv, ["OMP_NUM_THREADS"], 2)) == [("OMP_NUM_THREADS", "1")]


def test_a_single_worker_is_this_process_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    names = ["OMP_NUM_THREADS", "NOT_SET_BY_ANYBODY"]
    assert list(in_processes(os.getenv, names, 1)) == [(names[0], "7"), (names[1], None)]


def test_a_single_worker_has_one_thread_too_and_gives_the_others_back() -> None:
    def threads(_item: int = 0) -> set[int]:
        return {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())}

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outside = threads()
        assert list(in_processes(threads, [0], 1)) == [(0, {1})]
        assert threads() == outside
        assert outside != {1}
    finally:
        torch.set_num_threads(before)


KILLS = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@KILLS
def test_an_item_that_kills_its_worker_stops_no_other_and_is_named_in_the_end() -> None:
    made = []
    with pytest.raises(DeviceError, match=rf"killed 3 times by each of: {int(signal.SIGKILL)}\."):
        made.extend(in_processes(signal.raise_signal, [0, signal.SIGKILL, 0, 0, 0], 2))
    assert made == [(0, None)] * 4


@KILLS
def test_something_stands_for_an_item_that_kills_its_worker_each_time() -> None:
    items = [signal.SIGKILL, 0, 0]
    made = list(in_processes(signal.raise_signal, items, 2, killed=lambda item: f"killed by {int(item)}"))
    assert sorted(made, key=str) == sorted([(0, None), (0, None), (signal.SIGKILL, "killed by 9")], key=str)


def test_what_a_worker_raises_comes_through() -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(in_processes(math.sqrt, [4.0, -1.0, 9.0], 2))


def test_no_worker_outlives_a_killed_parent() -> None:
    program = (
        "import time; from xray2ctpa_core.workers import in_processes\n"
        "if __name__ == '__main__':\n"
        "    for _ in in_processes(time.sleep, [0, 60, 60, 60], 2): print('begun', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
        parent.kill()
    _gone, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
