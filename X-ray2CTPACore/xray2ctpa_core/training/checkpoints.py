"""Rotating checkpoints of a run: one folder for each, written atomically and checked before it is loaded."""

import json
import os
import shutil
import warnings
from pathlib import Path

from accelerate import Accelerator

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.errors import InputError, OutputError

#: Holds one folder for each checkpoint, named by its step.
CHECKPOINT_FOLDER = "checkpoint"
#: Written last: {"step": ..., "bytes": {file: size}}.
PROGRESS_FILE = "progress.json"


def has_checkpoint(out: Path) -> bool:
    """Whether the run ``out`` has a checkpoint to resume from."""
    return bool(checkpoints(Path(out) / CHECKPOINT_FOLDER))


def checkpoints(folder: Path) -> list[Path]:
    """The completed checkpoints, oldest first."""
    found = [path.parent for path in folder.glob(f"*/{PROGRESS_FILE}") if path.parent.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def newest_checkpoint(out: Path) -> tuple[int, Path]:
    """Step and folder of the newest undamaged checkpoint of the run ``out``; warns of newer damaged ones.

    Raises:
        InputError: all are damaged, or there is none; the message names the damaged files.
    """
    damaged: list[str] = []
    for checkpoint in reversed(checkpoints(out / CHECKPOINT_FOLDER)):
        wrong = _damage(checkpoint)
        if not wrong:
            if damaged:
                warnings.warn(
                    f"{'; '.join(damaged)}. The run resumes from the one before, {checkpoint}.", stacklevel=2
                )
            return int(checkpoint.name), checkpoint
        damaged.append(wrong)
    raise InputError(
        f"Expected a whole checkpoint in {out / CHECKPOINT_FOLDER}, got: {'; '.join(damaged) or 'none'}.",
        f"Remove {out / CHECKPOINT_FOLDER} to train anew.",
    )


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, keep: int) -> None:
    """Writes the checkpoint first and then removes the oldest, so that a complete one always exists.

    Raises:
        OutputError: it cannot be written, most likely for want of disk.
    """
    checkpoint = folder / str(step)
    partial = folder / f"{step}.partial"
    try:
        accelerator.save_state(str(partial))
    except Exception as error:  # torch and safetensors raise errors of their own where a disk is full
        shutil.rmtree(partial, ignore_errors=True)
        free = shutil.disk_usage(folder).free >> 20
        raise OutputError(
            f"Expected to write the checkpoint {checkpoint}, got {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}; {free} MB are free there.",
            "Free some disk; the same command resumes from the checkpoint before.",
        ) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        sizes = {file.relative_to(partial).as_posix(): file.stat().st_size for file in _files(partial)}
        write_text_atomically(partial / PROGRESS_FILE, json.dumps({"step": step, "bytes": sizes}))
        shutil.rmtree(checkpoint, ignore_errors=True)
        os.replace(partial, checkpoint)
        for old in checkpoints(folder)[:-keep]:
            (old / PROGRESS_FILE).unlink()
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def _damage(checkpoint: Path) -> str:
    """Description of a checkpoint's damage; "" where all files have the size that was written."""
    try:
        progress = json.loads((checkpoint / PROGRESS_FILE).read_text(encoding="utf-8"))
        sizes = progress.get("bytes", {})
    except (OSError, ValueError, AttributeError):
        return f"{checkpoint / PROGRESS_FILE} is damaged"
    for name, size in sizes.items():
        file = checkpoint / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            return f"{file} is damaged: {size} bytes were written, {found or 0} are there"
    return ""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
