"""The pipeline of a process: loaded in a thread while the radiograph is read, and kept for the next job."""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray2ctpa_core.errors import BundleError, DeviceError
from xray2ctpa_core.generation.failures import user_error
from xray2ctpa_core.generation.settings import Settings
from xray2ctpa_core.pipelines.bundle import BundleInfo

if TYPE_CHECKING:
    from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline

#: Seconds between two checks for an interrupt by the user while a pipeline is loaded.
_PATIENCE = 0.2


class HeldPipeline:
    """Holds at most one pipeline: of one bundle, on one device, in one precision."""

    def __init__(self) -> None:
        self._loading: _Loading | None = None

    def begin(self, folder: Path, info: BundleInfo, settings: Settings) -> None:
        """Starts to load the pipeline for ``settings`` in a thread, unless it is held or being loaded.

        Args:
            folder: of a bundle that was verified just before.
            info: the bundle.
            settings: only device and precision are used, "auto" or a name.
        """
        key = (str(folder), info.sha256, settings.device, settings.precision)
        if self._loading is None or self._loading.key != key:
            self.drop()
            self._loading = _Loading(key, folder, info, settings)
            self._loading.start()

    def get(self, folder: Path, info: BundleInfo, settings: Settings) -> "tuple[XRay2CTPAPipeline, Settings]":
        """The pipeline on its device with the sampler of ``settings``, and the settings with the actual
        device and precision.

        Waits for the loading that `begin` has started.

        Raises:
            BundleError, DeviceError: it cannot be loaded; then nothing is held.
        """
        self.begin(folder, info, settings)
        assert self._loading is not None
        try:
            pipeline, device, precision = self._loading.wait()
            # Starts from the sampler given with the networks, so that voxels do not depend on the job before.
            pipeline.scheduler = self._loading.sampler
            pipeline.set_scheduler(settings.scheduler)
        except Exception:
            self.drop()
            raise
        return pipeline, replace(settings, device=device, precision=precision)

    def drop(self) -> None:
        """Frees the pipeline, and the memory that torch and the C library keep for further allocations."""
        if self._loading is None:
            return
        self._loading = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if sys.platform == "linux":
            import ctypes

            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
            if trim is not None:
                trim(0)


class _Loading(threading.Thread):
    """Loads one pipeline; a daemon thread, so that a command whose radiograph cannot be read does not wait
    for it."""

    def __init__(self, key: Any, folder: Path, info: BundleInfo, settings: Settings) -> None:
        super().__init__(name="load", daemon=True)
        self.key, self._folder, self._info, self._settings = key, folder, info, settings
        self.sampler: Any = None
        self._loaded: tuple[XRay2CTPAPipeline, str, str] | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._load()
        except BaseException as error:  # noqa: BLE001 - raised where the pipeline is asked for
            self._error = error

    def _load(self) -> None:
        from xray2ctpa_core.pipelines.device import choose_device
        from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline

        device, precision, dtype = choose_device(self._settings.device, self._settings.precision)
        with _fitting(self._info):
            pipeline = XRay2CTPAPipeline.from_folder(self._folder, dtype)
            pipeline.place(device)
        self.sampler = pipeline.scheduler
        self._loaded = pipeline, device, precision

    def wait(self) -> "tuple[XRay2CTPAPipeline, str, str]":
        """Pipeline, device and precision; raises the error of loading."""
        while self.is_alive():
            self.join(_PATIENCE)
        if self._error is not None:
            raise self._error
        assert self._loaded is not None
        return self._loaded


@contextmanager
def _fitting(info: BundleInfo) -> Iterator[None]:
    """Loads an intact bundle; raises BundleError if its parts do not fit this program."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(user_error(error), DeviceError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"Bundle {info.name} {info.version} is intact but does not fit this program: {reason}",
            "Use a bundle and a program of the same generation.",
        ) from error
