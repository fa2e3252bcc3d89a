"""Arguments, checks and progress that several subcommands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from glob import escape, glob
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..errors import InvalidRequest, ModelFileMissing, WrongModelFile
from ..facts import RELEASED, ModelFacts, read_facts
from ..files import expand_user
from ..limits import FACE_ORDERS
from ..weights.folders import find_default_folder, require

if TYPE_CHECKING:
    import numpy as np

    from ..credentials import Credential
    from ..face.choice import FaceChoice
    from ..weights.merging import Lora

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}]"
ORDERS = [order.replace(" ", "-") for order in FACE_ORDERS if order != "closest"]  # no option says to whom


def match_files(paths: Sequence[Path]) -> list[Path]:
    """`paths`, with each pattern such as photos/*.jpg replaced by the files that match it, in order: shells do not
    expand quoted patterns, nor Windows any. Raises InvalidRequest for a pattern that matches none."""
    found: list[Path] = []
    for path in paths:
        if os.path.lexists(path) or escape(str(path)) == str(path):
            found.append(path)
        elif matches := sorted(glob(str(path), recursive=True)):
            found += map(Path, matches)
        else:
            raise InvalidRequest(f'no file matches "{path}": check the path')
    return found


def add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        type=expand_user,
        metavar="FOLDER",
        help="the models folder (default: $ECHOVIDEO_MODELS, or echovideo/models in your cache folder)",
    )


def find_models_folder(args: argparse.Namespace) -> Path:
    """The folder that --models names, or the default one."""
    folder: Path | None = args.models
    return folder or find_default_folder()


def add_loras(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="a LoRA for EchoVideo or CogVideoX-5b, and its strength (default: 1); repeat for several LoRAs",
    )


def parse_loras(args: argparse.Namespace) -> list[Lora]:
    """What --lora names. Raises InvalidRequest."""
    from ..weights.merging import Lora

    return [Lora.parse(text) for text in args.lora]


def find_facts(args: argparse.Namespace) -> ModelFacts:
    """The transformer's training facts; Pipeline.check reports a missing or unreadable file later."""
    try:
        return read_facts(args.transformer or require(find_models_folder(args), "transformer"))
    except (ModelFileMissing, WrongModelFile, InvalidRequest):
        return RELEASED


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON value, for programs")


def add_ai_tag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-ai-tag",
        dest="ai_tag",
        action="store_false",
        help="do not label the files as made by AI (IPTC digital source type, model, version)",
    )


def add_credential(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--credential",
        required=required,
        type=expand_user,
        metavar="FILE.pem",
        help="sign a Content Credential (C2PA) into the files with your certificates and private key, all in FILE.pem; "
        'needs pip install "c2pa-python>=0.38"',
    )


def read_credential(args: argparse.Namespace) -> Credential | None:
    """What --credential names. Raises InvalidRequest, or DependencyMissing without c2pa-python."""
    if args.credential is None:
        return None
    from ..credentials import Credential  # brings Pillow, which no other command needs at its start

    return Credential.read(args.credential)


def add_face_choice(parser: argparse.ArgumentParser) -> None:
    """Options for choosing a face in a photo."""
    group = parser.add_argument_group("which face to use if a photo shows several")
    group.add_argument(
        "--face-order",
        choices=ORDERS,
        default=ORDERS[0],
        help="how to order the faces (default: largest)",
    )
    group.add_argument(
        "--face-index",
        type=int,
        default=0,
        metavar="N",
        help="which face in that order, from 0: face 1 in messages is 0 (default: 0)",
    )
    group.add_argument(
        "--padding",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="black padding around the photo, as a share of its size, for a face that fills it (default: 0)",
    )


def parse_face_choice(args: argparse.Namespace) -> FaceChoice:
    """What was chosen; LARGEST if nothing was."""
    from ..face.choice import FaceChoice

    return FaceChoice(args.face_order.replace("-", " "), args.face_index, padding=args.padding)


def add_whole_person(parser: argparse.ArgumentParser) -> None:
    """Whether the face or the whole person makes the identity."""
    group = parser.add_argument_group(
        "the whole person instead of the face; experimental on the released weights"
    )
    group.add_argument(
        "--picture",
        choices=("face", "person"),
        default="face",
        help="what the model sees of the photo (default: face); person needs --mask, or a photo with a "
        "transparent background",
    )
    group.add_argument(
        "--mask",
        action="append",
        default=[],
        type=expand_user,
        metavar="FILE",
        help="an image of the photo's size, white where the person is, for --picture person; repeat for "
        "several photos, in the same order",
    )


def load_people(args: argparse.Namespace) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """The photos, uint8 RGB [H, W, 3], and with --picture person their masks, uint8 [H, W]: --mask, or the photo's own
    alpha. Raises InvalidRequest."""
    from ..face.person import decode_people
    from ..face.photo import load_photo

    if args.mask and args.picture != "person":
        raise InvalidRequest(f"--mask {args.mask[0]} needs --picture person: add that, or leave out --mask")
    if args.picture != "person":
        return [load_photo(path) for path in args.photos], None
    photos, masks = ([(str(path), path) for path in paths] for paths in (args.photos, args.mask))
    return decode_people(photos, masks)


def parse_dtype(name: str | None, others: Iterable[str] = ()) -> Any:
    """The dtype for a name such as bf16; None for None. Raises InvalidRequest, naming `others` too."""
    from ..weights.loading import STORAGE

    if name is not None and name not in STORAGE:
        raise InvalidRequest(f"weights cannot be stored as {name!r}: choose {', '.join([*STORAGE, *others])}")
    return None if name is None else STORAGE[name]


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Raises InvalidRequest, before the work, for an output that cannot be written or would replace an input."""
    from ..files import check_writable

    for output in outputs:
        if any(os.path.realpath(output) == os.path.realpath(path) for path in inputs):
            raise InvalidRequest(f'writing "{output}" would overwrite an input file: choose another name')
        check_writable(output)


class Bars:
    """Progress bars on stderr, one a stage, made when a stage first reports."""

    def __init__(self) -> None:
        self.bars: dict[str, tqdm[Any]] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self.bars.values():
            bar.close()
        self.bars.clear()

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """An OnProgress (progress.py)."""
        if total == 1:  # there is nothing to show between none and all
            return
        if stage not in self.bars:
            self.bars[stage] = tqdm(
                total=total, desc=stage, unit=unit, unit_scale=unit == "bytes", disable=None, bar_format=BAR
            )
        bar = self.bars[stage]
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            del self.bars[stage]
