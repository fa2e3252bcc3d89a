"""FaceSim by the rule of ConsisID's script: which frames, which face, which recogniser, which number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echovideo_model.errors import WrongModelFile
from echovideo_model.face.detect import Face, FaceDetector
from echovideo_model.metrics.frames import spread
from echovideo_model.metrics.identity import Recogniser, embed_as_conditioned, face_sim, look
from echovideo_model.tiny.detector import make_detector_file
from echovideo_model.tiny.recogniser import make_recogniser_file
from tests.faces import PORTRAITS, drawing


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    folder = tmp_path_factory.mktemp("antelopev2")
    (folder / "scrfd_10g_bnkps.onnx").write_bytes(make_detector_file())
    (folder / "glintr100.onnx").write_bytes(make_recogniser_file())
    return FaceDetector(folder)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    path = tmp_path_factory.mktemp("buffalo_l") / "w600k_r50.onnx"
    path.write_bytes(make_recogniser_file())
    return Recogniser(path)


def test_16_frames_from_the_first_to_the_last_are_looked_at() -> None:
    assert spread(49) == np.linspace(0, 48, 16, dtype=int).tolist()
    assert spread(49) == [0, 3, 6, 9, 12, 16, 19, 22, 25, 28, 32, 35, 38, 41, 44, 48]
    assert spread(1) == [0] * 16
    assert spread(2) == [0] * 15 + [1]


class Sizes:
    """Finds a face from the n-th picture on; remembers what it was shown."""

    def __init__(self, found_in: int) -> None:
        self.found_in, self.shown = found_in, []

    def detect_at(self, picture: np.ndarray, size: int) -> list[Face]:
        self.shown.append((picture, size))
        if len(self.shown) < self.found_in:
            return []
        landmarks = np.array([[60, 60], [90, 60], [75, 80], [62, 95], [88, 95]], np.float32)
        return [Face(np.array([50, 40, 100, 110], np.float32), landmarks, 0.9, np.ones(512, np.float32))]


def test_a_frame_without_a_face_is_looked_at_once_more_with_a_quarter_of_grey() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (101, 150, 3), dtype=np.uint8)
    plain, padded, none = Sizes(1), Sizes(2), Sizes(3)
    assert look(frame, plain) is not None
    assert [size for _, size in plain.shown] == [320]
    seen = look(frame, padded)
    assert seen is not None
    assert [size for _, size in padded.shown] == [320, 320]
    grey = padded.shown[1][0]
    assert grey.shape == (101 + 2 * 25, 150 + 2 * 37, 3)
    assert np.array_equal(grey[25:-25, 37:-37], frame)
    assert set(np.unique(grey[:25])) == {128}
    assert look(frame, none) is None


def test_the_crop_is_insightface_s_and_black_beyond_the_frame_not_grey() -> None:
    from insightface.utils import face_align

    frame = np.random.default_rng(0).integers(50, 256, (101, 150, 3), dtype=np.uint8)
    landmarks = np.array([[60, 60], [90, 60], [75, 80], [62, 95], [88, 95]], np.float32)
    for finder, margin in ((Sizes(1), (0, 0)), (Sizes(2), (37, 25))):
        seen = look(frame, finder)
        assert seen is not None
        bgr = face_align.norm_crop(np.ascontiguousarray(frame[..., ::-1]), landmarks - margin, 224)
        assert np.array_equal(seen.crop(), bgr[..., ::-1])


def test_both_recognisers_see_the_face_that_insightface_sees(
    detector: FaceDetector, recogniser: Recogniser
) -> None:
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(str(detector.folder), providers=["CPUExecutionProvider"])
    app.prepare(0, det_size=(320, 320))
    picture = drawing()
    largest = max(app.get(picture[..., ::-1].copy()), key=lambda face: face.bbox[2] - face.bbox[0])
    seen = look(picture, detector)
    assert seen is not None
    assert (
        np.abs(embed_as_conditioned(seen) - largest.embedding).max() < 1e-5 * np.abs(largest.embedding).max()
    )
    assert np.abs(recogniser.embed(seen) - largest.embedding).max() < 1e-5 * np.abs(largest.embedding).max()


def test_facesim_knows_the_person_from_another_and_is_never_negative(
    detector: FaceDetector, recogniser: Recogniser
) -> None:
    own, other = (
        look(np.asarray(Image.open(PORTRAITS / name)), detector)
        for name in ("portrait.png", "second_portrait.png")
    )
    assert own is not None
    assert other is not None
    small = look(np.asarray(Image.open(PORTRAITS / "portrait.png").resize((300, 375))), detector)
    reference = recogniser.embed(own)
    scores = face_sim([small, other, None], reference, recogniser.embed)
    assert scores.per_frame[0] > 0.7
    assert 0 <= scores.per_frame[1] < 0.3
    assert scores.per_frame[2] is None
    assert scores.mean == pytest.approx((scores.per_frame[0] + scores.per_frame[1]) / 2)
    assert face_sim([own], -reference, recogniser.embed).per_frame == (0.0,)


def test_what_is_no_recogniser_is_said(tmp_path: Path) -> None:
    (tmp_path / "w600k_r50.onnx").write_bytes(b"no onnx")
    with pytest.raises(WrongModelFile, match=r"w600k_r50\.onnx|face models"):
        Recogniser(tmp_path / "w600k_r50.onnx")
    (tmp_path / "w600k_r50.onnx").write_bytes(make_detector_file())
    with pytest.raises(WrongModelFile, match="is not a face recogniser"):
        Recogniser(tmp_path / "w600k_r50.onnx")
