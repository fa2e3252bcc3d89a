"""Photographs people of the drawn world: what the face networks make of them, for prepare_examples.py.

    python scripts/nano/photograph.py OUTPUT --models MODELS --people N [--held-out] [--part K/N]

One file a person, with one or two identities from one photo: drawn as a user's photo might be, and passed through the
detector, alignment, parser, recogniser and image encoder of MODELS as a user's photo would. The second identity, of
some people, is of the whole person, cut out by the drawing's own mask. EMPTY is nobody: SigLIP's view of black.
Files that are there already are kept, so the same command goes on where it was stopped; K/N makes the K-th of N parts,
for N processes.

| tensor | shape |
|---|---|
| id_embedding | [M, 512] float32 |
| face_tokens | [M, 196, 768] bfloat16 |
| face_pixels | [M, 3, H, W] uint8, the face picture as the VAE is to see it |
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from pictures import picture_of
from safetensors.torch import save_file
from tqdm import tqdm

from echovideo_model.errors import NoFaceFound
from echovideo_model.face.align import face_latent_pixels
from echovideo_model.files import write_atomically
from echovideo_model.identity import ChosenFace, Detector, FaceEncoders, Identity, find_face, make_identity
from echovideo_model.nano import Person
from echovideo_model.nano.clip import SIDE
from echovideo_model.nano.split import FIRST_HELD_OUT
from echovideo_model.pipeline import Pipeline
from echovideo_model.training.examples import EMPTY

WHOLE = 0.4  # of the photos make two identities: one sample in five then shows the whole person
SIZES = (224, 320, 512)  # of a photo
UNITS = (0.14, 0.3)  # half a face's width, as a share of the photo
REACH = 0.6  # how far the head turns: a photo shows both eyes
Item = TypeVar("Item")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--models", type=Path, required=True, help="the nano networks, in the released layout"
    )
    parser.add_argument("--people", type=int, required=True)
    parser.add_argument("--held-out", action="store_true", help="people whom training never sees")
    parser.add_argument("--part", type=Parts, default=Parts("1/1"), metavar="K/N")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoders = Pipeline(arguments.models, device="cpu").face_encoders
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not (arguments.output / EMPTY).is_file():
        write(arguments.output / EMPTY, [make_identity([], encoders)])
    for number in tqdm(arguments.part.of(range(arguments.people)), mininterval=10):
        path = arguments.output / f"{number:06}.safetensors"
        if not path.is_file():
            write(path, photograph(number + arguments.held_out * FIRST_HELD_OUT, encoders))


class Parts:
    """K/N of a command line: the K-th of N parts."""

    def __init__(self, text: str) -> None:
        self.part, self.parts = map(int, text.split("/"))

    def of(self, all: Sequence[Item]) -> Sequence[Item]:
        return all[self.part - 1 :: self.parts]


def photograph(person: int, encoders: FaceEncoders) -> list[Identity]:
    """The identities of one person from one photo; a photo in which no face is found is taken again."""
    random, who = np.random.default_rng([person, 0x9407]), Person.from_seed(person)
    chosen, mask = take_photo(random, who, encoders.detector)
    identities = [make_identity([chosen], encoders)]
    if random.random() < WHOLE:
        identities.append(make_identity([chosen._replace(mask=mask)], encoders))
    return identities


def take_photo(random: np.random.Generator, who: Person, detector: Detector) -> tuple[ChosenFace, np.ndarray]:
    """The face found in a photo, and the person's mask, uint8 [H, W]."""
    while True:
        size, unit = int(random.choice(SIZES)), float(random.uniform(*UNITS))
        photo, truth = picture_of(random, who, size, unit, REACH)
        with suppress(NoFaceFound):
            return find_face(photo, detector), truth.person.astype(np.uint8) * 255


def write(path: Path, identities: Sequence[Identity]) -> None:
    pixels = [face_latent_pixels(identity.face_picture, SIDE, SIDE) for identity in identities]  # [3, H, W]
    tensors = {
        "id_embedding": torch.stack([identity.id_embedding for identity in identities]),
        "face_tokens": torch.stack([identity.face_tokens for identity in identities]).bfloat16(),
        "face_pixels": ((torch.stack(pixels) + 1) * 127.5).round().to(torch.uint8),
    }
    with write_atomically(path) as temporary:
        save_file(tensors, temporary)


if __name__ == "__main__":
    main()
