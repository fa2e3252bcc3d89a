"""`echovideo draw`: draws a person of the drawn world, as a photo to make videos from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..files import expand_user
from . import say
from .arguments import check_outputs


def register(subparsers: Any) -> None:
    """Adds `draw` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "draw",
        help="draw a portrait of somebody who does not exist, from a description or a seed",
        description="Draws a person of the kind that the small model was trained on, for example: echovideo draw "
        '"a woman with curly ginger hair and round green glasses". The seed decides what the '
        "description leaves open.",
    )
    parser.add_argument(
        "description", nargs="?", default="", metavar="TEXT", help="what the person looks like"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="which of the people who fit (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        default=Path("output/portrait.png"),
        metavar="FILE",
        help="where to write the picture, 512 x 640 pixels (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draws the person, writes the picture and prints who it is."""
    from PIL import Image

    from ..errors import InvalidRequest
    from ..nano import describe, draw_portrait, imagine
    from ..nano.body import GARMENTS
    from ..nano.palette import CLOTHES
    from ..picture import save_picture
    from ..provenance import DRAWN

    if args.seed < 0:
        raise InvalidRequest(f"--seed must be 0 or more, not {args.seed}")
    check_outputs([args.output])
    person = imagine(args.description, args.seed)
    pixels, _ = draw_portrait(
        person,
        backdrop=args.seed,
        garment=GARMENTS[args.seed % len(GARMENTS)],
        colour=list(CLOTHES)[args.seed % len(CLOTHES)],
    )
    save_picture(Image.fromarray(pixels), args.output, DRAWN)
    say(f"{args.output}: {describe(person)}")
    return 0
