"""The loss is CogVideoX's, and what is random in a batch has the shares and the spread that it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXDPMScheduler

from echovideo_model.schedule import alphas_cumprod
from echovideo_model.training.examples import Examples
from echovideo_model.training.objective import (
    Batch,
    Prediction,
    make_batch,
    predict_velocity,
    velocity_loss,
)
from echovideo_model.training.recipe import Dropout

NOTHING_DROPPED = Dropout(0, 0, 0)


class Constant:
    """A network that predicts the same whatever it sees."""

    def __init__(self, v: torch.Tensor) -> None:
        self.v = v

    def fuse(self, text: torch.Tensor, *_: Any) -> torch.Tensor:
        return text

    def __call__(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        self.x = x
        return self.v


def make(examples: Path, count: int = 8, step: int = 1, **changes: Any) -> Batch:
    read = Examples(examples)
    takes = [take for take in range(len(read)) if read.latent_shape(take) == (1, 4, 4)]
    settings: dict[str, Any] = {"seed": 0, "dropout": NOTHING_DROPPED, "face_latent": 0.0} | changes
    return make_batch(
        read, [takes[i % len(takes)] for i in range(count)], range(count), step, count, **settings
    )


def test_the_loss_is_the_one_that_diffusers_trainers_minimise(examples: Path) -> None:
    """They weight the squared error of x0 by 1 / (1 - a) (train_cogvideox_lora.py)."""
    batch = make(examples)
    scheduler = CogVideoXDPMScheduler(
        snr_shift_scale=1.0, rescale_betas_zero_snr=True, prediction_type="v_prediction"
    )
    network = Constant(torch.randn(batch.x0.shape, generator=torch.Generator().manual_seed(0)))
    predicted = predict_velocity(network, batch, torch.float32)  # type: ignore[arg-type]
    ours = velocity_loss(batch, predicted)
    x = scheduler.add_noise(batch.x0, batch.noise, batch.timesteps)
    torch.testing.assert_close(network.x, x, atol=1e-4, rtol=1e-4)
    x0 = scheduler.get_velocity(network.v, x, batch.timesteps)  # their name for it; it is x0
    weights = 1 / (1 - scheduler.alphas_cumprod[batch.timesteps])
    theirs = (weights[:, None, None, None, None] * (x0 - batch.x0) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(ours, theirs.float(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(predicted.x0(), x0, atol=1e-4, rtol=1e-4)
    assert alphas_cumprod()[500] == pytest.approx(scheduler.alphas_cumprod[500].item(), abs=1e-5)


def test_motion_weighs_what_the_frames_do_not_share(examples: Path) -> None:
    clips = torch.zeros(3, 16, 40, 4, 4)
    batch = Batch(clips, clips, torch.tensor([0, 0, 0]), *([torch.zeros(3)] * 4))
    random = torch.Generator().manual_seed(0)
    shared = torch.randn(16, 1, 4, 4, generator=random).expand(-1, 40, -1, -1)
    apart = torch.randn(16, 40, 4, 4, generator=random)
    v = torch.stack([shared, apart, shared + apart])
    predicted = Prediction(v, clips, torch.tensor([1.0, 1.0, 1.0]))
    without, weighed = velocity_loss(batch, predicted), velocity_loss(batch, predicted, motion_weight=2.0)
    assert weighed[0] == without[0]
    assert weighed[1].item() == pytest.approx(3 * without[1].item(), rel=0.03)
    assert weighed[2].item() == pytest.approx(without[2].item() + 2 * without[1].item(), rel=0.03)
    still = replace(batch, x0=clips[:, :, :1], noise=clips[:, :, :1])
    picture = Prediction(v[:, :, :1], clips[:, :, :1], predicted.power)
    assert torch.equal(velocity_loss(still, picture, motion_weight=2.0), velocity_loss(still, picture))


def test_timesteps_lie_in_equal_parts_of_the_schedule_one_in_each(examples: Path) -> None:
    for step in range(5):
        parts = make(examples, 10, step).timesteps // 100
        assert parts.tolist() == list(range(10))


def test_a_shift_of_two_leaves_half_of_the_samples_to_the_noisiest_third(examples: Path) -> None:
    """As flow matching's trainers shift their levels: 2 u / (1 + u)."""
    timesteps = make(examples, 300, shift=2.0).timesteps
    assert (timesteps >= 667).float().mean().item() == pytest.approx(0.5, abs=0.01)
    level = (torch.arange(300) + 0.5) / 300
    assert (timesteps - 2 * level / (1 + level) * 1000).abs().max() < 5
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999


def test_a_sample_depends_on_seed_step_and_place_alone(examples: Path) -> None:
    read = Examples(examples)
    takes = list(range(4))
    dropout = Dropout(0.2, 0.2, 0.2)
    whole = make_batch(read, [0, 1, 0, 1], range(4), 7, 4, 3, dropout, 0.5)
    part = make_batch(read, [0, 1, 0, 1], [2, 3], 7, 4, 3, dropout, 0.5)
    for name in vars(part):
        assert torch.equal(getattr(part, name), getattr(whole, name)[2:]), name
    other = make_batch(read, [0, 1, 0, 1], [2, 3], 8, 4, 3, dropout, 0.5)
    assert not torch.equal(part.noise, other.noise)
    assert takes == [0, 1, 2, 3]


def test_text_identity_and_both_are_dropped_as_often_as_asked(examples: Path) -> None:
    empty = Examples(examples).empty
    batch = make(examples, 1000, dropout=Dropout(0.1, 0.2, 0.3), face_latent=0.25)
    no_text = (batch.text == empty.text).flatten(1).all(1)
    nobody = (batch.id_embedding == 0).all(1)
    assert torch.equal(nobody, (batch.face_tokens == empty.face_tokens.float()).flatten(1).all(1))
    shares = [(no_text & ~nobody), (nobody & ~no_text), (no_text & nobody)]
    assert [share.float().mean().item() for share in shares] == pytest.approx([0.1, 0.2, 0.3], abs=0.06)
    shown = (batch.face_latent != 0).flatten(1).any(1)
    assert shown.float().mean().item() == pytest.approx(0.25, abs=0.06)
    # As in inference, the face latent is the same in both branches: it comes and goes by itself.
    assert (shown & nobody).any()


def test_the_first_stage_never_shows_a_face_latent(examples: Path) -> None:
    assert not make(examples, 200).face_latent.any()
