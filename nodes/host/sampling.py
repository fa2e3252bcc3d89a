"""The reference's sampler, timesteps, noise and guidance in the host's terms: SAMPLER, SIGMAS, NOISE, MODEL.

The host works on x in sigma space, x = x_t sqrt(1 + sigma^2); the library on the diffusion's own x_t. Both speak of
the same 1000 noise levels, the host's table ending at sigma 4519 where the library's has no signal at all.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest
from ...echovideo_model.limits import TRAIN_STEPS, Guidance, Sampler
from ...echovideo_model.samplers import SeededNoise, sample
from ...echovideo_model.schedule import (
    Step,
    denoised,
    guidance_scale,
    plan_steps,
    timesteps,
)
from .model import FACE_LATENT, EchoVideoModel
from .transformer import RIFLEX


def make_sigmas(model: Any, steps: int, denoise: float = 1.0) -> Tensor:
    """SIGMAS [steps + 1] of the trailing timesteps, ending in 0; of `denoise` below 1, the last part of more steps."""
    if denoise <= 0:
        return torch.zeros(0)
    total = max(steps, int(steps / denoise))
    if total > TRAIN_STEPS:
        raise InvalidRequest(
            f"use fewer steps, or a denoise of at least {steps / TRAIN_STEPS:g}: {steps} steps at denoise "
            f"{denoise:g} are the last ones of {total}, but there are only {TRAIN_STEPS}"
        )
    table = model.get_model_object("model_sampling").sigmas.cpu()
    levels = timesteps(total)[-steps:]
    return torch.cat(
        [table[levels], torch.zeros(1)]
    )  # the table's own entries: the model sees whole timesteps


def make_sampler(kind: Sampler) -> Any:
    """SAMPLER: the reference's stochastic DPM, or DDIM. Follows any SIGMAS; exact on those of make_sigmas."""
    return comfy.samplers.KSAMPLER(sample_in_host, {"kind": kind})


def sample_in_host(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: Any = None,
    kind: Sampler = "dpm",
) -> Tensor:
    """The host's form of a sampler: x [B, 16, T, H, W] in sigma space at sigmas[0] -> at sigmas[-1]."""
    extra_args = extra_args or {}
    steps = plan_along(sigmas, model.inner_model.inner_model.model_sampling)
    noise = make_noise(model, x, extra_args.get("seed") or 0)

    def predict(x: Tensor, step: Step) -> Tensor:
        sigma = sigmas[step.index]
        widen = (1 + sigma**2).sqrt()
        guess = model(x * widen, sigma.expand(len(x)), **extra_args)
        v = (x / widen - guess) * widen / sigma  # exact however the host's guidance mixed its predictions
        if callback is not None:  # draws the preview, and raises if the user presses stop
            about = {"i": step.index, "sigma": sigma, "sigma_hat": sigma}
            callback({"x": x * widen, "denoised": denoised(x, v, step.a), **about})
        return v

    if not steps:
        return x
    begin, end = (1 + sigmas[[0, -1]] ** 2).sqrt()
    return sample(kind, steps, x / begin, predict, lambda: noise.step().to(x)) * end


def plan_along(sigmas: Tensor, table: Any) -> list[Step]:
    """The library's steps along SIGMAS; a noise level that stays the same is not a step.

    A whole trailing schedule gets the reference's own steps, which for counts that do not divide 1000 do not quite end
    where the next one begins. Raises InvalidRequest for noise levels that rise or are not numbers.
    """
    values = sigmas.tolist()
    if not all(0 <= value < math.inf for value in values):
        raise InvalidRequest(f"noise levels (sigmas) must be finite and not negative, not {values}")
    for value, following in pairwise(values):
        if following > value:
            raise InvalidRequest(
                "connect EchoVideo Scheduler, or use another sampler to add noise (for example after Flip Sigmas): "
                f"EchoVideo Sampler removes noise, but these sigmas rise from {value:g} to {following:g}"
            )
    levels = [round(float(table.timestep(sigma))) if sigma > 0 else -1 for sigma in sigmas.cpu()]
    count = len(levels) - 1
    if count > 0 and levels == [*timesteps(count), -1]:
        return plan_steps(count)
    top = float(table.sigma_max) * (1 - 1e-4)
    powers = [0.0 if value >= top else 1 / (1 + value**2) for value in values]
    rows = enumerate(zip(levels[:-1], levels[1:], powers[:-1], powers[1:], strict=True))
    return [Step(index, *row) for index, row in rows if values[index] != values[index + 1]]


def make_noise(model: Any, x: Tensor, seed: int) -> SeededNoise:
    """The run's random numbers as the sampler finds them: the host has drawn the initial noise, and the model its
    sample of the face latent where there is one."""
    noise = SeededNoise(seed, x.shape)
    noise.initial()
    entries = getattr(model.inner_model, "conds", {}).get("positive", [])
    if any(FACE_LATENT in entry for entry in entries):
        noise.face()
    return noise


class ReferenceNoise:
    """NOISE whose numbers are the reference's for the same seed: drawn frame by frame, on the CPU."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        """[B, 16, T, H, W]; for part of a batch (`batch_index`), the noise that these videos have in the whole
        batch."""
        samples, places = latent["samples"], latent.get("batch_index")
        if places is None:
            return SeededNoise(self.seed, samples.shape).initial()
        whole = SeededNoise(self.seed, (max(places) + 1, *samples.shape[1:])).initial()
        return whole[list(places)]


def with_guidance(model: Any, kind: Guidance, steps: int = 0) -> Any:
    """A clone of MODEL whose guidance scale changes from step to step, from the sampler's cfg as the library does.

    `steps` is the whole run's step count; 0 takes it from the sampler's schedule. A guidance function of another pack
    (RescaleCFG, say) is called with the changed scale, and what other packs changed before stays: only the difference
    that the scale makes is added. It works on the denoised predictions: the host's other form, their difference from x,
    has lost four digits at the noisiest level. Without a negative there is nothing to guide away from.
    """

    def guide(args: dict[str, Any]) -> Tensor:
        if args.get("uncond") is None:
            return args["denoised"]
        schedule = args["model_options"]["transformer_options"]["sample_sigmas"]
        step = find_step(args["sigma"].flatten()[0], schedule, args["model"].model_sampling, steps)
        scale = guidance_scale(kind, args["cond_scale"], step, steps or len(schedule) - 1)
        guided, plain = mix(args, scale), mix(args, args["cond_scale"])
        return guided if torch.equal(plain, args["denoised"]) else args["denoised"] + (guided - plain)

    guide.is_echovideo_guidance = True  # type: ignore[attr-defined]
    clone = model.clone()
    others = clone.model_options.get("sampler_post_cfg_function", [])
    clone.model_options["sampler_post_cfg_function"] = [
        other
        for other in others
        if not hasattr(other, "is_echovideo_guidance")  # the last one counts
    ]
    clone.set_model_sampler_post_cfg_function(guide, disable_cfg1_optimization=True)
    return clone


def with_riflex(model: Any) -> Any:
    """A clone of MODEL whose runs over more frames than the training's use RIFLEx; see the library's `rotary_table`.

    Raises InvalidRequest for a model that is not EchoVideo, which would ignore it.
    """
    if not isinstance(model.model, EchoVideoModel):
        raise InvalidRequest(
            f"EchoVideo RIFLEx only works on EchoVideo, and this model is a {type(model.model).__name__}: connect Load "
            "EchoVideo Model"
        )
    clone = model.clone()
    options = clone.model_options
    clone.model_options = {
        **options,
        "transformer_options": {**options.get("transformer_options", {}), RIFLEX: True},
    }
    return clone


def mix(args: dict[str, Any], scale: float) -> Tensor:
    """The denoised prediction at this guidance scale, by the host's formula or by another pack's function."""
    cond, uncond, x = args["cond_denoised"], args["uncond_denoised"], args["input"]
    other = args["model_options"].get("sampler_cfg_function")
    if other is None:
        return uncond + (cond - uncond) * scale
    parts = {"cond": x - cond, "uncond": x - uncond, "cond_scale": scale, "timestep": args["sigma"]}
    conds = {"input_cond": args["cond"], "input_uncond": args["uncond"]}
    return x - other({**args, **conds, **parts})


def find_step(sigma: Tensor, schedule: Tensor, table: Any, steps: int = 0) -> Step:
    """Which step a noise level belongs to, also for samplers that look in between two of them.

    `steps` is the whole run's count where `schedule` may be a part of it: the last part ends without noise, the first
    begins at the noisiest level, and one between them is placed by its own first level.
    """
    level = round(float(table.timestep(sigma)))
    descending = [-float(one) for one in schedule]
    index = min(bisect_left(descending, -float(sigma) * (1 + 1e-6)), len(descending) - 2)
    count = len(descending) - 1
    if steps > count:
        first = round(float(table.timestep(schedule[0])))
        if descending[-1] == 0:
            index += steps - count
        elif first < TRAIN_STEPS - 1:
            index += round((TRAIN_STEPS - 1 - first) * steps / TRAIN_STEPS)
    return Step(index, level, -1, 0.0, 1.0)
