"""Trains the drawn world's face recogniser and writes it with ArcFace's input and output.

    python scripts/nano/train_recogniser.py --state STATE --models MODELS

Two views of each person come closer together than to everyone else's, by a margin; heads that name what people look
like (and are not kept) show the way in the beginning. The output is centred and scaled over people: strangers are at
a cosine about 0, and lengths are those of the released network, about 22.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from convolutions import Block, write_conv
from insightface.utils import face_align
from loop import arguments, train
from pictures import as_detected, landmarks_of, random_person, with_light
from torch import Tensor, nn

from echovideo_model.face.detect import EMBEDDING_WIDTH, RECOGNISER
from echovideo_model.files import write_atomically
from echovideo_model.nano import Person
from echovideo_model.nano.people import ALTERNATIVES
from echovideo_model.tiny.graph import Graph

FACE, PEOPLE, STEPS = 112, 24, (450, 350, 300)
MARGIN, TEMPERATURE = 0.15, 0.07
SQUEEZED = 24  # channels of the 7 x 7 places that the embedding is made of


class Recogniser(nn.Module):
    """[B, 3, 112, 112] in (x - 127.5) / 127.5 -> [B, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            Block(3, 24, 4, 2),
            Block(24, 40, 4, 2),
            Block(40, 40, skip=True),
            Block(40, 64, 4, 2),
            Block(64, 64, skip=True),
            Block(64, 96, 4, 2),
            Block(96, 96, skip=True),
            Block(96, SQUEEZED, 1),
        )
        self.last = nn.Linear(SQUEEZED * 49, EMBEDDING_WIDTH, bias=False)
        self.norm = nn.BatchNorm1d(EMBEDDING_WIDTH, affine=False, momentum=0.05)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(EMBEDDING_WIDTH, len(names)) for name, names in ALTERNATIVES.items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.last(self.blocks(x).flatten(1)))

    def file(self) -> bytes:
        graph = Graph()
        x = "input"
        for block in self.blocks:
            x = block.write(graph, x)
        gain = 1 / torch.sqrt(self.norm.running_var + self.norm.eps)
        weight = (self.last.weight * gain[:, None]).unflatten(1, (SQUEEZED, 7, 7))
        x = write_conv(graph, x, weight, -self.norm.running_mean * gain)  # [N, 512, 1, 1]
        graph.add("Reshape", x, np.array([-1, EMBEDDING_WIDTH]), output="embedding")
        return graph.model({"input": ("faces", 3, FACE, FACE)}, {"embedding": ("faces", EMBEDDING_WIDTH)})


def aligned_view(rng: np.random.Generator, person: Person) -> np.ndarray:
    """uint8 [112, 112, 3]: a picture, aligned as insightface does, by landmarks as the detector finds them."""
    size = int(rng.choice((96, 128, 160)))
    picture, landmarks = landmarks_of(rng, person, size, 0.5 * rng.uniform(0.36, 0.5), reach=0.9)
    return face_align.norm_crop(
        with_light(rng, picture), as_detected(rng, landmarks).astype(np.float32), FACE
    )


def main() -> None:
    args = arguments(__doc__, STEPS)
    torch.manual_seed(2)
    torch.set_num_threads(1)
    network = Recogniser()

    def loss_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([0xFACE, step])
        people = [random_person(rng) for _ in range(PEOPLE)]
        views = np.stack([aligned_view(rng, person) for _ in range(2) for person in people])
        pixels = torch.from_numpy(views).permute(0, 3, 1, 2)
        embedding = network((pixels.float() - 127.5) / 127.5)  # [2 people, 512]
        direction = F.normalize(embedding)
        own = torch.arange(2 * PEOPLE).roll(PEOPLE)
        likeness = direction @ direction.T
        likeness = likeness - MARGIN * F.one_hot(own, 2 * PEOPLE) - 9 * torch.eye(2 * PEOPLE)
        told = {
            name: torch.tensor([ALTERNATIVES[name].index(getattr(person, name)) for person in people]).repeat(
                2
            )
            for name in ALTERNATIVES
        }
        heads = [F.cross_entropy(network.heads[name](direction * 8), right) for name, right in told.items()]
        apart = F.cross_entropy(likeness / TEMPERATURE, own)
        return {"apart": apart, "told": 0.1 * torch.stack(heads).sum()}

    train("recogniser", network, loss_of, args, 3e-3)
    path = args.models / "face_encoder" / "models" / "antelopev2" / RECOGNISER
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(network.file())


if __name__ == "__main__":
    main()
