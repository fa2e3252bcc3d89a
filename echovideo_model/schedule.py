"""The noise schedule: 1000 steps, v-prediction, zero terminal SNR, trailing timesteps, and the guidance scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .errors import InvalidRequest
from .limits import TRAIN_STEPS, Guidance

BETA_START, BETA_END = 0.00085, 0.012


@cache
def alphas_cumprod() -> tuple[float, ...]:
    """Signal power a of the 1000 timesteps, from nearly 1 down to exactly 0.

    Betas are linear in their square roots ("scaled linear"), in float64; the square root of a is then shifted
    and stretched so that the last step holds no signal at all (Lin et al. 2023, algorithm 1).
    """
    betas = (
        torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64, device="cpu") ** 2
    )
    signal = (1 - betas).cumprod(0).sqrt()
    signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    return tuple((signal**2).tolist())


def timesteps(steps: int) -> list[int]:
    """The trailing timesteps of a run, noisiest first: 999, 979, ..., 19 for 50 steps. steps is 1..1000."""
    if not 1 <= steps <= TRAIN_STEPS:
        raise InvalidRequest(f"sampling steps must be from 1 to {TRAIN_STEPS} (50 is usual), not {steps}")
    return [round(TRAIN_STEPS - i * TRAIN_STEPS / steps) - 1 for i in range(steps)]


@dataclass(frozen=True)
class Step:
    """One step of a run: from timestep `t` down to `t_next`, signal powers `a` and `a_next` (1 when done)."""

    index: int
    t: int
    t_next: int
    a: float
    a_next: float


def plan_steps(steps: int) -> list[Step]:
    """The run's steps. The next timestep is t - 1000 // steps, as in the reference, which is the next one listed
    only where `steps` divides 1000."""
    power = alphas_cumprod()
    stride = TRAIN_STEPS // steps if steps else 0
    run = []
    for index, t in enumerate(timesteps(steps)):
        t_next = t - stride
        run.append(Step(index, t, t_next, power[t], power[t_next] if t_next >= 0 else 1.0))
    return run


def guidance_scale(kind: Guidance, scale: float, step: Step, steps: int) -> float:
    """How far to go from the negative towards the positive prediction in this step.

    constant: `scale` throughout. smooth: from 1 + scale (first step) down to 1, a cosine with a fifth power.
    reference: the published code's form, which takes the timestep (0..999) where smooth takes the step's index,
    and so jumps between 1 and 1 + scale; it is part of the published look (golden/dynamic_cfg.json).
    """
    if kind == "constant":
        return scale
    position = step.t if kind == "reference" else step.index
    return 1 + scale * (1 - math.cos(math.pi * ((steps - position) / steps) ** 5)) / 2


def add_noise(x0: Tensor, noise: Tensor, a: Tensor | float) -> Tensor:
    """x = sqrt(a) x0 + sqrt(1 - a) noise: a clip with noise added, at signal power a, 0..1.

    x0 and noise [B, ...] in float32; a is one number, or one of each clip [B].
    """
    a = _broadcast(a, x0)
    return a**0.5 * x0 + (1 - a) ** 0.5 * noise


def velocity(x0: Tensor, noise: Tensor, a: Tensor | float) -> Tensor:
    """v = sqrt(a) noise - sqrt(1 - a) x0, which the network learns to predict (Salimans and Ho 2022, section 4).

    Arguments as for `add_noise`.
    """
    a = _broadcast(a, x0)
    return a**0.5 * noise - (1 - a) ** 0.5 * x0


def denoised(x: Tensor, v: Tensor, a: Tensor | float) -> Tensor:
    """x0 = sqrt(a) x - sqrt(1 - a) v: the clip implied by x and the predicted v. Arguments as for `add_noise`."""
    a = _broadcast(a, x)
    return a**0.5 * x - (1 - a) ** 0.5 * v


def _broadcast(a: Tensor | float, like: Tensor) -> Tensor | float:
    """A single number stays as it is; [B] becomes [B, 1, ...], to be multiplied with whole clips."""
    return a.view(-1, *[1] * (like.ndim - 1)).to(like) if isinstance(a, Tensor) and a.ndim else a
