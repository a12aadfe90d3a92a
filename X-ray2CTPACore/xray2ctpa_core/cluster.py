"""Work for several machines, on Dask: the same as `workers.in_processes`, wherever the workers run.

Dask redoes what a killed worker had begun. Here: which workers, no more under way than they can take (so that
a death is blamed on few), and who is to blame in the end.
"""

import contextlib
import importlib.util
import itertools
import logging
import os
import platform
import re
import sys
import tomllib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from xray2ctpa_core.errors import ConfigError, DeviceError, InputError
from xray2ctpa_core.workers import TRIES, one_thread

Item = TypeVar("Item")
Made = TypeVar("Made")

#: Defaults that blame innocent items, and redo finished ones, changed; no page about the run is served.
_SETTINGS = {
    "distributed.scheduler.allowed-failures": TRIES - 1,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.nanny.http.routes": [],
    "distributed.scheduler.dashboard.status.task-stream-length": 0,
    "distributed.worker.daemon": True,
}
#: Seconds between two looks for workers that have come or gone.
_LOOK_SECONDS = 1.0
#: How long a killed worker of this machine may take to start again, before it is replaced. By default Dask
#: closes it after 15 s, less than its imports take on a busy machine, and goes on with fewer, or with none.
_LOST_AFTER = "1 hour"
#: Replacements of each worker after which workers evidently cannot start.
_REPLACED_AT_MOST = 5
#: Minutes before the end of a job's time at which its worker ends by itself, and spread of that.
_LIFETIME_MARGIN, _LIFETIME_STAGGER = 15, 5
_DEFAULT_WALLTIME = "04:00:00"


def on_cluster(
    make: Callable[[Item], Made],
    items: Iterable[Item],
    spec: str,
    killed: Callable[[Item], Made] | None = None,
    gpus: int = 0,
) -> Iterator[tuple[Item, Made]]:
    """(item, what ``make`` made of it) of each item, in the order in which they are done; each item is made
    with one thread.

    Args:
        make: a function of an installed module, or a partial of one; it may be called again for an item whose
            worker died, and must see for itself what is there already.
        items: picklable; handed out as workers become free.
        spec: "local:N", N workers on this machine; "slurm:N" or "slurm:FILE.toml", N Slurm jobs (`slurm`); or
            the address of a running scheduler, "tcp://host:8786".
        killed: what stands for an item that killed its workers TRIES times, and then again alone.
        gpus: of this machine, for "local:N": a worker each.

    Raises:
        ConfigError: ``spec`` is none. InputError: the extra cluster is not installed.
        DeviceError: the scheduler is gone, or items killed their workers and there is no ``killed``. Whatever
            ``make`` raises comes through; items not yet begun are dropped then.
    """
    start = _starter(spec, gpus)
    missing = [name for name in ("distributed", "dask_jobqueue") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"A cluster needs {', '.join(missing)}, which the base installation does not bring.",
            "Install the extra cluster: in a checkout, pip install './X-ray2CTPACore[cluster]'.",
        )
    import dask
    import distributed  # its defaults come first

    logging.getLogger(distributed.__name__).setLevel(logging.CRITICAL)
    with dask.config.set(_SETTINGS), start() as workers:
        suspects = yield from _until_killed(workers, make, iter(items))
        for item in suspects:
            if (yield from _until_killed(workers, make, iter([item]))):
                if killed is None:
                    raise DeviceError(
                        f"Expected each worker to live, {item} killed it {TRIES} times and again alone.",
                        "Most likely memory is short; the same command goes on where it stopped.",
                    )
                yield item, killed(item)


def here() -> dict[str, str] | None:
    """Where this runs, for a record: host, worker, engine and, where it was given one, GPU; None outside of
    a worker."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        worker = distributed.get_worker()
    except ValueError:
        return None
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    place = {
        "host": platform.node(),
        "worker": str(worker.name),
        "engine": f"dask {distributed.__version__}",
    }
    return place | ({"gpu": gpu} if gpu else {})


class _Workers(NamedTuple):
    """A scheduler's Client, and what replaces workers that are gone for good."""

    client: Any
    replace_lost: Callable[[], None] = lambda: None


def _until_killed(
    workers: _Workers, make: Callable[[Item], Made], waiting: Iterator[Item]
) -> Generator[tuple[Item, Made], None, list[Item]]:
    """Yields what is made; returns the items whose workers died each time."""
    from distributed import KilledWorker, wait

    client = workers.client
    under_way: dict[Any, Item] = {}
    lost: list[Item] = []
    try:
        while True:
            with _noticing_the_end():
                workers.replace_lost()
                room = max(sum(client.nthreads().values()), 1) - len(under_way)
                new = list(itertools.islice(waiting, max(room, 0)))
                exhausted = len(new) < room
                for item in new:
                    under_way[client.submit(_on_one_thread, make, item, pure=False)] = item
                if exhausted and not under_way:
                    return lost
                with contextlib.suppress(TimeoutError):
                    wait(list(under_way), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in under_way if future.done()]:
                item = under_way.pop(future)
                if future.status in ("cancelled", "lost"):
                    raise _gone(future.status)
                try:
                    made = future.result()
                except KilledWorker:
                    lost.append(item)
                    continue
                finally:
                    future.release()
                yield item, made
    finally:
        with contextlib.suppress(OSError):
            client.cancel(list(under_way))


@contextlib.contextmanager
def _noticing_the_end() -> Iterator[None]:
    """Within, what Dask raises without its scheduler says so."""
    from concurrent.futures import CancelledError

    try:
        yield
    except (CancelledError, OSError) as error:
        raise _gone(str(error)) from error


def _gone(reason: str) -> DeviceError:
    return DeviceError(
        f"Expected the cluster to live, it is gone: {' '.join(reason.split())[:200]}",
        "The same command goes on where it stopped.",
    )


def _on_one_thread(make: Callable[[Item], Made], item: Item) -> Made:
    """In a worker: how sums are added up depends on the number of threads."""
    one_thread()
    return make(item)


def _starter(spec: str, gpus: int) -> Callable[[], contextlib.AbstractContextManager[_Workers]]:
    """What starts, or finds, the workers that ``spec`` names; ConfigError for none."""
    kind, _, rest = spec.partition(":")
    if kind == "local" and rest.isdecimal() and int(rest):
        if gpus and int(rest) > gpus:
            raise ConfigError(
                f"Expected at most a worker for each of the {gpus} GPUs here, got {spec}.",
                f"Take local:{gpus}, or --device cpu.",
            )
        return lambda: _local(int(rest), gpus)
    if kind == "slurm" and (rest.isdecimal() and int(rest)):
        return lambda: _slurm({"workers": int(rest)})
    if kind == "slurm" and Path(rest).is_file():
        try:
            settings = tomllib.loads(Path(rest).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise ConfigError(f"Cannot read {rest}: {error}.") from error
        return lambda: _slurm(settings)
    if "://" in spec:
        return lambda: _running(spec)
    raise ConfigError(
        f"Expected local:N, slurm:N, slurm:FILE.toml or a scheduler's address, got {spec!r}.",
        "For example --cluster local:2, or --cluster tcp://host:8786.",
    )


@contextlib.contextmanager
def _local(count: int, gpus: int) -> Iterator[_Workers]:
    """``count`` processes of this machine, which only this user can reach (TLS, this machine's loopback)."""
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    security = Security.temporary()
    common = {"nthreads": 1, "silence_logs": logging.CRITICAL, "security": security, "host": "127.0.0.1"}
    visible = [{"env": {"CUDA_VISIBLE_DEVICES": str(number)}} if gpus else {} for number in range(count)]
    workers = {
        number: {"cls": Nanny, "options": common | environment} for number, environment in enumerate(visible)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {
            "security": security,
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        },
    }
    quiet = {"security": security, "silence_logs": logging.CRITICAL}
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": _LOST_AFTER})
    with (
        patient,
        SpecCluster(workers, scheduler, **quiet) as cluster,
        Client(cluster, security=security) as client,
    ):
        yield _Workers(client, _Replacing(cluster, count))


class _Replacing:
    """Replaces processes of a SpecCluster that are gone for good.

    Args:
        cluster: of ``count`` workers.
    """

    def __init__(self, cluster: Any, count: int) -> None:
        self._cluster, self._count = cluster, count
        self._asked, self._replaced = False, 0

    def __call__(self) -> None:
        """Raises DeviceError if workers were replaced too often."""
        from distributed import Status

        known = self._cluster.workers
        gone = [name for name, nanny in list(known.items()) if nanny.status in (Status.closed, Status.failed)]
        for name in gone:
            known.pop(name, None)
        missing = self._count - len(known)
        if missing and (gone or not self._asked):
            self._replaced += missing
            if self._replaced > _REPLACED_AT_MOST * self._count:
                raise DeviceError(
                    f"Expected {self._count} workers, {self._replaced} of them could not start.",
                    "Most likely memory is short: take fewer; the same command goes on where it stopped.",
                )
            self._cluster.scale(self._count)  # starts those that are missing
        self._asked = missing > 0


@contextlib.contextmanager
def _slurm(settings: dict[str, Any]) -> Iterator[_Workers]:
    """A Slurm job a worker; one whose time is over is followed by another."""
    from distributed import Client

    with slurm(settings) as cluster:
        # Adaptive, though between equal numbers: jobs that ended are not followed by others otherwise.
        cluster.adapt(minimum=settings["workers"], maximum=settings["workers"])
        with Client(cluster) as client:
            yield _Workers(client)


def slurm(settings: dict[str, Any]) -> Any:
    """The SLURMCluster of a file's settings, before any job is submitted.

    Args:
        settings: workers, and what else dask_jobqueue.SLURMCluster takes (queue, account, memory, walltime,
            job_cpu, job_extra_directives, job_script_prologue, ...); what is not there comes from Dask's
            jobqueue.yaml. A worker ends by itself before its job's walltime.

    Raises:
        ConfigError: no workers, or what SLURMCluster does not take.
    """
    from dask_jobqueue import SLURMCluster

    own = dict(settings)
    count = own.pop("workers", None)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"Expected workers, a number of Slurm jobs from 1, got {count!r}.")
    walltime = own.setdefault("walltime", _DEFAULT_WALLTIME)
    lifetime = max(_minutes(walltime) - _LIFETIME_MARGIN, 1)
    ending = ["--lifetime", f"{lifetime}m", "--lifetime-stagger", f"{_LIFETIME_STAGGER}m"]
    fixed = {"cores": 1, "processes": 1, "worker_extra_args": [*own.pop("worker_extra_args", []), *ending]}
    try:
        return SLURMCluster(**{**own, **fixed})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Slurm's settings do not fit: {error}") from error


def _minutes(walltime: str) -> int:
    """Slurm's days-hours:minutes:seconds -> minutes."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", str(walltime))
    if match is None:
        raise ConfigError(f"Expected a walltime as HH:MM:SS or D-HH:MM:SS, got {walltime!r}.")
    days, hours, minutes, _seconds = (int(part or 0) for part in match.groups())
    return (24 * days + hours) * 60 + minutes


@contextlib.contextmanager
def _running(address: str) -> Iterator[_Workers]:
    """The workers of a scheduler that runs already; encryption is as Dask's configuration says."""
    from distributed import Client

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"Expected a Dask scheduler at {address}, got none: {' '.join(str(error).split())[:150]}",
            "Start one with `dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`.",
        ) from error
    with client:
        yield _Workers(client)
