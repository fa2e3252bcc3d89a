"""A table of jobs: what is wrong is named with its line, what is done is never made again, and nothing is lost."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from echovideo_model import cli
from echovideo_model.batch.folder import FAILURES, IDENTITIES, open_folder
from echovideo_model.batch.job import EXAMPLE, read_jobs
from echovideo_model.batch.work import add_failure
from echovideo_model.errors import InvalidRequest
from echovideo_model.facts import ModelFacts
from echovideo_model.identity import Identity
from echovideo_model.pipeline import Pipeline
from echovideo_model.request import Request
from echovideo_model.tiny import PORTRAITS
from echovideo_model.video import describe, read_mp4, write_mp4
from echovideo_model.weights.merging import Lora
from testbed.checkpoints import write_lora

SMALL = {"height": 32, "width": 32, "frames": 1, "steps": 1}
ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, portrait in zip(("me.png", "you.png"), PORTRAITS, strict=True):
        shutil.copy(portrait, tmp_path / name)
    Image.new("RGB", (64, 64), "#777777").save(tmp_path / "wall.png")
    return tmp_path


def write(folder: Path, rows: list[dict[str, Any]], name: str = "jobs.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def job(photo: str = "me.png", prompt: str = "A man waves.", **changed: Any) -> dict[str, Any]:
    return {"photos": [photo], "prompt": prompt, **SMALL, **changed}


def run(table: Path, output: Path | str, models: Path, *more: str) -> int:
    return cli.main(
        ["batch", str(table), "--output", str(output), "--models", str(models), "--device", "cpu", *more]
    )


WRONG = {
    "not JSON": ("{", "is not JSON"),
    "cut short": ('{"prompt": "x"', "Expecting ',' delimiter at column 15"),
    "not an object": ("[1]", "not a JSON object but list"),
    "an unknown setting": (json.dumps(job(stepz=3)), 'unknown setting "stepz"; did you mean steps?'),
    "prompt is missing": (json.dumps({"photos": ["me.png"]}), "prompt is missing"),
    "nobody": (json.dumps({"prompt": "x"}), "photos or an identity"),
    "two persons": (json.dumps(job(identity="me.png")), "photos or an identity"),
    "no photo": (json.dumps(job("gone.png")), "gone.png was not found"),
    "a wrong value": (json.dumps(job(frames=50)), "50"),
    "a text in place of a number": (json.dumps(job(steps="many")), "many"),
    "a face that has no order": (json.dumps(job(face_order="tallest")), "tallest"),
    "a way out": (json.dumps(job(output="../a.mp4")), "../a.mp4"),
    "another format": (json.dumps(job(output="a.gif")), "a.gif"),
    "fps": (json.dumps(job(fps=0)), "fps"),
    "photos that are none": (json.dumps(job() | {"photos": 3}), "3"),
    "an unknown picture": (json.dumps(job(picture="body")), "picture must be face or person, not 'body'"),
    "masks for a face": (json.dumps(job(masks=["me.png"])), 'masks need the picture "person"'),
    "a mask too many": (json.dumps(job(picture="person", masks=["me.png"] * 2)), "one mask for each photo: 1, not 2"),
    "no mask": (json.dumps(job(picture="person", masks=["gone.png"])), "gone.png was not found"),
    "a picture of an identity": (
        json.dumps({"identity": "me.png", "prompt": "x", "picture": "face"}), "leave out picture, masks"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_line(folder: Path, case: str) -> None:
    line, words = WRONG[case]
    path = folder / "jobs.jsonl"
    path.write_text("\n".join(["", json.dumps(job(seed=1)), line]), "utf-8")
    with pytest.raises(InvalidRequest, match="line 3") as caught:
        read_jobs(path)
    assert words in str(caught.value)


def test_two_jobs_cannot_write_one_file(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r'lines 1 and 2 both write "a\.mp4"'):
        read_jobs(write(folder, [job(output="a.mp4"), job(output="a.mp4", seed=2)]))
    with pytest.raises(InvalidRequest, match="lines 1 and 2"):  # the same job twice, without names
        read_jobs(write(folder, [job(), job()]))
    with pytest.raises(InvalidRequest, match="lines 1 and 2"):  # one file on Windows and macOS
        read_jobs(write(folder, [job(output="A.mp4"), job(output="a.mp4", seed=2)]))


def test_photos_of_a_table_that_comes_through_a_pipe_are_looked_for_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(job()) + "\n")
    try:
        assert read_jobs(f"/dev/fd/{ours}")[0].photos == (Path("me.png"),)
    finally:
        os.close(ours)


def test_csv_says_the_same(folder: Path) -> None:
    rows = [job(seed=3, face_latent=False, guidance_scale=2.5, output="a.mp4"), job("you.png", seed=4)]
    rows.append({**job(picture="person"), "photos": ["me.png", "you.png"], "masks": ["you.png", "me.png"]})
    with (folder / "jobs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, sorted({key for row in rows for key in row}))
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {key: ";".join(row[key]) for key in ("photos", "masks") if key in row})
    assert [one.id for one in read_jobs(folder / "jobs.csv")] == [
        one.id for one in read_jobs(write(folder, rows))
    ]


def test_a_byte_order_mark_is_no_part_of_a_table(folder: Path) -> None:
    table = folder / "jobs.jsonl"
    table.write_text(json.dumps(job()), "utf-8-sig")  # as Windows' Notepad writes it
    assert len(read_jobs(table)) == 1


def test_a_job_is_its_content(folder: Path) -> None:
    (first,) = read_jobs(write(folder, [job()]))
    shutil.copy(folder / "me.png", folder / "same.png")
    (same,) = read_jobs(write(folder, [job("same.png", output="named.mp4")]))
    assert first.id == same.id
    others = [job(seed=1), job("you.png"), job(prompt="A man nods."), job(fps=8), job(padding=0.1)]
    others += [job(picture="person"), job(picture="person", masks=["me.png"])]
    assert len({one.id for one in read_jobs(write(folder, [job(), *others]))}) == 8
    (face,) = read_jobs(write(folder, [job(picture="face")]))
    assert face.id == first.id


def test_a_table_of_100_000_lines_is_checked_in_one_pass(folder: Path) -> None:
    table = write(folder, [job(seed=seed) for seed in range(100_000)])
    jobs = read_jobs(table)
    assert len({one.output for one in jobs}) == 100_000
    with table.open("a") as file:
        file.write("{\n")
    with pytest.raises(InvalidRequest, match="line 100001"):
        read_jobs(table)


def test_the_example_is_a_line_of_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["batch", "--example"]) == 0
    assert json.loads(capsys.readouterr().out) == EXAMPLE
    shutil.copy(folder / "me.png", folder / "me.jpg")
    assert read_jobs(write(folder, [EXAMPLE]))[0].output == EXAMPLE["output"]


def test_every_video_is_what_generate_makes(folder: Path, tiny_set: Path, pipeline: Pipeline) -> None:
    table = write(folder, [job(seed=7, output="a/b.mp4"), job("you.png", seed=7)])
    assert run(table, folder / "out", tiny_set) == 0
    request = Request("A man waves.", seed=7, **SMALL)  # type: ignore[arg-type]
    expected = pipeline.generate(pipeline.identify(folder / "me.png"), request)
    frames, _, metadata = read_mp4(folder / "out" / "a" / "b.mp4")
    write_mp4(folder / "expected.mp4", expected.frames)
    assert np.array_equal(frames, read_mp4(folder / "expected.mp4")[0])
    assert metadata["prompt"] == "A man waves."


def test_the_whole_person_is_what_a_mask_or_the_photo_s_transparency_shows(
    folder: Path, tiny_set: Path, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = np.asarray(Image.open(folder / "me.png").convert("RGB"))
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[40:, 40:-40] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.dstack([photo, mask])).save(folder / "cutout.png")
    whole = {"picture": "person"}
    rows = [job(**whole, masks=["mask.png"], output="a.mp4"), job("cutout.png", **whole, output="b.mp4")]
    rows.append(job(**whole, output="opaque.mp4"))
    assert run(write(folder, rows), folder / "out", tiny_set) == 1
    expected = pipeline.identify(folder / "me.png", masks=[mask])
    kept = [Identity.load(path) for path in (folder / "out" / IDENTITIES).iterdir()]
    assert len(kept) == 2
    for identity in kept:
        assert identity.whole_person
        assert np.array_equal(identity.face_picture, expected.face_picture)
    assert np.array_equal(*(read_mp4(folder / "out" / name)[0] for name in ("a.mp4", "b.mp4")))
    assert "nothing in" in capsys.readouterr().err


def test_a_lora_applies_to_every_job_and_makes_it_another_job(
    folder: Path, tiny_set: Path, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lora(folder, "style.safetensors", "diffusers")
    lora = folder / "models" / "loras" / "style.safetensors"
    table, out = write(folder, [job(seed=7, output="a.mp4")]), folder / "out"
    assert run(table, out, tiny_set, "--lora", f"{lora}:0.5") == 0
    frames, _, metadata = read_mp4(out / "a.mp4")
    assert metadata["loras"] == "style.safetensors:0.5"
    request = Request("A man waves.", seed=7, **SMALL)  # type: ignore[arg-type]
    person = pipeline.identify(folder / "me.png")
    styled = Pipeline(tiny_set, "cpu", loras=[Lora(lora, 0.5)]).generate(person, request)
    write_mp4(folder / "expected.mp4", styled.frames)
    assert np.array_equal(frames, read_mp4(folder / "expected.mp4")[0])
    assert not torch.equal(styled.frames, pipeline.generate(person, request).frames)
    for lora_arguments, made in ((("--lora", f"{lora}:0.5"), 0), (("--lora", f"{lora}"), 1), ((), 1)):
        capsys.readouterr()
        assert run(table, out, tiny_set, "--json", *lora_arguments) == 0
        assert json.loads(capsys.readouterr().out)["made"] == made
    assert run(table, out, tiny_set, "--lora", "gone.safetensors") == 2
    assert "gone.safetensors was not found" in capsys.readouterr().err


def test_every_video_is_signed_or_not_written(
    folder: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("c2pa", reason='needs c2pa-python: pip install ".[credentials]"')
    from echovideo_model.credentials import Credential
    from tests.test_credentials import read_credential, write_signer

    signer, out = str(write_signer(folder / "signer.pem")), folder / "out"
    table = write(folder, [job(output="a.mp4")])
    assert run(table, out, tiny_set, "--credential", signer) == 0
    assert read_credential(out / "a.mp4")[0] == "Valid"
    capsys.readouterr()
    assert run(table, out, tiny_set, "--credential", signer) == 0
    assert "0 made, 1 already there" in capsys.readouterr().out

    def expire(credential: Credential, content: bytes) -> bytes:
        raise InvalidRequest("the certificate has expired")

    monkeypatch.setattr(Credential, "sign_mp4", expire)
    table = write(folder, [job(output="a.mp4"), job(seed=2, output="b.mp4")])
    assert run(table, out, tiny_set, "--credential", signer) == 2
    assert "the certificate has expired" in capsys.readouterr().err
    assert not (out / "b.mp4").exists()
    assert not (out / FAILURES).exists()


def test_the_same_command_makes_what_is_missing_and_nothing_else(
    folder: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [job(seed=seed, output=f"{seed}.mp4") for seed in range(3)]
    out = folder / "out"
    assert run(write(folder, rows), out, tiny_set) == 0
    before = {path: path.read_bytes() for path in out.glob("*.mp4")}
    (out / "1.mp4").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    capsys.readouterr()
    assert run(write(folder, rows), out, tiny_set) == 0
    assert "1 made, 2 already there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {path: path.read_bytes() for path in out.glob("*.mp4")} == before
    rows[2] = job(seed=99, output="2.mp4")  # a changed job is another one
    assert run(write(folder, rows), out, tiny_set) == 0
    assert (out / "2.mp4").read_bytes() != before[out / "2.mp4"]
    monkeypatch.setattr(Pipeline, "check", None)  # nothing is loaded where nothing is to be made
    assert run(write(folder, rows), out, tiny_set) == 0


def test_behind_a_url_it_resumes_as_well(
    folder: Path, tiny_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fsspec.filesystem("memory")
    store.store.clear()
    rows = [job(seed=seed, output=f"a/{seed}.mp4") for seed in range(3)]
    table = write(folder, [*rows, job("wall.png", output="bad.mp4")])
    assert run(table, folder / "here", tiny_set) == run(table, "memory://bucket/videos", tiny_set) == 1
    names = [f"/bucket/videos/a/{seed}.mp4" for seed in range(3)]
    assert store.find("/bucket") == [*names, f"/bucket/videos/{FAILURES}"]
    before = {name: store.cat_file(name) for name in names}
    assert [*before.values()] == [(folder / "here" / "a" / f"{seed}.mp4").read_bytes() for seed in range(3)]
    store.rm_file(names[0])
    store.pipe_file(names[1], before[names[1]][:-100])
    capsys.readouterr()
    assert run(table, "memory://bucket/videos", tiny_set) == 1
    assert "2 made, 1 already there, 1 failed before" in capsys.readouterr().out
    assert {name: store.cat_file(name) for name in names} == before


def test_persons_are_identified_once_and_prompts_encoded_once(
    folder: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identified, encoded = [], []
    identify, encode = Pipeline.identify, Pipeline.encode_prompts
    monkeypatch.setattr(
        Pipeline, "identify", lambda self, *given: identified.append(1) or identify(self, *given)
    )
    monkeypatch.setattr(
        Pipeline, "encode_prompts", lambda self, prompts: encoded.extend(prompts) or encode(self, prompts)
    )
    rows = [
        job(photo, prompt) for prompt in ("A man waves.", "A man nods.") for photo in ("me.png", "you.png")
    ]
    rows = rows + [row | {"seed": 5} for row in rows]
    random.Random(0).shuffle(rows)
    assert run(write(folder, rows), folder / "out", tiny_set) == 0
    assert len(identified) == 2
    assert sorted(encoded) == ["", "A man nods.", "A man waves."]


def test_neither_order_nor_company_changes_a_video(folder: Path, tiny_set: Path) -> None:
    rows = [
        job(seed=1, output="a.mp4"),
        job("you.png", "A man nods.", output="b.mp4"),
        job(seed=2, output="c.mp4"),
    ]
    assert run(write(folder, rows), folder / "one", tiny_set) == 0
    assert run(write(folder, rows[::-1]), folder / "two", tiny_set) == 0
    assert run(write(folder, rows[:1]), folder / "three", tiny_set) == 0
    for name in ("a", "b", "c"):
        assert (folder / "one" / f"{name}.mp4").read_bytes() == (folder / "two" / f"{name}.mp4").read_bytes()
    assert (folder / "three" / "a.mp4").read_bytes() == (folder / "one" / "a.mp4").read_bytes()


def test_a_bad_job_stops_no_other_and_is_made_again_on_request(
    folder: Path, tiny_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [job("wall.png", output="bad.mp4"), job(prompt="人", output="worse.mp4"), job(output="good.mp4")]
    out, table = folder / "out", write(folder, rows)
    assert run(table, out, tiny_set) == 1
    assert (out / "good.mp4").is_file()
    failures = [json.loads(line) for line in (out / FAILURES).read_text("utf-8").splitlines()]
    assert {row["line"]: row["error"] for row in failures} == {1: "NoFaceFound", 2: "InvalidRequest"}
    assert "no face" in next(row["sentence"] for row in failures if row["line"] == 1)
    capsys.readouterr()
    assert run(table, out, tiny_set) == 1
    assert "0 made, 1 already there, 2 failed before" in capsys.readouterr().out
    shutil.copy(folder / "me.png", folder / "wall.png")  # another photo is another job
    assert run(table, out, tiny_set) == 1
    assert (out / "bad.mp4").is_file()
    capsys.readouterr()
    assert run(table, out, tiny_set, "--retry", "--json") == 1
    assert json.loads(capsys.readouterr().out)["failed"] == 1
    failures = [json.loads(line) for line in (out / FAILURES).read_text("utf-8").splitlines()]
    assert sorted(row["line"] for row in failures) == [1, 2]  # the old photo's, and the retried one once


def test_what_succeeded_on_retry_is_made_again_when_its_video_is_gone(folder: Path, tiny_set: Path) -> None:
    out, table = folder / "out", write(folder, [job(output="me.mp4")])
    add_failure(open_folder(out), read_jobs(table)[0], InvalidRequest("out of memory"))
    assert run(table, out, tiny_set) == 1
    assert run(table, out, tiny_set, "--retry") == 0
    (out / "me.mp4").unlink()
    assert run(table, out, tiny_set) == 0
    assert (out / "me.mp4").is_file()


def test_a_full_disk_stops_the_batch_and_is_no_failure_of_a_job(
    folder: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = write(folder, [job(seed=seed) for seed in range(2)]), folder / "out"
    replace, calls = os.replace, []

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(".mp4"):
            calls.append(target)
            raise OSError(28, "No space left on device", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert run(table, out, tiny_set) == 2
    assert len(calls) == 1
    monkeypatch.undo()
    assert not (out / FAILURES).exists()
    assert run(table, out, tiny_set) == 0
    assert len(list(out.glob("*.mp4"))) == 2
    assert not [path for path in out.glob(".*") if path.is_file()]


def test_killed_at_any_moment_the_same_command_ends_with_every_video_once_and_whole(
    folder: Path, tiny_set: Path
) -> None:
    rows = [job(("me.png", "you.png")[n % 2], seed=n, output=f"{n}.mp4") for n in range(4)]
    table = write(folder, rows)
    assert run(table, folder / "quiet", tiny_set) == 0
    command = [sys.executable, "-m", "echovideo_model", "batch", str(table), "--output", str(folder / "out")]
    command += ["--models", str(tiny_set), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    chance = random.Random(1)
    for _ in range(3):
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(3 + 5 * chance.random())
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    for n in range(4):
        made, quiet = (folder / place / f"{n}.mp4" for place in ("out", "quiet"))
        assert made.read_bytes() == quiet.read_bytes()
        assert describe(made).frames == 1


def test_what_a_line_leaves_open_the_model_decides(folder: Path) -> None:
    nano = ModelFacts(size=(128, 96), frames=17, fps=8, guidance="constant", guidance_scale=2.5)
    bare = {"photos": ["me.png"], "prompt": "A man waves."}
    table = write(folder, [bare, bare | {"width": 64, "fps": 16}])
    opened = [read_jobs(table, nano)[0], read_jobs(table, nano)[1]]
    assert [(one.request.height, one.request.width, one.fps) for one in opened] == [
        (128, 96, 8),
        (128, 64, 16),
    ]
    assert (opened[0].request.frames, opened[0].request.guidance_scale) == (17, 2.5)
    assert read_jobs(table)[0].request.height == 480
