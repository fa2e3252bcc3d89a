"""The small networks' trainers, stopped after two steps: what they write is read by insightface and our loaders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from echovideo_model.face.detect import DETECTOR, RECOGNISER
from echovideo_model.face.parse import FaceParser
from echovideo_model.face.siglip import SiglipEncoder
from echovideo_model.nano import Person, draw_portrait
from echovideo_model.nano.words import MAX_TOKENS
from echovideo_model.text import TextEncoder

pytest.importorskip("insightface")


def trained(script: str, folder: Path) -> Path:
    """The models folder after two steps of a trainer."""
    models = folder / "models"
    command = [sys.executable, "-W", "ignore", f"scripts/nano/{script}", "--steps", "2"]
    command += ["--state", str(folder / "state"), "--models", str(models)]
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=root, env=environment, capture_output=True)
    return models


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return draw_portrait(Person.from_seed(3))[0]


def test_the_detector_is_an_scrfd_to_insightface(tmp_path: Path, portrait: np.ndarray) -> None:
    from insightface.model_zoo import get_model
    from insightface.model_zoo.scrfd import SCRFD

    path = trained("train_detector.py", tmp_path) / "face_encoder" / "models" / "antelopev2" / DETECTOR
    assert path.stat().st_size < 0.7e6
    detector = get_model(str(path), providers=["CPUExecutionProvider"])
    assert isinstance(detector, SCRFD)
    assert detector.use_kps
    detector.prepare(ctx_id=-1, input_size=(320, 320), det_thresh=0.0)
    boxes, landmarks = detector.detect(portrait[..., ::-1], max_num=3)
    assert boxes.shape == (3, 5)
    assert landmarks.shape == (3, 5, 2)
    assert np.isfinite(landmarks).all()


def test_the_recogniser_is_an_arcface_to_insightface(tmp_path: Path) -> None:
    from insightface.model_zoo import get_model
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX

    path = trained("train_recogniser.py", tmp_path) / "face_encoder" / "models" / "antelopev2" / RECOGNISER
    assert path.stat().st_size < 2e6
    recogniser = get_model(str(path), providers=["CPUExecutionProvider"])
    assert isinstance(recogniser, ArcFaceONNX)
    assert (recogniser.input_mean, recogniser.input_std) == (127.5, 127.5)
    assert recogniser.get_feat(np.zeros((112, 112, 3), np.uint8)).shape == (1, 512)


def test_the_parser_is_a_narrower_bisenet(tmp_path: Path) -> None:
    path = trained("train_parser.py", tmp_path) / "face_encoder" / "parsing_bisenet.pth"
    assert path.stat().st_size < 0.6e6
    labels = FaceParser.load(path).labels(np.zeros((512, 512, 3), np.uint8))
    assert labels.shape == (512, 512)


def test_the_image_encoder_is_a_siglip_of_one_layer(tmp_path: Path, portrait: np.ndarray) -> None:
    from transformers import SiglipVisionModel

    folder = trained("train_siglip.py", tmp_path) / "clip_visual_encoder"
    encoder = SiglipEncoder.load(folder)
    tokens = encoder.tokens(portrait[:512])
    assert tokens.shape == (196, 768)
    theirs = SiglipVisionModel.from_pretrained(folder, dtype=torch.float32).eval()
    from echovideo_model.face.siglip import siglip_pixels

    with torch.no_grad():
        expected = theirs(pixel_values=siglip_pixels(portrait[:512])[None]).last_hidden_state[0]
    torch.testing.assert_close(tokens, expected, rtol=1e-3, atol=1e-3)


def test_the_text_encoder_is_a_t5_that_the_library_and_hosts_read(tmp_path: Path) -> None:
    from safetensors import safe_open
    from transformers import T5EncoderModel

    command = [sys.executable, "scripts/nano/make_tokenizer.py", str(tmp_path / "models")]
    root = Path(__file__).parent.parent
    subprocess.run(command, check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    models = trained("train_text_encoder.py", tmp_path)
    encoder = TextEncoder.load(models / "text_encoder", models / "tokenizer", tokens=MAX_TOKENS)
    ours = encoder.encode(["A woman in a red hoodie waves in the snow."])
    theirs = T5EncoderModel.from_pretrained(models / "text_encoder", dtype=torch.bfloat16).eval()
    ids = encoder.tokenizer(
        "A woman in a red hoodie waves in the snow.", padding="max_length", max_length=MAX_TOKENS
    ).input_ids
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(torch.tensor([ids])).last_hidden_state)
    with safe_open(models / "text_encoder" / "model.safetensors", "pt") as file:  # what a ComfyUI host reads
        assert file.metadata()["echovideo.text_tokens"] == str(MAX_TOKENS)
        spiece = file.get_tensor("spiece_model").numpy().tobytes()
    assert spiece == (models / "tokenizer" / "spiece.model").read_bytes()
