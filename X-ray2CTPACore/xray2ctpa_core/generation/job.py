"""Generation from one radiograph: reading, gate, generating, writing, publishing."""

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray2ctpa_core.generation.events import Reporter
from xray2ctpa_core.generation.held_pipeline import HeldPipeline
from xray2ctpa_core.generation.result_json import former_result, pe_content, result_content, to_json
from xray2ctpa_core.generation.settings import Settings
from xray2ctpa_core.io import result_files
from xray2ctpa_core.io.result_folder import ResultFolder
from xray2ctpa_core.pipelines.bundle import BundleInfo
from xray2ctpa_core.pipelines.geometry import size_doubts
from xray2ctpa_core.pipelines.stopwatch import Stopwatch
from xray2ctpa_core.volume import Radiograph
from xray2ctpa_core.wording import counted, score_sentence, second_opinion_sentence, unreliable

if TYPE_CHECKING:
    import torch

    from xray2ctpa_core.pipelines.pipeline import StepEnd, XRay2CTPAPipeline
    from xray2ctpa_core.pipelines.result import XRay2CTPAResult


#: Positions of the axial slices of a preview, from the feet, 0 to 1.
_PICTURED_SLICES = (0.25, 0.5, 0.75)


class Generator:
    """Generates results from one verified bundle.

    Args:
        folder: of the bundle.
        info: its description.
        settings: of the generation.
        reporter: receives the progress.
        held: keeps the pipeline between jobs; None for a pipeline of this generator's own.
    """

    def __init__(
        self,
        folder: Path,
        info: BundleInfo,
        settings: Settings,
        reporter: Reporter,
        held: HeldPipeline | None = None,
    ) -> None:
        self.folder, self.info, self.settings = folder, info, settings
        self._reporter = reporter
        self._held = HeldPipeline() if held is None else held
        self._has_loaded = False
        #: Radiographs that the pipeline should be given together; 1 until it is loaded.
        self.at_once = 1

    def generate(self, source: Path, target: Path) -> dict[str, Any]:
        """Generates from ``source`` into ``target``, unless ``target`` already holds the same result.

        Returns:
            The content of result.json.

        Raises:
            InputError, NotFrontalCXRError, OutputError, DeviceError: ``target`` does not exist then.
        """
        spent = Stopwatch()
        self._reporter.stage("read", f"Reading {source}")
        radiograph, former = self.read(source, target, spent)
        if former is not None:
            self._reporter.result(target, former, skipped=True)
            return former
        with self.result_folder(target) as folder:
            self._warn(radiograph, radiograph.notes)
            pipeline, used = self.pipeline(spent)
            generated = self._sampled(pipeline, radiograph, folder.work)
            self._warn(radiograph, self.warnings_of(generated))
            self._reporter.stage("write", f"Writing {target}")
            content = self.written(folder, radiograph, generated, used, spent)
        self._reporter.result(target, content, skipped=False)
        return content

    def read(self, source: Path, target: Path, spent: Stopwatch) -> tuple[Radiograph, dict[str, Any] | None]:
        """The radiograph, and the content of result.json if ``target`` already holds the same result; the
        bundle is loaded meanwhile, unless there may be such a result."""
        from xray2ctpa_core.io.radiograph import read_radiograph  # before a thread imports the networks

        if not os.path.exists(target):  # otherwise it may be complete, and nothing has to be loaded
            self._held.begin(self.folder, self.info, self.settings)
        with spent.on("read"):
            radiograph = read_radiograph(source)
        return radiograph, former_result(target, radiograph, self.info, self.settings)

    def result_folder(self, target: Path) -> ResultFolder:
        """The folder of a result of this bundle, to be entered."""
        return ResultFolder(target, result_files.needed_bytes(self.info.geometry.grid))

    def pipeline(self, spent: Stopwatch) -> "tuple[XRay2CTPAPipeline, Settings]":
        """The loaded pipeline, and the settings with the actual device and precision."""
        if not self._has_loaded:
            self._reporter.stage("load", f"Loading bundle {self.info.name} {self.info.version}")
        with spent.on("load"):
            pipeline, used = self._held.get(self.folder, self.info, self.settings)
        self._has_loaded, self.at_once = True, pipeline.radiographs_at_once(self.settings.samples)
        return pipeline, used

    def warnings_of(self, generated: "XRay2CTPAResult") -> tuple[str, ...]:
        """Sentences: doubts of the gate and on the size, and notes on the volume."""
        size = size_doubts(generated.radiograph, generated.frame, self.info.geometry)
        return (*generated.gate.warnings, *size, *generated.notes)

    def written(
        self,
        folder: ResultFolder,
        radiograph: Radiograph,
        generated: "XRay2CTPAResult",
        used: Settings,
        spent: Stopwatch,
    ) -> dict[str, Any]:
        """Writes a result and publishes its folder; returns the content of result.json."""
        with spent.on("write"):
            self._write(folder.path, generated)
        seconds = spent.seconds | generated.stage_seconds
        content = result_content(radiograph, generated, self.info, used, seconds)
        result_files.write_record(folder.path, to_json(content))
        folder.publish()
        return content

    def _sampled(
        self, pipeline: "XRay2CTPAPipeline", radiograph: Radiograph, work: Path
    ) -> "XRay2CTPAResult":
        """Runs the pipeline and reports its progress; previews are written to ``work``."""
        self._reporter.stage("generate", f"Generating from {radiograph.name}")
        return pipeline(
            radiograph,
            num_inference_steps=self.settings.steps,
            num_samples=self.settings.samples,
            seed=self.settings.seed,
            callback_on_step_end=self.following(1, work),
            callback_on_step_end_tensor_inputs=("latents", "estimate")
            if self._reporter.wants_previews
            else ("latents",),
            force=self.settings.force,
        )

    def following(self, radiographs: int, work: Path | None = None) -> "StepEnd":
        """A callback for the pipeline that reports the progress of so many radiographs; previews, where it
        receives estimates, are written to ``work``."""
        of, done, decoding = self.settings.steps * self.settings.samples * radiographs, 0, math.inf

        def on_step_end(pipeline: Any, _step: int, _timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
            nonlocal done, decoding
            done += len(state["latents"])
            if work is not None and "estimate" in state:
                began = time.monotonic()
                picture = _step_picture(pipeline, state["estimate"][:1], work, done)
                # The time of all slices of all samples, from the fastest time for a preview's slices.
                volumes = self.settings.samples * state["estimate"].shape[2] / len(_PICTURED_SLICES)
                decoding = min(decoding, (time.monotonic() - began) * volumes)
                self._reporter.preview(picture)
            self._reporter.progress("generate", done, of, decoding if decoding < math.inf else 0.0)
            if done == of:
                self._reporter.stage("finish", "Decoding the volume and scoring it")
            return {}

        return on_step_end

    def _write(self, folder: Path, generated: "XRay2CTPAResult") -> None:
        from xray2ctpa_core.explanation.gradcam import label_map
        from xray2ctpa_core.io.preview import render_preview

        radiograph, ctpa, gradcam = generated.radiograph, generated.ctpa, generated.gradcam
        labels = label_map(gradcam.array)
        with ThreadPoolExecutor(1) as aside:  # volumes are packed while the preview is drawn
            opinion_map = generated.radiograph_gradcam
            volumes = aside.submit(
                result_files.write_volumes,
                *(folder, radiograph.name, ctpa, gradcam, labels, generated.spread, opinion_map),
            )
            lines = preview_lines(generated, self.info, self.settings)
            picture = render_preview(
                *(radiograph, generated.frame, ctpa, gradcam, lines),
                None if opinion_map is None else opinion_map.array[0],
            )
            result_files.write_picture(folder / result_files.PREVIEW, picture)
            volumes.result()

    def _warn(self, radiograph: Radiograph, warnings: Sequence[str]) -> None:
        for warning in warnings:
            self._reporter.warning(f"{radiograph.name}: {warning}")


def preview_lines(generated: "XRay2CTPAResult", info: BundleInfo, settings: Settings) -> list[str]:
    """The sentences of preview.png: the score, its meaning, its origin."""
    pe = pe_content(generated, info)
    calibrated = "calibrated" if info.pe.calibrated else "not calibrated"
    samples = counted(settings.samples, "sample")
    samples = samples if settings.samples == 1 else f"mean of {samples}"
    return [
        score_sentence(generated.pe_probability, info.pe.threshold),
        *filter(None, [unreliable(pe)]),
        *([second_opinion_sentence(pe["second_opinion"])] if "second_opinion" in pe else []),
        f"The score ({calibrated}) rates this generated volume, not the patient. A hypothesis, never a "
        "diagnosis; do not use it for patient care.",
        f"Bundle {info.name} {info.version}, trained on {info.trained_on}.",
        f"{settings.scheduler}, {counted(settings.steps, 'step')}, {samples}, seed {settings.seed}.",
    ]


def _step_picture(pipeline: "XRay2CTPAPipeline", estimate: "torch.Tensor", work: Path, number: int) -> Path:
    """Decodes three axial slices of the latents (1, C, D, h, w) estimated so far, in a few milliseconds
    each."""
    from xray2ctpa_core.io.preview import render_step

    slices = pipeline.decode_slices(estimate, _PICTURED_SLICES)
    path = work / f"step-{number:04d}.png"
    result_files.write_picture(path, render_step(slices))
    return path
