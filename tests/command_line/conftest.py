"""Where the command is run, with which models and which face."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from echovideo_model import cli
from echovideo_model.identity import FaceEncoders, Identity
from echovideo_model.pipeline import Pipeline
from tests.command_line.command import Outcome, Run


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

        def noted(*failure: Any) -> int:
            caught.append(sys.exc_info()[0])
            return fail(*failure)

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
