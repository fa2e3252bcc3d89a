"""Every command that README.md shows is run: here as it stands there, by .ci/run, or on a real host."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from echovideo_model import cli
from echovideo_model.identity import FaceEncoders, Identity
from echovideo_model.pipeline import Pipeline
from echovideo_model.tiny import PORTRAITS
from echovideo_model.video import read_mp4
from echovideo_model.weights import comfyui, released
from testbed.readme import README, blocks, section
from tests.http_server import Hub, Served

ROOT = Path(__file__).parents[1]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
INSTALLATIONS = (
    "In ComfyUI",
    "On the command line",
)  # the first block of each is run by scripts/test_install.sh
ON_A_HOST = ("comfy", "curl")  # run by tests/host/test_api.py
SMALL = ["--size", "64x64", "--frames", "5", "--steps", "2"]  # the released size is for the released weights
FILLED_IN = {  # the commands of README's table, with something in place of what stands for it
    "generate": ("PHOTO... --prompt TEXT", "me.jpg --prompt 'A man waves.' --output waving.mp4"),
    "batch": ("JOBS --output FOLDER", "jobs.jsonl --output videos"),
    "identity": ("PHOTO... --output me.safetensors", "me.jpg --output me.safetensors"),
    "score": ("video.mp4 me.jpg --plot curve.png", "waving.mp4 me.jpg --plot curve.png"),
    "evaluate": ("RESULT...", "waving.mp4"),
    "sign": ("FILE... --credential FILE.pem", "waving.mp4 --credential signer.pem"),
    "convert": ("SOURCE TARGET", "cache/echovideo/models/transformer one.safetensors"),
    "inspect": ("FILE", "one.safetensors"),
}


def commands(text: str) -> list[list[str]]:
    """The lines of commands in a text, as words."""
    return [
        words
        for line in text.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    ]


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def hub(tiny_set: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that has the tiny set in place of the released files, and tables that expect it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = {
        f"{file.repository}/{file.source}": Served((tiny_set / file.path).read_bytes())
        for file in released.NEEDED
    }
    for file in comfyui.HOST:  # the one-file T5 is none of the command line's
        served.setdefault(f"{file.repository}/{file.source}", Served(b"only ComfyUI reads this one"))
    for table, name in ((released, "NEEDED"), (comfyui, "HOST")):
        rows = []
        for file in getattr(table, name):
            content = served[f"{file.repository}/{file.source}"].content
            rows.append(replace(file, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
        monkeypatch.setattr(table, name, tuple(rows))
    with Hub(served) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a new user is: a photo, an empty ComfyUI, no models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ECHOVIDEO_MODELS", raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n" * 2))
    shutil.copy(PORTRAITS[0], "me.jpg")
    job = {"photos": ["me.jpg"], "prompt": "A man waves.", "width": 64, "height": 64, "frames": 5, "steps": 2}
    Path("jobs.jsonl").write_text(json.dumps(job), encoding="utf-8")
    (tmp_path / "path/to/ComfyUI/models").mkdir(parents=True)
    encoders = pipeline.face_encoders
    monkeypatch.setattr(FaceEncoders, "load", lambda folder: encoders)  # four seconds each time
    return tmp_path


def run(words: list[str], hub: Hub) -> None:
    """One line of README: what only a fast machine or the network could do is made small, or asked of the Hub here."""
    if words[0] == "cd":
        os.chdir(words[1])
        return
    added = {"generate": SMALL, "models": ["--endpoint", hub.address]}.get(words[1], [])
    if words[1:3] in (["models", "list"], ["models", "verify"]):
        added = []
    assert cli.main([*words[1:], *added]) == 0, words


def test_every_command_is_run_somewhere() -> None:
    on_a_host = (ROOT / "tests" / "host" / "test_api.py").read_text(encoding="utf-8")
    installing = [words for heading in INSTALLATIONS for words in commands(blocks(section(heading))[0])]
    installing.append(["pip", "install", "comfy-cli"])  # by scripts/test_host.sh
    installing.append(["pip", "install", "aiohttp"])  # with every host
    assert "scripts/test_install.sh" in CI
    for words in commands("".join(blocks(README))):
        program = words[0]
        assert (
            words in installing
            or program in ("cd", "echovideo")  # below
            or (program == "bash" and words[1] in CI)
            or (program in ON_A_HOST and program in on_a_host)
            or (program == "python" and Path(words[1]).name in on_a_host)
        ), " ".join(words)


def test_what_readme_says_about_models_for_comfyui_works_in_its_order(hub: Hub, folder: Path) -> None:
    for words in commands("".join(blocks(section("In ComfyUI"))[1:] + blocks(section("Memory and speed")))):
        run(words, hub)
    made = folder / "path/to/ComfyUI/models/diffusion_models/echovideo_fp8.safetensors"
    assert made.stat().st_size > 1_000_000


def test_what_readme_says_about_the_command_line_works_in_its_order(hub: Hub, folder: Path) -> None:
    for words in commands("".join(blocks(section("On the command line"))[1:])):
        run(words, hub)
    frames, *_ = read_mp4(folder / "output" / "video.mp4")
    assert len(frames) == 5


def test_every_command_of_the_table_works(hub: Hub, folder: Path) -> None:
    run(["echovideo", "models", "download"], hub)
    told = re.findall(r"^\| `echovideo (.+?)` \|", section("On the command line"), re.MULTILINE)
    assert len(told) > 5
    for line in told:
        name, _, rest = line.partition(" ")
        if name == "sign":
            if find_spec("c2pa") is None:
                continue
            from tests.test_credentials import write_signer

            write_signer(folder / "signer.pem")
        if name in FILLED_IN:
            assert rest == FILLED_IN[name][0]
            run(["echovideo", name, *shlex.split(FILLED_IN[name][1])], hub)
        elif " / " in rest:
            for action in rest.split(" / "):
                run(["echovideo", name, action], hub)
        elif name == "demo":
            continue  # by .ci/run, twice
        else:
            run(["echovideo", name, *shlex.split(rest.replace("PATH", "path/to/ComfyUI"))], hub)


def test_the_library_s_example_works(hub: Hub, folder: Path, tiny_set: Path) -> None:
    (example,) = blocks(README, "python")
    shutil.copytree(tiny_set, folder / "path/to/models")
    small = example.replace("height=480, width=848", "height=64, width=64, frames=5, steps=2")
    assert small != example
    (folder / "example.py").write_text(small, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "example.py"], cwd=folder, env=environment, check=True, timeout=300)
    frames, *_ = read_mp4(folder / "video.mp4")
    assert frames.shape[:3] == (5, 64, 64)
    assert Identity.load(folder / "me.safetensors").face_picture.shape == (512, 512, 3)
