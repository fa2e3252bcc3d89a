"""`echovideo convert`: one file from a folder of shards, or the other way round, and narrower or wider weights."""

from __future__ import annotations

import argparse
from typing import Any

from ..files import expand_user
from . import say
from .arguments import Bars, parse_dtype


def register(subparsers: Any) -> None:
    """Adds `convert` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "convert",
        help="turn a folder of shards into one file or back, or cast the weights",
        description="Works on the EchoVideo transformer and the CogVideoX VAE, with the memory of one tensor.",
    )
    parser.add_argument(
        "source", type=expand_user, metavar="SOURCE", help="a file, an index .json or a folder"
    )
    parser.add_argument("target", type=expand_user, metavar="TARGET", help="FILE.safetensors, or a folder")
    parser.add_argument(
        "--layout", choices=("file", "folder"), help="default: a file if TARGET ends in .safetensors"
    )
    parser.add_argument(
        "--weight-dtype",
        metavar="DTYPE",
        help="bf16, fp16, fp32 or fp8_e4m3fn, which keeps norms, biases, embeddings and IITF in bf16",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Converts and names what was written."""
    from ..weights.loading import Layout, convert
    from ..weights.shards import PICKLES

    file_like = args.target.suffix in (".safetensors", *PICKLES)  # the latter are then refused as a file
    layout: Layout = args.layout or ("file" if file_like else "folder")
    with Bars() as bars:
        written = convert(
            args.source,
            args.target,
            layout,
            parse_dtype(args.weight_dtype),
            lambda done, total: bars("converting", done, total, "bytes"),
        )
    say(str(written))
    return 0
