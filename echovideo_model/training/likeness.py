"""How much a predicted clip looks like its person, judged in latents so that nothing has to be decoded.

The squared error of v says little about a face, which is a small part of a clip and blurred in what is predicted while
noise is high. Losses on an embedding are common in training for identity (for one, PuLID, arXiv 2404.16022); most
decode the picture, ours has a small recogniser that reads latents.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import WrongModelFile
from ..weights.reading import open_tensors
from .objective import Batch, Prediction

WIDTHS = (64, 128, 256)
CELLS = 4  # a side, of what the last layer reads


class LatentRecogniser(nn.Module):
    """Latent frames [N, 16, h, w], scaled by 0.7 -> directions of ArcFace's embeddings [N, 512], of length 1."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 16
        for number, width in enumerate(WIDTHS):
            layers += [nn.Conv2d(before, width, 3, padding=1, stride=2 if number else 1)]
            layers += [nn.GroupNorm(8, width), nn.SiLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            before = width
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(before * CELLS * CELLS, 512)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.body(x), CELLS)
        return F.normalize(self.out(x.flatten(1)), dim=-1)

    @classmethod
    def load(cls, path: Path) -> LatentRecogniser:
        """Frozen. Raises ModelFileMissing or WrongModelFile."""
        network, opened = cls(), open_tensors(path)
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        if opened.shapes != wanted:
            raise WrongModelFile(f"{path} is not a recogniser of latents: make one from examples")
        network.load_state_dict(dict(opened.tensors()))
        return network.eval().requires_grad_(False)


def likeness_loss(recogniser: LatentRecogniser, batch: Batch, predicted: Prediction) -> Tensor:
    """1 - cosine between the person and each frame of the predicted clip, a mean for each sample [B].

    A frame counts as much as its original looks like the person (not at all when nobody is to be seen or the identity
    is dropped), and a noise level as much as it leaves to be decided and yet lets see: 2 sqrt(a (1 - a)).
    """
    frames = batch.x0.shape[2]
    person = F.normalize(batch.id_embedding, dim=-1).repeat_interleave(frames, 0)  # [B t, 512]

    def compare(clips: Tensor) -> Tensor:
        return (recogniser(rearrange(clips, "b c t h w -> (b t) c h w")) * person).sum(-1)

    with torch.no_grad():
        seen = compare(batch.x0).clamp(min=0)
    unlike = rearrange(seen * (1 - compare(predicted.x0())), "(b t) -> b t", t=frames)
    power = predicted.power.float()
    return 2 * (power * (1 - power)).sqrt() * unlike.mean(1)


__all__ = ["LatentRecogniser", "likeness_loss"]
