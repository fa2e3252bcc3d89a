"""The folder that videos go to, here and behind a URL: whole or not at all, and what is there is known again."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from echovideo_model.batch.folder import (
    FAILURES,
    Folder,
    LocalFolder,
    MachineFault,
    RemoteFolder,
    open_folder,
)
from echovideo_model.batch.job import Job
from echovideo_model.batch.work import Clip, add_failure, encode_mp4, plan_jobs, read_failures
from echovideo_model.errors import DependencyMissing, InvalidRequest
from echovideo_model.face.choice import LARGEST
from echovideo_model.request import Request
from echovideo_model.video import is_whole

FRAMES = np.zeros((5, 32, 32, 3), np.uint8)


def job(id: str, output: str = "a/b.mp4") -> Job:
    return Job(1, (Path("me.png"),), None, LARGEST, Request("A man waves."), 16.0, output, "person", id)


@pytest.fixture(params=["here", "there"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "here":
        return open_folder(tmp_path)
    fsspec.filesystem("memory").store.clear()
    return open_folder("memory://bucket/videos")


@pytest.fixture(scope="module")
def video() -> bytes:
    return encode_mp4(Clip(FRAMES, {"prompt": "A man waves.", "job": "this"}), 16)


def test_a_place_is_a_path_or_a_url(tmp_path: Path) -> None:
    assert isinstance(open_folder(str(tmp_path)), LocalFolder)
    assert str(open_folder(f"file://{tmp_path}")) == str(tmp_path)
    assert isinstance(open_folder("memory://x"), RemoteFolder)
    with pytest.raises(InvalidRequest, match="nonsense"):
        open_folder("nonsense://x")


def test_a_package_that_a_url_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(DependencyMissing, match="s3fs"):
        open_folder("s3://bucket/videos")


def test_a_video_is_known_by_its_job(folder: Folder, video: bytes) -> None:
    folder.check()
    assert folder.list_jobs(["a/b.mp4"]) == {}
    folder.write("a/b.mp4", video)
    folder.write("other.mp4", b"no video")
    assert folder.read("a/b.mp4") == video
    assert folder.list_jobs(["a/b.mp4", "other.mp4", "none.mp4"]) == {"a/b.mp4": "this"}
    assert plan_jobs([job("this")], folder).done == 1
    assert plan_jobs([job("changed")], folder).pending


def test_a_video_cut_short_anywhere_is_not_there(folder: Folder, video: bytes) -> None:
    for length in (0, 1, 20, len(video) // 2, len(video) - 1):
        folder.write("a/b.mp4", video[:length])
        assert plan_jobs([job("this")], folder).done == 0
        assert not is_whole(io.BytesIO(video[:length]), length)
    assert is_whole(io.BytesIO(video), len(video))


def test_failures_are_kept_line_by_line(folder: Folder) -> None:
    assert read_failures(folder) == {}
    for id in ("one", "two"):
        add_failure(folder, job(id), InvalidRequest("no face: use another"))
    assert list(read_failures(folder)) == ["one", "two"]
    assert read_failures(folder)["two"]["sentence"] == "line 1: no face: use another"
    folder.append(FAILURES, '{"id": "thr')  # a kill
    assert list(read_failures(folder)) == ["one", "two"]
    plan = plan_jobs([job("one"), job("new", "c.mp4")], folder)
    assert ([one.id for one in plan.pending], plan.failed) == (["new"], 1)
    assert len(plan_jobs([job("one"), job("new", "c.mp4")], folder, retry=True).pending) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("no credentials")])
def test_what_the_store_refuses_stops_every_job(
    error: Exception, monkeypatch: pytest.MonkeyPatch, video: bytes
) -> None:
    folder = open_folder("memory://bucket/videos")

    def refuse(*given: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(type(folder.system), "pipe_file", refuse)  # type: ignore[attr-defined]
    write: Callable[[], None] = lambda: folder.write("a.mp4", video)  # noqa: E731
    for attempt in (write, folder.check, lambda: add_failure(folder, job("one"), error)):
        with pytest.raises(MachineFault, match="memory://bucket/videos"):
            attempt()


def test_a_bucket_is_never_created(monkeypatch: pytest.MonkeyPatch, video: bytes) -> None:
    """A mistyped name should be an error. With create_parents, s3fs, gcsfs and adlfs would make one of that name."""
    folder, asked = open_folder("memory://bucket/videos"), []
    folder.root = "bucket/videos"  # type: ignore[attr-defined]  # as s3fs has it, without the slash
    monkeypatch.setattr(
        type(folder.system),  # type: ignore[attr-defined]
        "mkdir",
        lambda self, path, create_parents: asked.append((path, create_parents)),
    )
    for name in ("a/b.mp4", "a/c.mp4"):
        folder.write(name, video)
    assert asked == [("bucket/videos", False), ("bucket/videos/a", False)]


def test_faces_stay_on_this_machine(folder: Folder) -> None:
    assert isinstance(folder.identities, Path)
    if isinstance(folder, RemoteFolder):
        assert folder.identities.is_dir()
