"""`echovideo inspect`: says what a weight file is, without loading it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..files import expand_user
from . import say, say_json
from .arguments import add_json

if TYPE_CHECKING:
    from ..weights.loading import Inspection


def register(subparsers: Any) -> None:
    """Adds `inspect` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "inspect",
        help="say what a weight file is, without loading it",
        description="Family, sizes, dtypes, number of parameters, and what is missing or unexpected.",
    )
    parser.add_argument(
        "path", type=expand_user, metavar="PATH", help="a file, an index .json or a folder of weights"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what the header tells; 0 also where parameters are missing, which is then said."""
    from ..weights.loading import inspect

    found = inspect(args.path)
    if args.json:
        say_json(asdict(found) | {"complete": found.complete})
    else:
        say("\n".join(_format_lines(found)))
    return 0


def _format_lines(found: Inspection) -> list[str]:
    rows = [
        ("family", found.family),
        ("parameters", f"{found.parameters:,} in {found.bytes:,} bytes"),
        ("stored as", ", ".join(f"{name} {count:,}" for name, count in found.dtypes.items())),
    ]
    iitf = {f"IITF's {name}": value for name, value in found.sizes.get("iitf", {}).items()}
    flat = found.sizes | iitf
    rows += [(name, str(value)) for name, value in flat.items() if not isinstance(value, dict)]
    for what, names in (("missing", found.missing), ("unexpected", found.unexpected)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            rows.append((what, f"{', '.join(names[:3])}{more}"))
    width = max(len(name) for name, _ in rows)
    return [found.path, *(f"  {name.replace('_', ' '):<{width}}  {value}" for name, value in rows)]
