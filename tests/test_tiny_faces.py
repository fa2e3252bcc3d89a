"""The tiny face models on the portraits: insightface runs them through its usual path, and they hold what they say."""

from __future__ import annotations

import runpy
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import insightface.app
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.scrfd import SCRFD
from PIL import Image

from echovideo_model import tiny
from echovideo_model.face.align import align_face
from echovideo_model.face.parse import FaceParser
from echovideo_model.tiny import PORTRAITS

SCRIPT = Path(__file__).parent.parent / "scripts" / "draw_portrait.py"
LANDMARKS = np.array(runpy.run_path(str(SCRIPT))["LANDMARKS"])  # [5, 2]: where both portraits carry them
FACE_WIDTH = 190  # of both portraits, in pixels
CANVAS = 640


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def insight(models: Path) -> insightface.app.FaceAnalysis:
    """insightface as users run it, on our two files."""
    folder = models / "face_encoder" / "models" / "antelopev2"
    analysis = insightface.app.FaceAnalysis(name=str(folder), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=0, det_size=(CANVAS, CANVAS))
    return analysis


@lru_cache
def portrait(number: int) -> Image.Image:
    return Image.open(PORTRAITS[number]).convert("RGB")


def find(insight: insightface.app.FaceAnalysis, photo: np.ndarray | Image.Image) -> list:
    """The faces of an RGB photo, from left to right."""
    faces = insight.get(np.ascontiguousarray(np.asarray(photo)[..., ::-1]))
    return sorted(faces, key=lambda face: face.bbox[0])


def placed(number: int, face_width: float, x: float, y: float, colour: str) -> tuple[Image.Image, np.ndarray]:
    """A portrait whose nose tip is at (x, y) of a square picture, and its landmarks there."""
    scale = face_width / FACE_WIDTH
    size = round(512 * scale), round(640 * scale)
    corner = np.round(np.array([x, y]) - scale * LANDMARKS[2]).astype(int)
    canvas = Image.new("RGB", (CANVAS, CANVAS), colour)
    canvas.paste(portrait(number).resize(size, Image.Resampling.LANCZOS), tuple(map(int, corner)))
    return canvas, scale * LANDMARKS + corner


def landmark_error(face: dict, truth: np.ndarray, face_width: float) -> float:
    """The furthest landmark's distance from where it is, in face widths."""
    return float(np.linalg.norm(face["kps"] - truth, axis=1).max() / face_width)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


# The faces ----------------------------------------------------------------------------------------------------


def test_insightface_takes_the_two_files_for_what_they_stand_for(
    insight: insightface.app.FaceAnalysis,
) -> None:
    assert isinstance(insight.models["detection"], SCRFD)
    assert insight.models["detection"].use_kps
    assert isinstance(insight.models["recognition"], ArcFaceONNX)
    assert insight.models["recognition"].input_mean == 127.5


@settings(max_examples=15, deadline=None)
@given(
    number=st.sampled_from([0, 1]),
    face_width=st.floats(70, 250),
    at=st.tuples(st.floats(0.3, 0.7), st.floats(0.35, 0.65)),
    colour=st.sampled_from(["#808080", "black", "white", "#b4bec8", "#c03020"]),
)
def test_a_portrait_is_found_once_with_its_landmarks_wherever_and_however_large(
    insight: insightface.app.FaceAnalysis,
    number: int,
    face_width: float,
    at: tuple[float, float],
    colour: str,
) -> None:
    photo, truth = placed(number, face_width, CANVAS * at[0], CANVAS * at[1], colour)
    (face,) = find(insight, photo)
    assert landmark_error(face, truth, face_width) < 0.12
    assert face.bbox[2] - face.bbox[0] == pytest.approx(face_width, rel=0.15)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("face_width", [65, 300, 400, 500])
def test_a_face_may_be_a_tenth_or_most_of_the_photo(
    insight: insightface.app.FaceAnalysis, number: int, face_width: int
) -> None:
    photo, truth = placed(number, face_width, 320, 380, "#808080")
    (face,) = find(insight, photo)
    assert landmark_error(face, truth, face_width) < 0.12


@pytest.mark.parametrize("size", [640, 512, 384, 320])
@pytest.mark.parametrize("number", [0, 1])
def test_a_portrait_is_found_at_every_detector_size_and_in_grey(
    insight: insightface.app.FaceAnalysis, number: int, size: int
) -> None:
    try:
        insight.prepare(ctx_id=0, det_size=(size, size))
        for photo in (portrait(number), portrait(number).convert("L").convert("RGB")):
            (face,) = find(insight, photo)
            assert landmark_error(face, LANDMARKS, FACE_WIDTH) < 0.12
    finally:
        insight.prepare(ctx_id=0, det_size=(CANVAS, CANVAS))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_people_are_told_apart(insight: insightface.app.FaceAnalysis, order: tuple[int, int]) -> None:
    together = np.concatenate([np.asarray(portrait(number)) for number in order], axis=1)
    faces = find(insight, together)
    alone = [find(insight, portrait(number))[0] for number in order]
    assert len(faces) == 2
    for place, face in enumerate(faces):
        assert landmark_error(face, LANDMARKS + np.array([512 * place, 0]), FACE_WIDTH) < 0.12
        assert cosine(face.embedding, alone[place].embedding) > 0.8
        assert cosine(face.embedding, alone[1 - place].embedding) < 0.3


@settings(max_examples=6, deadline=None)
@given(
    number=st.sampled_from([0, 1]),
    face_width=st.floats(100, 250),
    light=st.floats(0.5, 1.2),
)
def test_a_person_stays_the_same_at_another_size_and_in_another_light(
    insight: insightface.app.FaceAnalysis, number: int, face_width: float, light: float
) -> None:
    (usual,) = find(insight, portrait(number))
    photo, _ = placed(number, face_width, 320, 320, "#808080")
    (other,) = find(insight, photo.point(lambda level: min(255, round(level * light))))
    assert cosine(usual.embedding, other.embedding) > 0.8


@pytest.mark.parametrize("number", [0, 1])
def test_a_grey_photo_is_still_closest_to_its_own_person(
    insight: insightface.app.FaceAnalysis, number: int
) -> None:
    grey, own, other = (
        find(insight, photo)[0].embedding
        for photo in (portrait(number).convert("L").convert("RGB"), portrait(number), portrait(1 - number))
    )
    assert cosine(grey, own) > cosine(grey, other) + 0.1


def test_an_embedding_is_as_long_as_a_released_one(insight: insightface.app.FaceAnalysis) -> None:
    (face,) = find(insight, portrait(0))
    assert face.embedding.shape == (512,)
    assert 15 < np.linalg.norm(face.embedding) < 35


def noise(cells: int) -> Image.Image:
    values = np.random.default_rng(cells).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)


FACELESS = {
    "grey": Image.new("RGB", (512, 512), "#808080"),
    "black": Image.new("RGB", (512, 512)),
    "one pixel": Image.new("RGB", (1, 1), "red"),
    **{f"noise of {cells} cells": noise(cells) for cells in (20, 40, 80, 160, 640)},
    "gradient down": Image.linear_gradient("L").convert("RGB"),
    "gradient right": Image.linear_gradient("L").rotate(90).convert("RGB"),
    "rings": Image.radial_gradient("L").convert("RGB"),
    "upside down": portrait(0).rotate(180),
    "no head": portrait(0).crop((0, 470, 512, 640)),
}


@pytest.mark.parametrize("name", FACELESS)
def test_where_no_face_is_none_is_found(insight: insightface.app.FaceAnalysis, name: str) -> None:
    assert find(insight, FACELESS[name]) == []


@pytest.mark.parametrize("number", [0, 1])
def test_the_parser_blackens_the_background_and_keeps_the_face(models: Path, number: int) -> None:
    aligned = align_face(np.asarray(portrait(number)), LANDMARKS.astype(np.float32))
    parser = FaceParser.load(models / "face_encoder" / "parsing_bisenet.pth")
    kept = parser.mask(aligned)
    red, blue = aligned[..., 0].astype(int), aligned[..., 2].astype(int)
    background = blue > red + 40
    assert (kept == ~background).mean() > 0.98
    assert kept[background].mean() < 0.25  # a rim
    assert kept[100:400, 100:412].all()


def test_the_parser_keeps_all_of_a_grey_photo(models: Path) -> None:
    parser = FaceParser.load(models / "face_encoder" / "parsing_bisenet.pth")
    grey = np.repeat(np.linspace(0, 255, 512).astype(np.uint8)[:, None, None], 512, 1).repeat(3, 2)
    assert parser.mask(grey).all()


# The portraits ------------------------------------------------------------------------------------------------


def test_the_portraits_are_small_and_as_their_script_draws_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True)
    for path in PORTRAITS:
        assert path.stat().st_size < 60_000
        with Image.open(path) as kept, Image.open(tmp_path / path.name) as drawn:
            assert kept.size == drawn.size == (512, 640)
            assert kept.mode == drawn.mode == "RGB"
            difference = np.abs(np.asarray(kept, int) - np.asarray(drawn, int))
        assert difference.mean() < 0.5  # Pillow's releases differ by a pixel along an edge
