"""What a step learns: to predict v from a noisy clip, its sentence and its person, each of which is missing at times.

The plain squared error of v is what diffusers' CogVideoX trainers minimise in other words: they weight the error of
x0 by 1 / (1 - a), which is the same number. All that is random in a sample follows from (seed, step, its place in the
global batch), so neither the number of devices nor the size of a micro-batch changes what is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedule import TRAIN_STEPS, add_noise, alphas_cumprod, denoised, velocity
from ..transformer import EchoVideoTransformer
from ..vae.autoencoder import LATENT_SCALE
from .examples import Empty, Examples, generator
from .recipe import Dropout


@dataclass(frozen=True)
class Batch:
    """Samples of one shape; float32 unless it says otherwise."""

    x0: Tensor  # [B, 16, t, h, w], scaled by 0.7
    noise: Tensor  # like x0
    timesteps: Tensor  # [B] int64, 0..999
    text: Tensor  # [B, n, width] bfloat16
    face_tokens: Tensor  # [B, 196, 768]
    id_embedding: Tensor  # [B, 512]
    face_latent: Tensor  # [B, 16, 1, h, w], scaled by 0.7; zero where it is not shown

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, entry.name).to(device, non_blocking=True) for entry in fields(self)))


class Prediction(NamedTuple):
    """v and the noisy clips x that it was predicted from, [B, 16, t, h, w] float32; power [B] is x0's share in x."""

    v: Tensor
    x: Tensor
    power: Tensor

    def x0(self) -> Tensor:
        """The clips that v says are behind x."""
        return denoised(self.x, self.v, self.power)


def make_batch(
    examples: Examples,
    takes: Sequence[int],
    places: Sequence[int],
    step: int,
    size: int,
    seed: int,
    dropout: Dropout,
    face_latent: float,
    shift: float = 1.0,
) -> Batch:
    """The samples at `places` (0..size - 1) of a step's global batch, `takes` being all of that batch's."""
    rows = [
        _make_sample(
            examples, takes[place], (place, size), generator(seed, step, place), dropout, face_latent, shift
        )
        for place in places
    ]
    return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))


def shift_level(level: float, shift: float) -> float:
    """A noise level in 0..1 moved towards noise (shift > 1) or away from it (< 1); 1 leaves it.

    The formula is Esser et al.'s (2024, arXiv 2403.03206, section 5.3.2).
    """
    return shift * level / (1 + (shift - 1) * level)


def predict_velocity(network: EchoVideoTransformer, batch: Batch, dtype: torch.dtype) -> Prediction:
    """What the network makes of a batch; it computes in `dtype`."""
    power = torch.tensor(alphas_cumprod(), device=batch.x0.device)[batch.timesteps]  # [B]
    x = add_noise(batch.x0, batch.noise, power)
    context = network.fuse(batch.text.to(dtype), batch.face_tokens.to(dtype), batch.id_embedding.to(dtype))
    v = network(x.to(dtype), batch.timesteps, context, batch.face_latent.to(dtype))
    return Prediction(v.float(), x, power)


def velocity_loss(batch: Batch, predicted: Prediction, motion_weight: float = 0.0) -> Tensor:
    """The mean squared error of v of each sample [B], float32.

    `motion_weight` adds half the squared error of v's change from one latent frame to the next, that many times: for
    errors that the frames do not share, the half is the same number as the first.
    """
    error = predicted.v - velocity(batch.x0, batch.noise, predicted.power)  # [B, 16, t, h, w]
    loss = error.square().flatten(1).mean(1)
    if motion_weight and error.shape[2] > 1:
        loss = loss + motion_weight * error.diff(dim=2).square().flatten(1).mean(1) / 2
    return loss


def _make_sample(
    examples: Examples,
    take: int,
    place: tuple[int, int],
    random: torch.Generator,
    dropout: Dropout,
    face_latent: float,
    shift: float,
) -> tuple[Tensor, ...]:
    """One row of a Batch. Every number is drawn whether it is needed or not, so that shares can be changed."""
    sample, empty = examples.read(take, random), examples.empty
    level, missing, shown = torch.rand(3, generator=random).tolist()
    x0 = _draw_posterior(sample.mean, sample.deviation, random)
    noise = torch.randn(x0.shape, generator=random)
    face = _draw_posterior(sample.face_mean, sample.face_deviation, random)
    text, face_tokens, id_embedding = _drop(
        missing, dropout, empty, sample.text, sample.face_tokens, sample.id_embedding
    )
    # Stratified: the batch's levels lie in as many equal parts of the schedule, one in each, before they are shifted.
    timestep = int(shift_level((place[0] + level) / place[1], shift) * TRAIN_STEPS)
    if shown >= face_latent:
        face = torch.zeros_like(face)
    return (
        x0,
        noise,
        torch.tensor(min(timestep, TRAIN_STEPS - 1)),
        text,
        face_tokens.float(),
        id_embedding,
        face,
    )


def _draw_posterior(mean: Tensor, deviation: Tensor, random: torch.Generator) -> Tensor:
    return LATENT_SCALE * (mean.float() + deviation.float() * torch.randn(mean.shape, generator=random))


def _drop(
    chance: float, dropout: Dropout, empty: Empty, text: Tensor, face_tokens: Tensor, id_embedding: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`chance` in 0..1 decides what is missing: the text, the identity, both or nothing.

    What stands in its place is the negative branch's: the empty prompt, a zero embedding and a black picture.
    """
    without_text = chance < dropout.text or 0 <= chance - dropout.text - dropout.identity < dropout.both
    without_identity = 0 <= chance - dropout.text < dropout.identity + dropout.both
    if without_text:
        text = empty.text
    if without_identity:
        face_tokens, id_embedding = empty.face_tokens, torch.zeros_like(id_embedding)
    return text, face_tokens, id_embedding
