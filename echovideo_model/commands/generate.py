"""`echovideo generate`: photos of one person, or an identity, and a prompt become a video and a contact sheet."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest
from ..facts import RELEASED, ModelFacts
from ..files import expand_user, reserving
from ..limits import MAX_GUIDANCE_SCALE, MAX_STRENGTH, SIDE_STEP, TRAIN_STEPS
from ..request import Request
from . import say, say_json
from .arguments import (
    Bars,
    add_ai_tag,
    add_face_choice,
    add_json,
    add_loras,
    add_models,
    check_outputs,
    find_facts,
    match_files,
    models_folder,
    parse_dtype,
    parse_face_choice,
    parse_loras,
)
from .output import Target, list_facts, write

if TYPE_CHECKING:
    import numpy as np

    from ..identity import Identity
    from ..pipeline import Pipeline


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
        help="one photo or several of the same person, or one identity (.safetensors)",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        required=True,
        metavar="TEXT",
        help="what the person does; give it several times for several videos",
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        metavar="FILE.mp4",
        help="the video, replacing what is there (default: the first free name of output/video.mp4, "
        "output/video_2.mp4, output/video_3.mp4, ...); with several prompts FILE-1.mp4, FILE-2.mp4, ...",
    )
    parser.add_argument(
        "--no-contact-sheet", action="store_true", help="do not write FILE.png beside the video"
    )
    add_ai_tag(parser)
    _add_settings(parser)
    _add_machine(parser)
    add_face_choice(parser)
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    trained = ", ".join(f"{width}x{height}" for height, width in RELEASED.sizes)
    group = parser.add_argument_group(
        "settings; the defaults are the released model's, another's file may say its own"
    )
    group.add_argument(
        "--negative-prompt", default="", metavar="TEXT", help="what not to show (default: empty)"
    )
    group.add_argument(
        "--size",
        type=_parse_size,
        metavar="WxH",
        help=f"pixels, multiples of {SIDE_STEP} (default: {Request.width}x{Request.height}; trained: {trained})",
    )
    group.add_argument("--frames", type=int, metavar="N", help=f"4n + 1 (default: {RELEASED.frames})")
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
        help=f"how much the prompt and the person count, 0 to {MAX_GUIDANCE_SCALE:g} "
        f"(default: {RELEASED.guidance_scale:g})",
    )
    group.add_argument(
        "--guidance",
        metavar="KIND",
        help="how the scale runs over the steps: reference (default), smooth or constant",
    )
    group.add_argument("--sampler", default=Request.sampler, metavar="NAME", help="dpm (default) or ddim")
    group.add_argument(
        "--strength",
        type=float,
        default=Request.strength,
        metavar="S",
        help=f"of the identity, from 0, nobody, to {MAX_STRENGTH:g}, exaggerated (default: %(default)g)",
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
    group.add_argument("--device", help="cuda, mps or cpu (default: the first of them that is there)")
    group.add_argument(
        "--transformer", type=expand_user, metavar="PATH", help="another file or folder for the transformer"
    )
    add_loras(group)
    group.add_argument(
        "--weight-dtype",
        metavar="DTYPE",
        help="keep the transformer as bf16, fp16, fp32 or fp8_e4m3fn, which suits GPUs of 12 GB (default: as it is)",
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
    from ..pipeline import Pipeline
    from ..video import frame_rate

    args.photos = match_files(args.photos)
    model = find_facts(args)
    fps = model.fps if args.fps is None else args.fps
    requests = [_make_request(args, prompt, model) for prompt in args.prompt]
    frame_rate(fps)
    with _choose_targets(args, len(requests)) as targets, Bars() as bars:
        check_outputs(_paths(targets), args.photos)
        pipeline = Pipeline(
            models_folder(args),
            args.device,
            parse_dtype(args.weight_dtype),
            args.transformer,
            bars,
            parse_loras(args),
        )
        identity, photo = _identify_person(args, pipeline)
        made = []
        for result, target in zip(pipeline.generate_all(identity, requests), targets, strict=True):
            write(result, identity, photo, args.photos[0], target, fps, bars, ai_tag=args.ai_tag)
            made.append(list_facts(result, target, fps))
            if not args.json:
                say("\n".join(map(str, target.paths)))
    if args.json:
        say_json(made)
    return 0


def _make_request(args: argparse.Namespace, prompt: str, model: ModelFacts) -> Request:
    width, height = args.size or (None, None)
    given = {
        "height": height,
        "width": width,
        "frames": args.frames,
        "guidance": args.guidance,
        "guidance_scale": args.guidance_scale,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return Request(
        prompt=prompt,
        negative_prompt=args.negative_prompt,
        steps=args.steps,
        seed=args.seed,
        sampler=args.sampler,
        strength=args.strength,
        face_latent=not args.no_face_latent,
        riflex=args.riflex,
        **model.defaults | chosen,
    )


def _name_targets(output: Path, count: int, sheets: bool) -> list[Target]:
    if output.suffix.lower() != ".mp4":
        raise InvalidRequest(f"the output {output} must end in .mp4")
    numbers = range(1, count + 1)
    videos = [output] if count == 1 else [output.with_stem(f"{output.stem}-{number}") for number in numbers]
    return [Target(video, video.with_suffix(".png") if sheets else None) for video in videos]


@contextmanager
def _choose_targets(args: argparse.Namespace, count: int) -> Iterator[list[Target]]:
    """--output, else the first of output/video.mp4, output/video_2.mp4, ... that replaces nothing and that no other
    run has chosen."""
    sheets = not args.no_contact_sheet
    if args.output:
        yield _name_targets(args.output, count, sheets)
        return
    names = ("video.mp4" if number == 1 else f"video_{number}.mp4" for number in itertools.count(1))
    choices = (_name_targets(Path("output", name), count, sheets) for name in names)
    with reserving(choices, _paths) as targets:
        yield targets


def _paths(targets: Sequence[Target]) -> list[Path]:
    return [path for target in targets for path in target.paths]


def _identify_person(args: argparse.Namespace, pipeline: Pipeline) -> tuple[Identity, np.ndarray | None]:
    """Who it is, and the first photo as pixels where there is one; the models are checked first."""
    from ..face.choice import LARGEST
    from ..face.photo import load_photo
    from ..identity import Identity

    identities = [path for path in args.photos if path.suffix.lower() == ".safetensors"]
    pipeline.check(faces=not identities)
    if not identities:
        photos = [load_photo(path) for path in args.photos]
        return pipeline.identify(photos, parse_face_choice(args)), photos[0]
    if len(args.photos) > 1:
        raise InvalidRequest(
            f"{identities[0]} is an identity, which stands alone: give it by itself, or photos alone"
        )
    if parse_face_choice(args) != LARGEST:
        raise InvalidRequest(
            f"{identities[0]} is an identity, in which there is no face to choose: leave out --face-... and --padding"
        )
    return Identity.load(identities[0]), None
