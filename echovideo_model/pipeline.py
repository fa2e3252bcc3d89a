"""From one photo and a sentence to frames, with one network on the device at a time.

Weights stay in main memory, mapped from their files; each network is lent to the device while it works, so the
device holds the largest one (the transformer: 11.2 GB in bf16, about 6.5 GB in fp8) and never their sum. Where many
videos are made and the device has room for all, they can stay (stay_on_device).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import __version__
from .devices import find_device, on_device, read_total_memory
from .errors import InvalidRequest, ModelFileMissing
from .face.align import face_latent_pixels
from .face.choice import LARGEST, FaceChoice
from .facts import ModelFacts, read_facts
from .identity import FaceEncoders, Identity, Photo, check_identity_fits, identify
from .progress import OnProgress
from .request import Request
from .samplers import Noise, OnStep, SeededNoise, sample
from .schedule import Step, guidance_scale, plan_steps
from .text import TextEncoder
from .transformer import EchoVideoTransformer
from .vae.autoencoder import LATENT_SCALE, CogVideoXVAE
from .weights.folders import explain_download, find_default_folder, require
from .weights.loading import (
    TRANSFORMER,
    VAE,
    Network,
    inspect,
    load_vae,
    read_transformer_sizes,
)
from .weights.merging import Lora, check_loras, load_with_loras

FACES = ("clip_visual_encoder", "face_encoder")
VIDEOS = ("text_encoder", "tokenizer", "transformer", "vae")
WORKING_MEMORY = 16 << 30  # bytes beside the weights; an estimate with a margin, for 49 frames at 480 x 848

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A finished video: frames float32 [F, H, W, 3] in 0..1 on the CPU, latents [1, 16, t, h, w] scaled by 0.7."""

    request: Request
    frames: Tensor
    latents: Tensor
    seconds: dict[str, float]  # per stage, of what was done for this video and not for an earlier one
    loras: tuple[Lora, ...] = ()

    def metadata(self) -> dict[str, str]:
        """What a video file should remember."""
        loras = {"loras": ", ".join(map(str, self.loras))} if self.loras else {}
        return {**self.request.metadata(), **loras, "software": f"echovideo {__version__}"}


class Pipeline:
    """The released models in one folder, loaded as they are needed and kept for the next video."""

    def __init__(
        self,
        models: str | Path | None = None,
        device: torch.device | str | None = None,
        storage: torch.dtype | None = None,
        transformer: str | Path | None = None,
        on_progress: OnProgress | None = None,
        loras: Sequence[Lora] = (),
    ) -> None:
        """models: the folder (see `echovideo models`), by default weights.folders.find_default_folder().

        device: by default CUDA, else Apple's GPU, else the CPU. storage: what the transformer's weights are kept
        as; the file's own by default, float8_e4m3fn for GPUs of 12 GB. transformer: another file or folder for it.
        on_progress: sees the stages "loading ..." (in bytes), "face", "text", "face latent", "sampling", "decoding".
        loras: merged into the transformer when it is loaded.
        """
        self.models = Path(models) if models is not None else find_default_folder()
        self.device = find_device(device)
        self.storage = storage
        self.on_progress = on_progress
        self.loras = tuple(loras)
        self._transformer_path = transformer
        self._stay = False
        on_gpu = self.device.type != "cpu"
        self.dtype = torch.bfloat16 if on_gpu else torch.float32
        self.vae_dtype = torch.float16 if on_gpu else torch.float32  # as the reference decodes

    @cached_property
    def facts(self) -> ModelFacts:
        """What the transformer was trained on."""
        return read_facts(self._path("transformer"))

    @cached_property
    def face_encoders(self) -> FaceEncoders:
        self._require(FACES)
        return FaceEncoders.load(self.models)

    @cached_property
    def text_encoder(self) -> TextEncoder:
        weights, tokenizer = self._path("text_encoder"), self._path("tokenizer")
        tokens = read_transformer_sizes(self._path("transformer")).iitf.text_tokens
        return TextEncoder.load(
            weights, tokenizer, on_bytes=self._report_on("loading text encoder", "bytes"), tokens=tokens
        )

    @cached_property
    def transformer(self) -> EchoVideoTransformer:
        on_bytes = self._report_on("loading transformer", "bytes")
        return load_with_loras(self._path("transformer"), self.loras, self.storage, on_bytes)

    @cached_property
    def vae(self) -> CogVideoXVAE:
        return load_vae(self._path("vae"), self.vae_dtype, on_bytes=self._report_on("loading VAE", "bytes"))

    def check(self, faces: bool = True) -> None:
        """Raise what can be known before minutes of work: ModelFileMissing, naming all that is missing, and
        WrongModelFile by the headers of what will be loaded. `faces`: whether `identify` will be called."""
        self._require((*FACES, *VIDEOS) if faces else VIDEOS)
        inspect(self._path("text_encoder"))
        for name, family in (("transformer", TRANSFORMER), ("vae", VAE)):
            found = inspect(self._path(name))
            if found.family != family or not found.complete:
                getattr(self, name)  # loading it says what is wrong
        check_loras(self._path("transformer"), self.loras)

    def stay_on_device(self, share: float = 1.0) -> bool:
        """From now on networks stay on the device between calls, which saves moving them, if there is room: if `share`
        of its memory holds the text encoder, the transformer and the VAE together and WORKING_MEMORY. Says whether."""
        if room := share * read_total_memory(self.device):
            networks = self.text_encoder.network, self.transformer, self.vae
            weights = sum(parameter.nbytes for network in networks for parameter in network.parameters())
            self._stay = room >= weights + WORKING_MEMORY
        return self._stay

    def identify(
        self,
        photos: Photo | Sequence[Photo],
        choice: FaceChoice = LARGEST,
        masks: Sequence[np.ndarray] | None = None,
    ) -> Identity:
        """The person in the photo, or in several photos of one person; see identity.identify."""
        return identify(photos, self.face_encoders, choice, self._report_on("face", "steps"), masks)

    def generate(self, identity: Identity, request: Request) -> Result:
        """One video of that person doing what the prompt says; see generate_all."""
        return next(self.generate_all(identity, [request]))

    @torch.no_grad()  # not inference_mode, whose tensors the caller could not work on
    def generate_all(self, identity: Identity, requests: Sequence[Request]) -> Iterator[Result]:
        """The videos one after another, each as soon as it is done; prompts are encoded together, first.

        The same request and seed give the same video on any device, up to rounding: all randomness is drawn on
        the CPU, per video, in the reference's order. Raises InvalidRequest when a step yields NaN, and before any work
        for an identity that other face encoders made.
        """
        check_identity_fits(identity, self.facts)
        warnings = [warning for request in requests for warning in request.warnings(self.facts)]
        if identity.whole_person and not self.facts.whole_person:
            warnings.append(
                "the model was trained on faces only, so an identity of the whole person is experimental"
            )
        for warning in dict.fromkeys(warnings):
            logger.warning(warning)
        clock = _Clock()
        text = self.encode_prompts([text for r in requests for text in (r.negative_prompt, r.prompt)])
        clock.lap("text")
        for request in requests:
            yield self._make(identity, request, text, clock)
            clock = _Clock()

    @torch.no_grad()
    def make(self, identity: Identity, request: Request, text: dict[str, Tensor]) -> Result:
        """One video from prompts that `encode_prompts` has encoded before; see generate_all."""
        check_identity_fits(identity, self.facts)
        return self._make(identity, request, text, _Clock())

    def _make(self, identity: Identity, request: Request, text: dict[str, Tensor], clock: _Clock) -> Result:
        noise = SeededNoise(request.seed, request.latent_shape)
        x = noise.initial()
        face_latent = None
        if request.face_latent:
            face_latent = self.encode_face(identity, request.height, request.width, noise.face())
            self._report_on("face latent", "pictures")(1, 1)
        clock.lap("face latent")
        prompts = text[request.negative_prompt], text[request.prompt]
        report = self._report_on("sampling", "steps")

        def on_step(step: Step, steps: int, x: Tensor, x0: Tensor) -> None:
            report(step.index + 1, steps)

        report(0, request.steps)
        latents = self.denoise(identity, request, prompts, x, face_latent, noise.step, on_step)
        clock.lap("sampling")
        frames = self.decode(latents, self._report_on("decoding", "chunks"))
        clock.lap("decoding")
        return Result(request, frames, latents, clock.seconds, self.loras)

    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """{prompt: text tokens [1, 226, 4096] on the CPU}, each prompt encoded once."""
        prompts = list(dict.fromkeys(prompts))
        report = self._report_on("text", "prompts")
        encoded = {}
        with self._lend(self.text_encoder.network):
            for done, prompt in enumerate(prompts, 1):
                encoded[prompt] = self.text_encoder.encode([prompt]).to("cpu")
                report(done, len(prompts))
        return encoded

    @torch.no_grad()
    def encode_face(self, identity: Identity, height: int, width: int, noise: Tensor) -> Tensor:
        """The face latent [1, 16, 1, h, w], scaled by 0.7: the sample of the VAE's posterior that unit `noise` of
        this shape picks."""
        pixels = face_latent_pixels(identity.face_picture, height, width)[None, :, None]  # [1, 3, 1, H, W]
        with self._lend(self.vae):
            mean, logvar = self.vae.encode(pixels.to(self.device, self.vae_dtype))
        mean, deviation = mean.float().cpu(), (0.5 * logvar.float().cpu()).exp()
        return LATENT_SCALE * (mean + deviation * noise)

    @torch.no_grad()
    def denoise(
        self,
        identity: Identity,
        request: Request,
        text: tuple[Tensor, Tensor],
        x: Tensor,
        face_latent: Tensor | None,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Latents [1, 16, t, h, w] on the CPU, scaled by 0.7.

        text: negative and positive tokens [1, 226, 4096]. x: unit noise of the latents' shape; `noise()` gives
        more of it, step by step. `on_step(step, steps, x, x0)` sees x and the predicted end, both [1, 16, t, h, w]
        on the device; raising in it cancels.
        """

        def move(x: Tensor) -> Tensor:
            return x.to(self.device, self.dtype)

        face_latent = None if face_latent is None else move(face_latent)
        with self._lend(self.transformer) as transformer:
            person = identity.with_strength(request.strength)
            tokens, face_tokens, id_embedding = map(move, _both_branches(person, text))
            context = transformer.fuse(tokens, face_tokens, id_embedding)

            def predict(x: Tensor, step: Step) -> Tensor:
                scale = guidance_scale(request.guidance, request.guidance_scale, step, request.steps)
                branches = context if scale != 1 else context[1:]  # negative and positive, or positive alone
                timesteps = torch.full((len(branches),), step.t, device=self.device)
                inputs = x.to(self.dtype).expand(len(branches), -1, -1, -1, -1)
                v = self._predict(
                    transformer, inputs, timesteps, branches, face_latent, request.riflex
                ).float()
                return v[:1] + scale * (v[1:] - v[:1]) if scale != 1 else v

            def check(step: Step, steps: int, x: Tensor, x0: Tensor) -> None:
                if not torch.isfinite(x0.sum()):
                    raise InvalidRequest(
                        f"step {step.index + 1} of {steps} produced NaN or infinity in {self.dtype}: "
                        "check the weights with `echovideo models verify`, or lower the guidance scale"
                    )
                if on_step is not None:
                    on_step(step, steps, x, x0)

            steps = plan_steps(request.steps)
            x = x.to(self.device)
            latents = sample(request.sampler, steps, x, predict, lambda: noise().to(self.device), check)
        return latents.cpu()

    def _predict(
        self,
        network: EchoVideoTransformer,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        face: Tensor | None,
        riflex: bool,
    ) -> Tensor:
        """v [B, 16, t, h, w] of the B branches whose contexts are given; the one call of the transformer."""
        v: Tensor = network(x, timesteps, context, face, riflex=riflex)
        return v

    @torch.no_grad()
    def decode(self, latents: Tensor, report: Callable[[int, int], None] | None = None) -> Tensor:
        """latents [1, 16, t, h, w], scaled by 0.7 -> frames float32 [F, H, W, 3] in 0..1 on the CPU."""
        with self._lend(self.vae):
            video = self.vae.decode((latents / LATENT_SCALE).to(self.device, self.vae_dtype), report)
            return to_frames(video)

    def _lend(self, network: Network) -> AbstractContextManager[Network]:
        """The network on the device: for the block's duration, or for good."""
        return nullcontext(network.to(self.device)) if self._stay else on_device(network, self.device)

    def _path(self, group: str) -> Path:
        """Where that network is. Raises ModelFileMissing."""
        if group == "transformer" and self._transformer_path is not None:
            return Path(self._transformer_path)
        return require(self.models, group)

    def _require(self, groups: Sequence[str]) -> None:
        """Raises ModelFileMissing once for all of `groups`, with the one command that gets them."""
        missing: dict[str, ModelFileMissing] = {}
        for group in groups:
            try:
                self._path(group)
            except ModelFileMissing as error:
                missing[group] = error
        if len(missing) == 1:
            raise next(iter(missing.values()))
        if missing:
            only = [] if len(missing) == len(FACES + VIDEOS) else list(missing)
            raise ModelFileMissing(
                f"models missing from {self.models}: {', '.join(missing)}{explain_download(self.models, only)}"
            )

    def _report_on(self, stage: str, unit: str) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            if self.on_progress is not None:
                self.on_progress(stage, done, total, unit)

        return report


def to_frames(video: Tensor) -> Tensor:
    """video [1, 3, F, H, W] in -1..1 -> frames float32 [F, H, W, 3] in 0..1 on the CPU."""
    return video[0].float().cpu().permute(1, 2, 3, 0).div(2).add(0.5).clamp(0, 1).contiguous()


def _both_branches(identity: Identity, text: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """IITF's inputs for the negative branch (nobody, negative prompt) and the positive one, stacked."""
    nobody = identity.with_strength(0)
    return (
        torch.cat(text),  # [2, 226, 4096]
        torch.stack([nobody.face_tokens, identity.face_tokens]),  # [2, 196, 768]
        torch.stack([nobody.id_embedding, identity.id_embedding]),  # [2, 512]
    )


@dataclass
class _Clock:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self.last = now - self.last, now
