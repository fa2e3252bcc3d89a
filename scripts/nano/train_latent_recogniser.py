"""Trains the recogniser of latents that [likeness] in a recipe names (echovideo_model/training/likeness.py).

    python scripts/nano/train_latent_recogniser.py EXAMPLES [EXAMPLES ...] --held-out EXAMPLES --output FILE

It learns to read from a latent frame what the recogniser of faces says about its person's photo, and prints how well it
reads people from whom it has not learnt.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from echovideo_model.files import write_atomically
from echovideo_model.training.examples import EMPTY
from echovideo_model.training.likeness import LatentRecogniser
from echovideo_model.vae.autoencoder import LATENT_SCALE

BATCH, RATE, WARM_UP = 64, 2e-3, 50
SHARPNESS, TOLD_APART = 12, 0.3  # of the cosines, and the weight, of telling a batch's people apart
NOISE = 0.3  # at most: what is predicted from a noisy clip is not clean either


class Frames(NamedTuple):
    """N latent frames of P people."""

    mean: Tensor  # [N, 16, h, w]
    deviation: Tensor  # [N, 16, h, w]
    person: Tensor  # [N], in 0..P - 1
    directions: Tensor  # [P, 512], of length 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("examples", type=Path, nargs="+", help="folders of prepared examples")
    parser.add_argument("--held-out", type=Path, required=True, help="examples of other people")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    arguments = parser.parse_args()
    torch.manual_seed(7)
    frames, held_out = read_frames(arguments.examples), read_frames([arguments.held_out])
    network = LatentRecogniser()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    for step in tqdm(range(arguments.steps), disable=None):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (1 - step / arguments.steps)
        optimiser.zero_grad()
        loss_of(network, frames).backward()
        optimiser.step()
    with write_atomically(arguments.output) as temporary:
        temporary.write_bytes(save(network.state_dict()))
    with torch.no_grad():
        cosines = network.eval()(LATENT_SCALE * held_out.mean) @ held_out.directions.T  # [N, P]
    own = cosines.gather(1, held_out.person[:, None]).mean()
    right = (cosines.argmax(1) == held_out.person).float().mean()
    print(
        f"{cosines.shape[0]} frames of {cosines.shape[1]} held-out people: cosine {own:.3f}, right {right:.3f}"
    )


def read_frames(folders: list[Path]) -> Frames:
    means, deviations, people, directions = [], [], [], []
    for path in sorted(path for folder in folders for path in folder.glob("*.safetensors")):
        if path.name == EMPTY:
            continue
        example = load_file(path)
        means.append(rearrange(example["mean"], "n c t h w -> (n t) c h w").float())
        deviations.append(rearrange(example["deviation"], "n c t h w -> (n t) c h w").float())
        people.append(torch.full((len(means[-1]),), len(directions)))
        directions.append(F.normalize(example["id_embedding"][0], dim=-1))
    return Frames(torch.cat(means), torch.cat(deviations), torch.cat(people), torch.stack(directions))


def loss_of(network: LatentRecogniser, frames: Frames) -> Tensor:
    """How far a batch's directions are from its people's, and how little they tell these people apart."""
    chosen = torch.randint(len(frames.mean), (BATCH,))
    mean, deviation = frames.mean[chosen], frames.deviation[chosen]
    latents = LATENT_SCALE * (mean + deviation * torch.randn(mean.shape))
    latents += torch.randn(latents.shape) * NOISE * torch.rand(BATCH, 1, 1, 1)
    cosines = network(latents) @ frames.directions[frames.person[chosen]].T  # [BATCH, BATCH]
    apart = F.cross_entropy(SHARPNESS * cosines, torch.arange(BATCH))
    return (1 - cosines.diagonal()).mean() + TOLD_APART * apart


if __name__ == "__main__":
    main()
