"""Faces are found with insightface, looked for harder when nothing is seen, and chosen by a rule the user names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echovideo_model.errors import (
    DependencyMissing,
    ModelFileMissing,
    NoFaceFound,
    WrongModelFile,
)
from echovideo_model.face.detect import (
    DETECTOR,
    RECOGNISER,
    Face,
    FaceDetector,
    cosine_similarity,
)
from tests.faces import card, drawing, write_detection_models

See = Callable[[np.ndarray, int], list[dict[str, Any]]]


class FakeAnalysis:
    """insightface.app.FaceAnalysis as far as it is used: what it finds is said by `see(picture, detector size)`."""

    see: See

    def __init__(self, name: str, allowed_modules: list[str], providers: list[str]) -> None:
        self.name, self.providers = name, providers
        self.models = dict.fromkeys(allowed_modules, self)
        self.faces: list[dict[str, Any]] = []
        self.session = self  # onnxruntime's, of which the metadata is read
        self.custom_metadata_map: dict[str, str] = {}

    def get_modelmeta(self) -> FakeAnalysis:
        return self

    def prepare(self, ctx_id: int, det_size: tuple[int, int]) -> None:
        """All that it prepares is said with each look."""

    def detect(self, img: np.ndarray, input_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
        assert img.flags.c_contiguous
        assert input_size[0] == input_size[1]
        found = type(self).see(img, input_size[0])
        self.faces += found
        boxes = np.array([[*one["bbox"], one["det_score"]] for one in found], np.float32).reshape(-1, 5)
        landmarks = (
            None if any(one["kps"] is None for one in found) else np.array([one["kps"] for one in found])
        )
        return boxes, landmarks

    def get(self, img: np.ndarray, face: Any) -> np.ndarray:
        """The embedding of the face that was last seen with these landmarks."""
        assert img.flags.c_contiguous
        same = [one for one in self.faces if np.allclose(one["kps"], face.kps, atol=1e-3)]
        return same[-1]["embedding"]


@pytest.fixture
def detector_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[See], FaceDetector]:
    """Builds a detector whose insightface sees what the test says."""

    def build(see: See) -> FaceDetector:
        fake = type("Fake", (FakeAnalysis,), {"see": staticmethod(see)})
        monkeypatch.setattr("insightface.app.FaceAnalysis", fake)
        for name in (DETECTOR, RECOGNISER):
            (tmp_path / name).touch()
        return FaceDetector(tmp_path)

    return build


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    """A detector of drawn faces, run by the real insightface."""
    return FaceDetector(
        write_detection_models(tmp_path_factory.mktemp("models") / "antelopev2" / "antelopev2").parent
    )


def seen(left: float, top: float, size: float, confidence: float = 0.9, **changes: Any) -> dict[str, Any]:
    """A face as insightface reports it."""
    corners = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
    return {
        "bbox": np.array([left, top, left + size, top + size], np.float32),
        "kps": (np.array([left, top]) + size * corners).astype(np.float32),
        "det_score": np.float32(confidence),
        "embedding": np.arange(512, dtype=np.float32) - size,
        **changes,
    }


def a_face(left: float, top: float, size: float, confidence: float = 0.5, towards: int = 0) -> Face:
    box = np.array([left, top, left + size, top + size], np.float32)
    return Face(box, np.zeros((5, 2), np.float32), confidence, np.eye(512, dtype=np.float32)[towards] * 20)


def test_a_drawn_face_is_found_by_the_real_insightface_with_all_it_says(tiny: FaceDetector) -> None:
    (face,) = tiny.detect(drawing())
    left_eye, right_eye, nose, left_corner, right_corner = face.landmarks
    assert face.landmarks.shape == (5, 2)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_corner[1]
    assert left_corner[0] < right_corner[0]
    np.testing.assert_allclose(left_eye, (212, 296), atol=12)  # where they are drawn
    np.testing.assert_allclose(right_eye, (300, 296), atol=12)
    assert 0.5 < face.confidence <= 1
    assert face.embedding.shape == (512,)
    assert face.embedding.dtype == face.box.dtype == face.landmarks.dtype == np.float32
    assert np.linalg.norm(face.embedding) > 5  # not normalised


@settings(max_examples=8, deadline=None)
@given(down=st.integers(0, 300), right=st.integers(0, 300))
def test_a_face_is_found_where_it_is(tiny: FaceDetector, down: int, right: int) -> None:
    canvas = np.full((940, 812, 3), 120, np.uint8)
    canvas[down : down + 640, right : right + 512] = drawing()
    (face,), (alone,) = tiny.detect(canvas), tiny.detect(drawing())
    np.testing.assert_allclose(face.landmarks - [right, down], alone.landmarks, atol=15)
    assert cosine_similarity(face.embedding, alone.embedding) > 0.8


def test_the_same_drawing_is_closer_to_itself_than_to_another(tiny: FaceDetector) -> None:
    (first,), (second,) = tiny.detect(drawing()), tiny.detect(drawing("second_portrait"))
    (smaller,) = tiny.detect(np.ascontiguousarray(drawing()[::2, ::2]))
    assert cosine_similarity(first.embedding, smaller.embedding) > cosine_similarity(
        first.embedding, second.embedding
    )


def test_no_face_in_a_test_card_says_the_size_and_what_was_tried(tiny: FaceDetector) -> None:
    with pytest.raises(
        NoFaceFound, match=r"400 x 300 pixels.*640, 512, 384, 320, 192.*25%.*50%.*rotated"
    ) as refusal:
        tiny.detect(card(300, 400))
    assert "\n" not in str(refusal.value)


def test_a_clear_face_takes_the_references_search_and_one_more(
    detector_that: Callable[[See], FaceDetector],
) -> None:
    photo, tried = card(64, 64), []

    def see(picture: np.ndarray, size: int) -> list[dict[str, Any]]:
        np.testing.assert_array_equal(picture, photo[..., ::-1])  # BGR
        tried.append(size)
        return [seen(5, 5, 40) if size == 640 else seen(6, 4, 41, 0.95)]

    (face,) = detector_that(see).detect(photo)
    assert len(tried) == 2
    assert tried[0] == 640
    assert face.box.tolist() == [5, 5, 45, 45]  # the reference's, though the other is surer of it
    np.testing.assert_array_equal(face.landmarks, seen(5, 5, 40)["kps"])
    np.testing.assert_array_equal(face.embedding, seen(5, 5, 40)["embedding"])


@pytest.mark.parametrize("sees_it", [512, 384, 320, 192])
def test_a_face_that_the_first_size_misses_belongs_to_the_same_list(
    sees_it: int, detector_that: Callable[[See], FaceDetector]
) -> None:
    def see(picture: np.ndarray, size: int) -> list[dict[str, Any]]:
        small, large = seen(80, 2, 10, 0.9), seen(0, 0, 95, 0.8)
        return [small] * (size > 320) + [large] * (size == sees_it)

    faces = detector_that(see).detect(card(100, 100))
    assert [face.box.tolist() for face in faces] == [[0, 0, 95, 95], [80, 2, 90, 12]]


def test_of_the_other_sizes_the_most_confident_tells_where_a_face_is(
    detector_that: Callable[[See], FaceDetector],
) -> None:
    places = {512: seen(0, 0, 90, 0.8), 384: seen(2, 1, 92, 0.9), 192: seen(1, 1, 96, 0.85)}
    (face,) = detector_that(lambda _, size: [places[size]] if size in places else []).detect(card(100, 100))
    assert face.box.tolist() == [2, 1, 94, 93]
    assert face.confidence == pytest.approx(0.9)


def test_two_faces_that_overlap_a_little_stay_two(detector_that: Callable[[See], FaceDetector]) -> None:
    side_by_side = [seen(0, 0, 50), seen(25, 0, 50)]  # a third of both together
    assert len(detector_that(lambda *_: side_by_side).detect(card(100, 100))) == 2


def test_the_recogniser_reads_only_the_faces_that_are_asked_for(
    detector_that: Callable[[See], FaceDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    detector = detector_that(lambda *_: [seen(20 * place, 0, 15) for place in range(5)])
    recognise = detector._recogniser.get
    monkeypatch.setattr(detector._recogniser, "get", lambda *args: read.append(1) or recognise(*args))
    faces = detector.detect(card(100, 100))
    assert not read
    assert faces[3].embedding is faces[3].embedding
    assert len(read) == 1


@settings(max_examples=30, deadline=None)
@given(degrees=st.sampled_from([90, 180, 270]), top=st.integers(0, 60), left=st.integers(0, 100))
def test_a_face_that_is_seen_clearly_when_turned_is_told_so_in_photo_coordinates(
    degrees: int, top: int, left: int
) -> None:
    """An upside-down face is often seen, with the landmarks of an upright one and little confidence."""
    photo = np.zeros((120, 160, 3), np.uint8)
    photo[top : top + 40, left : left + 40] = 200
    upright = seen(0, 0, 40)["kps"] - 20  # around the face's middle
    quarter = np.array([[0, 1], [-1, 0]]) if degrees == 270 else np.array([[0, -1], [1, 0]])
    expected = upright @ np.linalg.matrix_power(quarter.T, 2 if degrees == 180 else 1) + [left + 20, top + 20]

    def see(picture: np.ndarray, size: int) -> list[dict[str, Any]]:
        rows, columns = (picture[..., 0] == 200).nonzero()
        turned = picture.shape != photo.shape and see.turns % 3 == [180, 90, 270].index(degrees)
        see.turns += picture.shape != photo.shape
        return [seen(columns.min(), rows.min(), 40, 0.85 if turned else 0.6)]

    see.turns = 0  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "insightface.app.FaceAnalysis", type("Fake", (FakeAnalysis,), {"see": staticmethod(see)})
        )
        patch.setattr("echovideo_model.face.detect._model_folder", lambda folder: folder)
        (face,) = FaceDetector(Path()).detect(photo)
    assert face.turned == degrees
    assert ("upside down" if degrees == 180 else "on its side") in face.warning
    np.testing.assert_allclose(face.box, [left, top, left + 40, top + 40], atol=1)
    np.testing.assert_allclose(face.landmarks, expected, atol=1)


@pytest.mark.parametrize(
    ("size", "confidence", "said"),
    [(39, 0.9, "39 x 39 pixels"), (60, 0.55, "may not be .*0.55"), (60, 0.9, "^$")],
)
def test_a_face_that_will_hardly_do_has_a_warning(
    size: int, confidence: float, said: str, detector_that: Callable[[See], FaceDetector]
) -> None:
    (face,) = detector_that(lambda *_: [seen(0, 0, size, confidence)]).detect(card(100, 100))
    assert re.search(said, face.warning)


def test_faces_come_largest_first(detector_that: Callable[[See], FaceDetector]) -> None:
    faces = detector_that(lambda *_: [seen(0, 0, size) for size in (20, 50, 35)]).detect(card(64, 64))
    assert [face.area for face in faces] == [2500, 1225, 400]
    assert [face.centre for face in faces] == [(25, 25), (17.5, 17.5), (10, 10)]


@pytest.mark.parametrize("works_at", [640, 512, 384, 320, 192])
def test_every_detector_size_is_tried_before_a_face_is_missed(
    works_at: int, detector_that: Callable[[See], FaceDetector]
) -> None:
    (face,) = detector_that(lambda _, size: [seen(5, 6, 30)] * (size == works_at)).detect(card(64, 64))
    assert face.box.tolist() == [5, 6, 35, 36]


@settings(max_examples=20, deadline=None)
@given(height=st.integers(32, 90), width=st.integers(32, 90), share=st.sampled_from([0.25, 0.5]))
def test_padding_is_tried_next_and_its_faces_are_told_in_photo_coordinates(
    height: int, width: int, share: float
) -> None:
    photo = np.maximum(card(height, width), 1)
    rows, columns = round(height * share), round(width * share)

    def see(picture: np.ndarray, size: int) -> list[dict[str, Any]]:
        if picture.shape != (height + 2 * rows, width + 2 * columns, 3):
            return []
        assert size == 640
        np.testing.assert_array_equal(picture[rows:-rows, columns:-columns], photo[..., ::-1])
        assert (picture > 0).all(2).sum() == height * width
        return [seen(columns - 3, rows + 2, 20)]  # cut off by the photo's left edge

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "insightface.app.FaceAnalysis", type("Fake", (FakeAnalysis,), {"see": staticmethod(see)})
        )
        patch.setattr("echovideo_model.face.detect._model_folder", lambda folder: folder)
        (face,) = FaceDetector(Path()).detect(photo)
    expected = seen(-3, 2, 20)
    np.testing.assert_allclose(face.box, expected["bbox"])
    np.testing.assert_allclose(face.landmarks, expected["kps"], atol=1e-4)


def test_landmarks_found_in_a_padded_photo_fit_the_photo(
    tiny: FaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop = np.ascontiguousarray(drawing()[190:480, 130:380])  # from the hair to the chin
    find, nothing = tiny._finder.detect, (np.empty((0, 5)), None)
    monkeypatch.setattr(
        tiny._finder, "detect", lambda img, **size: nothing if img.shape == crop.shape else find(img, **size)
    )
    (face,), (whole,) = tiny.detect(crop), tiny.detect(drawing())
    np.testing.assert_allclose(face.landmarks + np.array([130, 190]), whole.landmarks, atol=15)


@pytest.mark.parametrize("place", [".", "antelopev2", "antelopev2/antelopev2", "models/antelopev2"])
def test_the_models_are_found_however_deep_the_archive_was_unpacked(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insightface.app.FaceAnalysis", FakeAnalysis)
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for name in (DETECTOR, RECOGNISER, "genderage.onnx"):
        (folder / name).touch()
    assert FaceDetector(tmp_path).folder == folder.resolve()


@pytest.mark.parametrize("missing", [DETECTOR, RECOGNISER])
def test_a_missing_model_is_named_with_every_folder_searched(missing: str, tmp_path: Path) -> None:
    folder = write_detection_models(tmp_path / "antelopev2" / "antelopev2")
    (folder / missing).unlink()
    with pytest.raises(ModelFileMissing) as refusal:
        FaceDetector(tmp_path)
    message = str(refusal.value)
    assert f"{missing} of antelopev2 not found" in message
    assert "echovideo models download" in message
    for searched in (tmp_path, folder.parent, folder):
        assert f"{searched}," in message or f"{searched};" in message


def test_models_in_two_folders_are_to_be_put_into_one(tmp_path: Path) -> None:
    write_detection_models(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / RECOGNISER).rename(tmp_path / "b" / RECOGNISER)
    with pytest.raises(ModelFileMissing, match="different folders"):
        FaceDetector(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing, match=f"{DETECTOR} and {RECOGNISER}.*nowhere"):
        FaceDetector(tmp_path / "nowhere")


@pytest.mark.parametrize("broken", [DETECTOR, RECOGNISER])
@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_model_is_refused(broken: str, damage: str, tmp_path: Path) -> None:
    path = write_detection_models(tmp_path) / broken
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"404: Not Found"}[damage])
    with pytest.raises(WrongModelFile, match=r"cannot be used \(.*echovideo models download"):
        FaceDetector(tmp_path)


@pytest.mark.parametrize("broken", [DETECTOR, RECOGNISER])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:5838\n", "a Git LFS pointer"),
        (b"<html>404</html>", "an HTML page"),
        (bytes(5000), "nothing but zeros"),
    ],
    ids=["pointer", "page", "zeros"],
)
def test_what_lies_in_a_model_s_place_is_called_what_it_is(
    broken: str, content: bytes, what: str, tmp_path: Path
) -> None:
    (write_detection_models(tmp_path) / broken).write_bytes(content)
    with pytest.raises(
        WrongModelFile, match=f"{broken} is not a face model but {what}.*echovideo models download"
    ):
        FaceDetector(tmp_path)


def test_a_recogniser_in_the_detectors_place_is_refused(tmp_path: Path) -> None:
    write_detection_models(tmp_path)
    (tmp_path / DETECTOR).write_bytes((tmp_path / RECOGNISER).read_bytes())
    with pytest.raises(WrongModelFile):
        FaceDetector(tmp_path)


def test_a_detector_in_the_recognisers_place_is_refused(tmp_path: Path) -> None:
    write_detection_models(tmp_path)
    (tmp_path / RECOGNISER).write_bytes((tmp_path / DETECTOR).read_bytes())
    with pytest.raises(WrongModelFile, match="no model for recognition"):
        FaceDetector(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"kps": None}, {"embedding": np.ones(128, np.float32)}, {"embedding": np.full(512, np.nan, np.float32)}],
    ids=["no landmarks", "another width", "NaN"],
)
def test_models_that_are_not_antelopev2_are_refused(
    changes: dict[str, Any], detector_that: Callable[[See], FaceDetector]
) -> None:
    with pytest.raises(WrongModelFile, match="antelopev2"):
        _ = detector_that(lambda *_: [seen(0, 0, 10, **changes)]).detect(card(64, 64))[0].embedding


@pytest.mark.parametrize("package", ["insightface.app", "onnxruntime.capi.onnxruntime_pybind11_state"])
def test_a_missing_package_is_named_with_the_one_command(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_detection_models(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        DependencyMissing, match=rf'-m pip install "insightface>=1.0" onnxruntime: .*{package.split(".")[0]}'
    ):
        FaceDetector(tmp_path)


def test_what_insightface_prints_does_not_reach_stdout(
    capsys: pytest.CaptureFixture[str], detector_that: Callable[[See], FaceDetector]
) -> None:
    def see(picture: np.ndarray, size: int) -> list[dict[str, Any]]:
        print("set det-size", size)  # noqa: T201 - as insightface 1 does
        return [seen(0, 0, 10)]

    detector_that(see).detect(card(64, 64))
    assert capsys.readouterr().out == ""


def test_the_cpu_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insightface.app.FaceAnalysis", FakeAnalysis)
    for name in (DETECTOR, RECOGNISER):
        (tmp_path / name).touch()
    assert FaceDetector(tmp_path)._finder.providers == ["CPUExecutionProvider"]


def test_cosine_similarity_ignores_length_and_knows_nobody() -> None:
    embedding = np.random.default_rng(0).normal(size=512)
    assert cosine_similarity(embedding, 30 * embedding) == pytest.approx(1)
    assert cosine_similarity(embedding, -embedding) == pytest.approx(-1)
    assert cosine_similarity(embedding, np.zeros(512)) == 0
