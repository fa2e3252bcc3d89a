"""`echovideo sign`: signs a Content Credential into files that EchoVideo made, such as those that ComfyUI saved."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from ..files import expand_user
from . import say, say_json
from .arguments import add_credential, add_json, check_outputs, match_files


def register(subparsers: Any) -> None:
    """Adds `sign` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "sign",
        help="sign a Content Credential into finished files",
        description="Sign a Content Credential (C2PA) into videos and pictures that carry EchoVideo's label, from this "
        "command or from ComfyUI's save nodes. Each file is replaced by its signed copy.",
    )
    parser.add_argument("files", nargs="+", type=expand_user, metavar="FILE", help="a video or a picture")
    add_credential(parser, required=True)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Every file is checked before the first is signed."""
    from ..credentials import Credential

    files = match_files(args.files)
    origins = [_find_origin(path) for path in files]
    check_outputs(files)
    credential = Credential.read(args.credential)
    for path in files:
        if credential.is_signed(path):
            raise InvalidRequest(f"{path} is already signed: leave it out")
    for path, origin in zip(files, origins, strict=True):
        credential.sign(path, origin)
        if not args.json:
            say(str(path))
    if args.json:
        say_json([str(path) for path in files])
    return 0


def _find_origin(path: Path) -> str:
    """What its label says, which the credential will repeat. Raises InvalidRequest for what cannot be signed."""
    from ..credentials import FORMATS
    from ..provenance import find_origin

    if not path.is_file():
        raise InvalidRequest(f"{path} was not found: give a video or a picture")
    if path.suffix.lower() not in FORMATS:
        raise InvalidRequest(f"{path} cannot be signed: give a file ending in {', '.join(FORMATS)}")
    origin = find_origin(path)
    if origin is None:
        raise InvalidRequest(
            f"{path} does not say that EchoVideo made it: sign a file that still has its label"
        )
    return origin
