"""What shells leave undone, and what stands behind the command's output: "~", patterns, dashes, pipes, full disks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from echovideo_model.commands import say
from echovideo_model.commands.making import _choose_targets, _paths
from echovideo_model.errors import InvalidRequest, ModelFileMissing
from tests.command_line.command import SMALL, Run, in_a_process


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_users_folder_is_meant_where_no_shell_put_it_in(
    echovideo: Run, models: Path, face: Path, workplace: Path, home: Path
) -> None:
    done = echovideo("generate", face, "--prompt", "a", *SMALL, "--output=~/film/x.mp4", "--no-contact-sheet")
    assert done.out == f"{home / 'film' / 'x.mp4'}\n"
    assert (home / "film" / "x.mp4").is_file()
    done = echovideo("generate", "~/me.png", "--prompt", "a", "--models=~/models")
    assert (done.error, list(workplace.iterdir())) == (ModelFileMissing, [])
    assert str(home / "models") in done.err
    done = echovideo("inspect", "~nobody-has-this-name/x.safetensors")
    assert done.error is ModelFileMissing


def test_the_users_folder_is_meant_in_tables_too(echovideo: Run, workplace: Path, home: Path) -> None:
    Path("jobs.jsonl").write_text('{"photos": "~/me.jpg", "prompt": "a"}\n', encoding="utf-8")
    assert f"{home / 'me.jpg'} was not found" in echovideo("batch", "jobs.jsonl").err
    home.mkdir()
    (home / "me.jpg").write_bytes(b"x")
    Path("jobs.jsonl").write_text(
        '{"photos": "~/me.jpg", "prompt": "a", "output": "~/x.mp4"}\n', encoding="utf-8"
    )
    assert "below the output folder" in echovideo("batch", "jobs.jsonl").err


@pytest.mark.parametrize("text", ["-smile", "-hat on", "-", "--- he waves", "-1 more", "-s=1"])
def test_a_prompt_may_begin_with_a_dash(
    echovideo: Run, models: Path, face: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    asked: list[str] = []

    def note(args: object, prompt: str, *_: object) -> None:
        asked.extend((prompt, args.negative_prompt))  # type: ignore[attr-defined]
        raise InvalidRequest("enough")

    monkeypatch.setattr("echovideo_model.commands.making._make_request", note)
    echovideo("generate", face, "--negative-prompt", text, "--prompt", text)
    assert asked == [text, text]


@pytest.mark.parametrize("text", ["--output", "--seed=1", "--se", "-h"])
def test_the_name_of_an_option_is_no_prompt(echovideo: Run, face: Path, text: str) -> None:
    done = echovideo("generate", face, "--prompt", text, "x.mp4")
    assert done.status == 2
    assert "argument --prompt: expected one argument" in done.err


def test_patterns_in_quotes_are_the_files_that_match(echovideo: Run, models: Path, workplace: Path) -> None:
    for name in ("b.png", "a.png", "me[1].png"):
        Image.new("RGB", (99, 99), "grey").save(name)
    done = echovideo("identity", "[ab].png", "--output", "id.safetensors")
    assert "photo 1 of 2" in done.err
    assert "of 2" not in echovideo("identity", "me[1].png", "--output", "id.safetensors").err
    done = echovideo("generate", "photos/*.jpg", "--prompt", "a")
    assert (done.error, done.err) == (
        InvalidRequest,
        'echovideo: no file matches "photos/*.jpg": check the path\n',
    )


def test_runs_at_the_same_moment_choose_different_names(workplace: Path) -> None:
    """Every one of them looks for a free name before any has written a file."""
    args = type("Arguments", (), {"no_contact_sheet": False, "output": None})()
    chosen: list[str] = []
    together = threading.Barrier(5)

    def run(count: int) -> None:
        together.wait()
        with _choose_targets(args, count) as targets:
            together.wait()
            for path in _paths(targets):
                assert path.stat().st_size == 0
                chosen.append(str(path))
            if count == 1:
                targets[0].video.write_bytes(b"video")
            together.wait()

    threads = [threading.Thread(target=run, args=(1 + number // 3,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(chosen) == 3 * 2 + 2 * 4 == len(set(chosen))
    assert sorted(os.listdir("output")) == [
        "video.mp4",
        "video_2.mp4",
        "video_3.mp4",
    ]  # nothing that is empty


def test_a_choice_that_comes_to_nothing_leaves_no_folder(workplace: Path) -> None:
    args = type("Arguments", (), {"no_contact_sheet": False, "output": None})()
    with _choose_targets(args, 2):
        assert len(os.listdir("output")) == 4
    assert list(workplace.iterdir()) == []
    Path("output").write_text("a file", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="part of the path is a file"), _choose_targets(args, 1):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_cannot_be_said_is_one_sentence_and_not_zero(models: Path) -> None:
    process = in_a_process("models", "list", stdout=os.open("/dev/full", os.O_WRONLY))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.startswith("echovideo: cannot write to standard output (No space left on device)")
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="closes as POSIX shells do")
def test_closed_streams_stop_nothing(models: Path) -> None:
    process = in_a_process("models", "list", shell="exec 0<&- 1>&- 2>&-; exec")
    assert process.wait(timeout=120) == 0


def test_whoever_stops_reading_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        say("output/video-1.mp4")
        say("output/video-2.mp4")


def test_warnings_of_pillow_are_not_for_users(echovideo: Run, models: Path) -> None:
    Image.new("RGB", (99, 99), "grey").save("odd.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12")
    done = echovideo("identity", "odd.jpg", "--output", "id.safetensors")
    assert done.err.startswith("echovideo: no face found: use a photo in which")
