"""`echovideo demo`: the whole job on a bare machine, with tiny random networks and a drawn person."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import expand_user
from ..limits import FPS
from . import say
from .arguments import Bars, check_outputs
from .output import Target, write

PROMPT = "A woman in a yellow pullover smiles and waves at the camera in a sunny park."
NOISE = "The pixels are noise: these are tiny networks with random weights"


def register(subparsers: Any) -> None:
    """Adds `demo` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "demo",
        help="run the whole job with tiny random networks, nothing to download",
        description="Photo to face, identity, tokens, sampling, mp4 and contact sheet, on a CPU in under a minute. "
        "The networks are tiny and their weights random, so the pixels are noise: it shows that every part works.",
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        default=Path("output/demo"),
        metavar="FOLDER",
        help="where the files go (default: %(default)s)",
    )
    parser.add_argument("--prompt", default=PROMPT, metavar="TEXT", help='default: "%(default)s"')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Builds the tiny checkpoints once, in the cache, then does what `identity` and `generate` do."""
    started = time.perf_counter()
    from ..face.photo import load_photo
    from ..pipeline import Pipeline
    from ..request import Request
    from ..tiny import PORTRAITS, build
    from ..weights.folders import cache_folder

    person = args.output / "identity.safetensors"
    target = Target(args.output / "video.mp4", args.output / "contact-sheet.png")
    request = Request(args.prompt, height=224, width=384, frames=33, steps=8)
    check_outputs([*target.paths, person])
    say(f"{NOISE}. What this shows is that every part works.")
    photo = load_photo(PORTRAITS[0])
    with Bars() as bars, _spare_tiny_networks():
        pipeline = Pipeline(build(cache_folder() / "tiny"), device="cpu", on_progress=bars)
        identity = pipeline.identify(photo)
        identity.save(person)
        result = pipeline.generate(identity, request)
        write(result, identity, photo, PORTRAITS[0], target, FPS, bars, note=NOISE)
    paths = "".join(f"\n  {path}" for path in (*target.paths, person))
    say(f"Done in {time.perf_counter() - started:.0f} s:{paths}")
    return 0


@contextmanager
def _spare_tiny_networks() -> Iterator[None]:
    """On one thread, because several gain nothing on such small work and on a busy machine wait for each other; and
    without the warning that the released model was trained on other sizes, because nothing was trained here."""
    import torch

    from ..pipeline import logger

    level, threads = logger.level, torch.get_num_threads()
    logger.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        logger.setLevel(level)
        torch.set_num_threads(threads)
