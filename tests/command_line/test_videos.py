"""Photos of every kind, identities and prompts become videos; the demonstration shows it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from echovideo_model.errors import InvalidRequest, ModelFileMissing
from echovideo_model.face.detect import FaceDetector
from echovideo_model.facts import ModelFacts
from echovideo_model.files import hash_file
from echovideo_model.identity import Identity, find_face
from echovideo_model.metrics.identity import score
from echovideo_model.nano import PORTRAITS as NANO_PORTRAITS
from echovideo_model.nano import models as nano_models
from echovideo_model.video import read_mp4
from echovideo_model.weights.loading import convert
from tests.command_line.command import PHOTO, SMALL, Run


def test_a_photo_and_a_prompt_become_a_video_that_remembers_them_and_a_contact_sheet(
    echovideo: Run, models: Path, workplace: Path
) -> None:
    done = echovideo("generate", PHOTO, "--prompt", "A man waves.", *SMALL, "--seed", 7, "--fps", 8)
    assert (done.status, done.out) == (0, "output/video.mp4\noutput/video.png\n")
    frames, fps, metadata = read_mp4(workplace / "output" / "video.mp4")
    assert frames.shape == (5, 64, 64, 3)
    assert fps == 8
    assert metadata["prompt"] == "A man waves."
    assert (metadata["seed"], metadata["steps"], metadata["guidance_scale"]) == ("7", "2", "6.0")
    with Image.open(workplace / "output" / "video.png") as sheet:
        assert sheet.format == "PNG"
    assert "warning: 64x64 is not one of the sizes" in done.err


@pytest.mark.parametrize(("option", "told"), [((), True), (("--no-ai-tag",), False)])
def test_video_and_sheet_say_that_ai_made_them_unless_told_not_to(
    echovideo: Run, models: Path, face: Path, workplace: Path, option: tuple[str, ...], told: bool
) -> None:
    assert echovideo("generate", face, "--prompt", "Rain.", *SMALL, *option).status == 0
    for name in ("video.mp4", "video.png"):
        content = (workplace / "output" / name).read_bytes()
        assert (b"digitalsourcetype/trainedAlgorithmicMedia" in content) == told


def test_video_and_sheet_are_signed_with_the_user_s_certificate(
    echovideo: Run, models: Path, face: Path, workplace: Path
) -> None:
    pytest.importorskip("c2pa", reason='needs c2pa-python: pip install ".[credentials]"')
    from tests.test_credentials import read_credential, write_signer

    signer = write_signer(workplace / "signer.pem")
    make = ("generate", face, "--prompt", "Rain.", *SMALL, "--credential")
    assert echovideo(*make, signer).status == 0
    for name in ("video.mp4", "video.png"):
        assert read_credential(workplace / "output" / name)[0] == "Valid"
    done = echovideo(*make, face)
    assert (done.status, done.error) == (2, InvalidRequest)
    assert not (workplace / "output" / "video_2.mp4").exists()


def test_a_video_whose_signature_fails_is_kept_and_said_to_be_unsigned(
    echovideo: Run, models: Path, face: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa", reason='needs c2pa-python: pip install ".[credentials]"')
    from echovideo_model.credentials import Credential
    from tests.test_credentials import read_credential, write_signer

    signer, sign = write_signer(workplace / "signer.pem"), Credential.sign

    def expire(credential: Credential, path: Path, *more: str) -> None:
        if path.suffix == ".png":
            raise InvalidRequest("the certificate has expired")
        sign(credential, path, *more)

    monkeypatch.setattr(Credential, "sign", expire)
    done = echovideo("generate", face, "--prompt", "Rain.", *SMALL, "--credential", signer)
    assert (done.status, done.error) == (2, InvalidRequest)
    sheet = Path("output", "video.png")
    assert f"{sheet} is complete but not signed" in done.err
    assert "`echovideo sign`): the certificate has expired" in done.err
    monkeypatch.undo()
    assert read_credential(workplace / "output" / "video.mp4")[0] == "Valid"
    assert echovideo("sign", workplace / sheet, "--credential", workplace / signer).status == 0
    assert read_credential(workplace / sheet)[0] == "Valid"


def same(one: Path, other: Path) -> bool:
    """Whether two videos are equal but for where they found the person."""
    (frames, *facts, metadata), (frames_2, *facts_2, metadata_2) = read_mp4(one), read_mp4(other)
    kept = [{k: v for k, v in m.items() if not k.startswith("photo")} for m in (metadata, metadata_2)]
    return np.array_equal(frames, frames_2) and facts == facts_2 and kept[0] == kept[1]


def test_an_identity_file_gives_the_same_video_as_the_photo_it_came_from(
    echovideo: Run, models: Path, workplace: Path
) -> None:
    assert echovideo("identity", PHOTO, "--output", "person.safetensors").out == "person.safetensors\n"
    for given, video in ((PHOTO, "photo.mp4"), ("person.safetensors", "file.mp4")):
        assert echovideo("generate", given, "--prompt", "Rain.", *SMALL, "--output", video).status == 0
    assert same(workplace / "photo.mp4", workplace / "file.mp4")
    assert read_mp4(workplace / "photo.mp4")[2]["photo_sha256"] == hash_file(Path(PHOTO))
    assert read_mp4(workplace / "file.mp4")[2]["photo"] == "person.safetensors"


def test_several_prompts_give_several_files_each_as_if_made_alone(
    echovideo: Run, models: Path, face: Path, workplace: Path
) -> None:
    prompts = ("--prompt", "Rain.", "--prompt", "")  # an empty one is a prompt, too
    many = echovideo("generate", face, *prompts, *SMALL, "--output", "a/many.mp4", "--no-contact-sheet")
    assert many.out == "a/many-1.mp4\na/many-2.mp4\n"
    assert echovideo("generate", face, "--prompt", "", *SMALL, "--output", "one.mp4").status == 0
    assert sorted(path.name for path in (workplace / "a").iterdir()) == ["many-1.mp4", "many-2.mp4"]
    assert same(workplace / "a" / "many-2.mp4", workplace / "one.mp4")
    assert not same(workplace / "a" / "many-1.mp4", workplace / "one.mp4")


def test_without_a_name_nothing_is_replaced_and_with_one_it_is(
    echovideo: Run, models: Path, face: Path, workplace: Path
) -> None:
    def made(*arguments: object, prompts: int = 1) -> list[str]:
        said = echovideo("generate", face, *("--prompt", "a") * prompts, *SMALL, *arguments)
        assert said.status == 0
        return said.out.split()

    assert made() == ["output/video.mp4", "output/video.png"]
    first = {path: path.read_bytes() for path in (workplace / "output").iterdir()}
    assert made("--seed", 7) == ["output/video_2.mp4", "output/video_2.png"]
    (workplace / "output" / "video_3.png").write_text("somebody's picture", encoding="utf-8")
    assert made() == ["output/video_4.mp4", "output/video_4.png"]
    assert made("--no-contact-sheet") == ["output/video_3.mp4"]
    assert (workplace / "output" / "video_3.png").read_text(encoding="utf-8") == "somebody's picture"
    assert {path: path.read_bytes() for path in first} == first
    (workplace / "output" / "video-2.mp4").write_text("in the way", encoding="utf-8")
    assert made("--no-contact-sheet", prompts=2) == ["output/video_2-1.mp4", "output/video_2-2.mp4"]
    made("--output", "output/video.mp4", "--seed", 7)
    assert (workplace / "output" / "video.mp4").read_bytes() == (
        workplace / "output" / "video_2.mp4"
    ).read_bytes()


def test_json_is_one_value_with_all_that_was_made(echovideo: Run, models: Path, face: Path) -> None:
    done = echovideo("generate", face, "--prompt", "a", "--prompt", "b", *SMALL, "--json", "--no-face-latent")
    made = json.loads(done.out)
    assert [video["video"] for video in made] == ["output/video-1.mp4", "output/video-2.mp4"]
    assert [video["contact_sheet"] for video in made] == ["output/video-1.png", "output/video-2.png"]
    assert [video["settings"]["prompt"] for video in made] == ["a", "b"]
    assert made[0]["settings"]["face_latent"] is False
    assert made[0]["fps"] == 16
    assert set(made[0]["seconds"]) == {"text", "face latent", "sampling", "decoding"}


def test_a_prompt_of_5000_words_works_and_says_what_was_cut(
    echovideo: Run, models: Path, face: Path, workplace: Path
) -> None:
    prompt = " ".join(f"word{number}" for number in range(5000))
    done = echovideo("generate", face, "--prompt", prompt, *SMALL)
    assert done.status == 0
    (said,) = (line for line in done.err.splitlines() if "prompt" in line)
    assert "longer than 226 tokens" in said
    assert "word60" in said  # the first words that are cut, and how many there are
    assert "words)" in said
    assert read_mp4(workplace / "output" / "video.mp4")[2]["prompt"] == prompt


def test_weights_can_be_converted_inspected_and_used(
    echovideo: Run, models: Path, face: Path, workplace: Path
) -> None:
    source = models / "transformer"
    assert (
        echovideo("convert", source, "one.safetensors", "--weight-dtype", "bf16").out == "one.safetensors\n"
    )
    found = json.loads(echovideo("inspect", "one.safetensors", "--json").out)
    assert (found["family"], found["complete"]) == ("EchoVideo transformer", True)
    assert found["dtypes"] == {"bfloat16": found["parameters"]}
    in_words = echovideo("inspect", "one.safetensors").out
    assert "EchoVideo transformer" in in_words
    assert f"{found['parameters']:,}" in in_words
    index = "folder/diffusion_pytorch_model.safetensors.index.json"
    assert echovideo("convert", "one.safetensors", "folder").out == f"{index}\n"
    made = echovideo("generate", face, "--prompt", "a", *SMALL, "--transformer", "folder")
    assert made.status == 0


def grey_16_bit(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("grey.png", lambda picture: picture.convert("L")),
        ("transparent.png", lambda picture: picture.convert("RGBA")),
        ("16-bit.png", grey_16_bit),
        ("cmyk.jpg", lambda picture: picture.convert("CMYK")),
        ("palette.gif", lambda picture: picture.convert("P")),
    ],
)
def test_photos_of_every_kind_work(
    echovideo: Run, models: Path, name: str, change: Callable[[Image.Image], Image.Image]
) -> None:
    with Image.open(PHOTO) as picture:
        change(picture.convert("RGB")).save(name)
    done = echovideo("identity", name, "--output", "person.safetensors", "--face-picture", "face.png")
    assert done.status == 0
    with Image.open("face.png") as picture:
        assert picture.size == (512, 512)


def test_a_photo_that_says_how_to_turn_it_is_turned(echovideo: Run, models: Path, person: Identity) -> None:
    exif = Image.Exif()
    exif[274] = 6  # orientation: to be turned to the right
    with Image.open(PHOTO) as picture:
        picture.convert("RGB").transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    assert echovideo("identity", "turned.png", "--output", "person.safetensors").status == 0
    assert person.similarity(Identity.load("person.safetensors").id_embedding) > 0.999


@pytest.fixture
def nano(tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny set in the place of the nano model, and as quick: 64 x 64 pixels, 5 frames."""
    folder = tmp_path / "nano"
    shutil.copytree(tiny_set, folder)
    plain = tmp_path / "plain.safetensors"
    convert(tiny_set / "transformer", plain, "file")
    facts = ModelFacts(sizes=((64, 64),), size=(64, 64), frames=5, fps=8.0, guidance="constant")
    save_file(load_file(plain), folder / "transformer.safetensors", {"format": "pt", **facts.metadata()})
    monkeypatch.setattr(nano_models, "FOLDER", folder)
    monkeypatch.setattr(nano_models, "FILES", {"vae": "diffusion_pytorch_model.safetensors"})
    return folder


def test_the_demonstration_does_the_whole_job_and_says_who_is_seen(
    echovideo: Run, workplace: Path, nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = []

    def noted(*arguments: Any) -> Image.Image:
        captions.append(arguments[4])
        return sheet(*arguments)

    from echovideo_model import picture

    sheet = picture.draw_contact_sheet
    monkeypatch.setattr(picture, "draw_contact_sheet", noted)
    prompt = "A woman waves in the snow."
    done = echovideo("demo", "--photo", PHOTO, "--output", "here", "--prompt", prompt, "--seed", 4)
    assert (done.status, done.err) == (0, "")
    for said in (done.out, captions[0]):
        assert "Drawn people, from a model of" in said
        assert "enlarged 3 times from 64 x 64 pixels" in said
    made = {path.name: path for path in (workplace / "here").iterdir()}
    assert set(made) == {"video.mp4", "contact-sheet.png", "identity.safetensors"}
    for path in made:
        assert f"here/{path}" in done.out
    frames, fps, metadata = read_mp4(made["video.mp4"])
    assert frames.shape[:3] == (5, 192, 192)
    assert fps == 8
    assert (metadata["prompt"], metadata["seed"]) == (prompt, "4")
    Identity.load(made["identity.safetensors"])
    assert [path.name for path in workplace.iterdir()] == ["here"]


def test_the_demonstration_names_words_it_does_not_know(echovideo: Run, workplace: Path, nano: Path) -> None:
    done = echovideo("demo", "--prompt", "A lady smiles in a gardn.")
    assert done.error is InvalidRequest
    assert 'does not know "gardn": did you mean garden?' in done.err
    done = echovideo("demo", "--prompt", "Una signora.")
    assert "A man in a red hoodie waves in the snow." in done.err
    assert not list(workplace.iterdir())


def test_the_demonstration_without_its_model_says_what_is_missing(
    echovideo: Run, workplace: Path, nano: Path
) -> None:
    (nano / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    done = echovideo("demo")
    assert (done.status, done.error) == (3, ModelFileMissing)
    assert "vae/diffusion_pytorch_model.safetensors is missing" in done.err


def test_generate_takes_size_length_and_speed_from_the_model(
    echovideo: Run, workplace: Path, nano: Path
) -> None:
    done = echovideo("generate", PHOTO, "--prompt", "A man waves.", "--steps", 1, "--models", nano, "--json")
    assert (done.status, done.err) == (0, "")
    (made,) = json.loads(done.out)
    assert made["fps"] == 8
    settings = made["settings"]
    assert (settings["height"], settings["width"], settings["frames"]) == (64, 64, 5)
    assert settings["guidance"] == "constant"


@pytest.mark.skipif(
    not (nano_models.FOLDER / "transformer").is_dir(), reason="the nano model's files are not there yet"
)
def test_the_demonstration_shows_the_person_in_the_portrait(echovideo: Run, workplace: Path) -> None:
    assert echovideo("demo", "--output", "here").status == 0
    detector = FaceDetector(nano_models.FOLDER / "face_encoder")
    frames, *_ = read_mp4(workplace / "here" / "video.mp4")
    person = Identity.load(workplace / "here" / "identity.safetensors")
    own = score(frames, person.id_embedding.numpy(), detector).mean
    stranger = find_face(NANO_PORTRAITS[1], detector).face.embedding
    other = score(frames, stranger, detector).mean
    assert own is not None
    assert other is not None
    assert own > max(0.4, other + 0.2)
