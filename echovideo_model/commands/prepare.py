"""`echovideo prepare`: turns a folder of captioned videos into training examples."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InvalidRequest
from ..files import expand_user
from ..limits import TRAINED_SIZES
from . import say
from .arguments import Bars, add_models, find_models_folder


def register(subparsers: Any) -> None:
    """Adds `prepare` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "prepare",
        help="encode clips and captions once, for training",
        description="Encode every video in CLIPS, with its caption in a .txt of the same name, for `echovideo "
        "train`. The face is taken from a different moment than the frames that are shown. Finished "
        "clips are kept.",
    )
    parser.add_argument("clips", type=expand_user, metavar="CLIPS", help="the folder of videos and captions")
    parser.add_argument(
        "--output",
        type=expand_user,
        required=True,
        metavar="FOLDER",
        help="where to write the examples, one file per video",
    )
    parser.add_argument(
        "--size",
        action="append",
        metavar="WxH",
        help="width and height of a bucket in pixels, multiples of 16; repeat for several (default: the "
        "sizes EchoVideo was trained on)",
    )
    parser.add_argument(
        "--frames",
        action="append",
        type=int,
        metavar="N",
        help="frames of a bucket, 4n + 1; repeat for several (default: 49, 33 and 17)",
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first one available)")
    add_models(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encodes the clips; says how many, and why any was left out."""
    from ..pipeline import Pipeline
    from ..training.prepare import LENGTHS, Encoder, prepare

    sizes = [_parse_size(text) for text in args.size] if args.size else TRAINED_SIZES
    if not args.clips.is_dir():
        raise InvalidRequest(f"no folder {args.clips}: give the one that holds the clips")
    with Bars() as bars:
        encoder = Encoder(Pipeline(find_models_folder(args), args.device, on_progress=bars))
        report = prepare(
            args.clips,
            args.output,
            encoder,
            sizes,
            args.frames or LENGTHS,
            lambda done, total: bars("preparing", done, total, "clips"),
        )
    count = len(report.examples) + len(report.left_out)
    if not report.examples:
        raise InvalidRequest(f"none of {count} clips could be used; the first: {report.left_out[0]}")
    say(f"{len(report.examples)} of {count} clips are ready in {args.output}")
    return 0


def _parse_size(text: str) -> tuple[int, int]:
    """HEIGHT, WIDTH of WIDTHxHEIGHT."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise InvalidRequest(f"{text!r} is not WIDTHxHEIGHT, such as 848x480") from None
    return height, width
