"""Arguments and progress that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

ORDERS = ("largest", "left to right", "top to bottom", "confidence")


def add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="the models folder (default: $ECHOVIDEO_MODELS, else a folder in your cache)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON value, for a program to read")


def add_face_choice(parser: argparse.ArgumentParser) -> None:
    """Which face of a photo is meant."""
    group = parser.add_argument_group("which face, where a photo shows several")
    group.add_argument(
        "--face-order", choices=ORDERS, default="largest", help="how faces are counted (largest)"
    )
    group.add_argument("--face-index", type=int, default=0, metavar="N", help="which one, from 0 (0)")
    group.add_argument(
        "--padding",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="black around the photo, for a face that fills it",
    )


def face_choice(args: argparse.Namespace) -> dict[str, Any]:
    return {"order": args.face_order, "index": args.face_index, "padding": args.padding}


class Bars:
    """Progress bars on stderr, one a stage, made when a stage first reports."""

    def __init__(self) -> None:
        self.bars: dict[str, tqdm[Any]] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.bars:
            self.bars[stage] = tqdm(total=total, desc=stage, disable=None, leave=True)
        bar = self.bars[stage]
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            del self.bars[stage]

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()
        self.bars.clear()
