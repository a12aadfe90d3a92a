"""Turns exceptions of image decoders into errors that a user can act on."""

import errno
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xray2ctpa_core.errors import DeviceError, InputError, XRay2CTPAError

_REASON_LENGTH = 160
#: Names and addresses of the decoders' own objects in their messages.
_OBJECTS = re.compile(r"\b\w+\(0x[0-9a-f]+\): (?:\w+: )?| ?<_io\.[^>]*>")


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Runs third-party decoding of ``path``; its exceptions become an InputError.

    Decoders raise almost any exception on damaged bytes (struct.error, KeyError, SyntaxError, ...), hence the
    broad clause; warnings about harmless irregularities in headers are not passed on.

    Args:
        path: the file being read.
        form: its format, for the message ("DICOM").

    Raises:
        InputError: the file is unreadable as ``form``.
        DeviceError: it does not fit in memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except XRay2CTPAError:
        raise
    except MemoryError as error:
        raise DeviceError(
            f"Expected {path.name} to fit in memory, got no room for it.",
            "Close other programs or give a smaller image.",
        ) from error
    except PermissionError as error:
        raise InputError(
            f"Expected a readable file, got no permission to read {path}.",
            "Change its permissions or copy it.",
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"Expected a file, got {path}, which does not exist.", "Check the path.") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(
                f"Expected a file, got {path}, a symbolic link that leads back to itself.",
                "Name the file itself.",
            ) from error
        if error.errno != errno.ENAMETOOLONG:
            raise _unreadable(path, form, error) from error
        raise InputError(
            f"Expected a name that this disk allows, got {len(path.name)} letters: {path.name[:60]}...",
            "Give the file a shorter name.",
        ) from error
    except Exception as error:
        raise _unreadable(path, form, error) from error


def _unreadable(path: Path, form: str, error: Exception) -> InputError:
    article = "an" if form == "image" else "a"
    return InputError(
        f"Expected {article} {form} file, got {path.name}, which cannot be read as one: {_reason(error)}.",
        "The file is truncated, damaged or of another kind than its name says: export it again.",
    )


def _reason(error: Exception) -> str:
    """The first informative line of an error, without source locations, addresses and what ends it."""
    text = _OBJECTS.sub("", str(error).rpartition("ERROR:")[2]).strip() or type(error).__name__
    return text.splitlines()[0][:_REASON_LENGTH].rstrip(".: ")
