"""Judges the nano model's videos of people whom it has never seen, each figure beside its ceiling.

    python scripts/nano/judge_videos.py STATE --models MODELS [--people 100] [--seeds 3] [--part K/N]

Each person has a photo and a clip with a sentence that says everything, in a combination of words that training never
saw. STATE/judges.pt judges; STATE/judged.jsonl keeps what is known of each video, so the same command resumes (for
other models, delete it); K/N makes the K-th of N parts, for N processes. STATE/judged.png shows the first ones: photo,
video, and the real clip. STATE/judged.json has the figures. The ceiling is the real clip through the same autoencoder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from judges import QUESTIONS, Judges
from photograph import Parts
from PIL import Image
from tqdm import tqdm

from echovideo_model.errors import NoFaceFound
from echovideo_model.face.detect import FaceDetector
from echovideo_model.files import write_atomically
from echovideo_model.identity import Identity
from echovideo_model.nano import Clip, Person, draw_portrait
from echovideo_model.nano.split import held_out_people
from echovideo_model.pipeline import Pipeline, to_frames
from echovideo_model.request import Request

AMONG = 64  # people, of whom the video should show the right one
SHOWN = 12  # people on the sheet
STEPS, GUIDANCE = 10, 2.5  # 8, 15, 30 and 60 steps gave the same figures (24 people)


class Task(NamedTuple):
    """Who is to be seen, and doing what."""

    person: int
    photo: np.ndarray  # uint8 [H, W, 3]
    clip: Clip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("state", type=Path)
    parser.add_argument("--models", type=Path, required=True, help="the nano model, in the released layout")
    parser.add_argument("--people", type=int, default=100, help="held out (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="videos of each (default: %(default)s)")
    parser.add_argument("--part", type=Parts, default=Parts("1/1"), metavar="K/N")
    parser.add_argument("--strength", type=float, default=1.0, help="of the identity (default: %(default)s)")
    parser.add_argument("--no-face-latent", action="store_true", help="the transformer does not see the face")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline, judges = Pipeline(arguments.models, device="cpu"), Judges.load(arguments.state / "judges.pt")
    tasks = list(make_tasks(max(arguments.people, AMONG)))
    identities = [
        pipeline.identify(task.photo) for task in tqdm(tasks, "photos", disable=None, mininterval=5)
    ]
    rows = read_rows(arguments.state / "judged.jsonl")
    jobs = [(who, seed) for who in range(arguments.people) for seed in range(-1, arguments.seeds)]
    for who, seed in tqdm(arguments.part.of(jobs), "videos", disable=None, mininterval=5):
        if (who, seed) not in rows:
            frames = make_frames(
                tasks[who], identities[who], seed, pipeline, arguments.strength, not arguments.no_face_latent
            )
            rows[who, seed] = judge(frames, tasks[who].clip, pipeline.face_encoders.detector, judges)
            if who < SHOWN and seed <= 0:
                save_frames(arguments.state / "shown" / f"{who}_{seed}.png", frames)
            with (arguments.state / "judged.jsonl").open("a") as file:
                file.write(json.dumps({"who": who, "seed": seed, **rows[who, seed]}) + "\n")
    rows = read_rows(arguments.state / "judged.jsonl")
    if missing := [key for key in jobs if key not in rows]:
        print(f"{len(missing)} videos are left to the other parts; the same command then prints the figures")
        return
    save_sheet(arguments.state, tasks[: min(SHOWN, arguments.people)])
    photos = np.stack([identity.id_embedding.numpy() for identity in identities])
    real = [rows[key] for key in jobs if key[1] < 0]
    videos = [rows[key] for key in jobs if key[1] >= 0]
    whom = [who for who, seed in jobs if seed >= 0]
    figures = summarise(videos, whom, photos), summarise(real, range(arguments.people), photos)
    with write_atomically(arguments.state / "judged.json") as temporary:
        temporary.write_text(json.dumps({"videos": figures[0], "real": figures[1]}, indent=2) + "\n", "utf-8")
    report(len(videos), *figures)


def make_tasks(count: int) -> Iterator[Task]:
    for person in held_out_people(count):
        who = Person.from_seed(person)
        photo, _ = draw_portrait(who, backdrop=person % 8)
        yield Task(person, photo, Clip.from_seed(person, person=person, held_out_words=True, whole=True))


def make_frames(
    task: Task, identity: Identity, seed: int, pipeline: Pipeline, strength: float, face_latent: bool
) -> np.ndarray:
    """uint8 [F, H, W, 3]: the video of that seed, or for -1 the real clip through the autoencoder."""
    clip = task.clip
    if seed < 0:
        pixels = rearrange(torch.from_numpy(clip.frames()).float() / 127.5 - 1, "f h w c -> 1 c f h w")
        with torch.no_grad():
            frames = to_frames(pipeline.vae.decode(pipeline.vae.encode(pixels)[0]))
    else:
        request = Request(
            clip.sentence,
            height=clip.height,
            width=clip.width,
            frames=len(clip.moments),
            steps=STEPS,
            seed=seed,
            guidance_scale=GUIDANCE,
            guidance="constant",
            strength=strength,
            face_latent=face_latent,
        )
        frames = pipeline.generate(identity, request).frames
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def judge(frames: np.ndarray, clip: Clip, detector: FaceDetector, judges: Judges) -> dict[str, Any]:
    """The mean direction of the faces' embeddings, the frames that show one, and right and wrong verdicts."""
    embeddings = []
    for frame in frames:
        try:
            embeddings.append(_unit(detector.detect(frame)[0].embedding))
        except NoFaceFound:
            continue
    verdicts = judges.verdicts(frames)
    row: dict[str, Any] = {name: verdicts[name] == clip.labels[name] for name in QUESTIONS}
    return row | {
        "faces": len(embeddings) / len(frames),
        "embedding": np.mean(embeddings, 0).round(5).tolist() if embeddings else None,
        "motion": float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean()),
    }


def summarise(rows: list[dict[str, Any]], whom: Any, photos: np.ndarray) -> dict[str, float]:
    """Similarity is the mean cosine over the frames with a face; a video without any counts as 0."""
    figures: dict[str, list[float]] = {
        name: [row[name] for row in rows] for name in (*QUESTIONS, "faces", "motion")
    }
    directions = photos / np.linalg.norm(photos, axis=1, keepdims=True)
    own, strangers, first, five = [], [], [], []
    for row, who in zip(rows, whom, strict=True):
        cosines = directions @ np.array(row["embedding"] or np.zeros(photos.shape[1]))
        own.append(cosines[who])
        strangers.append(np.delete(cosines, who).mean())
        others = np.sort(np.delete(cosines, who)[: AMONG - 1])[::-1]
        first.append(cosines[who] > others[0])
        five.append(cosines[who] > others[4])
    figures |= {"own": own, "strangers": strangers, "first": first, "five": five}
    return {name: float(np.mean(values)) for name, values in figures.items()}


def report(count: int, videos: dict[str, float], real: dict[str, float]) -> None:
    names = {
        "own": "similarity to the own photo",
        "strangers": "similarity to strangers",
        "first": f"the nearest of {AMONG} people is the right one",
        "five": "the right one is among the nearest five",
        "faces": "frames with a face",
        "place": "place",
        "colour": "clothing colour",
        "camera": "camera move",
        "action": "action",
        "motion": "change from frame to frame, of 255",
    }
    print(f"{count} videos of people never seen, {STEPS} steps, guidance {GUIDANCE}")
    print("| what | videos | real clips through the autoencoder |\n|---|---|---|")
    for name, text in names.items():
        print(f"| {text} | {videos[name]:.3f} | {real[name]:.3f} |")


def read_rows(path: Path) -> dict[tuple[int, int], dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {(row["who"], row["seed"]): row for row in map(json.loads, lines)}


def save_frames(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    shown = frames[np.linspace(0, len(frames) - 1, 5).round().astype(int)]
    with write_atomically(path) as temporary:
        Image.fromarray(rearrange(shown, "f h w c -> h (f w) c")).save(temporary)


def save_sheet(state: Path, tasks: list[Task]) -> None:
    """A row a person: photo, five frames of the video, five of the real clip."""
    rows = []
    for number, task in enumerate(tasks):
        videos = [np.asarray(Image.open(state / "shown" / f"{number}_{seed}.png")) for seed in (0, -1)]
        height = videos[0].shape[0]
        photo = Image.fromarray(task.photo)
        small = photo.resize((round(photo.width * height / photo.height), height), Image.Resampling.LANCZOS)
        gap = np.full((height, 8, 3), 255, np.uint8)
        rows.append(np.concatenate([np.asarray(small), gap, videos[0], gap, videos[1]], 1))
    with write_atomically(state / "judged.png") as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


if __name__ == "__main__":
    main()
