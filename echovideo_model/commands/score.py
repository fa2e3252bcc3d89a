"""`echovideo score`: how much the person in a video looks like the person in a photo or an identity."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import expand_user
from . import say, say_json
from .arguments import add_json, add_models, check_outputs, find_models_folder

if TYPE_CHECKING:
    import numpy as np

    from ..face.detect import FaceDetector


def register(subparsers: Any) -> None:
    """Adds `score` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "score",
        help="compare each frame's face with a photo or an identity",
        description="Cosine similarity of ArcFace embeddings: the largest face of each frame against the reference.",
    )
    parser.add_argument("video", type=expand_user, metavar="VIDEO", help="any video that FFmpeg reads")
    parser.add_argument(
        "reference", type=expand_user, metavar="REFERENCE", help="a photo, or an identity (.safetensors)"
    )
    parser.add_argument(
        "--plot",
        type=expand_user,
        metavar="PICTURE",
        help="draw the similarity of each frame (.png, .jpg or .webp)",
    )
    add_models(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Scores the video; 0 also when no frame shows a face, which is then said."""
    from tqdm import tqdm

    from ..chart import plot_scores
    from ..face.detect import FaceDetector
    from ..metrics.identity import score
    from ..picture import check_picture_path, save_picture
    from ..video import describe, iter_frames

    if args.plot:
        check_outputs([args.plot], [args.video, args.reference])
        check_picture_path(args.plot)
    info = describe(args.video)
    detector = FaceDetector(find_models_folder(args))
    reference = _read_embedding(args.reference, detector)
    frames = tqdm(iter_frames(args.video), "score", info.frames or None, unit="frame", disable=None)
    scores = score(frames, reference, detector)
    if args.plot:
        save_picture(plot_scores(scores, f"{args.video.name} compared with {args.reference.name}"), args.plot)
    if args.json:
        names = {"video": str(args.video), "reference": str(args.reference), "fps": info.fps}
        say_json(names | scores.as_dict())
        return 0
    say(f"{args.video}, {len(scores.per_frame)} frames, compared with {args.reference}: {scores}")
    if scores.frames_without_face and scores.mean is not None:
        say(f"frames without a face: {_format_ranges(scores.frames_without_face)}")
    return 0


def _read_embedding(reference: Path, detector: FaceDetector) -> np.ndarray:
    """ArcFace, [512] float32: read from an identity, or of the largest face of a photo."""
    from ..face.encoders import require_same_set
    from ..identity import Identity, find_faces

    if reference.suffix.lower() == ".safetensors":
        identity = Identity.load(reference)
        require_same_set(detector.made_by, identity.encoders)
        return identity.id_embedding.numpy()
    return find_faces([reference], detector)[0].face.embedding


def _format_ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 -> "1-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
