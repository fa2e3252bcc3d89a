"""The two samplers: CogVideoX DPM (the reference's, stochastic, second order) and DDIM (the base model's own).

Both work in float32 on latents [B, 16, T, H, W] and take a `predict(x, step) -> v` that is independent of them.
golden/scheduler.safetensors holds whole trajectories of both. The random numbers of a video are drawn here, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .limits import Sampler
from .schedule import Step, denoised

Predict = Callable[[Tensor, Step], Tensor]
Noise = Callable[[], Tensor]
OnStep = Callable[[Step, int, Tensor, Tensor], None]


def sample(
    sampler: Sampler,
    steps: Sequence[Step],
    x: Tensor,
    predict: Predict,
    noise: Noise,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise x [B, 16, T, H, W] (unit noise) to the x0 latent along `steps` (see schedule.plan_steps).

    `noise()` gives unit noise of x's shape (DPM only), in the order that the reference draws it.
    `on_step(step, count, x, x0)` is called after each of the `count` steps; raising in it cancels the run.
    """
    history: tuple[Tensor, float] | None = None  # the last step's x0 and its lambda
    for step in steps:
        x0 = denoised(x, predict(x, step).float(), step.a)
        if sampler == "ddim":
            x = ddim_step(x, x0, step)
        else:
            x = dpm_step(x, x0, step, history, noise)
            history = x0, log_snr(step.a)
        if on_step is not None:
            on_step(step, len(steps), x, x0)
    return x


def ddim_step(x: Tensor, x0: Tensor, step: Step) -> Tensor:
    """DDIM with eta 0: keep the direction of the noise, shrink its part."""
    shrink = math.sqrt((1 - step.a_next) / (1 - step.a))
    return shrink * x + (math.sqrt(step.a_next) - math.sqrt(step.a) * shrink) * x0


def dpm_step(x: Tensor, x0: Tensor, step: Step, history: tuple[Tensor, float] | None, noise: Noise) -> Tensor:
    """One step of SDE-DPM-Solver++(2M) as CogVideoX has it: first order at both ends, second order between.

    The reference draws noise twice in each second-order step and throws the first draw away; so do we, or seeds
    would not match. At the first timestep a is 0, lambda is -inf and e^-h is 0; that step's lambda makes the
    second step's correction vanish by itself (r is infinite).
    """
    last = step.t_next < 0
    if last:  # a_next is 1: all noise goes, and h is infinite
        noise()
        return x0
    h = log_snr(step.a_next) - log_snr(step.a)
    fresh = noise()
    if history is not None:
        fresh = noise()
        old_x0, old_lambda = history
        r = (log_snr(step.a) - old_lambda) / h
        x0 = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * old_x0
    shrink = math.sqrt((1 - step.a_next) / (1 - step.a)) * math.exp(-h)
    signal = -math.expm1(-2 * h) * math.sqrt(step.a_next)
    spread = math.sqrt(1 - step.a_next) * math.sqrt(-math.expm1(-2 * h))
    return shrink * x + signal * x0 + spread * fresh


def log_snr(a: float) -> float:
    """lambda = log sqrt(a / (1 - a)); -inf where there is no signal, inf where there is nothing else."""
    if a == 0:
        return -math.inf
    return math.inf if a == 1 else 0.5 * math.log(a / (1 - a))


class SeededNoise:
    """The random numbers of one video, in the reference's order: `initial` once, then `face` if there is a face
    latent, then `step` as often as the sampler asks. All come from one CPU generator, so that a seed gives the
    same video on any device."""

    def __init__(self, seed: int, shape: Sequence[int]) -> None:
        """shape: [B, 16, T, H, W] of the video's latents."""
        self.generator = torch.Generator().manual_seed(seed)
        self.shape = tuple(shape)

    def initial(self) -> Tensor:
        """[B, 16, T, H, W]: what sampling begins with."""
        return draw_noise(self.shape, self.generator)

    def face(self, size: Sequence[int] | None = None) -> Tensor:
        """[1, 16, 1, h, w]: for the sample of the face latent's posterior. `size`: h, w where they are not H, W."""
        return draw_noise((1, self.shape[1], 1, *(size or self.shape[-2:])), self.generator)

    def step(self) -> Tensor:
        """[B, 16, T, H, W]: what the DPM sampler adds."""
        return draw_noise(self.shape, self.generator)


def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Unit noise [B, 16, T, H, W], float32 on the CPU, drawn in the reference's order [B, T, 16, H, W]."""
    batch, channels, frames, height, width = shape
    drawn = torch.randn(batch, frames, channels, height, width, generator=generator, dtype=torch.float32)
    return drawn.transpose(1, 2)
