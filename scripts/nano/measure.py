"""Measures the small networks on people whom training never saw, through insightface and the package's own loaders.

    python scripts/nano/measure.py MODELS [--count 300]

Prints one line a figure: the detector's recall on stills and on frames of clips, its landmark error in shares of the
eye distance, its false alarms in scenes without people; how often the recogniser finds the right one of all people
by another picture, and cosines of own pictures and of strangers; the parser's agreement on what is face.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from pictures import picture_of
from tqdm import tqdm

from echovideo_model.errors import NoFaceFound
from echovideo_model.face.align import FACE_SIZE, LANDMARKS, align_face
from echovideo_model.face.detect import Face, FaceDetector
from echovideo_model.face.parse import NOT_FACE, FaceParser
from echovideo_model.nano import Clip, Person, draw_portrait
from echovideo_model.nano.figure import Truth
from echovideo_model.nano.scenes import MARGIN, PLACES, draw_scene
from echovideo_model.nano.split import held_out_people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("--count", type=int, default=300, help="held-out people (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=1000, help="without people (default: %(default)s)")
    args = parser.parse_args()
    detector = FaceDetector(args.models / "face_encoder")
    people = list(held_out_people(args.count))
    embeddings = measure_stills(detector, people)
    measure_frames(detector, people)
    measure_alarms(detector, args.scenes)
    measure_recogniser(embeddings)
    measure_parser(FaceParser.load(args.models / "face_encoder" / "parsing_bisenet.pth"), people[:100])


def measure_stills(detector: FaceDetector, people: list[int]) -> list[list[np.ndarray]]:
    """Recall and landmarks on a portrait and on two pictures in any pose; returns the embeddings of each person."""
    found, errors, embeddings = [], [], []
    for seed in tqdm(people, "stills"):
        person = Person.from_seed(seed)
        rng = np.random.default_rng([seed, 1])
        pictures = [draw_portrait(person, backdrop=seed % 8)]
        pictures += [picture_of(rng, person, 192, 0.205, reach=0.7) for _ in range(2)]
        faces = [_found(detector, *picture) for picture in pictures]
        found += [face is not None for face in faces]
        pairs = [(face, truth) for face, (_, truth) in zip(faces, pictures, strict=True) if face is not None]
        errors += [_error(face, truth) for face, truth in pairs]
        embeddings.append([face.embedding for face, _ in pairs])
    print(f"detector, recall on {len(found)} stills: {np.mean(found):.4f}")
    print(f"detector, landmark error on stills: {np.mean(errors):.4f} of the eye distance")
    return embeddings


def measure_frames(detector: FaceDetector, people: list[int]) -> None:
    """Three frames of a clip of each person; those in which half the face is outside do not count."""
    found, errors = [], []
    for seed in tqdm(people, "frames"):
        for picture, truth in Clip.from_seed(seed, person=seed, frames=3).pictures():
            if not ((truth.landmarks > 0) & (truth.landmarks < picture.shape[0])).all():
                continue
            face = _found(detector, picture, truth)
            found.append(face is not None)
            if face is not None:
                errors.append(_error(face, truth))
    print(f"detector, recall on {len(found)} frames of clips: {np.mean(found):.4f}")
    print(f"detector, landmark error on frames: {np.mean(errors):.4f} of the eye distance")


def measure_alarms(detector: FaceDetector, count: int) -> None:
    alarms = 0
    for seed in tqdm(range(count), "scenes"):
        rng = np.random.default_rng([seed, 2])
        scene = draw_scene(list(PLACES)[seed % len(PLACES)], 128, 128, rng)
        edge = 2 * round(128 * MARGIN)
        picture = cv2.resize(scene[edge:-edge, edge:-edge], (128, 128), interpolation=cv2.INTER_AREA)
        alarms += bool(detector.detect_at(picture, 640))
    print(f"detector, false alarms in {count} scenes without people: {alarms}")


def measure_recogniser(embeddings: list[list[np.ndarray]]) -> None:
    """Each person's second picture among everybody's first."""
    pairs = [mine[:2] for mine in embeddings if len(mine) > 1]
    one, other = (_unit(np.stack(side)) for side in zip(*pairs, strict=True))
    likeness = other @ one.T
    right = (likeness.argmax(1) == np.arange(len(one))).mean()
    strangers = likeness[~np.eye(len(one), dtype=bool)]
    print(f"recogniser, the right one of {len(one)}: {right:.4f}")
    print(
        f"recogniser, cosine: own {np.diag(likeness).mean():.3f} (10th percentile "
        f"{np.percentile(np.diag(likeness), 10):.3f}), strangers {strangers.mean():.3f} (99th percentile "
        f"{np.percentile(strangers, 99):.3f})"
    )
    lengths = np.linalg.norm(np.stack([pair[0] for pair in pairs]), axis=1)
    print(f"recogniser, length of an embedding: {lengths.mean():.1f}")


def measure_parser(parser: FaceParser, people: list[int]) -> None:
    same, classes = [], []
    for seed in tqdm(people, "parser"):
        rng = np.random.default_rng([seed, 3])
        picture, truth = picture_of(rng, Person.from_seed(seed), 128, 0.205, reach=0.7)
        matrix, _ = cv2.estimateAffinePartial2D(truth.landmarks, LANDMARKS, method=cv2.LMEDS)
        drawn = cv2.warpAffine(truth.classes, matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_NEAREST)
        labels = parser.labels(align_face(picture, truth.landmarks))
        same.append((np.isin(labels, NOT_FACE) == np.isin(drawn, NOT_FACE)).mean())
        classes.append((labels == drawn).mean())
    print(
        f"parser, pixels rightly kept or blackened: {np.mean(same):.4f}; of the right class: {np.mean(classes):.4f}"
    )


def _found(detector: FaceDetector, picture: np.ndarray, truth: Truth) -> Face | None:
    """The detection whose nose is within half an eye distance of the drawn one."""
    try:
        faces = detector.detect(picture)
    except NoFaceFound:
        return None
    near = [
        face for face in faces if np.linalg.norm(face.landmarks[2] - truth.landmarks[2]) < _eyes(truth) / 2
    ]
    return near[0] if near else None


def _eyes(truth: Truth) -> float:
    """The eye distance that the face would have from the front: half its box's width at least."""
    return max(
        float(np.linalg.norm(truth.landmarks[1] - truth.landmarks[0])),
        0.45 * float(truth.box[2] - truth.box[0]),
    )


def _error(face: Face, truth: Truth) -> float:
    return float(np.linalg.norm(face.landmarks - truth.landmarks, axis=1).mean()) / _eyes(truth)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
