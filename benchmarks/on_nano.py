"""What the benchmarks on the nano model share: a host, people whom the model has never seen, and what a run is worth.

They run in a host's environment, as scripts/make_workflows.py does; see CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from PIL import Image

from echovideo_model.nano import Clip, Person, draw_portrait
from echovideo_model.nano.clip import FRAMES, SIDE
from echovideo_model.nano.split import held_out_people
from testbed.graphs import Graph, conditioning, identity, loaders, node, out, prompts, sampled
from testbed.harness import PACK, Host, Message, Run
from testbed.nano import with_nano

GUIDANCE = 2.5  # as scripts/nano/judge_videos.py has it
PATIENCE = 3600  # seconds that a run may take
KEEPING = "--cache-lru", "64"  # identities and prompts, while other people are at work
EVERY = 4  # frames between two that are scored, as the node has it


class Subject(NamedTuple):
    """Somebody, and what they are to do."""

    photo: str  # its name in the host's input folder
    sentence: str
    seed: int


@contextmanager
def nano_host() -> Iterator[Host]:
    """A running host, with this pack and testbed's probe."""
    with tempfile.TemporaryDirectory() as base:
        custom_nodes = Path(base) / "custom_nodes"
        custom_nodes.mkdir()
        (custom_nodes / "probe").symlink_to(PACK / "testbed" / "probe", target_is_directory=True)
        with Host.start(Path(os.environ["COMFYUI_PATH"]), Path(base), *KEEPING) as host:
            yield host


def invite(host: Host, count: int) -> list[Subject]:
    """People whom training never saw, each with a photo, and with a sentence that it never saw."""
    subjects = []
    for seed in held_out_people(count):
        picture, _ = draw_portrait(Person.from_seed(seed), backdrop=seed % 8)
        photo = f"{seed}.png"
        Image.fromarray(picture).save(host.base / "input" / photo)
        sentence = Clip.from_seed(seed, person=seed, held_out_words=True, whole=True).sentence
        subjects.append(Subject(photo, sentence, seed % 1000))
    return subjects


def person(subject: Subject, length: int = FRAMES, **changed: Any) -> Graph:
    """Photo and sentence to the conditioning "cond"; `changed` are inputs of its node, None to leave one out."""
    links = {"identity": out("identity"), "vae": out("vae"), **changed}
    graph = loaders() | prompts(subject.sentence) | identity(subject.photo)
    graph |= conditioning(SIDE, SIDE, length, **{name: one for name, one in links.items() if one is not None})
    return with_nano(graph)


def ksampler(subject: Subject, steps: int, model: str = "model", **changed: Any) -> Graph:
    """KSampler's latents under the name "latents"."""
    return sampled(model, subject.seed, steps, cfg=GUIDANCE, **changed)


def watched(frames: bool = True) -> Graph:
    """The video of "latents": its score against "identity", and its frames as files where they are wanted."""
    links = {"frames": out("frames"), "identity": out("identity"), "face_encoders": out("faces")}
    graph = {
        "frames": node("VAEDecode", samples=out("latents"), vae=out("vae")),
        "score": node("EchoVideoIdentityScore", **links, every=EVERY),
    }
    if frames:
        graph["pictures"] = node("SaveImage", images=out("frames"), filename_prefix="frame")
    return graph


@dataclass
class Stopwatch:
    """Processor seconds of a host while it runs the node "latents"."""

    process: psutil.Process
    marks: list[float] = field(default_factory=list)

    def __call__(self, message: Message) -> None:
        if message["type"] == "executing":
            begins = message["data"]["node"] == "latents"
            if begins or len(self.marks) == 1:
                times = self.process.cpu_times()
                self.marks.append(times.user + times.system)

    @property
    def seconds(self) -> float:
        begun, ended = self.marks
        return ended - begun


@dataclass(frozen=True)
class Made:
    """What is known of one video."""

    frames: np.ndarray  # uint8 RGB [F, H, W, 3]; none where they were not wanted
    seconds: float  # of processor time, for the sampling alone
    curve: tuple[float | None, ...]  # similarity of every EVERYth frame to the photo; None without a face
    log: str  # what the host wrote meanwhile

    @property
    def similarity(self) -> float:
        """The mean over the frames that were scored; one without a face counts as 0."""
        return float(np.mean([value or 0.0 for value in self.curve]))

    @property
    def faces(self) -> float:
        """The share of frames that show a face."""
        return float(np.mean([value is not None for value in self.curve]))


class NoVideo(Exception):
    """A run failed, with the host's words."""


def run_graph(host: Host, graph: Graph, *watch: Stopwatch) -> Run:
    """Raises NoVideo."""
    run = host.run(graph, PATIENCE, *watch)
    if run.status != "success":
        raise NoVideo(run.message)
    return run


def make(host: Host, graph: Graph) -> Made:
    """Runs a graph with "latents" and `watched` in it. Raises NoVideo."""
    watch, before = Stopwatch(psutil.Process(host.process.pid)), len(host.log())
    run = run_graph(host, graph, watch)
    (score,) = run.outputs["score"]["echovideo_scores"]
    frames = [np.asarray(Image.open(path).convert("RGB")) for path in run.files("pictures")]
    return Made(np.array(frames), watch.seconds, tuple(score["per_frame"]), host.log()[before:])


def psnr(pairs: Iterable[tuple[Made, Made]]) -> float:
    """dB, of the mean squared error over all pairs of videos; infinite where all are equal."""
    errors = [np.mean((one.frames.astype(float) - other.frames) ** 2) for one, other in pairs]
    error = float(np.mean(errors))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def roughness(frames: np.ndarray) -> float:
    """The mean difference of neighbouring pixels: noise has much, a blur little."""
    pixels = frames.astype(float)
    return float(np.abs(np.diff(pixels, axis=1)).mean() + np.abs(np.diff(pixels, axis=2)).mean())


def average(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Row by row, as they come."""
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def parse(
    about: str | None, people: int, add: Callable[[argparse.ArgumentParser], Any]
) -> argparse.Namespace:
    """The command line: what `add` adds, and --people."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add(parser)
    parser.add_argument("--people", type=int, default=people, help="how many (default: %(default)s)")
    return parser.parse_args()
