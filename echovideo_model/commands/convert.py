"""`echovideo convert`: merges shards into one file or splits it again, and casts or quantises weights."""

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
        help="merge shards into one file or split it again, or cast the weights",
        description="Works on the EchoVideo transformer, the CogVideoX VAE and T5, with the memory of one tensor.",
    )
    parser.add_argument(
        "source", type=expand_user, metavar="SOURCE", help="a file, an index .json or a folder"
    )
    parser.add_argument(
        "target", type=expand_user, metavar="TARGET", help="FILE.safetensors, FILE.gguf or a folder"
    )
    parser.add_argument(
        "--layout", choices=("file", "folder"), help="default: file if TARGET ends in .safetensors or .gguf"
    )
    parser.add_argument(
        "--weight-dtype",
        metavar="DTYPE",
        help="bf16, fp16, fp32, or a type for the blocks' matrices only, with bf16 for the rest: fp8_e4m3fn; with "
        "scales in ComfyUI's format, fp8_scaled, int8, mxfp8 or nvfp4; for FILE.gguf, q8_0 or q4_0",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Converts and names what was written."""
    from ..weights.loading import Layout, convert
    from ..weights.quantising import FORMS, GGUF_FORMS
    from ..weights.shards import GGUF, PICKLES

    forms = (*FORMS, *GGUF_FORMS)
    file_like = args.target.suffix in (
        ".safetensors",
        GGUF,
        *PICKLES,
    )  # the latter are then refused as a file
    layout: Layout = args.layout or ("file" if file_like else "folder")
    form = args.weight_dtype if args.weight_dtype in forms else None
    dtype = None if form else parse_dtype(args.weight_dtype, forms)
    with Bars() as bars:
        written = convert(
            args.source,
            args.target,
            layout,
            dtype,
            lambda done, total: bars("converting", done, total, "bytes"),
            form,
        )
    say(str(written))
    return 0
