"""A result folder that appears complete or not at all, whatever ends the process.

Files are written to a hidden sibling, ``.NAME.partial-HOST-PID``, which is renamed at the end. An empty
folder that exists (a mounted one, the working folder) stays the same: the hidden one is in it, and its files
are moved up at the end. An error or Ctrl-C removes it; after a kill -9 the guard process does
(result_guard.py); after a power cut the next run.
"""

import errno
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from xray2ctpa_core.errors import OutputError
from xray2ctpa_core.io import result_guard

#: Bytes of a target's name and of the machine's that the hidden folder's name repeats.
_LONGEST_NAME, _LONGEST_HOST = 120, 40
#: Seconds that the guard process has to end by itself.
_GUARD_SECONDS = 5.0


class ResultFolder:
    """Context in which a result is written: ``path`` is the hidden folder, ``publish`` makes it ``target``.

    Leaving the context without ``publish`` removes everything, created parent folders included.

    Args:
        target: folder that shall hold the result; must not exist, or be empty.
        needed_bytes: free space required at the start: refused before the work rather than after it.

    Raises:
        OutputError: on entering, if ``target`` is taken or its place cannot be written; in ``publish``, if
            a file does not reach the disk.
    """

    def __init__(self, target: Path, needed_bytes: int = 0) -> None:
        self.target = _real_path(target)
        self.path = _place(self.target) / f"{partial_prefix(self.target)}{os.getpid()}"
        self._needed_bytes = needed_bytes
        self._created_parents: list[Path] = []
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with writing(self.target):
            if os.path.isdir(self.target):
                remove_leftovers(self.target)
            taken = self.target.exists() and not _is_empty_folder(self.target)
            self._created_parents = _missing_parents(self.target)
        if taken:
            raise OutputError(
                f"Expected a new folder to write to, got {self.target}, which exists.",
                "Choose another place, or remove it first.",
            )
        self._guard = start_guard([self.path, *self._created_parents])
        try:
            with writing(self.target):
                self.target.parent.mkdir(parents=True, exist_ok=True)
                remove_leftovers(self.target)
                self.work.mkdir(parents=True)
                _require_space(self.path, self._needed_bytes)
        except BaseException:
            self._remove()
            raise
        return self

    @property
    def work(self) -> Path:
        """Folder for passing files (live previews); gone when the result is published."""
        return self.path / "work"

    def publish(self) -> None:
        """Waits until every file is on the disk, then lets the result appear at ``target``."""
        with writing(self.target):
            shutil.rmtree(self.work)
            for file in sorted(path for path in self.path.rglob("*") if path.is_file()):
                _flush_to_disk(file)
            if os.path.isdir(self.target):
                _move_files(self.path, self.target)
            else:
                os.rename(self.path, self.target)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        """Leaves nothing but a published result behind."""
        result_guard.remove([self.path, *self._created_parents])
        end_guard(self._guard)


def remove_leftovers(target: Path) -> None:
    """Removes hidden folders for ``target`` whose process on this machine is no longer alive."""
    pattern = re.compile(re.escape(partial_prefix(target)) + r"(\d+)")
    for folder in _place(target).iterdir():
        match = pattern.fullmatch(folder.name)
        if match and not is_alive(int(match[1])):
            result_guard.remove([folder])


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Runs what writes to ``place``; an OSError becomes the OutputError that says why it failed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(
                f"Expected room for the result, got a full disk at {place}.",
                "Free some space or choose another place.",
            ) from error
        too_long = error.errno == errno.ENAMETOOLONG
        raise OutputError(
            f"Expected a place to write the result to, got {place}: {error.strerror or error}.",
            "Choose a shorter name." if too_long else "Choose a writable place.",
        ) from error


def _place(target: Path) -> Path:
    """The folder that holds the hidden one for ``target``."""
    return target if os.path.isdir(target) else target.parent  # Path.is_dir raises where names are too long


def _move_files(source: Path, target: Path) -> None:
    """Moves what is in ``source`` to ``target``: all, or nothing where that fails or a name is taken."""
    moved: list[str] = []
    try:
        for item in sorted(source.iterdir()):
            if (target / item.name).exists():
                raise FileExistsError(errno.EEXIST, f"{item.name} appeared in it meanwhile")
            os.rename(item, target / item.name)
            moved.append(item.name)
    except BaseException:
        for name in moved:
            os.rename(target / name, source / name)
        raise


def _flush_to_disk(file: Path) -> None:
    """Waits until ``file`` is on the disk; some file systems say only now that they are full."""
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())


def _require_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OutputError(
            f"A result needs {needed_bytes >> 20} MB of free disk, got {free >> 20} MB at {folder.parent}.",
            "Free some space or choose another place.",
        )


def start_guard(folders: list[Path]) -> "subprocess.Popen[bytes] | None":
    """Starts the process that removes ``folders`` once this one has died, in a session of its own.

    Closing its standard input ends it too, so whoever is done removes the folders first.

    Args:
        folders: the one to remove, and parents to remove where they are empty then.

    Returns:
        The process, or None where none can be started.
    """
    command = [sys.executable, "-S", "-P", result_guard.__file__, *map(str, folders)]
    detached = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            creationflags=detached,
            cwd=os.path.abspath(os.sep),
        )
    except OSError:
        # Without it (processes used up, no interpreter file) a kill leaves the folder to the next run.
        return None


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A private temporary folder that is gone afterwards, also where this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    guard = start_guard([folder])
    try:
        yield folder
    finally:
        result_guard.remove([folder])
        end_guard(guard)


def end_guard(guard: "subprocess.Popen[bytes] | None") -> None:
    """Ends the process of ``start_guard``, whose folders are gone.

    A process that was forked meanwhile keeps the pipe open, for whose end the guard would wait in vain.
    """
    if guard is None or guard.stdin is None:
        return
    guard.stdin.close()
    try:
        guard.wait(_GUARD_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()


def _missing_parents(target: Path) -> list[Path]:
    """Parents of ``target`` that do not exist yet, the deepest first."""
    return [parent for parent in target.parents if not parent.exists()]


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _real_path(target: Path) -> Path:
    """``target`` without symbolic links: what a link names becomes the result, and the link stays."""
    try:
        real = Path(os.path.realpath(target))
        if os.path.islink(real):
            raise OutputError(
                f"Expected a place to write the result to, got {target}, a link that leads back to itself.",
                "Choose another place.",
            )
        return real
    except FileNotFoundError as error:
        raise OutputError(
            f"Expected a working folder for {target}, got one that no longer exists.",
            "Change to a folder that exists, or give the whole path.",
        ) from error


def partial_prefix(target: Path) -> str:
    """Name of the hidden folder for ``target`` up to the process's number; short enough for any disk."""
    name = target.name.encode(errors="surrogateescape")
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + b"-" + hashlib.sha256(name).hexdigest()[:8].encode()
    return f".{name.decode(errors='ignore')}.partial-{_host()[:_LONGEST_HOST]}-"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node()) or "host"


def is_alive(pid: int) -> bool:
    """Whether a process ``pid`` runs on this machine; asking never touches it."""
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
