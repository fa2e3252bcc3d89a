"""Prepares examples of the drawn world for training: stills or clips of the people that photograph.py has seen.

    python scripts/nano/prepare_examples.py OUTPUT --people PEOPLE --models MODELS [--count N] [--takes 4] [--frames 1]
        [--held-out] [--part K/N]

One file a person: clips (or stills) of other moments than the photo's, and the person's identities out of PEOPLE.
Files that are there already are kept, so the same command goes on where it was stopped; K/N makes the K-th of N parts,
for N processes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from einops import rearrange
from photograph import Parts
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from echovideo_model.nano import Clip
from echovideo_model.nano.split import FIRST_HELD_OUT
from echovideo_model.nano.words import MAX_TOKENS
from echovideo_model.pipeline import Pipeline
from echovideo_model.text import TextEncoder
from echovideo_model.training.examples import EMPTY, write_empty, write_example
from echovideo_model.training.prepare import Encoder
from echovideo_model.weights.folders import require


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--people", type=Path, required=True, help="the folder that photograph.py has filled")
    parser.add_argument(
        "--models", type=Path, required=True, help="the nano networks, in the released layout"
    )
    parser.add_argument("--count", type=int, help="of people (default: all that are there)")
    parser.add_argument("--takes", type=int, default=4, help="of a person")
    parser.add_argument("--frames", type=int, default=1, help="of a take: 1 for stills, 17 for clips")
    parser.add_argument("--held-out", action="store_true", help="people and words that training never sees")
    parser.add_argument("--part", type=Parts, default=Parts("1/1"), metavar="K/N")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Pipeline(arguments.models, device="cpu")
    pipeline.text_encoder = TextEncoder.load(  # no transformer yet that would say how many tokens it reads
        require(pipeline.models, "text_encoder"), require(pipeline.models, "tokenizer"), tokens=MAX_TOKENS
    )
    encoder = Encoder(pipeline)
    nobody = load_file(arguments.people / EMPTY)["face_tokens"][0]
    write_empty(arguments.output, encoder.text("")[0], nobody)
    people = sorted(path for path in arguments.people.glob("*.safetensors") if path.name != EMPTY)
    for path in tqdm(arguments.part.of(people[: arguments.count]), mininterval=10):
        example = arguments.output / path.name
        if not example.is_file():
            person = int(path.stem) + arguments.held_out * FIRST_HELD_OUT
            takes, captions = film(
                person, encoder, arguments.takes, arguments.frames, held_out=arguments.held_out
            )
            write_example(example, {**takes, **encode_person(load_file(path), encoder)}, captions)


def film(
    person: int, encoder: Encoder, takes: int, frames: int, *, held_out: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """So many clips of one person, encoded, and their captions."""
    clips = [
        Clip.from_seed(person * takes + take, frames=frames, person=person, held_out_words=held_out)
        for take in range(takes)
    ]
    encoded = [encoder.take(clip.frames(), clip.sentence) for clip in clips]
    stacked = {name: torch.cat([take[name] for take in encoded]) for name in encoded[0]}
    return stacked, [clip.sentence for clip in clips]


def encode_person(person: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """What photograph.py has kept of M photos, and the VAE's posterior of their face pictures."""
    pixels = rearrange(person.pop("face_pixels").float() / 127.5 - 1, "m c h w -> m c 1 h w")
    mean, deviation = encoder.posterior(pixels)
    return {**person, "face_mean": mean, "face_deviation": deviation}


if __name__ == "__main__":
    main()
