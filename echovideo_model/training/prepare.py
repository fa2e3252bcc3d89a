"""From a folder of videos with captions beside them to examples: every network but the trained ones runs once.

The face is taken from another moment of the video than the one that is shown. A model that is trained on a face of the
shown moment learns to paste it (paper, section 1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ..devices import on_device
from ..errors import EchoVideoError, InvalidRequest, NoFaceFound
from ..face.align import face_latent_pixels
from ..face.detect import cosine_similarity
from ..files import check_writable, write_atomically
from ..identity import STRANGERS, Identity, find_face, make_identity
from ..limits import FPS, FRAME_STEP, MIN_SIDE, SIDE_STEP, TRAINED_FRAMES, TRAINED_SIZES
from ..pipeline import Pipeline
from ..video import describe, iter_frames
from .examples import EMPTY, pack_example, read_captions, write_empty

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
LENGTHS = (TRAINED_FRAMES, 33, 17)
MIN_CLIP_FPS = 12  # below it, a clip at 16 frames per second would stand still too often
GAP = 8  # frames, half a second, between the shown moment and those whose faces are taken
IDENTITIES = 3  # at most, of one clip

OnClip = Callable[[int, int], None]
logger = logging.getLogger(__name__)


@dataclass
class Report:
    """The outcome: the examples that exist now, and a sentence on each clip that was skipped."""

    examples: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Encoder:
    """What an example is made of: clips, captions and people through the frozen networks of a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def take(self, frames: np.ndarray, caption: str) -> dict[str, Tensor]:
        """frames uint8 [F, H, W, 3] -> mean, deviation [1, 16, t, h, w] and text [1, n, width]."""
        pixels = torch.from_numpy(frames).permute(3, 0, 1, 2).float().div(127.5).sub(1)  # [3, F, H, W]
        mean, deviation = self.posterior(pixels[None])
        return {"mean": mean, "deviation": deviation, "text": self.text(caption)}

    def text(self, caption: str) -> Tensor:
        """T5's tokens [1, n, width]."""
        with on_device(self.pipeline.text_encoder.network, self.pipeline.device):
            return self.pipeline.text_encoder.encode([caption]).cpu()

    def person(self, identity: Identity, height: int, width: int) -> dict[str, Tensor]:
        """face_mean, face_deviation [1, 16, 1, h, w], face_tokens [1, 196, 768] and id_embedding [1, 512]."""
        pixels = face_latent_pixels(identity.face_picture, height, width)  # [3, H, W]
        mean, deviation = self.posterior(pixels[None, :, None])
        return {
            "face_mean": mean,
            "face_deviation": deviation,
            "face_tokens": identity.face_tokens[None],
            "id_embedding": identity.id_embedding[None],
        }

    def write_empty(self, folder: Path) -> None:
        """Writes the empty prompt and the empty identity, for all examples in the folder."""
        nobody = make_identity([], self.pipeline.face_encoders)
        write_empty(folder, self.text("")[0], nobody.face_tokens)

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels [B, 3, F, H, W] in -1..1 -> mean and deviation [B, 16, t, h, w]."""
        pipeline = self.pipeline
        with on_device(pipeline.vae, pipeline.device):
            mean, log_variance = pipeline.vae.encode(pixels.to(pipeline.device, pipeline.vae_dtype))
        return mean.float().cpu(), (0.5 * log_variance.float()).exp().cpu()


def prepare(
    clips: Path,
    output: Path,
    encoder: Encoder,
    sizes: Sequence[tuple[int, int]] = TRAINED_SIZES,
    lengths: Sequence[int] = LENGTHS,
    on_clip: OnClip | None = None,
) -> Report:
    """An example in `output` for every video in `clips`, under the same name; existing ones are kept.

    sizes: height x width of the buckets; a video goes to the one whose shape is the nearest, scaled to cover it and
    cut around its middle. lengths: frames of the buckets; a video goes to the longest that leaves a moment for the
    face. `on_clip(done, total)` reports. A clip that cannot be used is left out with a sentence; nothing else raises
    but InvalidRequest for a folder without videos or one that cannot be written.
    """
    _check_buckets(sizes, lengths)
    videos = sorted(path for path in clips.rglob("*") if path.suffix.lower() in VIDEOS)
    if not videos:
        raise InvalidRequest(
            f"no videos in {clips}: put {', '.join(VIDEOS)} files there, each with a caption in a .txt "
            "of the same name"
        )
    check_writable(output / EMPTY)
    encoder.write_empty(output)
    report = Report()
    for number, video in enumerate(videos, 1):
        example = (output / video.relative_to(clips)).with_suffix(".safetensors")
        try:
            caption = _read_caption(video)
            if not _is_done(example, caption):
                _prepare_one(video, caption, example, encoder, sizes, lengths)
            report.examples.append(example)
        except _StopsAll:
            raise
        except EchoVideoError as error:
            report.left_out.append(f"{video.relative_to(clips)}: {error}")
            logger.warning("skipped: %s", report.left_out[-1])
        if on_clip:
            on_clip(number, len(videos))
    return report


class _StopsAll(InvalidRequest):
    """What would befall every further clip too, such as a full disk."""


def _prepare_one(
    video: Path,
    caption: str,
    example: Path,
    encoder: Encoder,
    sizes: Sequence[tuple[int, int]],
    lengths: Sequence[int],
) -> None:
    shown, others = _choose_moments(video, lengths)
    frames = dict(_pick_frames(video, [*shown, *others]))
    if len(frames) < len({*shown, *others}):
        raise InvalidRequest("the video ends before its stated number of frames: download or make it again")
    first = frames[shown[0]]
    height, width = _nearest_size(first.shape[0], first.shape[1], sizes)
    clip = np.stack([_cover(frames[index], height, width) for index in shown])  # [F, H, W, 3]
    people = _find_person(clip, [frames[index] for index in others], encoder.pipeline)
    persons = [encoder.person(identity, height, width) for identity in people]
    tensors = encoder.take(clip, caption)
    tensors |= {name: torch.cat([person[name] for person in persons]) for name in persons[0]}
    content = pack_example(tensors, [caption])
    try:
        with write_atomically(example) as temporary:
            temporary.write_bytes(content)
    except InvalidRequest as error:
        raise _StopsAll(str(error)) from error


def _read_caption(video: Path) -> str:
    path = video.with_suffix(".txt")
    try:
        caption = " ".join(path.read_text("utf-8").split())
    except FileNotFoundError:
        raise InvalidRequest(f"it has no caption: write one sentence to {path.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"the caption {path.name} cannot be read ({error}): write it as UTF-8"
        ) from error
    if not caption:
        raise InvalidRequest(f"the caption {path.name} is empty: write one sentence to it")
    return caption


def _is_done(example: Path, caption: str) -> bool:
    try:
        return read_captions(example) == (caption,)
    except (InvalidRequest, SafetensorError):
        return False


def _choose_moments(video: Path, lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Numbers of the frames that are shown, at 16 a second from the start, and of those that give the face."""
    info = describe(video)
    if info.fps < MIN_CLIP_FPS:
        raise InvalidRequest(f"it has {info.fps:g} frames per second, but at least {MIN_CLIP_FPS} are needed")
    total = info.frames or sum(1 for _ in iter_frames(video))
    stride = max(1.0, info.fps / FPS)
    count = int((total - 1) / stride) + 1  # frames at 16 a second
    fitting = [length for length in lengths if length + GAP < count]
    if not fitting:
        raise InvalidRequest(
            f"it has {count} frames at {FPS:g} per second, but at least {min(lengths) + GAP + 1} are "
            f"needed: {min(lengths)} to show, and later ones for the face"
        )
    shown = range(max(fitting))
    later = np.linspace(max(fitting) + GAP, count - 1, 2 * IDENTITIES).round().astype(int)
    return [round(index * stride) for index in shown], [
        round(index * stride) for index in dict.fromkeys(later)
    ]


def _pick_frames(video: Path, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(number, frame) of these, uint8 [H, W, 3]."""
    wanted, last = set(numbers), max(numbers)
    for number, frame in enumerate(iter_frames(video)):
        if number in wanted:
            yield number, frame
        if number == last:
            return


def _find_person(clip: np.ndarray, others: Sequence[np.ndarray], pipeline: Pipeline) -> list[Identity]:
    """Identities of the person in `clip` [F, H, W, 3], from up to IDENTITIES of the other frames.

    Raises NoFaceFound if no face is in the clip, or none like it in the other frames.
    """
    encoders = pipeline.face_encoders
    in_clip = None
    for index in (len(clip) // 2, 0, len(clip) - 1):
        try:
            in_clip = find_face(clip[index], encoders.detector).face.embedding
            break
        except NoFaceFound:
            continue
    if in_clip is None:
        raise NoFaceFound("no face was found in the frames that are shown: choose a clip with a person in it")
    people: list[Identity] = []
    for frame in others:
        try:
            chosen = find_face(frame, encoders.detector)
        except NoFaceFound:
            continue
        if cosine_similarity(chosen.face.embedding, in_clip) >= STRANGERS:
            people.append(make_identity([chosen], encoders))
        if len(people) == IDENTITIES:
            break
    if not people:
        raise NoFaceFound(
            f"none of {len(others)} later frames shows the same face: choose a clip in which it stays visible"
        )
    return people


def _nearest_size(height: int, width: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The bucket whose shape is the nearest, as a ratio; of equal ones the largest that needs no enlarging."""
    aspect = np.log(width / height)

    def distance(size: tuple[int, int]) -> tuple[float, bool, int]:
        enlarges = size[0] > height or size[1] > width
        return abs(np.log(size[1] / size[0]) - aspect), enlarges, -size[0] * size[1]

    return min(sizes, key=distance)


def _cover(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """`frame` scaled (Lanczos) to cover height x width, and cut around its middle."""
    scale = max(height / frame.shape[0], width / frame.shape[1])
    size = max(width, round(frame.shape[1] * scale)), max(height, round(frame.shape[0] * scale))
    scaled = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def _check_buckets(sizes: Sequence[tuple[int, int]], lengths: Sequence[int]) -> None:
    for height, width in sizes:
        if min(height, width) < MIN_SIDE or height % SIDE_STEP or width % SIDE_STEP:
            raise InvalidRequest(
                f"a bucket's width and height must be multiples of {SIDE_STEP} from {MIN_SIDE}, not "
                f"{width}x{height}"
            )
    for length in lengths:
        if length < 1 or length % FRAME_STEP != 1:
            raise InvalidRequest(f"frames must be 4n + 1, not {length}")
