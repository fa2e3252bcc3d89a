"""`echovideo identity`: turns photos of one person into an identity, one small .safetensors file."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InvalidRequest
from ..files import expand_user
from . import say, say_json
from .arguments import (
    Bars,
    add_face_choice,
    add_json,
    add_models,
    add_whole_person,
    check_outputs,
    find_models_folder,
    load_people,
    match_files,
    parse_face_choice,
)


def register(subparsers: Any) -> None:
    """Adds `identity` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "identity",
        help="save the person in a photo to one small file",
        description="Find the face in PHOTO, or in several photos of one person, and save what the model needs of "
        "it.",
    )
    parser.add_argument(
        "photos",
        nargs="+",
        type=expand_user,
        metavar="PHOTO",
        help="one or several photos of the same person",
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        required=True,
        metavar="FILE.safetensors",
        help="the identity file to write",
    )
    parser.add_argument(
        "--face-picture",
        type=expand_user,
        metavar="FILE.png",
        help="also write the picture that the model sees",
    )
    add_face_choice(parser)
    add_whole_person(parser)
    add_models(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Finds the face, encodes it, writes the file."""
    from PIL import Image

    from ..picture import check_picture_path, save_picture
    from ..pipeline import Pipeline

    args.photos, args.mask = match_files(args.photos), match_files(args.mask)
    if args.output.suffix.lower() != ".safetensors":
        raise InvalidRequest(f"the output {args.output} must end in .safetensors")
    outputs = [args.output, *([args.face_picture] if args.face_picture else [])]
    check_outputs(outputs, [*args.photos, *args.mask])
    if args.face_picture:
        check_picture_path(args.face_picture)
    photos, masks = load_people(args)
    with Bars() as bars:
        pipeline = Pipeline(find_models_folder(args), on_progress=bars)
        identity = pipeline.identify(photos, parse_face_choice(args), masks)
    identity.save(args.output)
    if args.face_picture:
        save_picture(Image.fromarray(identity.face_picture), args.face_picture)
    if args.json:
        length = float(identity.id_embedding.norm())
        say_json(
            {
                "identity": str(args.output),
                "photos": len(args.photos),
                "embedding_length": round(length, 4),
                "face_encoders": identity.encoders or "released",
                "whole_person": identity.whole_person,
            }
        )
    else:
        say(str(args.output))
    return 0
