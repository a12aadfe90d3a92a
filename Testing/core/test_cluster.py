"""Work on a cluster: all of it comes back, whoever dies; two workers of this machine stand for many."""

import functools
import importlib.util
import json
import signal
from pathlib import Path

import clustered
import numpy as np
import pytest
from ct_series import phantom, write_series
from killing import write_or_die

from xray2ctpa_core.cluster import _Replacing, on_cluster, slurm
from xray2ctpa_core.data.cases import case_rows, read_case, write_cases
from xray2ctpa_core.data.ctpa_cases import write_ctpa
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import ConfigError, DeviceError, InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.preprocessing.ctpa import CtpaSettings

pytest.importorskip("distributed", reason="the extra cluster brings Dask")
pytest.importorskip("dask_jobqueue", reason="the extra cluster brings dask-jobqueue")
KILLS = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


def folders(out: Path) -> list[Path]:
    """The complete cases' folders."""
    return [out / row["folder"] for row in case_rows(out)]


@pytest.mark.slow
@KILLS
def test_a_killed_workers_item_is_done_again_and_one_that_kills_each_time_is_named(tmp_path: Path) -> None:
    make = functools.partial(clustered.dies, tmp_path)
    made = dict(on_cluster(make, range(12), "local:2", clustered.given_up))
    assert made == {n: "given up 3" if n == 3 else "made" for n in range(12)}
    tries = {n: (tmp_path / f"{n}.tries").stat().st_size for n in range(12)}
    assert tries.pop(3) == 6, "three times, and three times again alone"
    assert tries[5] >= 2
    assert max(tries.values()) <= 5, (
        "four deaths among the others, and each may take an innocent item or its result along"
    )


@pytest.mark.slow
@KILLS
def test_workers_that_start_slowly_after_a_kill_are_waited_for(tmp_path: Path) -> None:
    """Dask gives up one that is not there again in time, here 0.2 s, less than any start takes; both die, so
    that without them nothing would go on."""
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0.2s"}):
        make = functools.partial(clustered.dies_once, tmp_path, 2)
        made = dict(on_cluster(make, range(8), "local:2"))
    assert made.keys() == set(range(8))
    assert len(list(tmp_path.glob("*.died"))) == 2
    assert len(set(made.values())) == 2, "both are there again"


@pytest.mark.slow
@KILLS
def test_a_worker_that_is_given_up_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xray2ctpa_core.cluster._LOST_AFTER", "0.2s")
    make = functools.partial(clustered.dies_once, tmp_path, 1)
    assert dict(on_cluster(make, range(6), "local:1")).keys() == set(range(6))
    assert len(list(tmp_path.glob("*.died"))) == 1


def test_workers_that_cannot_start_are_replaced_five_times_and_then_named() -> None:
    """Two that are closed each time that they were started."""
    from distributed import Status

    class Closed:
        status = Status.closed

    class Cluster:
        def __init__(self) -> None:
            self.workers: dict[int, Closed] = {0: Closed(), 1: Closed()}
            self.started = 0

        def scale(self, count: int) -> None:
            self.started += count - len(self.workers)
            self.workers = {number: Closed() for number in range(count)}

    cluster = Cluster()
    replace = _Replacing(cluster, 2)
    for _ in range(5):
        replace()
    assert cluster.started == 10
    with pytest.raises(DeviceError, match="could not start"):
        replace()


def test_both_workers_work_one_item_each_and_say_where(tmp_path: Path) -> None:
    made = dict(on_cluster(clustered.squared, range(40), "local:2"))
    assert {n: square for n, (square, _) in made.items()} == {n: n * n for n in range(40)}
    assert len({process for _, process in made.values()}) == 2


def test_what_an_item_raises_comes_through_and_a_record_says_which_worker() -> None:
    with pytest.raises(FileNotFoundError, match="no such radiograph"):
        list(on_cluster(clustered.refuses, range(4), "local:1"))
    ((_, place),) = on_cluster(clustered.place, [1], "local:1")
    assert place is not None
    assert (place["worker"], place["engine"].split()[0]) == ("0", "dask")
    assert clustered.place(1) is None, "this process is no worker"


@pytest.mark.parametrize("spec", ["", "local:", "local:0", "local:two", "slurm:none.toml", "machine"])
def test_a_cluster_that_cannot_be_meant_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="Expected local:N, slurm:N"):
        list(on_cluster(clustered.squared, [1], spec))


def test_more_local_workers_than_gpus_are_refused() -> None:
    with pytest.raises(ConfigError, match="a worker for each of the 2 GPUs here, got local:3"):
        list(on_cluster(clustered.squared, [1], "local:3", gpus=2))


def test_without_the_extra_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="distributed, dask_jobqueue") as refused:
        list(on_cluster(clustered.squared, [1], "local:1"))
    assert "[cluster]" in refused.value.hint


def test_a_scheduler_that_does_not_run_is_named() -> None:
    with pytest.raises(DeviceError, match=r"scheduler at tcp://127\.0\.0\.1:1, got none"):
        list(on_cluster(clustered.squared, [1], "tcp://127.0.0.1:1"))


def test_a_slurm_job_is_one_worker_that_ends_before_its_time() -> None:
    settings = {"workers": 3, "queue": "gpu", "memory": "16GB", "walltime": "1-02:00:00", "job_cpu": 4,
                "job_extra_directives": ["--gres=gpu:1"]}  # fmt: skip
    with slurm(settings) as cluster:
        script = cluster.job_script()
    for line in ("-p gpu", "-t 1-02:00:00", "--cpus-per-task=4", "--gres=gpu:1", "--mem=15G"):
        assert f"#SBATCH {line}" in script
    assert "--nthreads 1" in script
    assert "--lifetime 1545m --lifetime-stagger 5m" in script


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"workers": 0}, "a number of Slurm jobs"),
        ({"walltime": "4h"}, "walltime as HH:MM:SS"),
        ({"quueue": "gpu"}, "quueue"),
    ],
)
def test_slurm_settings_that_do_not_fit_are_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        slurm({"workers": 2, "memory": "1GB", "walltime": "04:00:00"} | change)


@KILLS
def test_studies_on_a_cluster_are_those_of_one_process_but_the_one_that_kills(tmp_path: Path) -> None:
    names = ("a", "poison", "b", "preempted", "c")
    studies = [Study(name, name, where=f"t.csv, row {n}") for n, name in enumerate(names, 2)]
    summary = write_cases(tmp_path / "out", studies, write_or_die, {}, cluster="local:2")
    assert summary.complete == 4
    assert "poison (t.csv, row 3)" in summary.failed[0]
    assert "killed 3 times" in summary.failed[0]
    assert {read_case(folder)["said"] for folder in folders(tmp_path / "out")} == set(names) - {"poison"}
    errors = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in errors] == ["poison"]


def test_a_volume_preprocessed_on_a_cluster_is_that_of_this_process_and_says_where(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", phantom())
    write = functools.partial(write_ctpa, CtpaSettings(shape=(8, 32, 32), lungs="threshold", interleave=1))
    studies = [Study("a", "a", volume=tmp_path / "ct")]
    for out, cluster in (("here", ""), ("there", "local:1")):
        write_cases(tmp_path / out, studies, write, {}, cluster=cluster)
    here, there = (folders(tmp_path / out)[0] for out in ("here", "there"))
    volumes = [read_volume(next(folder.glob("*.nii.gz"))).array for folder in (here, there)]
    assert np.array_equal(*volumes)
    assert read_case(there)["made_on"]["worker"] == "0"
    assert "made_on" not in read_case(here)
