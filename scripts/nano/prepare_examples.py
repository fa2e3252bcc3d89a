"""Prepares examples of the drawn world for training: clips or stills, each person with photos of other moments.

    python scripts/nano/prepare_examples.py OUTPUT --models MODELS --people N [--frames 1] [--held-out] [--part K/N]

One file a person: TAKES clips (or stills) of that person and PHOTOS photos of other moments, which go through the
detector, alignment, parser, recogniser and image encoder of MODELS as a user's photo would. Some of these photos make
a second identity, of the whole person, cut out by the drawing's own mask. Files that are there already are kept, so the
same command goes on where it was stopped; K/N makes the K-th of N parts, for N processes.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from pictures import picture_of
from torch import Tensor
from tqdm import tqdm

from echovideo_model.errors import NoFaceFound
from echovideo_model.identity import ChosenFace, Detector, Identity, find_face, make_identity
from echovideo_model.nano import Clip, Person
from echovideo_model.nano.split import FIRST_HELD_OUT
from echovideo_model.pipeline import Pipeline
from echovideo_model.training.examples import EMPTY, write_example
from echovideo_model.training.prepare import Encoder

TAKES, PHOTOS = 4, 1
WHOLE = 0.4  # of the photos make two identities: one sample in five then shows the whole person
TOKEN_IDS = 24
SIZES = (224, 320, 512)  # of a photo
UNITS = (0.14, 0.3)  # half a face's width, as a share of the photo
REACH = 0.6  # how far the head turns: a photo shows both eyes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--models", type=Path, required=True, help="the nano networks, in the released layout"
    )
    parser.add_argument("--people", type=int, required=True)
    parser.add_argument("--frames", type=int, default=1, help="of a take: 1 for stills, 17 for clips")
    parser.add_argument("--held-out", action="store_true", help="people and words that training never sees")
    parser.add_argument("--part", default="1/1", metavar="K/N")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    part, parts = map(int, arguments.part.split("/"))
    encoder = Encoder(Pipeline(arguments.models, device="cpu"), TOKEN_IDS)
    if part == 1 and not (arguments.output / EMPTY).is_file():
        encoder.write_empty(arguments.output)
    for number in tqdm(range(part - 1, arguments.people, parts)):
        path = arguments.output / f"{number:06}.safetensors"
        if not path.is_file():
            prepare(number + arguments.held_out * FIRST_HELD_OUT, path, encoder, arguments)


def prepare(person: int, path: Path, encoder: Encoder, arguments: argparse.Namespace) -> None:
    takes, captions = [], []
    for take in range(TAKES):
        clip = Clip.from_seed(
            person * TAKES + take,
            frames=arguments.frames,
            person=person,
            held_out_words=arguments.held_out,
        )
        takes.append(encoder.take(clip.frames(), clip.sentence))
        captions.append(clip.sentence)
    height, width = clip.height, clip.width
    people = [encoder.person(identity, height, width) for identity in photograph(person, encoder.pipeline)]
    write_example(path, {**_stack(takes), **_stack(people)}, captions)


def photograph(person: int, pipeline: Pipeline) -> list[Identity]:
    """Identities of one person from PHOTOS photos; a photo in which no face is found is taken again."""
    identities: list[Identity] = []
    encoders = pipeline.face_encoders
    random, who = np.random.default_rng([person, 0x9407]), Person.from_seed(person)
    for _ in range(PHOTOS):
        chosen, mask = take_photo(random, who, encoders.detector)
        identities.append(make_identity([chosen], encoders))
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


def _stack(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


if __name__ == "__main__":
    main()
