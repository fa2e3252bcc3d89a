"""`echovideo demo`: the whole job on a bare machine, with a drawn person: by the nano model where this checkout has its
files, else by tiny random networks, whose video is noise."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..files import expand_user
from . import say
from .arguments import Bars, check_outputs
from .output import Target, write

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipeline import Pipeline

PROMPT = "A woman in a yellow pullover smiles at the camera in a sunny park."


def register(subparsers: Any) -> None:
    """Adds `demo` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "demo",
        help="run every step once, with nothing to download",
        description="Photo to face, identity, sampling, mp4 and contact sheet, on a CPU within a minute. Uses the "
        "nano model of drawn people if its files are in the package, otherwise tiny random networks, "
        "whose video is noise. `echovideo draw` makes photos for it.",
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
        default=1,
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
    """Does what `identity` and `generate` do, and enlarges what the nano model makes."""
    started = time.perf_counter()
    person = args.output / "identity.safetensors"
    target = Target(args.output / "video.mp4", args.output / "contact-sheet.png")
    check_outputs([*target.paths, person], [args.photo] if args.photo else [])
    from ..face.photo import load_photo
    from ..nano.models import FOLDER
    from ..pipeline import Pipeline
    from ..request import Request

    show = _choose_nano(args.prompt) if FOLDER.is_dir() else _choose_noise()
    source = args.photo or show.portrait
    photo = load_photo(source)
    with Bars() as bars, _on_few_threads(show):
        pipeline = Pipeline(show.models, device="cpu", on_progress=bars)
        request = Request(args.prompt, seed=args.seed, **pipeline.facts.defaults | show.settings)
        note = show.note.format(
            millions=_count_parameters(pipeline) / 1e6, size=f"{request.width} x {request.height}"
        )
        say(f"{note}.")
        identity = pipeline.identify(photo)
        identity.save(person)
        result = pipeline.generate(identity, request)
        result = replace(result, frames=_enlarge(result.frames, show.enlarged))
        write(result, identity, photo, source, target, pipeline.facts.fps, bars, note=note)
    paths = "".join(f"\n  {path}" for path in (*target.paths, person))
    say(f"Done in {time.perf_counter() - started:.0f} s:{paths}")
    return 0


class _Show(NamedTuple):
    """Networks, whom they show unless a photo is given, and what is said of it."""

    models: Path
    portrait: Path
    settings: dict[str, Any]  # of the request, besides the model's own
    enlarged: int  # times
    threads: int
    trained: bool
    note: str


def _choose_nano(prompt: str) -> _Show:
    """The trained model. Raises InvalidRequest for a word that it does not know."""
    from ..nano import PORTRAITS
    from ..nano.models import require_files
    from ..nano.words import check_words

    check_words(prompt)
    note = (
        "Drawn people, from a model of {millions:.1f} million parameters; enlarged 3 times from {size} pixels"
    )
    return _Show(require_files(), PORTRAITS[0], {"steps": 25}, enlarged=3, threads=2, trained=True, note=note)


def _choose_noise() -> _Show:
    """Tiny networks with random weights, built once in the cache: for a checkout without the nano model's files."""
    from ..tiny import PORTRAITS, build
    from ..weights.folders import cache_folder

    settings = {"height": 224, "width": 384, "frames": 33, "steps": 8}
    note = (
        "The pixels are noise: these are tiny networks with random weights. This only shows that every "
        "part works"
    )
    models = build(cache_folder() / "tiny")
    return _Show(models, PORTRAITS[0], settings, enlarged=1, threads=1, trained=False, note=note)


def _count_parameters(pipeline: Pipeline) -> int:
    return sum(parameter.numel() for parameter in pipeline.transformer.parameters())


def _enlarge(frames: Tensor, times: int) -> Tensor:
    """frames float32 [F, H, W, 3] in 0..1, `times` as high and wide (Lanczos)."""
    import numpy as np
    import torch
    from PIL import Image

    from ..video import to_uint8

    pictures = [Image.fromarray(to_uint8(frame, "a frame")) for frame in frames]
    size = frames.shape[2] * times, frames.shape[1] * times
    large = [np.asarray(picture.resize(size, Image.Resampling.LANCZOS)) for picture in pictures]
    return torch.from_numpy(np.stack(large)).float() / 255


@contextmanager
def _on_few_threads(show: _Show) -> Iterator[None]:
    """At most as many as gain something: on a busy machine more wait for each other. And no warning that random
    networks were trained on other sizes."""
    import torch

    from ..pipeline import logger

    level, threads = logger.level, torch.get_num_threads()
    torch.set_num_threads(min(threads, show.threads))
    if not show.trained:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        torch.set_num_threads(threads)
