"""Scores are cosines of ArcFace embeddings, checked by hand with numpy and a detector whose answers are known."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from echovideo_model.commands import score as command
from echovideo_model.errors import EchoVideoError, InvalidRequest, ModelFileMissing, NoFaceFound
from echovideo_model.face.detect import DETECTOR, RECOGNISER, Face
from echovideo_model.identity import Identity
from echovideo_model.metrics.identity import Scores, score
from echovideo_model.tiny.detector import make_detector_file
from echovideo_model.tiny.recogniser import make_recogniser_file
from echovideo_model.video import write_mp4

PORTRAITS = Path(command.__file__).parents[1] / "assets"
NOBODY = 0


def embedding(level: int) -> np.ndarray:
    """The face that the detector below sees in a picture of this grey level; of any length, as ArcFace's are."""
    return np.random.default_rng(level).normal(scale=level, size=512).astype(np.float32)


class KnownDetector:
    """Sees, in a picture of one grey level, that level's face, and a smaller one that is everybody's."""

    def detect(self, photo: np.ndarray) -> list[Face]:
        assert photo.dtype == np.uint8
        assert photo.shape == (32, 32, 3)
        level = int(photo[0, 0, 0])
        if level == NOBODY:
            raise NoFaceFound("nobody")
        box, landmarks = np.array([0, 0, 9, 9], np.float32), np.zeros((5, 2), np.float32)
        return [Face(box, landmarks, 0.9, embedding(level)), Face(box / 2, landmarks, 0.99, embedding(1))]


def grey(*levels: int) -> np.ndarray:
    """Frames uint8 [F, 32, 32, 3]."""
    return np.array(levels, np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)


def test_scores_are_cosines_of_the_largest_face() -> None:
    reference = embedding(1)  # the small face would be the most similar one
    scores = score(grey(5, 6, 7), reference, KnownDetector())
    for level, value in zip((5, 6, 7), scores.per_frame, strict=True):
        one = embedding(level)
        assert value == pytest.approx(
            one @ reference / np.linalg.norm(one) / np.linalg.norm(reference), abs=1e-6
        )


def test_the_same_face_scores_one_whatever_the_embedding_s_length() -> None:
    for reference in (embedding(9), 1e-3 * embedding(9), torch.from_numpy(embedding(9)) * 1e3):
        assert score(grey(9, 9), reference, KnownDetector()).per_frame == pytest.approx((1.0, 1.0))


def test_floats_and_bytes_and_a_stream_of_frames_score_the_same() -> None:
    frames = grey(5, 0, 7)
    wanted = score(frames, embedding(3), KnownDetector())
    assert score(torch.from_numpy(frames) / 255, embedding(3), KnownDetector()) == wanted
    assert score(iter(frames), embedding(3), KnownDetector()) == wanted


@given(st.lists(st.none() | st.floats(-1, 1), min_size=1, max_size=60))
def test_the_figures_are_numpy_s_over_the_frames_with_a_face(per_frame: list[float | None]) -> None:
    scores = Scores(tuple(per_frame))
    found = np.array([value for value in per_frame if value is not None])
    assert scores.frames_without_face == tuple(n for n, value in enumerate(per_frame) if value is None)
    if found.size:
        assert scores.mean == pytest.approx(found.mean(), abs=1e-12)
        assert scores.standard_deviation == pytest.approx(found.std(), abs=1e-7)
        assert scores.minimum == found.min()
        assert scores.worst_frame is not None
        assert per_frame[scores.worst_frame] == found.min()
    else:
        assert (scores.mean, scores.standard_deviation, scores.minimum, scores.worst_frame) == (None,) * 4
    assert json.loads(json.dumps(scores.as_dict())) == {
        "frames": len(per_frame),
        "mean": scores.mean,
        "standard_deviation": scores.standard_deviation,
        "minimum": scores.minimum,
        "worst_frame": scores.worst_frame,
        "frames_without_face": list(scores.frames_without_face),
        "per_frame": per_frame,
    }


def test_a_frame_without_a_face_is_a_gap_and_counts_for_nothing() -> None:
    scores = score(grey(NOBODY, 5, NOBODY, 6), embedding(3), KnownDetector())
    assert scores.frames_without_face == (0, 2)
    assert scores.per_frame[0] is scores.per_frame[2] is None
    assert scores.mean == score(grey(5, 6), embedding(3), KnownDetector()).mean
    assert "no face in 2 of 4 frames" in str(scores)


def test_a_video_without_any_face_is_a_result_not_an_error() -> None:
    scores = score(grey(NOBODY, NOBODY), embedding(3), KnownDetector())
    assert scores.mean is None
    assert str(scores) == "no face in any of 2 frames, so there is no similarity"


@pytest.mark.parametrize("reference", [np.zeros(512), np.full(512, np.nan), np.full(512, np.inf)])
def test_a_reference_without_a_direction_is_refused(reference: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="make the identity again"):
        score(grey(5), reference, KnownDetector())


def test_a_frame_with_nan_is_named() -> None:
    frames = torch.zeros(3, 32, 32, 3)
    frames[1, 5, 5, 0] = float("nan")
    with pytest.raises(InvalidRequest, match="frame 1 holds NaN"):
        score(frames, embedding(3), KnownDetector())


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny detector, which finds drawn faces, and the tiny recogniser."""
    folder = tmp_path_factory.mktemp("models")
    inner = folder / "face_encoder" / "models" / "antelopev2"
    inner.mkdir(parents=True)
    (inner / DETECTOR).write_bytes(make_detector_file())
    (inner / RECOGNISER).write_bytes(make_recogniser_file())
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five frames: the portrait in all but number 2, which is black."""
    with Image.open(PORTRAITS / "portrait.png") as picture:
        frames = np.stack([np.asarray(picture.convert("RGB"))] * 5)
    frames[2] = 0
    write_mp4(tmp_path / "video.mp4", frames)
    return tmp_path / "video.mp4"


def echovideo_score(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["score", *map(str, arguments)])
    code: int = args.run(args)
    return code


def test_the_command_scores_a_video_against_a_photo_for_programs(
    video: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert echovideo_score(video, PORTRAITS / "portrait.png", "--models", models, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["frames_without_face"] == [2]
    assert printed["fps"] == 16
    assert len(printed["per_frame"]) == printed["frames"] == 5
    assert printed["minimum"] > 0.95  # the portrait against its own compressed copy
    assert echovideo_score(video, PORTRAITS / "second_portrait.png", "--models", models, "--json") == 0
    assert json.loads(capsys.readouterr().out)["mean"] < printed["minimum"]


def test_the_command_says_it_in_words_and_draws_the_plot(
    video: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = video.parent / "new" / "plot.png"
    assert echovideo_score(video, PORTRAITS / "portrait.png", "--models", models, "--plot", plot) == 0
    printed = capsys.readouterr().out
    assert str(video) in printed
    assert "no face in 1 of 5 frames" in printed
    assert "frames without a face: 2" in printed
    with Image.open(plot) as picture:
        assert picture.format == "PNG"


def test_an_identity_file_is_as_good_a_reference_as_its_photo(
    video: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from echovideo_model.face.detect import FaceDetector
    from echovideo_model.identity import find_face

    face = find_face(PORTRAITS / "portrait.png", FaceDetector(models)).face
    tokens = torch.zeros(196, 768)
    identity = Identity(
        torch.from_numpy(face.embedding), tokens, tokens + 1, np.zeros((512, 512, 3), np.uint8)
    )
    identity.save(video.parent / "person.safetensors")
    results = []
    for reference in (video.parent / "person.safetensors", PORTRAITS / "portrait.png"):
        assert echovideo_score(video, reference, "--models", models, "--json") == 0
        results.append(json.loads(capsys.readouterr().out)["per_frame"])
    assert results[0] == results[1]


def test_a_video_without_a_face_is_said_plainly_and_succeeds(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mp4(tmp_path / "black.mp4", torch.zeros(2, 64, 64, 3))
    reference = PORTRAITS / "portrait.png"
    plot = tmp_path / "plot.png"
    assert echovideo_score(tmp_path / "black.mp4", reference, "--models", models, "--plot", plot) == 0
    assert "no face in any of 2 frames" in capsys.readouterr().out
    assert plot.exists()


def test_what_cannot_be_scored_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, models: Path, video: Path
) -> None:
    (tmp_path / "text.mp4").write_text("not a video", encoding="utf-8")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    zeros = torch.zeros(196, 768)
    someone = Identity(torch.ones(512), zeros, zeros + 1, np.zeros((512, 512, 3), np.uint8), encoders="nano")
    someone.save(tmp_path / "nano.safetensors")
    portrait = PORTRAITS / "portrait.png"
    before = sorted(tmp_path.iterdir())
    for arguments, error in (
        ((tmp_path / "text.mp4", portrait), InvalidRequest),
        ((tmp_path / "missing.mp4", portrait), InvalidRequest),
        ((video, tmp_path / "missing.png"), InvalidRequest),
        ((video, tmp_path / "text.mp4"), InvalidRequest),
        ((video, tmp_path / "other.safetensors"), EchoVideoError),
        ((video, tmp_path / "nano.safetensors"), InvalidRequest),
        ((video, tmp_path / "black.png"), NoFaceFound),
        ((video, portrait, "--plot", tmp_path), InvalidRequest),
        ((video, portrait, "--plot", tmp_path / "plot.txt"), InvalidRequest),
        ((video, portrait, "--models", tmp_path), ModelFileMissing),
    ):
        with pytest.raises(error) as said:
            echovideo_score("--models", models, *arguments)
        assert "\n" not in str(said.value)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_lists_frames_in_ranges() -> None:
    assert command._format_ranges([0]) == "0"
    assert command._format_ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
