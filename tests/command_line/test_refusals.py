"""What cannot be done: an exit status, one sentence, and nothing half-written."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from echovideo_model import errors
from echovideo_model.errors import (
    DependencyMissing,
    FaceIndexOutOfRange,
    InvalidRequest,
    ModelFileMissing,
    NoFaceFound,
    WrongModelFile,
)
from echovideo_model.pipeline import Pipeline
from tests.command_line.command import PHOTO, SMALL, Run

make = ("generate", PHOTO, "--prompt", "a", *SMALL)
keep = ("--output", "person.safetensors")
whole = ("identity", PHOTO, *keep, "--picture", "person")
refusals: list[tuple[type[errors.EchoVideoError] | None, str, tuple[object, ...]]] = [
    (InvalidRequest, "frames must be 4n \\+ 1 .*, not 50", (*make, "--frames", 50)),
    (InvalidRequest, "steps must be from 1 to 1000 .*, not 0", (*make, "--steps", 0)),
    (InvalidRequest, "steps must be from 1 to 1000 .*, not 1001", (*make, "--steps", 1001)),
    (InvalidRequest, "width must be a multiple of 16 .*, not 481", (*make, "--size", "481x480")),
    (InvalidRequest, "height must be a multiple of 16 .*, not 8192", (*make, "--size", "480x8192")),
    (InvalidRequest, "seed must be .*, not -1", (*make, "--seed", -1)),
    (InvalidRequest, "strength .* not 2.0", (*make, "--strength", 2)),
    (InvalidRequest, "guidance_scale .* not nan", (*make, "--guidance-scale", "nan")),
    (InvalidRequest, "guidance 'more'", (*make, "--guidance", "more")),
    (InvalidRequest, "sampler 'euler'", (*make, "--sampler", "euler")),
    (InvalidRequest, "frames per second must be .*, not 0.0", (*make, "--fps", 0)),
    (InvalidRequest, "'fp4': choose fp32, fp16, bf16", (*make, "--weight-dtype", "fp4")),
    (InvalidRequest, "device \"garbage\" is not available here: choose .*cpu", (*make, "--device", "garbage")),
    (InvalidRequest, "--ranks must be at least 1, not 0", (*make, "--ranks", 0)),
    (InvalidRequest, "3 ranks cannot share the model's 2 attention heads .* 1, 2, 4", (*make, "--ranks", 3)),
    (InvalidRequest, "must end in .mp4", (*make, "--output", "video.avi")),
    (InvalidRequest, "part of the path is a file", (*make, "--output", "text.jpg/video.mp4")),
    (InvalidRequest, "not an image", ("generate", "text.jpg", *make[2:])),
    (InvalidRequest, "no photo at nobody.jpg", ("generate", "nobody.jpg", *make[2:])),
    (InvalidRequest, "1 x 1 pixels", ("generate", "one.png", *make[2:])),
    (InvalidRequest, "20000 x 20 pixels", ("generate", "wide.png", *make[2:])),
    (InvalidRequest, "no face to choose", ("generate", "face.safetensors", *make[2:], "--face-index", 1)),
    (InvalidRequest, "not both", ("generate", PHOTO, "face.safetensors", *make[2:])),
    (InvalidRequest, "overwrite an input file", ("generate", "wall.png", *make[2:], "--output", "wall.mp4")),
    (InvalidRequest, "--mask wall.png needs --picture person", (*make, "--mask", "wall.png")),
    (InvalidRequest, "picture is already made", ("generate", "face.safetensors", *make[2:], "--picture", "person")),
    (InvalidRequest, "nothing in .* is transparent, .* give a mask", ("identity", PHOTO, *keep, "--picture", "person")),
    (InvalidRequest, "one mask for each photo: 1, not 2", (*whole, *("--mask", "wall.png") * 2)),
    (InvalidRequest, "the mask has 400 x 300 pixels and the photo", (*whole, "--mask", "wall.png")),
    (InvalidRequest, "text.jpg is not an image", (*whole, "--mask", "text.jpg")),
    (InvalidRequest, "would overwrite", ("identity", PHOTO, *keep, "--mask", "wall.png", "--face-picture", "wall.png")),
    (NoFaceFound, "no face found: .* 640, 512, 384, 320", ("generate", "wall.png", *make[2:])),
    (FaceIndexOutOfRange, "choose index 0, not 1", (*make, "--face-index", 1)),
    (NoFaceFound, "photo 2 of 2", ("identity", PHOTO, "wall.png", *keep)),
    (InvalidRequest, "must end in .safetensors", ("identity", PHOTO, "--output", "person.png")),
    (InvalidRequest, "would overwrite", ("identity", "wall.png", *keep, "--face-picture", "wall.png")),
    (InvalidRequest, "padding must be from 0 to 1 .*, not -1", ("identity", PHOTO, *keep, "--padding", -1)),
    (WrongModelFile, "not an identity: id_embedding is missing", ("generate", "lora.safetensors", *make[2:])),
    (WrongModelFile, "a LoRA", (*make, "--transformer", "lora.safetensors")),
    (WrongModelFile, "truncated", (*make, "--transformer", "short.safetensors")),
    (ModelFileMissing, "no weights at nothing", (*make, "--transformer", "nothing")),
    (ModelFileMissing, "echovideo models download --models \"empty\"", (*make, "--models", "empty")),
    (ModelFileMissing, "looks like ComfyUI's models folder", (*make, "--models", "ComfyUI/models")),
    (ModelFileMissing, "no weights at nothing", ("inspect", "nothing")),
    (WrongModelFile, "wall.png is not a weight file", ("inspect", "wall.png")),
    (WrongModelFile, "is a LoRA: choose", ("convert", "lora.safetensors", "other.safetensors")),
    (InvalidRequest, "as a video", ("score", "text.jpg", PHOTO)),
    (None, "--prompt", ("generate", PHOTO)),
    (None, "'481' is not WIDTHxHEIGHT", (*make, "--size", "481")),
    (None, "invalid int value: '4.5'", (*make, "--frames", "4.5")),
    (None, "COMMAND", ()),
    (None, "ACTION", ("models",)),
]  # fmt: skip


@pytest.mark.parametrize(("error", "words", "arguments"), refusals, ids=[words for _, words, _ in refusals])
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing_behind(
    echovideo: Run,
    models: Path,
    workplace: Path,
    error: type[errors.EchoVideoError] | None,
    words: str,
    arguments: tuple[object, ...],
) -> None:
    put_odd_files(workplace)
    before = contents(workplace)
    done = echovideo(*arguments)
    assert done.error is error or (error and issubclass(done.error, error))
    assert done.status == (error.exit_code if error else 2)
    assert done.out == ""
    said = [line for line in done.err.splitlines() if ": warning:" not in line]
    assert len(said) == 1
    assert said[0].startswith("echovideo")
    assert re.search(words, said[0])
    assert contents(workplace) == before


def put_odd_files(folder: Path) -> None:
    (folder / "text.jpg").write_text("not an image", encoding="utf-8")
    (folder / "empty").mkdir()
    for name in ("diffusion_models", "text_encoders", "vae"):
        (folder / "ComfyUI" / "models" / name).mkdir(parents=True)
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    Image.new("RGB", (20000, 20)).save(folder / "wide.png")
    Image.new("RGB", (400, 300), "grey").save(folder / "wall.png")
    save_file({"a.lora_A.weight": torch.zeros(4, 4)}, folder / "lora.safetensors")
    (folder / "short.safetensors").write_bytes((folder / "lora.safetensors").read_bytes()[:-9])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def with_nan(models: Path) -> Path:
    """The transformer as one file, a single weight of it spoilt."""
    state = {
        name: tensor
        for shard in (models / "transformer").glob("*.safetensors")
        for name, tensor in load_file(shard).items()
    }
    state["proj_out.weight"][1, 2] = float("nan")
    save_file(state, "../spoilt.safetensors")
    return Path("../spoilt.safetensors")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_nan, "holds NaN or infinity in proj_out.weight"),
        (lambda models: models / "vae", "not the EchoVideo transformer but a CogVideoX VAE"),
    ],
)
def test_a_transformer_that_is_none_or_is_damaged_is_one_sentence(
    echovideo: Run, models: Path, face: Path, workplace: Path, spoil: Callable[[Path], Path], words: str
) -> None:
    done = echovideo("generate", face, "--prompt", "a", *SMALL, "--transformer", spoil(models))
    assert (done.status, done.error) == (2, WrongModelFile)
    assert words in done.err.splitlines()[-1]
    assert list(workplace.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
@pytest.mark.parametrize(
    ("command", "name"),
    [(make, "video.mp4"), (("identity", PHOTO), "person.safetensors"), (("demo",), "new")],
)
def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(
    echovideo: Run, models: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[object, ...], name: str
) -> None:
    monkeypatch.setattr(Pipeline, "__init__", lambda *_, **__: pytest.fail("work has begun"))
    done = echovideo(*command, "--output", f"/proc/self/new/{name}")
    assert (done.status, done.error) == (2, InvalidRequest)
    assert done.err.startswith(f'echovideo: cannot write "/proc/self/new/{name}')
    assert done.out == ""


@pytest.mark.parametrize("limit", [6_000, 200_000])
def test_a_disk_that_fills_up_leaves_nothing_half_written(
    echovideo: Run, models: Path, face: Path, workplace: Path, limit: int
) -> None:
    resource = pytest.importorskip("resource")  # a limit to the size of files, for want of a full disk
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        done = echovideo("generate", face, "--prompt", "a", *SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.status, done.error) == (2, InvalidRequest)
    assert re.search(r'cannot write "output/video\.(mp4|png)": the file exceeds', done.err)
    whole = [
        path for path in workplace.rglob("*") if path.is_file()
    ]  # the video, where only the sheet is too large
    assert [path.name for path in whole] == ([] if limit < 10_000 else ["video.mp4"])


def test_a_package_that_is_missing_is_3_and_the_command_that_installs_it(
    echovideo: Run, tiny_set: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    done = echovideo("identity", PHOTO, *keep, "--models", tiny_set)
    assert (done.status, done.error) == (3, DependencyMissing)
    assert '-m pip install "insightface>=1.0" onnxruntime' in done.err
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99"),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_one_sentence_and_a_fault_of_ours_is_not_hidden_as_one(
    echovideo: Run, models: Path, face: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(raised: Exception) -> None:
        def generate_all(*_: object) -> Iterator[object]:
            raise raised
            yield

        monkeypatch.setattr(Pipeline, "generate_all", generate_all)

    arguments = ("generate", face, "--prompt", "a", *SMALL)
    fail(error)
    done = echovideo(*arguments)
    assert done.status == 2
    assert done.err.startswith("echovideo: out of memory: choose a smaller --size")
    assert done.err.count("\n") == 1
    fail(RuntimeError("the size of tensor a must match the size of tensor b"))
    with pytest.raises(RuntimeError, match="must match"):
        echovideo(*arguments)
