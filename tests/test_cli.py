"""What `echovideo` promises: an exit status, one sentence when something is wrong, and nothing half-written."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from echovideo_model import cli, errors
from echovideo_model.errors import (
    DependencyMissing,
    FaceIndexOutOfRange,
    InvalidRequest,
    ModelFileMissing,
    NoFaceFound,
    WrongModelFile,
)
from echovideo_model.identity import FaceEncoders, Identity
from echovideo_model.pipeline import Pipeline
from echovideo_model.tiny import PORTRAITS, checkpoints
from echovideo_model.video import read_mp4

PHOTO = PORTRAITS[0]
SMALL = ("--size", "64x64", "--frames", "5", "--steps", "2")


class Outcome(NamedTuple):
    status: int
    out: str
    err: str
    error: type[BaseException] | None = None


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; caches and models are looked for in another one."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ECHOVIDEO_MODELS", raising=False)
    return work


@pytest.fixture
def echovideo(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `echovideo ARGUMENTS` in this process; `error` is the class behind a failure's sentence."""

    def run(*arguments: object) -> Outcome:
        caught: list[type[BaseException] | None] = []
        fail = cli._fail

        def noted(sentence: str, status: int) -> int:
            caught.append(sys.exc_info()[0])
            return fail(sentence, status)

        monkeypatch.setattr(cli, "_fail", noted)
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        monkeypatch.setattr(cli, "_fail", fail)
        return Outcome(status, *capfd.readouterr(), *caught)

    return run


@pytest.fixture
def models(tiny_set: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny set as the default models folder; its face encoders are loaded once for all tests."""
    monkeypatch.setenv("ECHOVIDEO_MODELS", str(tiny_set))
    encoders = pipeline.face_encoders
    monkeypatch.setattr(FaceEncoders, "load", lambda folder: encoders)
    return tiny_set


@pytest.fixture
def face(person: Identity, workplace: Path) -> Path:
    """An identity file beside the work folder: the quick way to a video."""
    path = workplace.parent / "face.safetensors"
    person.save(path)
    return path


def in_a_process(*arguments: object, code: str = "", stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """The command, or other `code`, in a process of its own."""
    start = ["-c", code] if code else ["-m", "echovideo_model"]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )


# Making videos ---------------------------------------------------------------------------------------------------


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


def test_an_identity_file_gives_the_same_video_as_the_photo_it_came_from(
    echovideo: Run, models: Path, workplace: Path
) -> None:
    assert echovideo("identity", PHOTO, "--output", "person.safetensors").out == "person.safetensors\n"
    for given, video in ((PHOTO, "photo.mp4"), ("person.safetensors", "file.mp4")):
        assert echovideo("generate", given, "--prompt", "Rain.", *SMALL, "--output", video).status == 0
    assert (workplace / "photo.mp4").read_bytes() == (workplace / "file.mp4").read_bytes()


def test_several_prompts_give_several_files_each_as_if_made_alone(
    echovideo: Run, models: Path, face: Path, workplace: Path
) -> None:
    prompts = ("--prompt", "Rain.", "--prompt", "")  # an empty one is a prompt, too
    many = echovideo("generate", face, *prompts, *SMALL, "--output", "a/many.mp4", "--no-contact-sheet")
    assert many.out == "a/many-1.mp4\na/many-2.mp4\n"
    assert echovideo("generate", face, "--prompt", "", *SMALL, "--output", "one.mp4").status == 0
    assert sorted(path.name for path in (workplace / "a").iterdir()) == ["many-1.mp4", "many-2.mp4"]
    assert (workplace / "a" / "many-2.mp4").read_bytes() == (workplace / "one.mp4").read_bytes()
    assert (workplace / "a" / "many-1.mp4").read_bytes() != (workplace / "one.mp4").read_bytes()


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
    assert echovideo("convert", source, "one.safetensors", "--weights", "bf16").out == "one.safetensors\n"
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


# Photos ----------------------------------------------------------------------------------------------------------


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


# Refusals --------------------------------------------------------------------------------------------------------

make = ("generate", PHOTO, "--prompt", "a", *SMALL)
keep = ("--output", "person.safetensors")
refusals: list[tuple[type[errors.EchoVideoError] | None, str, tuple[object, ...]]] = [
    (InvalidRequest, "50 frames cannot be made", (*make, "--frames", 50)),
    (InvalidRequest, "0 steps cannot be taken", (*make, "--steps", 0)),
    (InvalidRequest, "1001 steps cannot be taken", (*make, "--steps", 1001)),
    (InvalidRequest, "width of 481 pixels", (*make, "--size", "481x480")),
    (InvalidRequest, "height of 4096 pixels", (*make, "--size", "480x4096")),
    (InvalidRequest, "the seed -1", (*make, "--seed", -1)),
    (InvalidRequest, "strength .* not 2.0", (*make, "--strength", 2)),
    (InvalidRequest, "guidance_scale .* not nan", (*make, "--guidance-scale", "nan")),
    (InvalidRequest, "guidance 'more'", (*make, "--guidance", "more")),
    (InvalidRequest, "sampler 'euler'", (*make, "--sampler", "euler")),
    (InvalidRequest, "0.0 frames per second", (*make, "--fps", 0)),
    (InvalidRequest, "'fp4': choose fp32, fp16, bf16", (*make, "--weights", "fp4")),
    (InvalidRequest, "no device \"garbage\" .* choose .*cpu", (*make, "--device", "garbage")),
    (InvalidRequest, "must end in .mp4", (*make, "--output", "video.avi")),
    (InvalidRequest, "part of the path is a file", (*make, "--output", "text.jpg/video.mp4")),
    (InvalidRequest, "not an image", ("generate", "text.jpg", *make[2:])),
    (InvalidRequest, "no photo at nobody.jpg", ("generate", "nobody.jpg", *make[2:])),
    (InvalidRequest, "1 x 1 pixels", ("generate", "one.png", *make[2:])),
    (InvalidRequest, "20000 x 20 pixels", ("generate", "wide.png", *make[2:])),
    (InvalidRequest, "no face to choose", ("generate", "face.safetensors", *make[2:], "--face-index", 1)),
    (InvalidRequest, "stands alone", ("generate", PHOTO, "face.safetensors", *make[2:])),
    (InvalidRequest, "replace a file that was given", ("generate", "wall.png", *make[2:], "--output", "wall.mp4")),
    (NoFaceFound, "no face found .* 640, 512, 384, 320", ("generate", "wall.png", *make[2:])),
    (FaceIndexOutOfRange, "no face 1, the photo has 1", (*make, "--face-index", 1)),
    (NoFaceFound, "photo 2 of 2", ("identity", PHOTO, "wall.png", *keep)),
    (InvalidRequest, "must end in .safetensors", ("identity", PHOTO, "--output", "person.png")),
    (InvalidRequest, "would replace", ("identity", "wall.png", *keep, "--face-picture", "wall.png")),
    (InvalidRequest, "padding of -1", ("identity", PHOTO, *keep, "--padding", -1)),
    (WrongModelFile, "not an identity: id_embedding is missing", ("generate", "lora.safetensors", *make[2:])),
    (WrongModelFile, "a LoRA", (*make, "--transformer", "lora.safetensors")),
    (WrongModelFile, "cut short", (*make, "--transformer", "short.safetensors")),
    (ModelFileMissing, "no weights at nothing", (*make, "--transformer", "nothing")),
    (ModelFileMissing, "echovideo models download --models \"empty\"", (*make, "--models", "empty")),
    (ModelFileMissing, "no weights at nothing", ("inspect", "nothing")),
    (WrongModelFile, "is a LoRA: only", ("convert", "lora.safetensors", "other.safetensors")),
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
    assert done.error is error
    assert done.status == (error.exit_code if error else 2)
    assert done.out == ""
    said = [line for line in done.err.splitlines() if ": warning:" not in line]
    assert len(said) == 1
    assert said[0].startswith("echovideo")
    assert re.search(words, said[0])
    assert contents(workplace) == before


def put_odd_files(folder: Path) -> None:
    (folder / "text.jpg").write_text("not an image")
    (folder / "empty").mkdir()
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
    assert re.search(r'cannot write "output/video\.(mp4|png)": the file is larger', done.err)
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


# Stopping --------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys
from echovideo_model import cli
from echovideo_model.commands.arguments import Bars

report = Bars.__call__

def interrupting(bars, stage, done, total):
    report(bars, stage, done, total)
    if stage == at and done == 1:
        os.kill(os.getpid(), signal.SIGINT)

Bars.__call__ = interrupting
for at in ("text", "sampling", "decoding", "writing"):
    print(at, cli.main(sys.argv[1:]), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_ctrl_c_at_any_stage_ends_with_130_and_leaves_nothing(
    face: Path, workplace: Path, models: Path
) -> None:
    process = in_a_process("generate", face, "--prompt", "a", *SMALL, code=INTERRUPTED)
    out, err = process.communicate(timeout=120)
    assert out.split() == ["text", "130", "sampling", "130", "decoding", "130", "writing", "130"]
    said = [line for line in err.splitlines() if ": warning:" not in line]
    assert said == ["echovideo: cancelled; nothing half-written was left behind"] * 4
    assert list(workplace.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals as POSIX has them")
def test_ctrl_c_at_a_terminal_stops_the_command_while_its_bar_is_shown(
    face: Path, workplace: Path, models: Path
) -> None:
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    many = (*SMALL[:-1], "1000")  # steps, which take a minute
    process = in_a_process("generate", face, "--prompt", "a", *many, stderr=theirs)
    os.close(theirs)
    seen = b""
    while not re.search(rb"[1-9]\d*/1000 \[", seen):
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while more := os.read(ours, 4096):
            seen += more
    os.close(ours)
    lines = seen.decode().split("\r\n")
    assert lines[-2:] == ["echovideo: cancelled; nothing half-written was left behind", ""]
    assert any("loading transformer: 100%" in line for line in lines)
    assert list(workplace.iterdir()) == []


# What a program reads --------------------------------------------------------------------------------------------


def test_stdout_holds_the_json_and_nothing_that_a_library_has_to_say(workplace: Path, models: Path) -> None:
    process = in_a_process("generate", PHOTO, "--prompt", "a", *SMALL, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert [video["video"] for video in json.loads(out)] == ["output/video.mp4"]
    # and stderr our warnings alone: no bars where there is no terminal, no library's deprecations
    assert [line for line in err.splitlines() if not line.startswith("echovideo: warning: ")] == []


def test_whoever_stops_reading_is_not_told_of_it(models: Path) -> None:
    process = in_a_process("models", "list")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    process.stderr.close()


def test_what_the_terminal_cannot_show_is_escaped_rather_than_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from echovideo_model.commands import say

    with open("ascii.txt", "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        say("é \udcff.mp4")
    assert Path("ascii.txt").read_text() == "\\xe9 \\udcff.mp4\n"


def test_a_command_leaves_no_handler_of_its_log_behind(echovideo: Run) -> None:
    logger = logging.getLogger("echovideo_model")
    before = list(logger.handlers)
    echovideo("inspect", "nothing")
    assert logger.handlers == before


# Help ------------------------------------------------------------------------------------------------------------


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


@pytest.mark.parametrize("parser", list(parsers(cli._parser())), ids=lambda parser: parser.prog)
def test_every_command_and_every_argument_explains_itself(
    echovideo: Run, parser: argparse.ArgumentParser
) -> None:
    shown = echovideo(*parser.prog.split()[1:], "--help")
    assert shown.status == 0
    assert shown.out.startswith(f"usage: {parser.prog}")
    assert shown.err == ""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, f"{parser.prog} {action.dest}"


def test_version_is_told(echovideo: Run) -> None:
    assert re.fullmatch(r"echovideo \d+\.\d+\.\d+\n", echovideo("--version").out)


# The demonstration -----------------------------------------------------------------------------------------------


def test_the_demonstration_does_the_whole_job_once_and_says_that_the_pixels_are_noise(
    echovideo: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = []

    def noted(*arguments: Any) -> Image.Image:
        captions.append(arguments[4])
        return sheet(*arguments)

    from echovideo_model import picture

    sheet = picture.contact_sheet
    monkeypatch.setattr(picture, "contact_sheet", noted)
    done = echovideo("demo", "--output", "here", "--prompt", "A woman laughs.")
    assert done.status == 0
    assert done.err == ""
    assert "The pixels are noise" in done.out
    assert "The pixels are noise" in captions[0]
    made = {path.name: path for path in (workplace / "here").iterdir()}
    assert set(made) == {"video.mp4", "contact-sheet.png", "identity.safetensors"}
    for path in made:
        assert f"here/{path}" in done.out
    frames, _, metadata = read_mp4(made["video.mp4"])
    assert len(frames) == 33
    assert metadata["prompt"] == "A woman laughs."
    assert "The pixels are noise" in metadata["note"]
    Identity.load(made["identity.safetensors"])
    assert [path.name for path in workplace.iterdir()] == ["here"]

    # A second time, the models are there already.
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "files", lambda: pytest.fail("the models are written again"))
    monkeypatch.setattr(Pipeline, "generate", stop)
    assert echovideo("demo").status == 130
