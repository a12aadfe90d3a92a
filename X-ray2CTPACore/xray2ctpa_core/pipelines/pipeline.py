"""XRay2CTPAPipeline: one radiograph -> CTPA, PE probability, Grad-CAM, as a diffusers pipeline."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import is_accelerate_available

from xray2ctpa_core import constants
from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.diffusion.alignment import align_map
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling
from xray2ctpa_core.diffusion.residual import diffuses_a_map, sampled_map, to_latents
from xray2ctpa_core.diffusion.sampling import Model, clipped_epsilon, initial_noise, sample_latents
from xray2ctpa_core.diffusion.schedulers import FEW_STEP, is_sampler, make_scheduler, most_steps
from xray2ctpa_core.errors import BundleError, InputError, NotFrontalCXRError, is_out_of_memory
from xray2ctpa_core.explanation.gradcam import gradcam_map
from xray2ctpa_core.models.codecs.as_codec import as_codec
from xray2ctpa_core.models.codecs.codec import SliceCodec
from xray2ctpa_core.models.codecs.fold_codec import FoldCodec
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.denoisers.captured import CapturedDenoiser
from xray2ctpa_core.models.encoders.bank_encoder import BankConditioning, BankEncoder
from xray2ctpa_core.models.encoders.opacities import NOISE, with_opacities
from xray2ctpa_core.models.encoders.opacity_reader import OpacityReader
from xray2ctpa_core.models.framing.lung_frame import LungFrame
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.style_transfer import StyleTransfer
from xray2ctpa_core.models.framing.whole_radiograph import WholeRadiograph
from xray2ctpa_core.models.hu import denormalise_hu, normalise_hu
from xray2ctpa_core.models.memory import in_batches
from xray2ctpa_core.models.protocols import (
    Classifier,
    Conditioning,
    Denoiser,
    FramedRadiograph,
    Framing,
    RadiographEncoder,
    for_denoiser,
)
from xray2ctpa_core.pipelines.bundle import BundleInfo, read_bundle_json, write_bundle_json
from xray2ctpa_core.pipelines.bundle_opinion import carried_opinion, save_carried_opinion
from xray2ctpa_core.pipelines.consistency import agreement
from xray2ctpa_core.pipelines.geometry import before_volume, frame_side_mm, volume_affine
from xray2ctpa_core.pipelines.loading import load_bundle
from xray2ctpa_core.pipelines.parts import NETWORKS, OPTIONAL, is_training_schedule, load_parts
from xray2ctpa_core.pipelines.result import XRay2CTPAResult
from xray2ctpa_core.pipelines.second_opinion import MAP_PIXELS, HeadReader, OpinionReader
from xray2ctpa_core.pipelines.stopwatch import Stopwatch
from xray2ctpa_core.preprocessing.cxr import CxrSettings
from xray2ctpa_core.preprocessing.frame import NORMALISATION, frame_image
from xray2ctpa_core.preprocessing.gate import GateReport
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume

#: diffusers' callback: (pipeline, step, timestep, tensors by name) -> changed tensors by name.
StepEnd = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]
#: Tensors that a callback may request: the diffused variables, and the scaled latents estimated from them.
CALLBACK_TENSORS = ("latents", "estimate")
#: Samples that a GPU draws at once; halved when memory is short. On a CPU batches save no time.
SAMPLES_AT_ONCE = 8
#: Where in the depth opacities lie is drawn with a seed of its own.
_OPACITIES_SEED = 7_919
#: Number of steps from which capturing a GPU's pass, which takes three passes, saves time.
CAPTURED_FROM = 4


class XRay2CTPAPipeline(DiffusionPipeline):
    """A diffusers pipeline; `from_pretrained` takes a bundle's name, folder or Hub id.

    Args:
        autoencoder: the codec (models.codecs.codec.as_codec).
        denoiser: on latents (models.protocols.Denoiser).
        scheduler: noise schedule of the denoiser's training, which the bundle's sampler replaces; or a
            sampler, which is kept.
        xray_encoder: radiograph -> conditioning (models.protocols.RadiographEncoder).
        pe_classifier: scaled latents -> PE logit (models.protocols.Classifier); None for no score and no
            Grad-CAM.
        lung_locator: for the gate, and for the frame if the bundle's framing is "lungs".
        bundle: everything else that a call needs: scaling, geometry, sampling, operating point.
        taught_radiographs: the real radiographs that taught the encoder; None where there were none.
        second_opinion: reads PE off the radiograph alone (a prior); None without.
        style_transfer: translates each radiograph to the style that taught the encoder
            (models.framing.style_transfer); None: it is read as it is.
        opacity_reader: reads what fills the lungs off a radiograph (models.encoders.opacity_reader); samples
            have it. None: what denoiser and codec give. Needs latents that are folded voxels.

    Raises:
        InputError: no bundle.
        BundleError: it requires something that this program does not have.
    """

    #: Large networks, which share a GPU's memory by turns with `enable_model_cpu_offload`. The others are
    #: small, and their methods are called directly.
    model_cpu_offload_seq = "denoiser->autoencoder"
    _exclude_from_cpu_offload = [  # noqa: RUF012 - diffusers'
        "lung_locator", "xray_encoder", "pe_classifier", "style_transfer", "opacity_reader",
    ]  # fmt: skip
    #: Parts that diffusers saves where there are such.
    _optional_components = list(OPTIONAL)  # noqa: RUF012 - diffusers'
    _callback_tensor_inputs = list(CALLBACK_TENSORS)  # noqa: RUF012 - diffusers'

    scheduler: Any

    def __init__(
        self,
        autoencoder: Any,
        denoiser: Denoiser,
        scheduler: Any,
        xray_encoder: RadiographEncoder,
        pe_classifier: Classifier | None,
        lung_locator: LungLocator,
        bundle: BundleInfo | None = None,
        taught_radiographs: TaughtRadiographs | None = None,
        second_opinion: OpinionReader | None = None,
        style_transfer: StyleTransfer | None = None,
        opacity_reader: OpacityReader | None = None,
    ) -> None:
        super().__init__()
        if bundle is None:
            raise InputError("Expected bundle, a BundleInfo, got none.", "It holds what the networks do not.")
        _check_obeyed(bundle)
        if opacity_reader is not None and not isinstance(autoencoder, FoldCodec):
            raise BundleError(
                f"Expected a FoldCodec with an opacity reader, got {type(autoencoder).__name__}.",
                "Opacities are put into voxels; leave the opacity reader out.",
            )
        if isinstance(xray_encoder, BankEncoder) and not isinstance(denoiser, BankDenoiser):
            raise BundleError(
                f"Expected a BankDenoiser with a bank of atlases, got {type(denoiser).__name__}.",
                "Bundles up to 0.9 had another: train their denoiser again (recipe people, step denoiser).",
            )
        self.register_modules(
            autoencoder=autoencoder,
            denoiser=denoiser,
            scheduler=scheduler,
            xray_encoder=xray_encoder,
            pe_classifier=pe_classifier,
            lung_locator=lung_locator,
            style_transfer=style_transfer,
            opacity_reader=opacity_reader,
        )
        self.bundle, self.taught_radiographs, self.second_opinion = bundle, taught_radiographs, second_opinion
        self._codec = as_codec(autoencoder)
        self._captured = CapturedDenoiser(denoiser)
        #: Samples drawn at once; None for the number that suits the device.
        self.samples_at_once: int | None = None
        self._took_fewer_samples = False
        #: Whether the large networks share the device's memory by turns, because they did not fit together.
        self.takes_turns = False
        #: The scheduler that was given: the noise schedule of training, or a sampler.
        self._sampler = scheduler
        if is_training_schedule(scheduler):
            self.set_scheduler(bundle.sampling.scheduler)
        for part in NETWORKS:
            if getattr(self, part) is not None:
                getattr(self, part).eval()
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
        """Loads a bundle that was verified just before; raises BundleError if this program does not support
        it."""
        bundle = read_bundle_json(folder)
        _check_obeyed(bundle)
        return cls(
            **load_parts(folder, dtype),
            bundle=bundle,
            taught_radiographs=TaughtRadiographs.load(folder),
            second_opinion=carried_opinion(folder),
        )

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **settings: Any
    ) -> None:
        """Writes a bundle, from which `from_pretrained` makes a pipeline that gives the same voxels.

        Args:
            save_directory: a new or empty folder, or a bundle.
            settings: of diffusers' save_pretrained; safetensors always.
        """
        folder = Path(save_directory)
        super().save_pretrained(folder, **(settings | {"safe_serialization": True}))
        if self.taught_radiographs is not None:
            self.taught_radiographs.save(folder)
        if self.second_opinion is not None:
            save_carried_opinion(folder, self.second_opinion)
        write_bundle_json(folder, self.bundle)

    @property
    def components(self) -> dict[str, Any]:
        """The constructor's arguments by name, from which a second pipeline with the same networks can be
        made."""
        parts = {name: getattr(self, name) for name in (*NETWORKS, "scheduler")}
        beside = ("bundle", "taught_radiographs", "second_opinion")
        return parts | {name: getattr(self, name) for name in beside}

    def place(self, device: str) -> None:
        """Moves the networks to ``device``; if they do not fit there together, they share its memory by
        turns.

        Raises:
            RuntimeError: of torch, if not even one fits, or accelerate is not installed.
        """
        try:
            self.to(device)
        except (RuntimeError, MemoryError) as error:
            if device == "cpu" or not is_out_of_memory(error) or not is_accelerate_available():
                raise
            self.takes_turns = True
        self._captured.forget()
        if self.takes_turns:  # outside the handler, whose traceback keeps the allocated tensors alive
            self.enable_model_cpu_offload(device=device)

    def set_scheduler(self, name: str) -> None:
        """Sets another sampler for the same noise schedule; the bundle's own name restores the one that was
        given with it.

        Raises:
            InputError: unknown name, or only one of sampler and denoiser is for few steps.
        """
        own = self.bundle.sampling.scheduler
        if (name == FEW_STEP) != (own == FEW_STEP):
            raise InputError(
                f"Expected a sampler that the denoiser of {self.bundle.name} was trained for, got {name!r}.",
                f"Few-step denoisers go with {FEW_STEP} alone, and it with them. Take the bundle's: {own}.",
            )
        if name == own and is_sampler(self._sampler, name):
            self.scheduler = self._sampler
        else:
            self.scheduler = make_scheduler(name, self.scheduler)

    @property
    def framing(self) -> Framing:
        """The conversion of a radiograph to the encoder's input."""
        cxr = self.bundle.cxr
        if cxr.framing == "lungs":
            return LungFrame(self.lung_locator, cxr.frame_pixels)
        settings = CxrSettings(cxr.frame_pixels, cxr.mean, cxr.std, cxr.keep_aspect)
        return WholeRadiograph(self.lung_locator, settings)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, d, h, w) of the diffused variables of one sample."""
        shape = getattr(self.denoiser, "diffused_shape", None)
        if shape is not None:
            return shape
        channels = (
            getattr(self.denoiser, "diffused_channels", None) or self.denoiser.config["latent_channels"]
        )
        depth, height, width = (
            size // factor
            for size, factor in zip(self.bundle.geometry.grid, self._codec.factors, strict=True)
        )
        return channels, depth, height, width

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
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        output_samples: bool = False,
        force: bool = False,
    ) -> XRay2CTPAResult:
        """Generates.

        Args:
            radiograph: one frontal chest radiograph.
            frame: its square that is used; None finds it and applies the gate.
            num_inference_steps: None takes the bundle's.
            num_samples: K >= 1; sample k does not depend on K, but for rounding where a GPU draws several at
                once, which alignment amplifies.
            seed: of the noise.
            generator: a torch.Generator, which is consumed: a new one gives the voxels of its seed, the next
                call with it gives others; or a seed. It takes precedence over ``seed``.
            callback_on_step_end: diffusers' callback, (pipeline, step, timestep, tensors) -> dict; the
                latents in its result replace those diffused so far. Called for each batch of samples.
            callback_on_step_end_tensor_inputs: which of CALLBACK_TENSORS it receives; the estimate of the
                scaled latents (B, C, d, h, w) is computed only if requested.
            output_samples: keep all samples' voxels.
            force: continue if the gate refuses the radiograph.

        Raises:
            NotFrontalCXRError: the gate refuses, unless ``force``.
            InputError: num_samples or num_inference_steps below 1, more steps than the sampler allows, or
                unknown tensors for the callback.
        """
        self._check_asked(num_samples, num_inference_steps)
        clock = Stopwatch(self._wait)
        with clock.on("locate"):
            framed = self.framed(radiograph, frame, force=force)
        (result,) = self.of_framed(
            [framed],
            num_inference_steps=num_inference_steps,
            num_samples=num_samples,
            seed=seed if generator is None else _seed_of(generator),
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            output_samples=output_samples,
        )
        return replace(result, stage_seconds=clock.seconds | result.stage_seconds)

    @torch.no_grad()
    def framed(
        self, radiograph: Radiograph, frame: FrontalFrame | None = None, *, force: bool = False
    ) -> FramedRadiograph:
        """The radiograph as the encoder reads it; arguments and errors as of `__call__`."""
        found = self.framing(radiograph, frame)
        _refuse(found, force)
        return found

    @torch.no_grad()
    def of_framed(
        self,
        framed: Sequence[FramedRadiograph],
        *,
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        output_samples: bool = False,
    ) -> list[XRay2CTPAResult]:
        """What `__call__` gives for each of several radiographs, which share the denoiser's batches unless
        their samples are aligned (see `_latents`).

        Args:
            framed: N, by `framed`.
            num_inference_steps, num_samples, seed, output_samples: as of `__call__`, of each of them.
            callback_on_step_end, callback_on_step_end_tensor_inputs: as there; the samples of a radiograph
                are side by side.

        Returns:
            N results; each has an equal share of the seconds of what was done together.
        """
        self._check_asked(num_samples, num_inference_steps)
        together = Stopwatch(self._wait)
        with together.on("denoise"):
            read = self._read(torch.stack([one.image[None] for one in framed]))
        latents = self._latents(
            read,
            num_samples,
            num_inference_steps,
            seed,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            together,
        )
        shares = {stage: seconds / len(framed) for stage, seconds in together.seconds.items()}
        results = []
        for one, (_, conditioning), its in zip(framed, read, latents.split(num_samples), strict=True):
            result = self._result(one, conditioning, its, output_samples)
            results.append(replace(result, stage_seconds=shares | result.stage_seconds))
        self.maybe_free_model_hooks()
        return results

    def _result(
        self,
        framed: FramedRadiograph,
        conditioning: Conditioning,
        latents: torch.Tensor,
        output_samples: bool,
    ) -> XRay2CTPAResult:
        """What K samples of scaled latents of a radiograph (K, C, d, h, w) mean; seconds of this alone."""
        clock = Stopwatch(self._wait)
        with clock.on("decode"):
            samples = self.decode(latents)
        with clock.on("classify"):
            per_sample = self.probability(self.classify(latents).cpu().double().numpy())
        with clock.on("explain"):
            heat = self.explain(latents[:1])
        opinion = opinion_map = None
        if self.second_opinion is not None:
            with clock.on("second opinion"):
                opinion = self.second_opinion.score(framed.radiograph, framed.frame)
                opinion_map = self.second_opinion.heat(framed.radiograph, framed.frame, MAP_PIXELS)
        with clock.on("check"):
            rule = self.bundle.geometry
            side, source = frame_side_mm(framed.radiograph, framed.frame, rule)
            affine = volume_affine(side, rule)
            seen = frame_image(framed.radiograph.pixels, framed.frame, self.bundle.cxr.frame_pixels)
            unlike = self._unlike_training(conditioning)
            correlation = agreement(samples[0], seen, side, rule.depth_fraction, self._execution_device)
        spread = samples.std(0) if len(samples) > 1 else None
        ctpa = Volume(samples[0], affine)
        return XRay2CTPAResult(
            ctpa=ctpa,
            gradcam=Volume(heat, affine),
            spread=None if spread is None else Volume(spread, affine),
            pe_probability=float(per_sample.mean()) if len(per_sample) else None,
            per_sample=tuple(float(p) for p in per_sample),
            consistency={"frontal_correlation": correlation},
            gate=framed.gate,
            radiograph=framed.radiograph,
            frame=framed.frame,
            geometry_source=source,
            stage_seconds=clock.seconds,
            samples=samples if output_samples else None,
            second_opinion=opinion,
            radiograph_gradcam=None
            if opinion_map is None
            else before_volume(opinion_map, framed.radiograph, framed.frame, ctpa),
            pe_unreliable=_unreliable(framed.gate, unlike),
            notes=((f"{unlike}: the volume is less reliable.",) if unlike else ()) + self._memory_notes(),
        )

    def _check_asked(self, num_samples: int, num_inference_steps: int | None) -> None:
        if num_samples < 1 or (num_inference_steps is not None and num_inference_steps < 1):
            raise InputError(
                f"Expected at least 1 sample and 1 step, got {num_samples} and {num_inference_steps}."
            )
        if (num_inference_steps or 1) > (most := most_steps(self.scheduler)):
            raise InputError(f"Expected at most {most} steps of this sampler, got {num_inference_steps}.")

    @torch.no_grad()
    def condition(self, image: torch.Tensor) -> Conditioning:
        """(B, 1, P, P), as `restyled` gives it -> conditioning of the denoiser."""
        return self.xray_encoder.condition(image.to(self._execution_device))

    def restyled(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P), as the framing makes it -> as the encoder reads it: through the bundle's style
        transfer, where it has one."""
        if self.style_transfer is None:
            return image
        cxr = self.bundle.cxr
        standardised = (cxr.mean, cxr.std) if cxr.framing == "whole" else (0.0, 1.0)
        return self.style_transfer.restyled(image, *standardised)

    @torch.no_grad()
    def sample_latents(
        self,
        image: torch.Tensor,
        num_samples: int = 1,
        num_inference_steps: int | None = None,
        seed: int = 0,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> torch.Tensor:
        """(N, 1, P, P), as the framing makes them -> (N * K, C, d, h, w) scaled latents, K samples of each
        radiograph side by side."""
        return self._latents(
            self._read(image),
            num_samples,
            num_inference_steps,
            seed,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            Stopwatch(),
        )

    def _read(self, images: torch.Tensor) -> list[tuple[torch.Tensor, Conditioning]]:
        """N images, as the framing makes them -> each as the encoder reads it, and its conditioning; one by
        one, so that they do not depend on one another."""
        styled = [self.restyled(one) for one in images.split(1)]
        return [(one, self.condition(one)) for one in styled]

    def _latents(
        self,
        read: Sequence[tuple[torch.Tensor, Conditioning]],
        num_samples: int,
        num_inference_steps: int | None,
        seed: int,
        callback_on_step_end: StepEnd | None,
        callback_on_step_end_tensor_inputs: Sequence[str],
        clock: Stopwatch,
    ) -> torch.Tensor:
        """Radiographs, by `_read` -> their samples, as of `sample_latents`, drawn and aligned in batches; the
        time that this takes counts on ``clock``.

        Sums in a batch of another size differ by the last bits, which alignment amplifies: samples that are
        aligned share batches with those of their own radiograph only, as if that were alone.
        """
        if unknown := sorted(set(callback_on_step_end_tensor_inputs) - set(CALLBACK_TENSORS)):
            raise InputError(f"Expected tensors out of {CALLBACK_TENSORS}, got {unknown}.")
        steps = num_inference_steps or self.bundle.sampling.steps
        conditionings = [conditioning for _, conditioning in read for _ in range(num_samples)]

        def some_samples(numbers: torch.Tensor) -> torch.Tensor:
            drawn = [
                initial_noise(self.latent_shape, seed, int(number) % num_samples, self._execution_device)
                for number in numbers
            ]
            noise = torch.cat([noise for noise, _ in drawn])
            noise[:, : self.denoiser.config["latent_channels"]] *= self.bundle.sampling.temperature
            some = [conditionings[number] for number in numbers]
            generators = [generator for _, generator in drawn]

            def on_step_end(
                step: int, timestep: Any, diffused: torch.Tensor, estimate: Callable[[], torch.Tensor]
            ) -> torch.Tensor:
                if callback_on_step_end is None:
                    return diffused
                tensors = {"latents": diffused}
                if "estimate" in callback_on_step_end_tensor_inputs:
                    tensors["estimate"] = self._to_latents(some, estimate())
                changed = callback_on_step_end(self, step, timestep, tensors) or {}
                return changed.get("latents", diffused)

            model = self._model(for_denoiser(some), steps)
            return sample_latents(model, self.scheduler, noise, steps, generators, on_step_end)

        def take_fewer(at_once: int) -> None:
            self.samples_at_once, self._took_fewer_samples = at_once, True

        all_samples = torch.arange(len(conditionings))
        sharing = all_samples.split(num_samples if self._aligns else len(all_samples))
        with clock.on("denoise"):
            diffused = torch.cat(
                [in_batches(some_samples, some, self._at_once, take_fewer) for some in sharing]
            )

        def some_latents(numbers: torch.Tensor) -> torch.Tensor:
            some = [conditionings[number] for number in numbers]
            theirs = torch.cat([read[int(number) // num_samples][0] for number in numbers])
            return self._to_latents(some, diffused[numbers[0] : numbers[-1] + 1], theirs)

        with clock.on("align"):
            at_once = self.samples_at_once or SAMPLES_AT_ONCE
            latents = torch.cat([in_batches(some_latents, some, at_once, take_fewer) for some in sharing])
        if self.opacity_reader is None:
            return latents
        with clock.on("opacities"):
            shares = [self.opacity_reader.shares(one.to(latents.device)) for one, _ in read]
            return torch.cat(
                [
                    self._with_opacities(
                        case[None], shares[number // num_samples], seed, number % num_samples
                    )
                    for number, case in enumerate(latents)
                ]
            )

    def _with_opacities(
        self, latents: torch.Tensor, shares: torch.Tensor, seed: int, sample: int
    ) -> torch.Tensor:
        """(1, C, d, h, w) scaled latents, with what fills the lungs along the rays (1, 2, h, w)."""
        noise, _ = initial_noise(NOISE, seed + _OPACITIES_SEED, sample, latents.device)
        volume = self._codec.decode(self._scaling.invert(latents))
        volume = with_opacities(volume, shares, noise, self.bundle.hu_window)
        return self._scaling.apply(self._codec.encode(volume)).to(latents)

    @property
    def not_captured(self) -> str:
        """Why the denoiser's last passes were not those of a CUDA graph; "" if they were."""
        return self._captured.reason

    def radiographs_at_once(self, num_samples: int = 1) -> int:
        """Number of radiographs, with so many samples each, that `of_framed` should be given together: as
        many as fill a batch; on a CPU, where that saves little, one by one, so that no last bit depends on
        the others."""
        return max(1, self._at_once // num_samples)

    @property
    def _at_once(self) -> int:
        """Number of samples in one batch."""
        return self.samples_at_once or (1 if self._execution_device.type == "cpu" else SAMPLES_AT_ONCE)

    @property
    def _aligns(self) -> bool:
        """Whether samples are aligned with the radiograph."""
        return self.bundle.sampling.alignment > 0 and diffuses_a_map(self.denoiser)

    def _wait(self) -> None:
        """Waits until the device has finished."""
        if self._execution_device.type == "cuda":
            torch.cuda.synchronize(self._execution_device)

    def _model(self, conditioning: Conditioning, steps: int) -> Model:
        """The denoiser as a function for the sampler: captured if the number of calls makes that worthwhile,
        with the bundle's guidance and clipping."""
        sampling = self.bundle.sampling
        if self._captured.denoiser is not self.denoiser:
            self._captured = CapturedDenoiser(self.denoiser)
        denoiser = self._captured if steps >= CAPTURED_FROM else self.denoiser
        self._captured.reason = "" if steps >= CAPTURED_FROM else f"{steps} steps are not worth it"

        def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            entered = sample.to(self.denoiser.dtype)
            predicted = denoiser(entered, timestep, conditioning).float()
            if sampling.guidance_scale != 1:
                nothing = self.denoiser.null_conditioning(len(sample))
                unguided = denoiser(entered, timestep, nothing).float()
                predicted = unguided + sampling.guidance_scale * (predicted - unguided)
            if sampling.largest_latent:
                predicted = clipped_epsilon(
                    self.scheduler, sample, predicted, timestep, sampling.largest_latent
                )
            return predicted

        return model

    def _to_latents(
        self,
        conditionings: Sequence[Conditioning],
        diffused: torch.Tensor,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What was diffused for B samples, with each one's conditioning -> (B, C, d, h, w) scaled latents;
        aligned with ``image`` (B, 1, P, P), their radiographs', where it is given."""
        samples = list(zip(conditionings, diffused.split(1), strict=True))
        if not diffuses_a_map(self.denoiser):
            return torch.cat([to_latents(self.denoiser, *sample) for sample in samples])
        sampling = self.bundle.sampling
        drawn = [sampled_map(self.denoiser, *sample, sampling.map_spread) for sample in samples]
        aligned: Sequence[torch.Tensor] = drawn
        if image is not None and self._aligns:
            atlas, window = self.xray_encoder.atlas, self.bundle.hu_window
            aligned = align_map(atlas, torch.cat(drawn), image, window, sampling.alignment).split(1)
        return torch.cat(
            [
                to_latents(self.denoiser, *sample, *maps)
                for sample, *maps in zip(samples, drawn, aligned, strict=True)
            ]
        )

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """(K, C, d, h, w) scaled latents -> (K, D, H, W) float32 HU, one case at a time."""
        cases = [self._codec.decode(self._scaling.invert(case[None])) for case in latents]
        return np.stack([self._hu(volume)[0, 0] for volume in cases])

    @torch.no_grad()
    def decode_slices(self, latents: torch.Tensor, where: Sequence[float]) -> np.ndarray:
        """(1, C, d, h, w) scaled latents -> (N, H, W) float32 HU: the axial slices at ``where`` in [0, 1)."""
        unscaled = self._scaling.invert(latents).expand(len(where), -1, -1, -1, -1)
        places = torch.tensor(where, device=latents.device)
        return self._hu(self._codec.decode_slices(unscaled, places))[:, 0]

    def _hu(self, values: torch.Tensor) -> np.ndarray:
        return denormalise_hu(values, self.bundle.hu_window).cpu().numpy()

    @torch.no_grad()
    def encode(self, volume: Any) -> torch.Tensor:
        """(K, D, H, W) HU -> (K, C, d, h, w) scaled latents (the posterior's mean)."""
        hu = torch.as_tensor(volume, dtype=torch.float32).to(self._execution_device)
        return self._scaling.apply(self._codec.encode(normalise_hu(hu, self.bundle.hu_window)[:, None]))

    @torch.no_grad()
    def classify(self, latents: torch.Tensor) -> torch.Tensor:
        """(K, C, d, h, w) scaled latents -> (K,) uncalibrated logits of PE, on a CPU one case at a time; (0,)
        without classifier."""
        if self.pe_classifier is None:
            return torch.zeros(0)
        return in_batches(lambda some: self.pe_classifier(some.float()).squeeze(1), latents, self._at_once)

    def explain(self, latents: torch.Tensor) -> np.ndarray:
        """(1, C, d, h, w) latents -> (D, H, W) float32 in 0..1, Grad-CAM of the PE classifier; 1 is the
        bundle's full heat. All 0 without classifier."""
        if self.pe_classifier is None:
            return np.zeros(self.bundle.geometry.grid, np.float32)
        layer, full = self.pe_classifier.gradcam_layer, self.bundle.full_heat
        grid = self.bundle.geometry.grid
        return gradcam_map(self.pe_classifier, layer, latents, grid, full)  # type: ignore[arg-type]

    @torch.no_grad()
    def classify_radiograph(self, image: torch.Tensor) -> torch.Tensor | None:
        """(1, 1, P, P) frame image -> (1,) logit of PE from the radiograph alone; None if the encoder has no
        PE head."""
        encoder = self.xray_encoder
        if not HeadReader.fits(encoder):
            return None
        return encoder(self.restyled(image).to(self._execution_device, encoder.dtype)).pe_logit.float()

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Logits -> probabilities, by the bundle's Platt scaling."""
        return 1 / (1 + np.exp(-(self.bundle.pe.platt_a * logits + self.bundle.pe.platt_b)))

    @property
    def _scaling(self) -> LatentScaling:
        return LatentScaling(self.bundle.latents.mean, self.bundle.latents.std)

    def _unlike_training(self, conditioning: Conditioning) -> str:
        """How a radiograph differs from those of training, without a full stop; "" where it does not."""
        features = conditioning.features if isinstance(conditioning, BankConditioning) else None
        found = None if features is None else self.xray_encoder.distance(features)
        if found is None:
            return ""
        distance, usual = float(found), self.xray_encoder.config["usual_distance"]
        if distance <= usual:
            return ""
        return (
            f"This radiograph differs from those of the model's training (distance {distance:.2f}; 95 % of "
            f"them have at most {usual:.2f})"
        )

    def _memory_notes(self) -> tuple[str, ...]:
        done = []
        if self.takes_turns:
            done.append("denoiser and autoencoder took turns in it")
        if self._took_fewer_samples:
            done.append(f"samples were drawn {self.samples_at_once} at a time")
        if isinstance(self._codec, SliceCodec) and self._codec.at_once is not None:
            done.append(f"slices were decoded {self._codec.at_once} at a time")
        return tuple(f"Memory was short: {what}; the volume is the same." for what in done)


def _unreliable(gate: GateReport, unlike: str) -> str | None:
    """Why PE score and Grad-CAM mean nothing for a radiograph; None where nothing speaks against them."""
    if not gate.accepted:
        return (
            f"The input gate refused this image ({gate.is_frontal_cxr:.2f} of 1): "
            "PE score and Grad-CAM mean nothing."
        )
    return f"{unlike}: PE score and Grad-CAM mean little." if unlike else None


def _seed_of(generator: torch.Generator | int) -> int:
    """A seed from a generator, which is advanced, so that its next use gives another."""
    if not isinstance(generator, torch.Generator):
        return generator
    seed = generator.initial_seed()
    fresh = torch.Generator(generator.device).manual_seed(seed)
    is_fresh = torch.equal(generator.get_state(), fresh.get_state())
    drawn = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return seed if is_fresh else int(drawn)


def _check_obeyed(bundle: BundleInfo) -> None:
    """Raises BundleError if a bundle requires a preprocessing or geometry that this program does not have."""
    of_lungs = bundle.cxr.framing == "lungs"
    rules = {
        "cxr.frame_margin": (bundle.cxr.frame_margin, constants.FRAME_MARGIN if of_lungs else 1.0),
        "cxr.normalisation": (bundle.cxr.normalisation, NORMALISATION if of_lungs else "standardised"),
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


def _refuse(framed: FramedRadiograph, force: bool) -> None:
    if framed.gate.accepted or force:
        return
    reasons = " ".join(framed.gate.warnings)
    raise NotFrontalCXRError(
        f"Expected an upright, complete frontal chest radiograph; {framed.radiograph.name or 'the image'} "
        f"scores {framed.gate.is_frontal_cxr:.2f} of 1. {reasons}".rstrip(),
        "Give a frontal chest radiograph, or go on with --force (the result would mean nothing for another "
        "image).",
    )
