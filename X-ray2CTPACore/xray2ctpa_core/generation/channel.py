"""The private channel between a user's process and its resident worker, and their messages.

A folder of mode 0700 holds a Unix socket (on Windows the name of a pipe) and a file with its address and a
key; both sides must prove that they have the key. No port is opened. Each message is a JSON dictionary:

    job -> a Request; cancel
    worker -> {"begun": true}; {"call": name, "args": [...]} of a Reporter; {"end": exit code};
              {"raised": class, "message": ..., "hint": ...}
"""

import contextlib
import json
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from xray2ctpa_core import errors
from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.generation.failures import user_error

#: Environment variable of the folder for the workers' folders; default: the user's runtime folder, else the
#: folder for temporary files.
PLACE_VARIABLE = "XRAY2CTPA_RUNTIME"
CANCEL = b"cancel"
#: Largest number of bytes of a Unix socket's address on all systems (macOS: 104).
_LONGEST_ADDRESS = 100
_ADDRESS_FILE, _LOCK_FILE = "worker.json", "lock"
#: Exceptions that are raised if the other side has ended or is not authentic.
GONE = (EOFError, OSError, AuthenticationError)


@dataclass(frozen=True)
class Address:
    """Address of a worker; both sides must prove that they have ``key``."""

    address: str
    key: bytes
    pid: int


def place_of(owner: int) -> Path:
    """The private folder of the worker that ends with the process ``owner``; it may not exist yet."""
    names = (PLACE_VARIABLE, "XDG_RUNTIME_DIR")
    base = next(filter(None, (os.environ.get(name) for name in names)), tempfile.gettempdir())
    user = os.getuid() if sys.platform != "win32" else os.environ.get("USERNAME", "user")
    return Path(base) / f"xray2ctpa-{user}-{owner}"


def make_private(folder: Path) -> None:
    """Creates the folder if it does not exist; raises InputError if other users could access it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if sys.platform == "win32":
        return  # there, the folder for temporary files belongs to the user
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise InputError(
            f"Expected {folder} to be a folder that only this user can reach, got another.",
            f"Remove it, or name another place in {PLACE_VARIABLE}.",
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds an exclusive lock on this folder, which is released if the process dies."""
    with (folder / _LOCK_FILE).open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def listen(folder: Path) -> tuple[Listener, Address]:
    """Listens in the private ``folder``; clients find it after `announce`.

    Raises:
        OSError: the folder's path is too long, or it cannot be written.
    """
    key = secrets.token_bytes(32)
    if sys.platform == "win32":
        address = rf"\\.\pipe\xray2ctpa-{os.getpid()}-{secrets.token_hex(8)}"
        listener = Listener(address, "AF_PIPE", authkey=key)
    else:
        address = str(folder / f"{os.getpid()}.socket")
        if len(os.fsencode(address)) > _LONGEST_ADDRESS:
            raise OSError(f"the address {address} is too long for a socket")
        listener = Listener(address, "AF_UNIX", backlog=64, authkey=key)
    return listener, Address(address, key, os.getpid())


def announce(folder: Path, address: Address) -> None:
    """Makes the worker known to this user's other processes."""
    content = {"address": address.address, "key": address.key.hex(), "pid": address.pid}
    write_text_atomically(folder / _ADDRESS_FILE, json.dumps(content))


def connect(folder: Path) -> Connection | None:
    """A connection to the worker of ``folder``; None if none listens there."""
    try:
        content = json.loads((folder / _ADDRESS_FILE).read_text(encoding="utf-8"))
        return Client(content["address"], authkey=bytes.fromhex(content["key"]))
    except (*GONE, ValueError, KeyError, TypeError):
        return None


def send(connection: Connection, **message: Any) -> None:
    """Sends one message; raises OSError if the other side has ended."""
    connection.send_bytes(json.dumps(message, default=os.fspath).encode())


def receive(connection: Connection) -> dict[str, Any]:
    """The next message; raises EOFError or OSError if the other side has ended."""
    return json.loads(connection.recv_bytes())


def raised(error: BaseException) -> dict[str, str]:
    """The message for an error that ended a job."""
    failure = user_error(error)
    return {"raised": type(failure).__name__, "message": failure.message, "hint": failure.hint}


def error_of(message: dict[str, Any]) -> XRay2CTPAError:
    """The error of such a message, of the same class and with the same exit code."""
    kind: type[XRay2CTPAError] = getattr(errors, message["raised"])
    return kind(message["message"], message["hint"])
