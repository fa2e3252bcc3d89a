"""`echovideo demo`: the whole job on a bare machine, with tiny random networks and a drawn person."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from . import say
from .arguments import Bars
from .generate import write

PROMPT = "A person in a green pullover smiles and waves at the camera in a sunny park."


def register(subparsers: Any) -> None:
    """Adds `demo` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "demo",
        help="run the whole job with tiny random networks, nothing to download",
        description="Photo to face, identity, tokens, sampling, mp4 and contact sheet, on a CPU in under a minute. "
        "The networks are tiny and their weights random, so the pixels are noise: it shows that all works.",
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"), metavar="FOLDER")
    parser.add_argument("--prompt", default=PROMPT)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Builds the tiny checkpoints once, in the cache, then does what `generate` does."""
    from ..face.photo import load_photo
    from ..files import check_writable
    from ..pipeline import Pipeline
    from ..request import Request
    from ..tiny import PORTRAITS, build
    from ..weights import cache_folder

    started = time.perf_counter()
    video, sheet, person = (
        args.output / name for name in ("video.mp4", "contact-sheet.png", "identity.safetensors")
    )
    for path in (video, sheet, person):
        check_writable(path)
    say(
        "Tiny networks with random weights: the video will be noise. What this shows is that every part works."
    )
    photo = load_photo(PORTRAITS[0])
    pipeline = Pipeline(build(cache_folder() / "tiny"), device="cpu")
    request = Request(args.prompt, height=256, width=448, frames=49, steps=10)
    with Bars() as bars:
        identity = pipeline.identify(photo, bars)
        identity.save(person)
        result = pipeline.generate(identity, request, bars)
        write(result, identity, photo, video, sheet, 16.0, bars)
    say(f"Done in {time.perf_counter() - started:.0f} s:\n  {video}\n  {sheet}\n  {person}")
    return 0
