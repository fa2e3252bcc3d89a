"""Clips become examples, whatever is wrong with one of them is said, and the whole chain ends in a video."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from echovideo_model.errors import InvalidRequest
from echovideo_model.face.detect import cosine_similarity
from echovideo_model.face.photo import load_photo
from echovideo_model.identity import Identity
from echovideo_model.pipeline import Pipeline
from echovideo_model.request import Request
from echovideo_model.tiny import PORTRAITS
from echovideo_model.training import prepare as room
from echovideo_model.training.loop import train
from echovideo_model.training.prepare import Encoder, Report, prepare
from echovideo_model.training.recipe import read_recipe
from echovideo_model.vae.autoencoder import LATENT_SCALE
from echovideo_model.video import write_mp4

SIZES, LENGTHS = [(64, 64), (48, 96)], (5, 9)
CAPTION = "A man waves."


def film(
    path: Path, photo: np.ndarray, frames: int, caption: str | None = CAPTION, fps: float = 16.0
) -> None:
    """A portrait that moves to the right, two pixels a frame, over a colour that changes with time."""
    pictures = []
    for number in range(frames):
        scene = Image.new("RGB", (640, 640), (40, 60 + 4 * number, 90))
        scene.paste(Image.fromarray(photo), (20 + 2 * number, 0))
        pictures.append(np.asarray(scene))
    write_mp4(path, np.stack(pictures), fps)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    photo = load_photo(PORTRAITS[0])
    film(folder / "good.mp4", photo, 30, f"  {CAPTION}\n")
    film(folder / "more" / "double speed.mp4", load_photo(PORTRAITS[1]), 44, fps=32.0)
    film(folder / "no caption.mp4", photo, 30, caption=None)
    film(folder / "empty caption.mp4", photo, 30, caption=" \n")
    film(folder / "short.mp4", photo, 9)
    film(folder / "slow.mp4", photo, 20, fps=8.0)
    film(folder / "nobody.mp4", np.zeros((4, 4, 3), np.uint8), 30)
    whole = (folder / "good.mp4").read_bytes()
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "broken.txt").write_text(CAPTION, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(
    clips: Path, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Report]:
    output = tmp_path_factory.mktemp("prepared") / "examples"
    return output, prepare(clips, output, Encoder(pipeline), SIZES, LENGTHS)


def test_good_clips_are_ready_and_each_other_one_is_left_out_with_its_reason(
    prepared: tuple[Path, Report],
) -> None:
    output, report = prepared
    names = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.safetensors"))
    assert names == ["empty.safetensors", "good.safetensors", "more/double speed.safetensors"]
    assert len(report.examples) == 2
    reasons = dict(sentence.split(": ", 1) for sentence in report.left_out)
    assert reasons.keys() == {
        f"{name}.mp4" for name in ("broken", "empty caption", "no caption", "nobody", "short", "slow")
    }
    assert "it has no caption: write one sentence to no caption.txt" in reasons["no caption.mp4"]
    assert "is empty: write one sentence" in reasons["empty caption.mp4"]
    assert "it has 9 frames at 16 per second, but at least 14 are needed" in reasons["short.mp4"]
    assert "it has 8 frames per second" in reasons["slow.mp4"]
    assert "no face was found" in reasons["nobody.mp4"]


def test_an_example_is_what_the_pipeline_would_make_of_the_clip(
    prepared: tuple[Path, Report], pipeline: Pipeline, clips: Path
) -> None:
    example = load_file(prepared[0] / "good.safetensors")
    assert example["mean"].shape == (1, 16, 3, 8, 8)  # 9 frames of 64 x 64
    with torch.no_grad():
        text = pipeline.text_encoder.encode([CAPTION])
    torch.testing.assert_close(example["text"], text.bfloat16())
    identity = pipeline.identify(PORTRAITS[0])
    for embedding in example["id_embedding"]:
        assert cosine_similarity(embedding.numpy(), identity.id_embedding.numpy()) > 0.9
    empty = load_file(prepared[0] / "empty.safetensors")
    torch.testing.assert_close(empty["face_tokens"], identity.null_tokens.bfloat16())


def test_the_face_comes_from_a_later_moment_than_the_clip_shows(clips: Path) -> None:
    for name, stride in (("good.mp4", 1), ("more/double speed.mp4", 2)):
        shown, others = room._choose_moments(clips / name, LENGTHS)
        assert shown == [stride * index for index in range(9)]
        assert min(others) >= shown[-1] + stride * room.GAP
        assert max(others) < 44


def test_identities_differ_as_their_moments_do(prepared: tuple[Path, Report]) -> None:
    example = load_file(prepared[0] / "good.safetensors")
    assert len(example["id_embedding"]) == room.IDENTITIES
    assert not torch.equal(example["id_embedding"][0], example["id_embedding"][1])


def test_what_is_done_is_kept_and_a_new_caption_is_not_overlooked(
    prepared: tuple[Path, Report], clips: Path, pipeline: Pipeline, tmp_path: Path
) -> None:
    output, _ = prepared
    one = tmp_path / "one"
    one.mkdir()
    for suffix in (".mp4", ".txt"):
        (one / f"good{suffix}").write_bytes((clips / f"good{suffix}").read_bytes())
    example = tmp_path / "good.safetensors"
    example.write_bytes((output / "good.safetensors").read_bytes())
    before = example.stat().st_mtime_ns
    prepare(one, tmp_path, Encoder(pipeline), SIZES, LENGTHS)
    assert example.stat().st_mtime_ns == before
    (one / "good.txt").write_text("A man smiles.", encoding="utf-8")
    prepare(one, tmp_path, Encoder(pipeline), SIZES, LENGTHS)
    expected = pipeline.text_encoder.encode(["A man smiles."]).bfloat16()
    torch.testing.assert_close(load_file(example)["text"], expected, rtol=0, atol=0)


def test_a_full_disk_stops_at_once_and_leaves_nothing_half_written(
    clips: Path, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def limited(path: Path, content: bytes) -> int:
        if len(content) > 500_000:
            write(path, content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", limited)
    with pytest.raises(InvalidRequest, match="the disk is full"):
        prepare(clips, tmp_path / "out", Encoder(pipeline), SIZES, LENGTHS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["empty.safetensors"]


@pytest.mark.parametrize(
    ("sizes", "lengths", "sentence"),
    [([(60, 64)], (9,), "not 64x60"), ([(64, 64)], (10,), r"frames must be 4n \+ 1, not 10")],
)
def test_buckets_that_cannot_be_are_refused(
    clips: Path,
    pipeline: Pipeline,
    tmp_path: Path,
    sizes: list[tuple[int, int]],
    lengths: tuple[int],
    sentence: str,
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        prepare(clips, tmp_path, Encoder(pipeline), sizes, lengths)


def test_the_whole_chain_ends_in_a_video(
    prepared: tuple[Path, Report], tiny_set: Path, person: Identity, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'examples = "{prepared[0]}"\noutput = "run"\nsteps = 3\nface_latent = 0.5\n'
        f'[model]\ntransformer = "{tiny_set}/transformer"\n[optimizer]\nrate = 1e-3\n'
        f'[every]\nstats = 1\nsave = 3\nsamples = 3\n[samples]\nexamples = "{prepared[0]}"\nvae = "{tiny_set}/vae"\n'
        "count = 1\nsteps = 2\n",
        encoding="utf-8",
    )
    model = train(read_recipe(recipe), torch.device("cpu"))
    sheet = Image.open(tmp_path / "run" / "samples" / "step-0000003.png")
    assert sheet.width > sheet.height
    made = Pipeline(tiny_set, device="cpu", transformer=model / "transformer")
    result = made.generate(person, Request(CAPTION, height=64, width=64, frames=5, steps=2))
    assert result.frames.shape == (5, 64, 64, 3)
    plain = Pipeline(tiny_set, device="cpu")
    other = plain.generate(person, Request(CAPTION, height=64, width=64, frames=5, steps=2))
    assert not torch.equal(result.latents, other.latents)


def test_the_face_latent_is_the_pipelines(
    prepared: tuple[Path, Report], pipeline: Pipeline, person: Identity
) -> None:
    ours = Encoder(pipeline).person(person, 64, 64)
    noise = torch.randn(1, 16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    posterior = pipeline.encode_face(person, 64, 64, noise)
    torch.testing.assert_close(LATENT_SCALE * (ours["face_mean"] + ours["face_deviation"] * noise), posterior)
