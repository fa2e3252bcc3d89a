"""Two people in one video on the nano model in a real host: is each in their own half, and there alone?

    COMFYUI_PATH=... python -m benchmarks.two_people areas|masks [--people N]     (in that host's environment)

Every two neighbours of a circle of people, of three at least, stand side by side, once each way round, under the same
sentence; each half's identity score is taken against both photos. A third video has somebody else on the right: how far
do the latents move in the left half, whose identity is the same, and how far in the right?
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from tqdm import tqdm

from benchmarks.on_nano import (
    EVERY,
    GUIDANCE,
    Subject,
    average,
    invite,
    nano_host,
    parse,
    print_table,
    run_graph,
)
from echovideo_model.nano.clip import FRAMES, SIDE
from testbed.graphs import Graph, conditioning, identity, loaders, node, out, sampled, saved
from testbed.harness import Host
from testbed.nano import with_nano

STEPS = 20
SENTENCE = "A person smiles at the camera at the beach. The camera is still."
BEGINS = {"left": 0, "right": SIDE}  # of each half, in pixels
HALF = SIDE // 8  # columns of the latents


@dataclass(frozen=True)
class Video:
    """Two people side by side."""

    likeness: dict[tuple[str, str], float]  # half, and on which side the person whose photo it is stands
    latents: Tensor  # [1, 16, t, h, w]

    def own(self) -> list[float]:
        return [self.likeness[side, side] for side in BEGINS]

    def others(self) -> list[float]:
        return [self.likeness[side, other] for side in BEGINS for other in BEGINS if other != side]


def main() -> None:
    arguments = parse(__doc__, 5, add_region)
    with nano_host() as host:
        people = invite(host, arguments.people)
        print(f"\n{arguments.region}, euler, simple, {STEPS} steps, guidance {GUIDANCE}\n")
        videos: list[Video] = []
        moved: list[dict[str, float]] = []
        head = ("on the left, on the right", "left half: their photo", "the other's",
                "right half: their photo", "the other's")  # fmt: skip
        print_table(head, make_rows(host, people, arguments.region, videos, moved))
        report(videos, moved)


def add_region(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("region", choices=list(REGIONS))


def make_rows(
    host: Host, people: list[Subject], region: str, videos: list[Video], moved: list[dict[str, float]]
) -> Iterator[tuple[str, ...]]:
    """One for each video of two neighbours; the videos, and what a third one moves, go into the lists."""
    for number in tqdm(range(len(people)), desc="pairs", disable=None):
        one, other, third = ((number + step) % len(people) for step in range(3))
        for left, right in ((one, other), (other, one)):
            video = make(host, people[left], people[right], region, people[number].seed)
            videos.append(video)
            figures = (
                video.likeness[key]
                for key in (("left", "left"), ("left", "right"), ("right", "right"), ("right", "left"))
            )
            yield f"{left}, {right}", *(f"{figure:.3f}" for figure in figures)
        changed = make(host, people[one], people[third], region, people[number].seed)
        difference = (changed.latents - videos[-2].latents).abs()
        halves = {"left": difference[..., :HALF], "right": difference[..., HALF:]}
        moved.append({side: float(half.mean()) for side, half in halves.items()})


def report(videos: list[Video], moved: list[dict[str, float]]) -> None:
    own, others = (
        [value for video in videos for value in getattr(video, name)()] for name in ("own", "others")
    )
    nearer = sum(mine > theirs for mine, theirs in zip(own, others, strict=True))
    print(f"\nmean similarity of a half to its own person {average(own):.3f}, to the other {average(others):.3f}; "
          f"its own is the nearer in {nearer} of {len(own)} halves")  # fmt: skip
    left, right = (average(one[side] for one in moved) for side in BEGINS)
    still = sum(one["left"] == 0 for one in moved)
    print(f"with somebody else on the right, the left half's latents are the same to the bit in {still} of "
          f"{len(moved)} videos; mean difference {left:.4f}, in the right half {right:.4f}")  # fmt: skip


def make(host: Host, left: Subject, right: Subject, region: str, seed: int) -> Video:
    done = run_graph(host, side_by_side(left, right, region, seed))
    likeness = {}
    for half in BEGINS:
        for whose in BEGINS:
            (score,) = done.outputs[f"score_{half}_{whose}"]["echovideo_scores"]
            likeness[half, whose] = average(value or 0.0 for value in score["per_frame"])
    return Video(likeness, done.latents())


def side_by_side(left: Subject, right: Subject, region: str, seed: int) -> Graph:
    """Two people, the host's area or mask for each of them, and the score of each half against both."""
    graph = loaders() | black_and_white()
    graph |= {"prompt": node("CLIPTextEncode", clip=out("clip"), text=SENTENCE)}
    graph |= {"negative": node("CLIPTextEncode", clip=out("clip"), text="")}
    for side, subject in (("left", left), ("right", right)):
        graph |= on_side(side, subject, region)
    for branch in ("positive", "negative"):
        both = {"conditioning_1": out(f"{branch}_left"), "conditioning_2": out(f"{branch}_right")}
        graph[f"{branch}_both"] = node("ConditioningCombine", **both)
    ends = {"positive": out("positive_both"), "negative": out("negative_both")}
    graph |= sampled(steps=STEPS, seed=seed, cfg=GUIDANCE, **ends, latent_image=out("cond_left", 2))
    graph |= saved("latents") | {"frames": node("VAEDecode", samples=out("latents"), vae=out("vae"))}
    for half in BEGINS:
        for whose in BEGINS:
            links = {"identity": out(f"identity_{whose}"), "region": out(f"positive_{half}")}
            score = node(
                "EchoVideoIdentityScore",
                frames=out("frames"),
                face_encoders=out("faces"),
                every=EVERY,
                **links,
            )
            graph[f"score_{half}_{whose}"] = score
    return with_nano(graph)


def on_side(side: str, subject: Subject, region: str) -> Graph:
    """Photo, identity and conditioning of one person, both of its branches limited to a half of the video."""
    person = identity(subject.photo)
    person["identity"]["inputs"]["photos"] = out(f"photo_{side}")
    whole = conditioning(2 * SIDE, SIDE, FRAMES, identity=out(f"identity_{side}"), vae=out("vae"))
    return {
        "faces": person["faces"],
        f"photo_{side}": person["photo"],
        f"identity_{side}": person["identity"],
        f"cond_{side}": whole["cond"],
        **REGIONS[region](side),
    }


def areas(side: str) -> Graph:
    where = {"width": SIDE, "height": SIDE, "x": BEGINS[side], "y": 0, "strength": 1.0}
    return limited("ConditioningSetArea", side, where)


def masks(side: str) -> Graph:
    place = {
        "destination": out("black"),
        "source": out("white"),
        "x": BEGINS[side],
        "y": 0,
        "operation": "add",
    }
    where = {"mask": out(f"mask_{side}"), "strength": 1.0, "set_cond_area": "default"}
    return {f"mask_{side}": node("MaskComposite", **place)} | limited("ConditioningSetMask", side, where)


REGIONS = {"areas": areas, "masks": masks}


def limited(kind: str, side: str, where: dict[str, Any]) -> Graph:
    return {
        f"{branch}_{side}": node(kind, conditioning=out(f"cond_{side}", number), **where)
        for number, branch in enumerate(("positive", "negative"))
    }


def black_and_white() -> Graph:
    """What the masks are composed of."""
    return {
        "black": node("SolidMask", value=0.0, width=2 * SIDE, height=SIDE),
        "white": node("SolidMask", value=1.0, width=SIDE, height=SIDE),
    }


if __name__ == "__main__":
    main()
