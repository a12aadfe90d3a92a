"""Errors a user can act on: what was expected, what was got, what to do, and the exit code."""

from xray2ctpa_core import constants

#: How torch says on a CPU, a GPU and Apple's GPU that memory is used up; the CPU raises a bare RuntimeError.
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")

#: What to do about a bundle that is damaged.
REINSTALL_HINT = "Fetch or install the bundle again; do not use these weights."


class XRay2CTPAError(Exception):
    """Base of every error that the command line reports without a traceback.

    Args:
        message: what was expected and what was got, in one sentence.
        hint: what to do about it, in one sentence.
    """

    exit_code = constants.EXIT_UNUSABLE_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(XRay2CTPAError):
    """Unusable input or arguments (exit code 2)."""


class OutputError(XRay2CTPAError):
    """The result could not be written: place unwritable, full or already taken (exit code 2)."""


class BundleError(XRay2CTPAError):
    """Bundle missing, damaged or incompatible (exit code 3)."""

    exit_code = constants.EXIT_BUNDLE


class NotFrontalCXRError(XRay2CTPAError):
    """The image is not an upright, complete frontal chest radiograph (exit code 4)."""

    exit_code = constants.EXIT_NOT_FRONTAL_CXR


class DeviceError(XRay2CTPAError):
    """Device missing or out of memory (exit code 5)."""

    exit_code = constants.EXIT_DEVICE_OR_MEMORY


class Cancelled(XRay2CTPAError):
    """The user cancelled (exit code 130)."""

    exit_code = constants.EXIT_CANCELLED


class ConfigError(XRay2CTPAError):
    """A configuration holds an unknown key or a value out of its range (exit code 2)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device has no memory left."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(phrase in text for phrase in OUT_OF_MEMORY)
