"""Turns the arguments of `generate` into requests, and those into videos."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest
from ..facts import ModelFacts
from ..files import reserve_first
from ..request import Request
from . import say, say_json
from .arguments import (
    Bars,
    check_outputs,
    find_facts,
    find_models_folder,
    load_people,
    match_files,
    parse_dtype,
    parse_face_choice,
    parse_loras,
    read_credential,
)
from .output import Target, list_facts, write

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..credentials import Credential
    from ..identity import Identity
    from ..pipeline import Pipeline


def read_requests(args: argparse.Namespace) -> list[Request]:
    """One request per prompt. Patterns among the photos and masks become the files that they match, and a missing fps
    the model's. Raises InvalidRequest for everything that can be checked before the work."""
    from ..video import parse_frame_rate

    args.photos, args.mask = match_files(args.photos), match_files(args.mask)
    model = find_facts(args)
    args.fps = model.fps if args.fps is None else args.fps
    requests = [_make_request(args, prompt, model) for prompt in args.prompt]
    parse_frame_rate(args.fps)
    if args.output:
        check_outputs(
            _paths(_name_targets(args.output, len(requests), not args.no_contact_sheet)),
            [*args.photos, *args.mask],
        )
    return requests


def parse_pipeline_settings(args: argparse.Namespace, device: torch.device | str | None) -> dict[str, Any]:
    """Pipeline's arguments, except on_progress. Raises InvalidRequest."""
    return {
        "models": find_models_folder(args),
        "device": device,
        "storage": parse_dtype(args.weight_dtype),
        "transformer": args.transformer,
        "loras": parse_loras(args),
    }


def make_videos(args: argparse.Namespace, requests: list[Request], pipeline: Pipeline, bars: Bars) -> None:
    """Identifies the person, makes and writes every video, and prints its path."""
    credential = read_credential(args)
    with _choose_targets(args, len(requests)) as targets:
        check_outputs(_paths(targets), [*args.photos, *args.mask])
        identity, photo = _identify_person(args, pipeline)
        made = []
        for result, target in zip(pipeline.generate_all(identity, requests), targets, strict=True):
            write(result, identity, photo, args.photos[0], target, args.fps, bars, ai_tag=args.ai_tag)
            if credential:
                _sign(target.paths, credential)
            made.append(list_facts(result, target, args.fps))
            if not args.json:
                say("\n".join(map(str, target.paths)))
    if args.json:
        say_json(made)


def _sign(paths: Sequence[Path], credential: Credential) -> None:
    """Raises InvalidRequest, naming those that are left unsigned."""
    for number, path in enumerate(paths):
        try:
            credential.sign(path)
        except InvalidRequest as error:
            unsigned = [str(path) for path in paths[number:]]
            raise InvalidRequest(
                f"{' and '.join(unsigned)} {'are' if len(unsigned) > 1 else 'is'} complete but not signed (later, use "
                f"`echovideo sign`): {error}"
            ) from error


def find_identities(args: argparse.Namespace) -> list[Path]:
    """The identities among the photos; with one, no face has to be found."""
    return [path for path in args.photos if path.suffix.lower() == ".safetensors"]


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
    with reserve_first(choices, _paths) as targets:
        yield targets


def _paths(targets: Sequence[Target]) -> list[Path]:
    return [path for target in targets for path in target.paths]


def _identify_person(args: argparse.Namespace, pipeline: Pipeline) -> tuple[Identity, np.ndarray | None]:
    """Who it is, and the first photo as pixels where there is one; the models are checked first."""
    from ..face.choice import LARGEST
    from ..face.photo import load_photo
    from ..identity import Identity

    identities = find_identities(args)
    pipeline.check(faces=not identities)
    if not identities:
        photos, masks = load_people(args)
        identity = pipeline.identify(photos, parse_face_choice(args), masks)
        return identity, photos[0] if masks is None else load_photo(args.photos[0])  # transparent parts black
    if len(args.photos) > 1:
        raise InvalidRequest(
            f"give either one identity file or photos, not both: {identities[0]} is an identity"
        )
    if parse_face_choice(args) != LARGEST:
        raise InvalidRequest(
            f"{identities[0]} is an identity, which has no face to choose: leave out --face-... and --padding"
        )
    if args.mask or args.picture == "person":
        raise InvalidRequest(
            f"{identities[0]} is an identity, whose picture is already made: leave out --picture and --mask"
        )
    return Identity.load(identities[0]), None
