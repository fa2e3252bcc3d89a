"""`echovideo evaluate`: one table out of whatever it is given, nothing lost, nothing measured twice."""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echovideo_model.commands import evaluate as command
from echovideo_model.errors import InvalidRequest
from echovideo_model.identity import Identity
from echovideo_model.metrics import definitions, evaluation, memory, page, report, samples
from echovideo_model.metrics.definitions import METRICS, choose_metrics
from echovideo_model.metrics.measure import Clip, Judges, Measured
from echovideo_model.metrics.report import PUBLISHED, Row
from echovideo_model.metrics.samples import Sample, describe_photo
from echovideo_model.video import describe, write_mp4
from tests.faces import PORTRAITS, drawing
from tests.judges import write_judges

OTHERS = ("dynamic_degree", "imaging_quality", "face_feature_distance")  # need packages that may not be here
QUICK = [metric.name for metric in METRICS if metric.name not in OTHERS]
PROMPT = "A woman waves."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path) -> Path:
    """The tiny set with judges beside it."""
    folder = tmp_path_factory.mktemp("judged")
    shutil.copytree(tiny_set / "face_encoder", folder / "face_encoder")
    return write_judges(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos: of the person, of another, of nobody, of one frame; a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    shutil.copy(PORTRAITS / "portrait.png", folder / "photo.png")
    pictures = {
        "right": drawing(),
        "wrong": drawing("second_portrait"),
        "nobody": np.zeros((320, 256, 3), np.uint8),
    }
    for name, picture in pictures.items():
        small = np.asarray(Image.fromarray(picture).resize((256, 320)))
        write(folder / f"{name}.mp4", np.stack([np.roll(small, 2 * step, 1) for step in range(5)]))
    write(folder / "one.mp4", np.full((1, 34, 50, 3), 90, np.uint8))
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def write(path: Path, frames: np.ndarray) -> None:
    known = {"prompt": PROMPT, "seed": "7", "steps": "3"}
    write_mp4(path, frames, 8.0, known | describe_photo(path.parent / "photo.png", path))


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["evaluate", *map(str, arguments), "--device", "cpu"])
    code: int = args.run(args)
    return code


def evaluated(output: Path) -> dict[str, dict]:
    """report.json's videos by name."""
    written = json.loads((output / "report.json").read_text("utf-8"))
    return {Path(video["video"]).stem: video for video in written["videos"]}


@pytest.fixture(scope="module")
def output(folder: Path, models: Path) -> Path:
    """A report about all of them."""
    videos = sorted(folder.glob("*.mp4"))
    assert run(*videos, "--models", models, "--output", folder / "report", "--metrics", *QUICK) == 0
    return folder / "report"


def test_the_report_separates_the_right_person_from_the_wrong_one(output: Path) -> None:
    found = evaluated(output)
    for name in ("facesim_antelopev2", "facesim_buffalo_l", "identity_average"):
        right, wrong = (found[video]["metrics"][name]["value"] for video in ("right", "wrong"))
        assert right > 0.7 > 0.4 > wrong, name


def test_every_video_has_a_row_and_what_is_missing_a_reason(output: Path) -> None:
    found = evaluated(output)
    assert found.keys() == {"right", "wrong", "nobody", "one", "broken"}
    assert "as a video" in found["broken"]["fault"]
    assert found["broken"]["metrics"] == {}
    nobody, one = found["nobody"]["metrics"], found["one"]["metrics"]
    assert nobody["facesim_buffalo_l"]["value"] == 0
    assert "counts as 0" in nobody["facesim_buffalo_l"]["note"]
    assert (nobody["identity_average"]["value"], nobody["identity_average"]["note"]) == (
        None,
        "no face in any frame",
    )
    assert nobody["temporal_flicker"]["value"] == 1
    assert (one["temporal_flicker"]["value"], one["temporal_flicker"]["note"]) == (
        None,
        "1 frame: flicker needs two",
    )
    assert one["clipscore"]["value"] is not None
    assert (found["one"]["frames"], found["one"]["width"], found["one"]["height"]) == (1, 50, 34)


def test_what_the_videos_remember_is_in_the_report(output: Path, folder: Path) -> None:
    video = evaluated(output)["right"]
    assert video["prompt"] == PROMPT
    assert video["settings"] == {"seed": "7", "steps": "3"}
    assert Path(video["photo"]) == folder / "photo.png"


def test_the_csv_has_a_line_a_video_with_the_same_numbers(output: Path) -> None:
    lines = list(csv.DictReader((output / "report.csv").open(encoding="utf-8", newline="")))
    found = evaluated(output)
    assert [Path(line["video"]).stem for line in lines] == list(found)
    for line in lines:
        for name, measured in found[Path(line["video"]).stem]["metrics"].items():
            assert line[name] == ("" if measured["value"] is None else repr(measured["value"]))
    assert "as a video" in lines[0]["notes"]


def test_the_page_stands_alone_and_shows_curves_pictures_and_what_others_published(output: Path) -> None:
    html = (output / "report.html").read_text("utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)|url\(|<script|<link', html)
    for one in PUBLISHED:
        assert one.model in html
        measured = (value for name, value in one.values.items() if name in QUICK)
        assert all(report.format_number(value) in html for value in measured)
    assert "Circular" in html
    assert "two evaluations" in html
    assert html.count("<polyline") >= 2
    assert html.count("data:image/jpeg") >= 6
    assert "1 of which cannot be read" in html


def test_a_page_shows_names_and_prompts_as_they_are(tmp_path: Path) -> None:
    row = Row(
        Sample(tmp_path / "<b>.mp4", prompt='<script>"&'),
        2,
        8.0,
        32,
        32,
        {"clipscore": Measured(None, "<i>")},
    )
    html = page.draw_page([row], choose_metrics(["clipscore"]), None)
    assert "&lt;script&gt;&quot;&amp;" in html
    assert "<script" not in html
    assert "<i>" not in html


def test_nothing_is_measured_twice(
    output: Path, folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (output / "report.json").read_bytes()

    def decode(path: Path) -> None:
        assert path.name == "broken.mp4"
        raise InvalidRequest("cannot read it as a video")

    monkeypatch.setattr(evaluation, "read_frames", decode)
    monkeypatch.setattr(Judges, "get", lambda self, name: pytest.fail(f"{name} was asked for"))
    videos = sorted(folder.glob("*.mp4"))
    assert run(*videos, "--models", models, "--output", output, "--metrics", *QUICK) == 0
    after = (output / "report.json").read_bytes()
    assert (
        evaluated(output)["right"]
        == {Path(v["video"]).stem: v for v in json.loads(before)["videos"]}["right"]
    )
    assert len(json.loads(after)["videos"]) == 5


@pytest.mark.parametrize("change", ["content", "prompt", "version", "judge"])
def test_what_has_changed_is_measured_again(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (metric,) = choose_metrics(["clipscore"])
    (tmp_path / "evaluation" / "clip-vit-base-patch32").mkdir(parents=True)
    file = tmp_path / "evaluation" / "clip-vit-base-patch32" / "model.safetensors"
    file.write_bytes(b"one")
    judges = Judges(tmp_path)
    before = memory.make_key(metric, "content", "photo", "prompt", judges)
    assert memory.make_key(metric, "content", "photo", "prompt", Judges(tmp_path)) == before
    if change == "judge":
        file.write_bytes(b"other")
    if change == "version":
        monkeypatch.setattr(memory, "VERSION", definitions.VERSION + 1)
    told = (
        "other" if change == "content" else "content",
        "photo",
        "other" if change == "prompt" else "prompt",
    )
    assert memory.make_key(metric, *told, judges) != before


def test_an_interruption_loses_one_measurement_at_most(tmp_path: Path) -> None:
    first = memory.Memory(tmp_path)
    first.keep("one", Measured(0.5, "", (0.25, None), (3, 4)))
    with (tmp_path / memory.NAME).open("a") as file:
        file.write('["two", 0.7, "", [0.')  # cut off
    second = memory.Memory(tmp_path)
    second.keep("three", Measured(None, "why"))
    third = memory.Memory(tmp_path)
    assert third.recall("one") == Measured(0.5, "", (0.25, None), (3, 4))
    assert third.recall("two") is None
    assert third.recall("three") == Measured(None, "why")


def test_a_judge_that_is_missing_names_itself_and_the_rest_is_measured(
    folder: Path, tiny_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("temporal_flicker", "identity_average", "facesim_buffalo_l", "clipscore")
    video = folder / "right.mp4"
    assert run(video, "--models", tiny_set, "--output", tmp_path, "--metrics", *names) == 0
    found = evaluated(tmp_path)["right"]["metrics"]
    assert found["temporal_flicker"]["value"] is not None
    assert found["identity_average"]["value"] > 0.7
    assert "w600k_r50.onnx" in found["facesim_buffalo_l"]["note"]
    assert "echovideo models download --only evaluation" in found["clipscore"]["note"]
    assert "clip-vit-base-patch32" in capsys.readouterr().out
    kept = (tmp_path / memory.NAME).read_text(encoding="utf-8")
    assert "download" not in kept  # it may come


def test_a_table_names_video_photo_and_prompt(folder: Path, models: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "right.mp4", tmp_path / "a.mp4")
    shutil.copy(PORTRAITS / "second_portrait.png", tmp_path / "other.png")
    rows = [
        {"video": "a.mp4", "photo": "other.png", "prompt": "a man"},
        {"video": "a.mp4", "prompt": ""},
        {"video": "absent.mp4"},
        {"video": "a.mp4", "promt": "a man"},
        {"photo": "other.png"},
        {"video": "a.mp4", "photo": "absent.png"},
    ]
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join([*map(json.dumps, rows), "{no JSON", ""]), encoding="utf-8")
    names = ("identity_average", "clipscore")
    assert run(table, "--models", models, "--output", tmp_path / "out", "--metrics", *names) == 0
    videos = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["videos"]
    assert len(videos) == 7
    assert videos[0]["metrics"]["identity_average"]["value"] < 0.4
    assert videos[1]["metrics"]["clipscore"]["note"].startswith("the prompt is empty")
    assert videos[1]["metrics"]["identity_average"]["note"].startswith(
        "no photo of the person to compare with"
    )
    for video, said in zip(
        videos[2:],
        ("absent.mp4", '"promt"', 'not an object with a "video"', "absent.png", "not JSON"),
        strict=True,
    ):
        assert said in video["fault"]


def test_ten_thousand_rows_are_ten_thousand_rows(folder: Path, models: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    row = json.dumps({"video": str(folder / "one.mp4"), "prompt": PROMPT})
    table.write_text("\n".join([row] * 9_999 + ["{}"]), encoding="utf-8")
    assert run(table, "--models", models, "--output", tmp_path / "out", "--metrics", "temporal_flicker") == 0
    assert len((tmp_path / "out" / "report.csv").read_text(encoding="utf-8").splitlines()) == 10_001
    assert (tmp_path / "out" / "report.html").stat().st_size < 3e6


def test_fid_against_a_folder_of_videos_and_pictures(folder: Path, models: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "right.mp4", tmp_path / "real.mp4")
    shutil.copy(folder / "photo.png", tmp_path / "real.png")
    arguments = (
        folder / "right.mp4",
        "--against",
        tmp_path,
        "--models",
        models,
        "--output",
        tmp_path / "out",
    )
    values = []
    for _ in range(2):
        assert run(*arguments, "--metrics", "temporal_flicker") == 0
        fid = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["fid"]
        values.append(fid["value"])
        assert "5 of our frames against 6" in fid["note"]
        assert "biased" in fid["note"]
    assert values[0] == values[1] > 0


def test_fid_needs_something_to_compare_with(folder: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="no videos or pictures"):
        run(folder / "one.mp4", "--against", tmp_path / "empty", "--models", models, "--output", tmp_path)


def test_an_identity_in_the_photo_s_place_has_one_recogniser_s_numbers(
    folder: Path, models: Path, tmp_path: Path, person: object
) -> None:
    person.save(tmp_path / "me.safetensors")
    table = tmp_path / "table.jsonl"
    table.write_text(
        json.dumps({"video": str(folder / "right.mp4"), "photo": "me.safetensors"}), encoding="utf-8"
    )
    names = ("facesim_antelopev2", "facesim_buffalo_l", "identity_average")
    assert run(table, "--models", models, "--output", tmp_path / "out", "--metrics", *names) == 0
    (video,) = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["videos"]
    assert video["metrics"]["facesim_antelopev2"]["value"] > 0.7
    assert video["metrics"]["identity_average"]["value"] > 0.7
    assert "another recogniser needs the photo" in video["metrics"]["facesim_buffalo_l"]["note"]


def test_an_identity_of_other_encoders_has_no_numbers_and_the_row_says_why(
    folder: Path, models: Path, tmp_path: Path, person: Identity
) -> None:
    replace(person, encoders="nano").save(tmp_path / "me.safetensors")
    names = ("facesim_antelopev2", "identity_average", "temporal_flicker")
    arguments = (folder / "one.mp4", folder / "right.mp4", "--photo", tmp_path / "me.safetensors")
    output = tmp_path / "out"
    assert run(*arguments, "--models", models, "--output", output, "--metrics", *names) == 0
    measured = evaluated(output)["one"]["metrics"]
    for name in names[:2]:
        assert measured[name]["value"] is None
        assert (
            "made by the face encoders nano and cannot be compared with the released face encoders"
            in measured[name]["note"]
        )
    assert evaluated(output)["right"]["metrics"]["temporal_flicker"]["value"] is not None


def test_a_photo_that_has_changed_or_gone_is_not_taken_for_the_one_that_was_used(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "photo.png", tmp_path / "photo.png")
    write(tmp_path / "video.mp4", np.zeros((2, 32, 32, 3), np.uint8))
    assert describe(tmp_path / "video.mp4").metadata["photo"] == "photo.png"
    (sample,) = samples.read_samples([tmp_path / "video.mp4"])
    assert sample.photo == tmp_path / "photo.png"
    shutil.copy(PORTRAITS / "second_portrait.png", tmp_path / "photo.png")
    (sample,) = samples.read_samples([tmp_path / "video.mp4"])
    assert sample.photo is None
    assert "has changed since the video was made" in sample.settings["note"]
    (tmp_path / "photo.png").unlink()
    (sample,) = samples.read_samples([tmp_path / "video.mp4"])
    assert "was not found at" in sample.settings["note"]
    (sample,) = samples.read_samples([tmp_path / "video.mp4"], folder / "photo.png")
    assert sample.photo == folder / "photo.png"


def test_a_video_that_is_too_large_for_memory_is_said_to_be(
    folder: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MAX_VIDEO_BYTES", 1000)
    assert (
        run(folder / "right.mp4", "--models", models, "--output", tmp_path, "--metrics", "temporal_flicker")
        == 0
    )
    assert "split it into shorter videos" in evaluated(tmp_path)["right"]["fault"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--metrics", "beauty"), 'unknown metric "beauty": choose from facesim_antelopev2'),
        (("--device", "toaster"), 'device "toaster" is not available'),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    arguments: tuple[str, ...], said: str, folder: Path, models: Path, tmp_path: Path
) -> None:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    words = ["evaluate", folder / "one.mp4", "--models", models, "--output", tmp_path, *arguments]
    args = parser.parse_args(list(map(str, words)))
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        args.run(args)


def test_a_still_video_has_dynamic_degree_0_whatever_the_flow_network_and_moving_ones_1() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    (metric,) = choose_metrics(["dynamic_degree"])
    from tests.test_metrics_motion import find_roll

    for shift, expected in ((0, 0.0), (3, 0.0), (4, 1.0)):
        frames = [np.roll(texture, shift * step, 1) for step in range(9)]
        assert metric.measure(Clip(frames, 8.0, Judges(flow=find_roll))).value == expected
