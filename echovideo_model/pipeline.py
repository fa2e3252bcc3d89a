"""From one photo and a sentence to frames: the whole way, one network on the device at a time.

Weights stay in main memory, mapped from their files; each network is lent to the device while it works, so the
device holds the largest one (the transformer: 11.2 GB in bf16, about 6.5 GB in fp8) and never their sum.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import __version__
from .checkpoint import Network, load_transformer, load_vae
from .errors import InvalidRequest
from .face.align import face_latent_pixels
from .identity import FaceEncoders, Identity, Photo, identify
from .request import Request
from .samplers import OnStep, cpu_noise, sample
from .schedule import Step, guidance_scale
from .text import TextEncoder
from .transformer import EchoVideoTransformer
from .vae import LATENT_SCALE, CogVideoXVAE
from .weights import default_folder, require

OnProgress = Callable[[str, int, int], None]
"""Called with a stage ("face", "text", "face latent", "sampling", "decoding"), what is done of it, and its total.
Raising Cancelled (or anything else) in it stops the run there."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A finished video: frames float32 [F, H, W, 3] in 0..1 on the CPU, latents [1, 16, t, h, w] scaled by 0.7."""

    request: Request
    frames: Tensor
    latents: Tensor
    seconds: dict[str, float]  # per stage

    def metadata(self) -> dict[str, str]:
        """What a video file should remember."""
        return {**self.request.metadata(), "software": f"echovideo {__version__}"}


class Pipeline:
    """The released models in one folder, loaded as they are needed and kept for the next video."""

    def __init__(
        self,
        models: str | Path | None = None,
        device: torch.device | str | None = None,
        storage: torch.dtype | None = None,
        transformer: str | Path | None = None,
    ) -> None:
        """models: the folder (see `echovideo models`), by default weights.default_folder().

        device: by default CUDA, else Apple's GPU, else the CPU. storage: what the transformer's weights are kept
        as; the file's own by default, float8_e4m3fn for GPUs of 12 GB. transformer: another file or folder for it.
        """
        self.models = Path(models) if models is not None else default_folder()
        self.device = torch.device(device) if device is not None else best_device()
        self.storage = storage
        self._transformer_path = transformer
        on_gpu = self.device.type != "cpu"
        self.dtype = torch.bfloat16 if on_gpu else torch.float32
        self.vae_dtype = torch.float16 if on_gpu else torch.float32  # as the reference decodes

    @cached_property
    def face_encoders(self) -> FaceEncoders:
        for group in ("clip_visual_encoder", "face_encoder"):
            require(self.models, group)
        return FaceEncoders.load(self.models)

    @cached_property
    def text_encoder(self) -> TextEncoder:
        weights, tokenizer = require(self.models, "text_encoder"), require(self.models, "tokenizer")
        return TextEncoder.load(weights, tokenizer)

    @cached_property
    def transformer(self) -> EchoVideoTransformer:
        path = self._transformer_path or require(self.models, "transformer")
        return load_transformer(path, self.storage)

    @cached_property
    def vae(self) -> CogVideoXVAE:
        return load_vae(require(self.models, "vae"), self.vae_dtype)

    def check(self) -> None:
        """Raise ModelFileMissing now rather than after minutes of work."""
        for group in ("text_encoder", "tokenizer", "vae"):
            require(self.models, group)
        if self._transformer_path is None:
            require(self.models, "transformer")

    def identify(
        self, photos: Photo | Sequence[Photo], on_progress: OnProgress | None = None, **choice: Any
    ) -> Identity:
        """The person in the photo, or in several photos of one person; `choice` as in identity.identify."""
        report = _staged(on_progress, "face")
        return identify(photos, self.face_encoders, on_step=report, **choice)

    def generate(self, identity: Identity, request: Request, on_progress: OnProgress | None = None) -> Result:
        """One video of that person doing what the prompt says; see generate_all."""
        return next(self.generate_all(identity, [request], on_progress))

    @torch.inference_mode()
    def generate_all(
        self, identity: Identity, requests: Sequence[Request], on_progress: OnProgress | None = None
    ) -> Iterator[Result]:
        """The videos one after another, each as soon as it is done; prompts are encoded together, first.

        The same request and seed give the same video on any device, up to rounding: all randomness is drawn on
        the CPU, per video, in the reference's order. Raises InvalidRequest when a step yields NaN.
        """
        for request in requests:
            for warning in request.warnings():
                logger.warning(warning)
        started = time.perf_counter()
        text = self._encode_prompts(requests, _staged(on_progress, "text"))
        text_seconds = time.perf_counter() - started
        for request in requests:
            yield self._make(identity, request, text, text_seconds, on_progress)

    def _make(
        self,
        identity: Identity,
        request: Request,
        text: dict[str, Tensor],
        text_seconds: float,
        on_progress: OnProgress | None,
    ) -> Result:
        seconds, clock = {"text": text_seconds}, time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal clock
            seconds[stage], clock = time.perf_counter() - clock, time.perf_counter()

        generator = torch.Generator().manual_seed(request.seed)
        noise = cpu_noise(request.latent_shape, generator)
        face_latent = None
        if request.face_latent:
            face_latent = self.encode_face(identity, request.height, request.width, generator)
            _staged(on_progress, "face latent")(1, 1)
        lap("face latent")
        prompts = text[request.negative_prompt], text[request.prompt]
        report = _staged(on_progress, "sampling")

        def on_step(step: Step, steps: int, x: Tensor, x0: Tensor) -> None:
            report(step.index + 1, steps)

        latents = self.denoise(identity, request, prompts, noise, face_latent, generator, on_step)
        lap("sampling")
        frames = self.decode(latents, _staged(on_progress, "decoding"))
        lap("decoding")
        return Result(request, frames, latents, seconds)

    def _encode_prompts(
        self, requests: Sequence[Request], report: Callable[[int, int], None]
    ) -> dict[str, Tensor]:
        """{prompt: text tokens [1, 226, 4096] on the CPU} for every prompt and negative prompt, each one once."""
        prompts = list(dict.fromkeys(text for r in requests for text in (r.negative_prompt, r.prompt)))
        encoded = {}
        with lent(self.text_encoder.network, self.device):
            for done, prompt in enumerate(prompts, 1):
                encoded[prompt] = self.text_encoder.encode([prompt]).to("cpu")
                report(done, len(prompts))
        return encoded

    @torch.inference_mode()
    def encode_face(self, identity: Identity, height: int, width: int, generator: torch.Generator) -> Tensor:
        """The face latent [1, 16, 1, h, w], scaled by 0.7: a sample of the VAE's posterior, drawn on the CPU."""
        pixels = face_latent_pixels(identity.face_picture, height, width)[None, :, None]  # [1, 3, 1, H, W]
        with lent(self.vae, self.device):
            mean, logvar = self.vae.encode(pixels.to(self.device, self.vae_dtype))
        mean, deviation = mean.float().cpu(), (0.5 * logvar.float().cpu()).exp()
        return LATENT_SCALE * (mean + deviation * cpu_noise(tuple(mean.shape), generator))

    @torch.inference_mode()
    def denoise(
        self,
        identity: Identity,
        request: Request,
        text: tuple[Tensor, Tensor],
        noise: Tensor,
        face_latent: Tensor | None,
        generator: torch.Generator,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Latents [1, 16, t, h, w] on the CPU, scaled by 0.7.

        text: negative and positive tokens [1, 226, 4096]. `on_step(step, steps, x, x0)` sees x and the predicted
        end, both [1, 16, t, h, w] on the device; raising in it cancels.
        """

        def move(x: Tensor) -> Tensor:
            return x.to(self.device, self.dtype)

        face_latent = None if face_latent is None else move(face_latent)
        with lent(self.transformer, self.device) as transformer:
            person = identity.with_strength(request.strength)
            tokens, face_tokens, id_embedding = map(move, _both_branches(person, text))
            context = transformer.fuse(tokens, face_tokens, id_embedding)
            guided = request.guidance != "constant" or request.guidance_scale != 1

            def predict(x: Tensor, step: Step) -> Tensor:
                branches = context if guided else context[1:]  # negative and positive, or positive alone
                n = len(branches)
                timesteps = torch.full((n,), step.t, device=self.device)
                inputs = x.to(self.dtype).expand(n, -1, -1, -1, -1)
                v = transformer(inputs, timesteps, branches, face_latent).float()
                if not guided:
                    return v
                scale = guidance_scale(request.guidance, request.guidance_scale, step, request.steps)
                return v[:1] + scale * (v[1:] - v[:1])

            def checked(step: Step, steps: int, x: Tensor, x0: Tensor) -> None:
                if not torch.isfinite(x0.sum()):
                    raise InvalidRequest(
                        f"step {step.index + 1} of {steps} gave NaN or infinity in {self.dtype}: check the weights "
                        "with `echovideo models verify`, or lower the guidance scale"
                    )
                if on_step is not None:
                    on_step(step, steps, x, x0)

            def draw() -> Tensor:
                return cpu_noise(request.latent_shape, generator).to(self.device)

            latents = sample(request.sampler, request.steps, noise.to(self.device), predict, draw, checked)
        return latents.cpu()

    @torch.inference_mode()
    def decode(self, latents: Tensor, report: Callable[[int, int], None] | None = None) -> Tensor:
        """latents [1, 16, t, h, w], scaled by 0.7 -> frames float32 [F, H, W, 3] in 0..1 on the CPU."""
        with lent(self.vae, self.device):
            video = self.vae.decode((latents / LATENT_SCALE).to(self.device, self.vae_dtype), report)
            return to_frames(video)


def to_frames(video: Tensor) -> Tensor:
    """video [1, 3, F, H, W] in -1..1 -> frames float32 [F, H, W, 3] in 0..1 on the CPU."""
    return video[0].float().cpu().permute(1, 2, 3, 0).div(2).add(0.5).clamp(0, 1).contiguous()


def best_device() -> torch.device:
    """CUDA (or ROCm), else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def lent(network: Network, device: torch.device) -> Iterator[Network]:
    """The network on `device` for the block's duration; afterwards its parameters are the mapped ones again, so
    nothing is copied back and nothing is left on the device."""
    if device.type == "cpu":
        yield network
        return
    at_home = {name: parameter.data for name, parameter in network.named_parameters()}
    try:
        yield network.to(device)
    finally:
        for name, parameter in network.named_parameters():
            parameter.data = at_home[name]
        getattr(torch, device.type).empty_cache()


def _both_branches(identity: Identity, text: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """IITF's inputs for the negative branch (nobody, negative prompt) and the positive one, stacked."""
    nobody = identity.with_strength(0)
    return (
        torch.cat(text),  # [2, 226, 4096]
        torch.stack([nobody.face_tokens, identity.face_tokens]),  # [2, 196, 768]
        torch.stack([nobody.id_embedding, identity.id_embedding]),  # [2, 512]
    )


def _staged(on_progress: OnProgress | None, stage: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(stage, done, total)

    return report


__all__ = ["OnProgress", "Pipeline", "Request", "Result", "best_device", "to_frames"]
