"""`echovideo generate`: makes a video and a contact sheet from photos of one person, or an identity, and a prompt."""

from __future__ import annotations

import argparse
from typing import Any

from ..facts import RELEASED
from ..files import expand_user
from ..limits import MAX_GUIDANCE_SCALE, MAX_STRENGTH, SIDE_STEP, TRAIN_STEPS
from ..request import Request
from . import over_ranks
from .arguments import (
    Bars,
    add_ai_tag,
    add_credential,
    add_face_choice,
    add_json,
    add_loras,
    add_models,
    add_whole_person,
)
from .making import make_videos, parse_pipeline_settings, read_requests


def register(subparsers: Any) -> None:
    """Adds `generate` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "generate",
        help="make a video of the person in a photo",
        description="Make a video of the person in PHOTO doing what the prompt says.",
    )
    parser.add_argument(
        "photos",
        nargs="+",
        type=expand_user,
        metavar="PHOTO",
        help="one or several photos of the same person, or one identity (.safetensors)",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        required=True,
        metavar="TEXT",
        help="what the person does; repeat for several videos",
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        metavar="FILE.mp4",
        help="the video, overwriting an existing file (default: the first free name of output/video.mp4, "
        "output/video_2.mp4, output/video_3.mp4, ...); with several prompts FILE-1.mp4, FILE-2.mp4, ...",
    )
    parser.add_argument(
        "--no-contact-sheet", action="store_true", help="do not write FILE.png beside the video"
    )
    add_ai_tag(parser)
    add_credential(parser)
    _add_settings(parser)
    _add_machine(parser)
    add_face_choice(parser)
    add_whole_person(parser)
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    trained = ", ".join(f"{width}x{height}" for height, width in RELEASED.sizes)
    group = parser.add_argument_group(
        "settings; the defaults are those of the released model, and another model's file may set its own"
    )
    group.add_argument("--negative-prompt", default="", metavar="TEXT", help="what to avoid (default: empty)")
    group.add_argument(
        "--size",
        type=_parse_size,
        metavar="WxH",
        help=f"pixels, multiples of {SIDE_STEP} (default: {Request.width}x{Request.height}; trained: {trained})",
    )
    group.add_argument(
        "--frames", type=int, metavar="N", help=f"number of frames, 4n + 1 (default: {RELEASED.frames})"
    )
    group.add_argument(
        "--fps",
        type=float,
        metavar="N",
        help=f"frames per second of the file (default: {RELEASED.fps:g})",
    )
    group.add_argument(
        "--steps",
        type=int,
        default=Request.steps,
        metavar="N",
        help=f"sampling steps, 1 to {TRAIN_STEPS} (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=Request.seed,
        metavar="N",
        help="the same seed gives the same video (default: %(default)s)",
    )
    group.add_argument(
        "--guidance-scale",
        type=float,
        metavar="G",
        help=f"how strongly the prompt and the person count, 0 to {MAX_GUIDANCE_SCALE:g} (default: "
        f"{RELEASED.guidance_scale:g})",
    )
    group.add_argument(
        "--guidance",
        metavar="KIND",
        help="how the scale changes over the steps: reference (default), smooth or constant",
    )
    group.add_argument("--sampler", default=Request.sampler, metavar="NAME", help="dpm (default) or ddim")
    group.add_argument(
        "--strength",
        type=float,
        default=Request.strength,
        metavar="S",
        help=f"strength of the identity, from 0 (nobody) to {MAX_STRENGTH:g} (exaggerated) (default: "
        "%(default)g)",
    )
    group.add_argument(
        "--no-face-latent", action="store_true", help="do not show the model the face's pixels"
    )
    group.add_argument(
        "--riflex",
        action="store_true",
        help="for more frames than in training: keep the video from repeating itself (arXiv 2502.15894)",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where and how it runs")
    group.add_argument("--device", help="cuda, mps or cpu (default: the first one available)")
    over_ranks.add_ranks(group)
    group.add_argument(
        "--transformer", type=expand_user, metavar="PATH", help="another file or folder for the transformer"
    )
    add_loras(group)
    group.add_argument(
        "--weight-dtype",
        metavar="DTYPE",
        help="store the transformer as bf16, fp16, fp32 or fp8_e4m3fn, which suits GPUs of 12 GB (default: "
        "as in the file)",
    )
    add_models(parser)
    add_json(parser)


def _parse_size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 848x480") from None
    return width, height


def run(args: argparse.Namespace) -> int:
    """Makes the videos; everything that can be checked is checked before the first network is loaded."""
    if over_ranks.is_rank():
        return over_ranks.run_rank(args)
    if args.ranks != 1:
        return over_ranks.start_ranks(args)
    from ..pipeline import Pipeline

    requests = read_requests(args)
    with Bars() as bars:
        make_videos(
            args, requests, Pipeline(**parse_pipeline_settings(args, args.device), on_progress=bars), bars
        )
    return 0
