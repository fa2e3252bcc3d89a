"""Trains the nano model's autoencoder on the drawn world.

    python scripts/nano/train_vae.py --state STATE [--steps N] [--freeze-at N]

The same command goes on where it was stopped, to the same weights; with another number of steps, a new cosine begins
there. STATE gets state.pt (everything that is needed
to go on), stats.jsonl, samples/ (held-out people, above themselves as they come out), encoder_frozen.safetensors
once the encoder is finished, and vae.safetensors, the current weights in the released layout.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from muon import Muon
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from vae_examples import draw_batches, draw_held_out, draw_whole
from wavelets import LATENT_DEVIATION, LOG_VARIANCE, initialise

from echovideo_model.errors import InvalidRequest
from echovideo_model.files import write_atomically
from echovideo_model.vae.autoencoder import CogVideoXVAE, VAESizes

SIZES = replace(VAESizes(), channels=(16, 32, 64, 64), layers=1, groups=4)
SEED = 0
MUON_RATE, ADAM_RATE = 2.5e-3, 1e-3
WARM_UP = 10
SPREAD_WEIGHT = 0.03
SAVE_EVERY, EVALUATE_EVERY = 25, 100
HELD_OUT = 8


class Training:
    """The network, its optimisers, and where they stand."""

    def __init__(self, steps: int, freeze_at: int) -> None:
        self.steps, self.freeze_at = steps, freeze_at
        self.begun = 0  # the step at which this cosine began
        self.done, self.seconds = 0, 0.0  # of processor time
        self.vae = CogVideoXVAE(SIZES)
        initialise(self.vae, draw_whole(SEED, 16), torch.Generator().manual_seed(SEED))
        parameters = list(self.vae.parameters())
        self.optimisers = (
            Muon([p for p in parameters if p.dim() > 1], MUON_RATE),
            torch.optim.Adam([p for p in parameters if p.dim() == 1], ADAM_RATE, betas=(0.9, 0.97)),
        )

    def step(self) -> dict[str, float]:
        """One step of both optimisers. Raises InvalidRequest when the loss is not finite."""
        self.vae.encoder.requires_grad_(self.done < self.freeze_at)
        for optimiser, rate in zip(self.optimisers, (MUON_RATE, ADAM_RATE), strict=True):
            optimiser.param_groups[0]["lr"] = rate * self.rate()
            optimiser.zero_grad()
        figures: dict[str, float] = {}
        for pixels in draw_batches(SEED, self.done, self.progress()):
            loss, these = self.loss(pixels)
            if not torch.isfinite(loss):
                raise InvalidRequest(f"step {self.done} gave a loss of {loss.item()}: lower MUON_RATE")
            loss.backward()
            kind = "clips" if pixels.shape[2] > 1 else "stills"
            figures |= {f"{name}_{kind}": figure for name, figure in these.items()}
        for optimiser in self.optimisers:
            optimiser.step()
        self.done += 1
        if self.done == self.freeze_at:
            fold_spread(self.vae, draw_whole(SEED + 1, 48))
        return figures

    def progress(self) -> float:
        return (self.done - self.begun) / (self.steps - self.begun)

    def rate(self) -> float:
        """Share of the full learning rate: warm-up, then a cosine to nothing."""
        return (
            min(1, (self.done - self.begun + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * self.progress()))
        )

    def loss(self, pixels: Tensor) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(SEED + self.done)
        mean, _ = self.vae.encode(pixels)
        noise = torch.randn(mean.shape, generator=generator) * math.exp(LOG_VARIANCE / 2)
        video = self.vae.decode(mean + noise)
        error = video - pixels
        squared = error.square().mean()
        edges = sum(error.diff(dim=dim).abs().mean() for dim in (3, 4))
        spread = mean.mean((0, 2, 3, 4)).square() + (mean.std((0, 2, 3, 4)) - LATENT_DEVIATION).square()
        loss = error.abs().mean() + 4 * squared + edges / 2 + SPREAD_WEIGHT * spread.mean()
        return loss, {"psnr": decibel(squared.item() / 4), "spread": spread.mean().item()}

    def state(self) -> dict[str, Any]:
        return {
            "begun": self.begun,
            "done": self.done,
            "steps": self.steps,
            "freeze_at": self.freeze_at,
            "seconds": self.seconds,
            "vae": self.vae.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.done, self.seconds = state["done"], state["seconds"]
        self.begun = state["begun"] if self.steps == state["steps"] else self.done
        self.vae.load_state_dict(state["vae"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


@torch.no_grad()
def fold_spread(vae: CogVideoXVAE, clips: Tensor) -> None:
    """Gives every latent channel mean 0 and the deviation LATENT_DEVIATION over `clips`: by the encoder's last
    convolution, and undone by whatever of the decoder reads latents."""
    latents = torch.cat([vae.encode(clip[None])[0] for clip in clips])
    mean, scale = latents.mean((0, 2, 3, 4)), LATENT_DEVIATION / latents.std((0, 2, 3, 4))
    last, channels = vae.encoder.conv_out.conv, vae.sizes.latent_channels
    last.weight[:channels] *= scale[:, None, None, None, None]
    last.bias[:channels].sub_(mean).mul_(scale)  # type: ignore[union-attr]
    readers = [m.conv for name, m in vae.decoder.named_modules() if name.endswith(("conv_y", "conv_b"))]
    for conv in (vae.decoder.conv_in.conv, *readers):
        conv.bias += torch.einsum("octyx,c->o", conv.weight, mean)  # type: ignore[operator]
        conv.weight /= scale[:, None, None, None]


@torch.no_grad()
def evaluate(vae: CogVideoXVAE, clips: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Held-out clips through the autoencoder: figures, and the clips as they come out."""
    latents, videos = [], []
    for clip in clips:
        latents.append(vae.encode(clip[None])[0])
        videos.append(vae.decode(latents[-1]).clamp(-1, 1))
    video, latent = torch.cat(videos), torch.cat(latents)
    squared = ((video - clips) / 2).square()
    deviations, means = latent.std((0, 2, 3, 4)), latent.mean((0, 2, 3, 4))
    figures = {
        "clips": float(np.mean([decibel(x.item()) for x in squared.mean((1, 2, 3, 4))])),
        "first_frames": float(np.mean([decibel(x.item()) for x in squared[:, :, 0].mean((1, 2, 3))])),
        "deviations": [deviations.min().item(), deviations.max().item()],
        "means": [means.min().item(), means.max().item()],
    }
    return figures, video


def decibel(mean_square: float) -> float:
    """PSNR of a mean squared error, where 1 is the whole range."""
    return -10 * math.log10(mean_square)


def save_picture(path: Path, clips: Tensor, videos: Tensor) -> None:
    """Six people: first, middle and last frame, above the same as they come out."""
    shown = torch.stack([clips[:6, :, ::8], videos[:6, :, ::8]])
    picture = rearrange(shown, "two (r b) c t h w -> (r two h) (b t w) c", b=3)
    with write_atomically(path) as temporary:
        Image.fromarray(((picture + 1) * 127.5).round().to(torch.uint8).numpy()).save(temporary)


def save_vae(path: Path, vae: nn.Module) -> None:
    metadata = {"format": "pt", "config": json.dumps(SIZES.config())}
    with write_atomically(path) as temporary:
        save_file(vae.state_dict(), temporary, metadata)


def save(folder: Path, training: Training) -> None:
    with write_atomically(folder / "state.pt") as temporary:
        torch.save(training.state(), temporary)
    save_vae(folder / "vae.safetensors", training.vae)


def resume(folder: Path, steps: int | None, freeze_at: int | None) -> Training:
    """The training in `folder` as it was saved last, or a new one."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "state.pt"
    if not file.is_file():
        if steps is None or freeze_at is None:
            raise InvalidRequest(f"nothing has begun in {folder} yet: give --steps and --freeze-at")
        return Training(steps, freeze_at)
    state = torch.load(file, weights_only=True)
    training = Training(steps or state["steps"], freeze_at or state["freeze_at"])
    training.load(state)
    stats = folder / "stats.jsonl"
    lines = stats.read_text(encoding="utf-8").splitlines(True) if stats.is_file() else []
    with write_atomically(stats) as temporary:
        temporary.write_text(
            "".join(line for line in lines if json.loads(line)["step"] <= training.done), encoding="utf-8"
        )
    return training


def train(folder: Path, training: Training, until: int | None = None) -> None:
    """Goes on to the end, or to step `until`; saves on the way."""
    held_out = draw_held_out(HELD_OUT)
    start, before = time.process_time(), training.seconds
    end = min(training.steps, until or training.steps)
    for _ in tqdm(range(training.done, end), initial=training.done, total=training.steps, mininterval=10):
        figures: dict[str, Any] = {"step": training.done + 1, **training.step()}
        training.seconds = before + time.process_time() - start
        if training.done % EVALUATE_EVERY == 0 or training.done == training.steps:
            judged, videos = evaluate(training.vae, held_out)
            figures |= judged
            save_picture(folder / "samples" / f"{training.done:06}.png", held_out, videos)
            tqdm.write(
                f"step {training.done}, {training.seconds / 60:.1f} core-minutes: held-out clips "
                f"{judged['clips']:.2f} dB, first frames {judged['first_frames']:.2f} dB"
            )
        with (folder / "stats.jsonl").open("a") as stats:
            stats.write(json.dumps(figures | {"seconds": round(training.seconds, 1)}) + "\n")
        if training.done == training.freeze_at:
            save_vae(folder / "encoder_frozen.safetensors", training.vae)
        if training.done % SAVE_EVERY == 0 or training.done in (end, training.freeze_at):
            save(folder, training)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state", type=Path, required=True, help="folder for the state that resumes")
    parser.add_argument("--steps", type=int, metavar="N", help="of the whole schedule")
    parser.add_argument("--freeze-at", type=int, metavar="N", help="the step that finishes the encoder")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    train(arguments.state, resume(arguments.state, arguments.steps, arguments.freeze_at))


if __name__ == "__main__":
    main()
