"""XRay2CTPAPipeline: one radiograph -> CTPA, PE probability, Grad-CAM, as a diffusers pipeline."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline
from diffusers.utils import is_accelerate_available

from xray2ctpa_core import constants
from xray2ctpa_core.data.taught_radiographs import TaughtFilms
from xray2ctpa_core.diffusion.alignment import align_map
from xray2ctpa_core.diffusion.residual import sampled_map, to_latents
from xray2ctpa_core.diffusion.sampling import initial_noise, sample_latents
from xray2ctpa_core.diffusion.schedulers import FEW_STEP, make_scheduler, most_steps
from xray2ctpa_core.errors import BundleError, InputError, NotFrontalCXRError, is_out_of_memory
from xray2ctpa_core.explanation.gradcam import gradcam_map
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.codecs.slices import (
    from_autoencoder,
    slices_at_once,
    slices_to_volumes,
    to_autoencoder,
    volumes_to_slices,
)
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder, XrayFeatures
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.models.hu import denormalise_hu, normalise_hu
from xray2ctpa_core.pipelines.bundle import BundleInfo, read_bundle_json
from xray2ctpa_core.pipelines.consistency import agreement
from xray2ctpa_core.pipelines.geometry import frame_side_mm, volume_affine
from xray2ctpa_core.pipelines.loading import load_bundle
from xray2ctpa_core.pipelines.memory import in_batches
from xray2ctpa_core.preprocessing.frame import NORMALISATION, frame_image
from xray2ctpa_core.preprocessing.gate import GateReport
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume

StepEnd = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class XRay2CTPAResult:
    """What one radiograph gives.

    Attributes:
        ctpa: Volume, float32 HU: the first sample, the same whatever K.
        gradcam: Volume, float32 in 0..1, same grid; of the first sample. 1 stands for the bundle's full heat,
            or for the volume's own strongest where the bundle has none.
        spread: Volume, float32 HU standard deviation over samples; None for one sample.
        pe_probability: mean of per_sample, calibrated as the bundle says.
        per_sample: probability of each sample.
        consistency: {"frontal_correlation": -1..1} of the volume's projection with the radiograph.
        gate: the judgement of the film; full marks where the caller gave the frame.
        radiograph: the film as it was read: given greys, or turned back where they were inverted.
        frame: the film's square that the volume corresponds to.
        geometry_source: where the volume's size in mm comes from.
        stage_seconds: seconds by stage.
        samples: (K, D, H, W) float32 HU, on request.
        notes: what was done otherwise than asked, as sentences: for lack of memory.
    """

    ctpa: Volume
    gradcam: Volume
    spread: Volume | None
    pe_probability: float
    per_sample: tuple[float, ...]
    consistency: dict[str, float]
    gate: GateReport
    radiograph: Radiograph
    frame: FrontalFrame
    geometry_source: str
    stage_seconds: dict[str, float]
    samples: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class XRay2CTPAPipeline(DiffusionPipeline):
    """A diffusers pipeline; `from_pretrained` takes a bundle's name, folder or Hub id.

    Args:
        autoencoder: 2D KL autoencoder on slices.
        denoiser: 3D denoiser on latents.
        scheduler: noise schedule the denoiser was trained with; `set_scheduler` swaps the sampler.
        xray_encoder: radiograph's frame -> features.
        pe_classifier: latents -> PE logit.
        lung_locator: film -> frame and gate. Beside the design's five components: the frame in which the
            others were trained depends on it, so it must travel with them.
    """

    #: The large networks, which take turns in a GPU's memory by `enable_model_cpu_offload`; the others are
    #: small, and parts of them are called by themselves.
    model_cpu_offload_seq = "denoiser->autoencoder"
    _exclude_from_cpu_offload = ["lung_locator", "xray_encoder", "pe_classifier"]  # noqa: RUF012 - diffusers'

    bundle: BundleInfo
    #: None where the bundle learned from virtual films alone.
    taught_films: TaughtFilms | None = None
    scheduler: Any
    #: Slices the autoencoder takes at once; halves where memory is short.
    slices_at_once: int
    #: Whether the large networks take turns in the device's memory, for they did not fit together.
    takes_turns: bool = False

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        denoiser: SpatialDenoiser,
        scheduler: Any,
        xray_encoder: XrayEncoder,
        pe_classifier: PEClassifier,
        lung_locator: LungLocator,
    ) -> None:
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder,
            denoiser=denoiser,
            scheduler=scheduler,
            xray_encoder=xray_encoder,
            pe_classifier=pe_classifier,
            lung_locator=lung_locator,
        )
        self.set_progress_bar_config(disable=True)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        torch_dtype: torch.dtype = torch.float32,
    ) -> "XRay2CTPAPipeline":
        """Loads a verified bundle.

        Args:
            name: embedded bundle, folder, or Hub id.
            revision: of a Hub id.
            torch_dtype: of the networks.

        Raises:
            BundleError: missing, damaged or incompatible.
        """
        folder, _ = load_bundle(name, revision)
        return cls.from_folder(folder, torch_dtype)

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> "XRay2CTPAPipeline":
        """Loads a bundle that was verified just before; raises BundleError where this code cannot obey it."""
        bundle = read_bundle_json(folder)
        _check_obeyed(bundle)
        networks = {
            "autoencoder": AutoencoderKL,
            "denoiser": SpatialDenoiser,
            "xray_encoder": XrayEncoder,
            "pe_classifier": PEClassifier,
            "lung_locator": LungLocator,
        }
        # Small, and their decisions hang on thresholds: in single precision always.
        single = ("pe_classifier", "lung_locator")
        parts = {
            part: network.from_pretrained(
                folder / part,
                torch_dtype=torch.float32 if part in single else dtype,
                use_safetensors=True,
            )
            for part, network in networks.items()
        }
        pipeline = cls(scheduler=DDPMScheduler.from_pretrained(folder / "scheduler"), **parts)
        pipeline.bundle = bundle
        pipeline.taught_films = TaughtFilms.load(folder)
        pipeline.slices_at_once = _most_slices(bundle)
        pipeline.set_scheduler(bundle.sampling.scheduler)
        for part in networks:
            getattr(pipeline, part).eval()
        return pipeline

    def place(self, device: str) -> None:
        """Moves the networks to ``device``; those that do not fit there together take turns.

        Raises:
            RuntimeError: of torch's, where not even one fits, or accelerate is not installed.
        """
        try:
            self.to(device)
        except (RuntimeError, MemoryError) as error:
            if device == "cpu" or not is_out_of_memory(error) or not is_accelerate_available():
                raise
            self.takes_turns = True
        if self.takes_turns:  # outside the handler, whose traceback holds what was allocated
            self.enable_model_cpu_offload(device=device)

    def set_scheduler(self, name: str) -> None:
        """Takes another sampler for the same noise schedule.

        Raises:
            InputError: unknown name, or a few-step denoiser and another's sampler, or the other way round.
        """
        own = self.bundle.sampling.scheduler
        if (name == FEW_STEP) != (own == FEW_STEP):
            raise InputError(
                f"Expected a sampler that the denoiser of {self.bundle.name} was trained for, got {name!r}.",
                f"Few-step denoisers go with {FEW_STEP} alone, and it with them. Take the bundle's: {own}.",
            )
        self.scheduler = make_scheduler(name, self.scheduler)

    @torch.no_grad()
    def __call__(
        self,
        radiograph: Radiograph,
        *,
        frame: FrontalFrame | None = None,
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        generator: torch.Generator | int | None = None,
        callback_on_step_end: StepEnd | None = None,
        output_samples: bool = False,
        force: bool = False,
    ) -> XRay2CTPAResult:
        """Generates.

        Args:
            radiograph: one frontal chest film.
            frame: its square to read; None finds it and applies the gate.
            num_inference_steps: None takes the bundle's.
            num_samples: K >= 1; sample k is the same whatever K.
            seed: of the noise.
            generator: a torch.Generator, whose initial seed is taken, or a seed; goes before ``seed``.
            callback_on_step_end: diffusers' callback, (pipeline, step, timestep, state) -> dict; the state
                holds the "latents" and the "estimate" of the clean ones, (1, C, D, h, w).
            output_samples: keep all samples' voxels.
            force: go on although the gate refuses the film.

        Raises:
            NotFrontalCXRError: the gate refuses, unless ``force``.
            InputError: num_samples or num_inference_steps below 1, or more steps than the sampler takes.
        """
        if num_samples < 1 or (num_inference_steps is not None and num_inference_steps < 1):
            raise InputError(
                f"Expected at least 1 sample and 1 step, got {num_samples} and {num_inference_steps}."
            )
        if (num_inference_steps or 1) > (most := most_steps(self.scheduler)):
            raise InputError(f"Expected at most {most} steps of this sampler, got {num_inference_steps}.")
        if generator is not None:
            seed = generator.initial_seed() if isinstance(generator, torch.Generator) else generator
        clock = _Clock()
        if frame is None:
            reading = frame_radiograph(self.lung_locator, radiograph)
            radiograph, frame, gate = reading.radiograph, reading.frame, reading.gate
            _refuse(gate, radiograph, force)
        else:
            gate = GateReport(1.0, (), True)
        image = torch.from_numpy(frame_image(radiograph.pixels, frame, self.bundle.cxr.frame_pixels))
        clock.lap("locate")
        latents = self.sample_latents(
            image[None, None], num_samples, num_inference_steps, seed, callback_on_step_end
        )
        clock.lap("denoise")
        samples = self.decode(latents)
        clock.lap("decode")
        logits = self.classify(latents).cpu().double().numpy()
        per_sample = self.probability(logits)
        clock.lap("classify")
        heat = self.explain(latents[:1])
        clock.lap("explain")
        side, source = frame_side_mm(radiograph, frame, self.bundle.geometry)
        affine = volume_affine(side, self.bundle.geometry)
        correlation = agreement(samples[0], image.numpy(), side, self.bundle.geometry.depth_fraction)
        clock.lap("check")
        spread = samples.std(0) if num_samples > 1 else None
        self.maybe_free_model_hooks()
        return XRay2CTPAResult(
            ctpa=Volume(samples[0], affine),
            gradcam=Volume(heat, affine),
            spread=None if spread is None else Volume(spread, affine),
            pe_probability=float(per_sample.mean()),
            per_sample=tuple(float(p) for p in per_sample),
            consistency={"frontal_correlation": correlation},
            gate=gate,
            radiograph=radiograph,
            frame=frame,
            geometry_source=source,
            stage_seconds=clock.seconds,
            samples=samples if output_samples else None,
            notes=self._memory_notes(),
        )

    @torch.no_grad()
    def features(self, image: torch.Tensor) -> XrayFeatures:
        """(B, 1, P, P) frame images in [0, 1] -> the encoder's features."""
        return self.xray_encoder(image.to(self._execution_device, self.xray_encoder.dtype))

    @torch.no_grad()
    def sample_latents(
        self,
        image: torch.Tensor,
        num_samples: int = 1,
        num_inference_steps: int | None = None,
        seed: int = 0,
        callback_on_step_end: StepEnd | None = None,
    ) -> torch.Tensor:
        """(1, 1, P, P) frame image -> (K, C, D, h, w) standardised latents, one sample at a time."""
        steps = num_inference_steps or self.bundle.sampling.steps
        features = self.features(image)
        spatial = None  # a `global` denoiser takes none
        if self.denoiser.config["spatial_channels"]:
            spatial = self.xray_encoder.spatial_conditioning(features)
        latent_channels = self.denoiser.config["latent_channels"]
        shape = (self.denoiser.diffused_channels, *self.xray_encoder.config["latent_grid"])

        def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            dtype = self.denoiser.dtype
            return self.denoiser(sample.to(dtype), timestep, features.embedding, spatial).float()

        def on_step_end(step: int, timestep: Any, latents: torch.Tensor, estimate: torch.Tensor) -> None:
            if callback_on_step_end is not None:
                estimate = to_latents(self.denoiser, self.xray_encoder, features, estimate)
                callback_on_step_end(self, step, timestep, {"latents": latents, "estimate": estimate})

        kept = []
        for number in range(num_samples):
            noise, generator = initial_noise(shape, seed, number, self._execution_device)
            noise[:, :latent_channels] *= self.bundle.sampling.temperature
            diffused = sample_latents(model, self.scheduler, noise, steps, generator, on_step_end)
            aligned = self._aligned_map(features, diffused, image)
            kept.append(to_latents(self.denoiser, self.xray_encoder, features, diffused, aligned))
        return torch.cat(kept)

    def _aligned_map(
        self, features: XrayFeatures, diffused: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor | None:
        """The sample's map into the atlas, moved to agree with the film; None without an atlas."""
        if self.xray_encoder.atlas is None or self.denoiser.config["map_std"] is None:
            return None
        return align_map(
            self.xray_encoder.atlas,
            sampled_map(self.denoiser, features, diffused, self.bundle.sampling.map_spread),
            image,
            self.bundle.hu_window,
            self.bundle.sampling.alignment,
        )

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """(K, C, D, h, w) standardised latents -> (K, D, H, W) float32 HU."""
        mean, std = self._statistics()
        volumes = []
        for case in (latents * std + mean).to(self.autoencoder.dtype):
            slices = in_batches(
                lambda part: from_autoencoder(self.autoencoder.decode(part).sample.float()),
                case.transpose(0, 1),
                self.slices_at_once,
                self._take_fewer_slices,
            )
            volumes.append(denormalise_hu(slices[:, 0], self.bundle.hu_window).cpu())
        return torch.stack(volumes).numpy()

    def _take_fewer_slices(self, at_once: int) -> None:
        self.slices_at_once = at_once

    def _memory_notes(self) -> tuple[str, ...]:
        done = []
        if self.takes_turns:
            done.append("denoiser and autoencoder took turns in it")
        if self.slices_at_once != _most_slices(self.bundle):
            done.append(f"slices were decoded {self.slices_at_once} at a time")
        return tuple(f"Memory was short: {what}; the volume is the same." for what in done)

    @torch.no_grad()
    def encode(self, volume: Any) -> torch.Tensor:
        """(K, D, H, W) HU -> (K, C, D, h, w) standardised latents (the posterior's mean)."""
        hu = torch.as_tensor(volume, dtype=torch.float32).to(self._execution_device)
        slices = volumes_to_slices(normalise_hu(hu, self.bundle.hu_window)[:, None])
        folded = to_autoencoder(slices, self.autoencoder.config["in_channels"]).to(self.autoencoder.dtype)
        encoded = [
            self.autoencoder.encode(part).latent_dist.mean.float()
            for part in folded.split(self.slices_at_once)
        ]
        mean, std = self._statistics()
        return (slices_to_volumes(torch.cat(encoded), len(hu)) - mean) / std

    @torch.no_grad()
    def classify(self, latents: torch.Tensor) -> torch.Tensor:
        """(K, C, D, h, w) standardised latents -> (K,) uncalibrated logits of PE, one case at a time."""
        return torch.cat([self.pe_classifier(case[None].float()).squeeze(1) for case in latents])

    def explain(self, latents: torch.Tensor) -> np.ndarray:
        """(1, C, D, h, w) latents -> (D, H, W) float32 in 0..1, what in them speaks for PE, by Grad-CAM; 1 is
        the bundle's full heat."""
        layer, full = self.pe_classifier.gradcam_layer, self.bundle.full_heat
        grid = self.bundle.geometry.grid
        return gradcam_map(self.pe_classifier, layer, latents, grid, full)  # type: ignore[arg-type]

    def classify_radiograph(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 1, P, P) frame image -> (1,) logit of PE from the radiograph alone."""
        return self.features(image).pe_logit.float()

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Logits -> probabilities, by the bundle's Platt scaling."""
        return 1 / (1 + np.exp(-(self.bundle.pe.platt_a * logits + self.bundle.pe.platt_b)))

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        statistics = self.bundle.latents
        mean, std = (
            torch.tensor(v, device=self._execution_device).reshape(1, -1, 1, 1, 1)
            for v in (statistics.mean, statistics.std)
        )
        return mean, std


def _most_slices(bundle: BundleInfo) -> int:
    """That the autoencoder takes at once where memory is not short."""
    return slices_at_once(*bundle.geometry.grid[1:])


def _check_obeyed(bundle: BundleInfo) -> None:
    """Raises BundleError where a bundle asks for a preprocessing or geometry that the code has not."""
    rules = {
        "cxr.frame_margin": (bundle.cxr.frame_margin, constants.FRAME_MARGIN),
        "cxr.normalisation": (bundle.cxr.normalisation, NORMALISATION),
        "geometry.source_to_detector_mm": (
            bundle.geometry.source_to_detector_mm,
            constants.SOURCE_TO_DETECTOR_MM,
        ),
        "geometry.detector_to_centre_mm": (
            bundle.geometry.detector_to_centre_mm,
            constants.DETECTOR_TO_CENTRE_MM,
        ),
    }
    for field, (asked, known) in rules.items():
        if asked != known:
            raise BundleError(
                f"Bundle {bundle.name} asks for {field} = {asked!r}; this program knows {known!r} alone.",
                "Use the version of the program that the bundle was made with.",
            )


def _refuse(gate: GateReport, radiograph: Radiograph, force: bool) -> None:
    if gate.accepted or force:
        return
    reasons = " ".join(gate.warnings)
    raise NotFrontalCXRError(
        f"Expected an upright, complete frontal chest radiograph; {radiograph.name or 'the image'} scores "
        f"{gate.is_frontal_cxr:.2f} of 1. {reasons}".rstrip(),
        "Give a frontal chest film, or go on with --force (the result would mean nothing for another image).",
    )


class _Clock:
    """Seconds of consecutive stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = now - self._last
        self._last = now
