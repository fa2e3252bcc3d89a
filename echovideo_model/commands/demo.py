"""`echovideo demo`: the small model that ships makes a video of a drawn person, on a bare machine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import expand_user
from . import say
from .arguments import Bars, check_outputs
from .output import Target, write

if TYPE_CHECKING:
    from torch import Tensor

PROMPT = "A woman in a yellow pullover smiles at the camera in a sunny park."
STEPS = 25
ENLARGED = 3  # times, for people to see something of 128 x 128 pixels


def register(subparsers: Any) -> None:
    """Adds `demo` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "demo",
        help="make a video of a drawn person with the small model that is included, with nothing to download",
        description="Photo to face, identity, sampling, mp4 and contact sheet, on a CPU within a minute, with a small "
        "model of drawn people. `echovideo draw` makes photos for it.",
    )
    parser.add_argument(
        "--photo",
        type=expand_user,
        metavar="FILE",
        help="another drawn portrait (default: the bundled one)",
    )
    parser.add_argument("--prompt", default=PROMPT, metavar="TEXT", help='default: "%(default)s"')
    parser.add_argument(
        "--seed",
        type=int,
        default=6,
        metavar="N",
        help="a different seed gives a different video (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        default=Path("output/demo"),
        metavar="FOLDER",
        help="where to write the files (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Does what `identity` and `generate` do, with the nano model, and enlarges what it makes."""
    started = time.perf_counter()
    person = args.output / "identity.safetensors"
    target = Target(args.output / "video.mp4", args.output / "contact-sheet.png")
    check_outputs([*target.paths, person], [args.photo] if args.photo else [])
    from ..nano.models import require_files
    from ..nano.words import check_words

    check_words(args.prompt)
    folder = require_files()
    from ..face.photo import load_photo
    from ..nano import PORTRAITS
    from ..pipeline import Pipeline
    from ..request import Request

    source = args.photo or PORTRAITS[0]
    photo = load_photo(source)
    with Bars() as bars, _use_one_thread():
        pipeline = Pipeline(folder, device="cpu", on_progress=bars)
        model = pipeline.facts
        request = Request(args.prompt, steps=STEPS, seed=args.seed, **model.defaults)
        millions = sum(parameter.numel() for parameter in pipeline.transformer.parameters()) / 1e6
        note = (
            f"Drawn people, from a model of {millions:.1f} million parameters; enlarged {ENLARGED} times "
            f"from {request.width} x {request.height} pixels"
        )
        say(f"{note}.")
        identity = pipeline.identify(photo)
        identity.save(person)
        result = pipeline.generate(identity, request)
        result = replace(result, frames=_enlarge(result.frames))
        write(result, identity, photo, source, target, model.fps, bars, note=note)
    paths = "".join(f"\n  {path}" for path in (*target.paths, person))
    say(f"Done in {time.perf_counter() - started:.0f} s:{paths}")
    return 0


def _enlarge(frames: Tensor) -> Tensor:
    """frames float32 [F, H, W, 3] in 0..1, ENLARGED times as high and wide (Lanczos)."""
    import numpy as np
    import torch
    from PIL import Image

    from ..video import to_uint8

    pictures = [Image.fromarray(to_uint8(frame, "a frame")) for frame in frames]
    large = [
        picture.resize((picture.width * ENLARGED, picture.height * ENLARGED), Image.Resampling.LANCZOS)
        for picture in pictures
    ]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in large])).float() / 255


@contextmanager
def _use_one_thread() -> Iterator[None]:
    """On so little work, two wait for each other: with one of two cores busy they took 92 s, one took 15; with both
    idle, 13 and 15."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
