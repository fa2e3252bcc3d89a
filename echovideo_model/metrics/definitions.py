"""The metrics: each one's name, definition and measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from torch import Tensor

from ..errors import InvalidRequest
from .identity import Seen, embed_as_conditioned, face_sim
from .measure import Clip, Measured
from .motion import measure_flicker, measure_motion
from .realism import face_feature_distance

VERSION = 2  # of the rules: raise it whenever a number changes, so that older results are not reused


def _face_sim(clip: Clip, embed: Callable[[Seen], np.ndarray], reference: np.ndarray) -> Measured:
    scores = face_sim(clip.seen, reference, embed)
    if scores.mean is None:
        note = f"no face in any of the {len(clip.sampled)} frames sampled, which the script counts as 0"
        return Measured(0.0, note, scores.per_frame, tuple(clip.sampled))
    return Measured(scores.mean, "", scores.per_frame, tuple(clip.sampled))


def _conditioned(clip: Clip) -> Measured:
    reference = clip.reference
    if reference is None:
        reference = embed_as_conditioned(clip.person)
    return _face_sim(clip, embed_as_conditioned, reference)


def _independent(clip: Clip) -> Measured:
    if clip.photo is None and clip.embedding is not None:
        raise InvalidRequest(
            "an identity holds only antelopev2's embedding: another recogniser needs the photo"
        )
    embed = clip.judges.get("recogniser").embed
    return _face_sim(clip, embed, embed(clip.person))


def _average(clip: Clip) -> Measured:
    scores = clip.scores
    note = "" if scores.mean is not None else "no face in any frame"
    return Measured(scores.mean, note, scores.per_frame, tuple(range(len(clip.frames))))


def _variation(clip: Clip) -> Measured:
    deviation = clip.scores.standard_deviation
    return Measured(deviation, "" if deviation is not None else "no face in any frame")


def _clip_score(clip: Clip) -> Measured:
    scores = clip.judges.get("clip").score(clip.frames, clip.prompt)
    return Measured(fmean(scores))


def _dynamic_degree(clip: Clip) -> Measured:
    motion = measure_motion(
        clip.frames, clip.fps, clip.judges.get("flow"), clip.report_on("optical flow", "pairs")
    )
    note = (
        f"{sum(pair > motion.threshold for pair in motion.pairs)} of {len(motion.pairs)} pairs of frames move more "
        f"than {motion.threshold:g} pixels, {motion.needed} are needed"
    )
    later = tuple(motion.interval * number for number in range(1, len(motion.pairs) + 1))
    return Measured(float(motion.moves), note, motion.pairs, later)


def _per_frame(judge: str, stage: str) -> Callable[[Clip], Measured]:
    def measure(clip: Clip) -> Measured:
        scores = clip.judges.get(judge).score(clip.frames, clip.report_on(stage, "frames"))
        return _average_frames(clip, scores)

    return measure


def _average_frames(clip: Clip, scores: Sequence[float]) -> Measured:
    """A curve over every frame, or over every frame except the first."""
    return Measured(
        fmean(scores), "", tuple(scores), tuple(range(len(clip.frames) - len(scores), len(clip.frames)))
    )


def _flicker(clip: Clip) -> Measured:
    return _average_frames(clip, measure_flicker(clip.frames))


def _face_distance(clip: Clip) -> Measured:
    features: Callable[[np.ndarray], Tensor] = clip.judges.get("inception")
    person = features(clip.person.crop())
    found = [
        None if seen is None else face_feature_distance(person, features(seen.crop())) for seen in clip.seen
    ]
    shown = [value for value in found if value is not None]
    note = "" if shown else "no face in any frame sampled, which the script counts as 0"
    return Measured(fmean(shown) if shown else 0.0, note, tuple(found), tuple(clip.sampled))


@dataclass(frozen=True)
class Metric:
    """A metric's names in files, arguments and on pages, what it is, which judges it asks, and how it is measured."""

    name: str
    title: str
    better: Literal["higher", "lower"]
    about: str
    judges: tuple[str, ...]
    measure: Callable[[Clip], Measured]


METRICS: tuple[Metric, ...] = (
    Metric(
        "facesim_antelopev2",
        "FaceSim-Arc (antelopev2)",
        "higher",
        "Cosine of the largest face's ArcFace embedding with the photo's, clamped at 0, mean of 16 frames (ConsisID's "
        "script). Circular: EchoVideo is conditioned on this very recogniser's embedding.",
        ("detector",),
        _conditioned,
    ),
    Metric(
        "facesim_buffalo_l",
        "FaceSim-Arc (buffalo_l)",
        "higher",
        "The same with buffalo_l's recogniser, which EchoVideo never sees and which the published "
        "script uses: compare this one.",
        ("detector", "recogniser"),
        _independent,
    ),
    Metric(
        "identity_average",
        "identity average (ours)",
        "higher",
        "Our definition, because none is published: mean cosine (antelopev2, not clamped) over every "
        "frame with a face.",
        ("detector",),
        _average,
    ),
    Metric(
        "identity_variation",
        "identity variation (ours)",
        "lower",
        "Our definition, because none is published: standard deviation of the same cosines over the frames.",
        ("detector",),
        _variation,
    ),
    Metric(
        "clipscore",
        "CLIPScore",
        "higher",
        "CLIP ViT-B/32, 100 x cosine of the prompt with 16 frames (ConsisID's script: red and blue swapped).",
        ("clip",),
        _clip_score,
    ),
    Metric(
        "dynamic_degree",
        "DynamicDegree",
        "higher",
        "VBench: whether enough pairs of frames 1/8 s apart move far enough, measured by RAFT; the "
        "mean is the share of videos that move.",
        ("flow",),
        _dynamic_degree,
    ),
    Metric(
        "aesthetic_quality",
        "AestheticQuality",
        "higher",
        "VBench: LAION's linear layer on CLIP ViT-L/14, / 10, mean of all frames.",
        ("clip_large",),
        _per_frame("clip_large", "aesthetics"),
    ),
    Metric(
        "subject_consistency",
        "subject consistency",
        "higher",
        "VBench: DINO similarity of each frame to the previous and the first frame.",
        ("dino",),
        _per_frame("dino", "consistency"),
    ),
    Metric(
        "temporal_flicker",
        "temporal flicker",
        "higher",
        "VBench: (255 - mean absolute error of neighbouring frames) / 255; 1 means none. A still "
        "picture scores best.",
        (),
        _flicker,
    ),
    Metric(
        "imaging_quality",
        "imaging quality",
        "higher",
        "VBench: MUSIQ trained on SPAQ, / 100, mean of all frames.",
        ("musiq",),
        _per_frame("musiq", "imaging quality"),
    ),
    Metric(
        "face_feature_distance",
        "face feature distance",
        "lower",
        'What ConsisID\'s script prints as "FID": squared distance between Inception features of the '
        "face crops, mean of 16 frames. It is not FID.",
        ("detector", "inception"),
        _face_distance,
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def choose_metrics(names: Sequence[str] | None) -> list[Metric]:
    """The metrics of these names, all for None, in the order of METRICS. Raises InvalidRequest for an unknown name."""
    for name in names or ():
        if name not in BY_NAME:
            raise InvalidRequest(f'unknown metric "{name}": choose from {", ".join(BY_NAME)}')
    return [metric for metric in METRICS if names is None or metric.name in names]
