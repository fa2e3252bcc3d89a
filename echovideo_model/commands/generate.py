"""`echovideo generate`: photos of one person, or an identity, and a prompt become a video and a contact sheet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest
from . import say, say_json
from .arguments import Bars, add_face_choice, add_json, add_models, face_choice

if TYPE_CHECKING:
    from ..identity import Identity
    from ..pipeline import Pipeline, Result
    from ..request import Request


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
        type=Path,
        metavar="PHOTO",
        help="one photo or several of the same person, or one identity (.safetensors)",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        required=True,
        help="what the person does; several prompts give several videos",
    )
    parser.add_argument("--output", type=Path, default=Path("output/video.mp4"), metavar="FILE.mp4")
    parser.add_argument("--no-contact-sheet", action="store_true", help="write no FILE.png beside the video")
    _add_settings(parser)
    add_face_choice(parser)
    add_models(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings; the defaults are the reference's")
    group.add_argument("--negative-prompt", default="", metavar="TEXT")
    group.add_argument("--size", type=_size, default=(848, 480), metavar="WxH", help="pixels (848x480)")
    group.add_argument("--frames", type=int, default=49, help="one more than a multiple of 4 (49)")
    group.add_argument("--fps", type=float, default=16.0, help="frames per second of the file (16)")
    group.add_argument("--steps", type=int, default=50, help="sampling steps, 1 to 1000 (50)")
    group.add_argument("--seed", type=int, default=42, help="the same seed gives the same video (42)")
    group.add_argument("--guidance-scale", type=float, default=6.0, metavar="G")
    group.add_argument("--guidance", default="reference", help="reference (default), smooth or constant")
    group.add_argument("--sampler", default="dpm", help="dpm (default) or ddim")
    group.add_argument("--strength", type=float, default=1.0, help="of the identity, 0 to 1.5 (1)")
    group.add_argument(
        "--no-face-latent", action="store_true", help="do not show the model the face's pixels"
    )
    group = parser.add_argument_group("where and how it runs")
    group.add_argument("--device", help="cuda, mps or cpu (default: the first that is there)")
    group.add_argument(
        "--transformer", type=Path, metavar="PATH", help="another file or folder for the transformer"
    )
    group.add_argument(
        "--weights",
        metavar="DTYPE",
        help="keep the transformer as bf16, fp16, fp32 or fp8_e4m3fn (for GPUs of 12 GB)",
    )


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 848x480") from None
    return width, height


def run(args: argparse.Namespace) -> int:
    """Makes the videos; everything that can be checked is checked before the first network is loaded."""
    from ..pipeline import Pipeline

    requests = [request_of(args, prompt) for prompt in args.prompt]
    targets = _targets(args.output, len(requests))
    _check_outputs(targets, sheets=not args.no_contact_sheet, fps=args.fps)
    pipeline = Pipeline(args.models, args.device, storage_of(args.weights), args.transformer)
    pipeline.check()
    made = []
    with Bars() as bars:
        identity, photo = _identity(args, pipeline, bars)
        results = pipeline.generate_all(identity, requests, bars)
        for result, target in zip(results, targets, strict=True):
            sheet = None if args.no_contact_sheet else target.with_suffix(".png")
            write(result, identity, photo, target, sheet, args.fps, bars)
            made.append(facts(result, target, sheet))
            if not args.json:
                say("\n".join(str(path) for path in (target, sheet) if path))
    if args.json:
        say_json(made)
    return 0


def request_of(args: argparse.Namespace, prompt: str) -> Request:
    from ..request import Request

    width, height = args.size
    return Request(
        prompt=prompt,
        negative_prompt=args.negative_prompt,
        height=height,
        width=width,
        frames=args.frames,
        steps=args.steps,
        seed=args.seed,
        guidance_scale=args.guidance_scale,
        guidance=args.guidance,
        sampler=args.sampler,
        strength=args.strength,
        face_latent=not args.no_face_latent,
    )


def storage_of(name: str | None) -> Any:
    """The dtype that a name such as bf16 stands for; None for None. Raises InvalidRequest."""
    from ..checkpoint import STORAGE

    if name is not None and name not in STORAGE:
        raise InvalidRequest(f"weights cannot be kept as {name!r}: choose {', '.join(STORAGE)}")
    return None if name is None else STORAGE[name]


def _targets(output: Path, count: int) -> list[Path]:
    if output.suffix.lower() != ".mp4":
        raise InvalidRequest(f"the output {output} must end in .mp4")
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]


def _check_outputs(targets: Sequence[Path], sheets: bool, fps: float) -> None:
    from ..files import check_writable
    from ..video import frame_rate

    frame_rate(fps)
    for target in targets:
        check_writable(target)
        if sheets:
            check_writable(target.with_suffix(".png"))


def _identity(args: argparse.Namespace, pipeline: Pipeline, bars: Bars) -> tuple[Identity, Any]:
    """Who it is, and the first photo as pixels where there is one."""
    from ..face.photo import load_photo
    from ..identity import Identity

    if args.photos[0].suffix == ".safetensors":
        if len(args.photos) > 1:
            raise InvalidRequest(f"give one identity or photos, not {len(args.photos)} files of both kinds")
        return Identity.load(args.photos[0]), None
    photos = [load_photo(path) for path in args.photos]
    return pipeline.identify(photos, bars, **face_choice(args)), photos[0]


def write(
    result: Result, identity: Identity, photo: Any, video: Path, sheet: Path | None, fps: float, bars: Bars
) -> None:
    """The mp4 with its metadata, and the contact sheet."""
    from ..picture import contact_sheet, save_picture
    from ..video import write_mp4

    metadata = result.metadata() | {"fps": f"{fps:g}"}
    write_mp4(video, result.frames, fps, metadata, lambda done, total: bars("writing", done, total))
    if sheet is not None:
        r = result.request
        caption = f"seed {r.seed}, {r.steps} steps, {r.sampler}, {r.guidance} guidance {r.guidance_scale:g}"
        save_picture(
            contact_sheet(photo, identity.face_picture, result.frames, r.prompt, caption, fps), sheet
        )


def facts(result: Result, video: Path, sheet: Path | None) -> dict[str, Any]:
    """What a program wants to know of a finished video."""
    from dataclasses import asdict

    return {
        "video": str(video),
        "contact_sheet": None if sheet is None else str(sheet),
        "settings": asdict(result.request),
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
    }
