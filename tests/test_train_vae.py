"""Training the nano autoencoder: where it begins, that it resumes exactly, and who reads what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import train_vae
from diffusers import AutoencoderKLCogVideoX
from muon import Muon
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from train_vae import SIZES, decibel, fold_spread, resume, save_vae, train
from vae_examples import draw_batches, draw_held_out, draw_whole
from wavelets import LATENT_DEVIATION, initialise

from echovideo_model.tiny.weights import draw_state
from echovideo_model.vae.autoencoder import CogVideoXVAE
from echovideo_model.weights.loading import load_vae


@pytest.fixture(scope="module")
def clips() -> Tensor:
    """[4, 3, 5, 64, 64] of the drawn world."""
    return draw_whole(seed=0, count=4)[:, :, :5, 32:96, 32:96].contiguous()


@pytest.fixture(scope="module")
def begun(clips: Tensor) -> dict[str, Tensor]:
    vae = CogVideoXVAE(SIZES)
    initialise(vae, clips, torch.Generator().manual_seed(0))
    return vae.state_dict()


def network(state: dict[str, Tensor]) -> CogVideoXVAE:
    vae = CogVideoXVAE(SIZES).requires_grad_(False)
    vae.load_state_dict(state)
    return vae


def test_at_step_0_a_clip_of_somebody_else_comes_through(begun: dict[str, Tensor]) -> None:
    vae, clip = network(begun), draw_held_out(1)[:, :, :5, 32:96, 32:96]
    mean, _ = vae.encode(clip)
    squared = ((vae.decode(mean) - clip) / 2).square().mean().item()
    grey = ((clip.mean((2, 3, 4), keepdim=True) - clip) / 2).square().mean().item()
    assert decibel(squared) > 16.5
    assert decibel(squared) > decibel(grey) + 2


def test_latents_begin_and_after_folding_are_as_the_noise_schedule_wants_them(
    begun: dict[str, Tensor], clips: Tensor
) -> None:
    vae, clips = network(begun), clips[:2]
    before = vae.decode(vae.encode(clips)[0])
    last = vae.encoder.conv_out.conv
    last.weight[:16] *= torch.linspace(0.5, 2, 16)[:, None, None, None, None]  # as training may leave it
    spoilt = vae.decode(vae.encode(clips)[0])
    fold_spread(vae, clips)
    latents, _ = vae.encode(clips)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        latents.std((0, 2, 3, 4)), torch.full((16,), LATENT_DEVIATION), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(vae.decode(latents), spoilt, atol=1e-3, rtol=0)
    assert not torch.allclose(before, spoilt, atol=1e-2)


def test_what_is_written_is_read_by_this_library_and_by_diffusers(tmp_path: Path) -> None:
    save_vae(tmp_path / "vae.safetensors", network(draw_state(CogVideoXVAE(SIZES, device="meta"))))
    ours = load_vae(tmp_path / "vae.safetensors")
    with safe_open(tmp_path / "vae.safetensors", "pt") as file:
        theirs = AutoencoderKLCogVideoX.from_config(json.loads(file.metadata()["config"])).eval()
    theirs.load_state_dict(load_file(tmp_path / "vae.safetensors"))  # names and shapes are the released ones
    latents = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        judge = theirs.decode(latents).sample
    assert ours.sizes == SIZES
    assert (ours.decode(latents) - judge).abs().max() < 1e-4 * judge.abs().max()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, begun: dict[str, Tensor]) -> None:
    """Steps that take no time: clips and stills of 16 x 16 pixels."""

    def drawn(seed: int, step: int, progress: float) -> list[Tensor]:
        generator = torch.Generator().manual_seed(step)
        return [torch.rand(1, 3, frames, 16, 16, generator=generator) * 2 - 1 for frames in (5, 1)]

    monkeypatch.setattr(train_vae, "draw_batches", drawn)
    monkeypatch.setattr(train_vae, "draw_whole", lambda seed, count: drawn(seed, count, 0)[0])
    monkeypatch.setattr(train_vae, "draw_held_out", lambda count: drawn(0, 0, 0)[0].expand(6, -1, -1, -1, -1))
    monkeypatch.setattr(train_vae, "initialise", lambda vae, clips, generator: vae.load_state_dict(begun))


def weights(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "state.pt", weights_only=True)["vae"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path, stop: int) -> None:
    """Stopped before, at and after the step that finishes the encoder."""
    train(tmp_path / "whole", resume(tmp_path / "whole", 4, 2))
    train(tmp_path / "parts", resume(tmp_path / "parts", 4, 2), until=stop)
    train(tmp_path / "parts", resume(tmp_path / "parts", 4, 2))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "parts" / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert steps == [1, 2, 3, 4]


@pytest.mark.usefixtures("small")
def test_the_frozen_encoder_stays_and_the_decoder_goes_on(tmp_path: Path) -> None:
    train(tmp_path, resume(tmp_path, 4, 2))
    frozen, finished = (
        load_file(tmp_path / "encoder_frozen.safetensors"),
        load_file(tmp_path / "vae.safetensors"),
    )
    for name in frozen:
        assert torch.equal(frozen[name], finished[name]) == name.startswith("encoder."), name


@pytest.mark.usefixtures("small")
def test_with_more_steps_a_new_cosine_begins_where_the_old_one_ended(tmp_path: Path) -> None:
    train(tmp_path, resume(tmp_path, 4, 2))
    training = resume(tmp_path, 60, 2)
    assert (training.done, training.progress()) == (4, 0)
    assert training.rate() == pytest.approx(1 / train_vae.WARM_UP)
    training.done += 25
    assert 0.5 < training.rate() < 0.7


def test_muon_finds_a_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted, kernel = torch.randn(8, 4, 3, 3, generator=generator), nn.Parameter(torch.zeros(8, 4, 3, 3))
    optimiser = Muon([kernel], lr=0.2)
    for step in range(300):
        optimiser.param_groups[0]["lr"] = 0.2 * (1 - step / 300)
        optimiser.zero_grad()
        (kernel - wanted).square().mean().backward()
        optimiser.step()
    assert (kernel - wanted).abs().max() < 0.1


def test_examples_are_of_a_step_and_of_nothing_else() -> None:
    first, again, next_step = draw_batches(0, 3, 0.0), draw_batches(0, 3, 0.0), draw_batches(0, 4, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], next_step[1])
    for pixels in (*first, *next_step):
        assert pixels.shape[1] == 3
        assert pixels.shape[2] % 4 == 1
        assert pixels.min() >= -1
        assert pixels.max() <= 1
