"""Where many videos at a time end: what the driver of `echovideo batch --ray` costs, and a table of 1 to 1000 workers.

    python -m benchmarks.scale              (needs Ray; takes a minute on a quiet machine)

Measured: the driver's processor time and resident memory over JOBS jobs whose workers compute nothing, but hand on
persons and prompts of the real size; ray.wait over as many references as there are jobs under way; what it costs to
fetch a megabyte from the object store and write it. Computed: bytes, from 49 frames at 848 x 480. Given: --seconds and
--megabytes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import torch
from tqdm import tqdm

from echovideo_model.batch import cluster
from echovideo_model.batch.folder import open_folder
from echovideo_model.batch.job import Job, read_jobs
from echovideo_model.batch.work import Clip
from echovideo_model.identity import Identity

JOBS, PERSONS, PROMPTS = 2000, 100, 200
WARM = 200  # jobs before memory is read: imports, pools and buffers are there by then
WORKERS = (1, 8, 64, 1000)
FRAMES = 49 * 480 * 848 * 3  # bytes of a clip before it is a file
TEXT = 226 * 4096 * 2  # of a prompt's tokens, bf16
PERSON = 2 * 196 * 768 * 4 + 512 * 4 + 512 * 512 * 3
MB = 1e6


class Idle(cluster._Worker):
    """Hands on what is as large as the real thing, and computes nothing."""

    def check(self, faces: bool) -> None:
        pass

    def identify(self, photos: Any, choice: Any) -> Identity:
        tokens = torch.zeros(196, 768)
        return Identity(torch.zeros(512), tokens, tokens.clone(), np.zeros((512, 512, 3), np.uint8))

    def encode(self, prompt: str) -> torch.Tensor:
        return torch.zeros(1, 226, 4096, dtype=torch.bfloat16)

    def make(self, job: Job, identity: Any, negative: Any, positive: Any) -> Clip:
        return Clip(np.zeros((1, 32, 32, 3), np.uint8), {"job": job.id})


class Sleeping(Idle):
    """Takes as long as a GPU would that makes a clip in two seconds."""

    def make(self, job: Job, identity: Any, negative: Any, positive: Any) -> Clip:
        time.sleep(2)
        return super().make(job, identity, negative, positive)


def write_jobs(scratch: Path, count: int) -> list[Job]:
    for person in range(PERSONS):
        megabyte = person.to_bytes(4, "big") * 250_000  # nobody decodes it
        (scratch / f"{person}.jpg").write_bytes(megabyte)
    table = scratch / "jobs.jsonl"
    rows = (
        {"photos": [f"{n % PERSONS}.jpg"], "prompt": f"A man counts to {n % PROMPTS}.", "seed": n}
        for n in range(count)
    )
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_jobs(table)


def run(jobs: list[Job], folder: Path, worker: str, workers: int, on_job: Callable[[], None]) -> None:
    """The jobs over Ray on this machine, by workers of that class in this file."""
    with tqdm(total=len(jobs), desc="jobs", unit="job", disable=None) as bar:

        def note(job: Job, result: str) -> None:
            if result != "made":
                raise RuntimeError(result)
            on_job()
            bar.update()

        # by the module's own name, which workers can import, and not as __main__'s
        cluster._Worker = getattr(import_module("benchmarks.scale"), worker)  # type: ignore[misc]
        models = cluster.Models(folder, "cpu")
        cluster.make_jobs_on(cluster.Cluster(workers=workers), jobs, open_folder(folder), models, note)


def measure_driver(scratch: Path, count: int) -> tuple[float, list[float]]:
    """Processor seconds a job, and the driver's own resident MiB after WARM jobs, half of them and all. The pages of
    the object store that it has looked at, which it shares, are not counted."""
    times, sizes, process = [], [], psutil.Process()

    def note() -> None:
        memory = process.memory_info()
        times.append(time.process_time())
        sizes.append((memory.rss - memory.shared) / 2**20)

    run(write_jobs(scratch, count), scratch / "out", "Idle", 2, note)
    warm = min(WARM, count // 4)
    return (times[-1] - times[warm]) / (count - 1 - warm), [sizes[at] for at in (warm, count // 2, count - 1)]


def measure_throughput(scratch: Path, workers: int) -> float:
    """Jobs a second of workers that sleep, once each has begun."""
    ends: list[float] = []
    jobs = write_jobs(scratch, 10 * workers)
    run(jobs, scratch / f"{workers}", "Sleeping", workers, lambda: ends.append(time.perf_counter()))
    begun = 2 * workers
    return (len(ends) - begun) / (ends[-1] - ends[begun - 1])


def measure_wait(ray: ModuleType, references: int) -> float:
    """Processor seconds of ray.wait for one of so many that is ready."""

    @ray.remote(resources={"nowhere": 1})
    def never() -> None: ...

    waiting = [never.remote() for _ in range(references - 1)]
    rounds, spent = 20, 0.0
    for _ in range(rounds):
        ready = ray.put(0)
        start = time.process_time()
        ray.wait([*waiting, ready], num_returns=1, fetch_local=False)
        spent += time.process_time() - start
    for one in waiting:
        ray.cancel(one)
    return spent / rounds


def measure_megabyte(ray: ModuleType, scratch: Path) -> tuple[float, float]:
    """Processor seconds to fetch and write a megabyte, and the disk's megabytes a second."""
    size, rounds = 8, 16
    folder, data = open_folder(scratch / "disk"), bytes(int(size * MB))
    references = [ray.put(data) for _ in range(rounds)]
    start, wall = time.process_time(), time.perf_counter()
    for number, one in enumerate(references):
        folder.write(f"{number}.mp4", ray.get(one))
    spent = (time.process_time() - start) / (rounds * size)
    return spent, rounds * size / (time.perf_counter() - wall)


def print_table(job: float, wait: dict[int, float], megabyte: float, seconds: float, video: float) -> None:
    """One row for each number of workers. A worker's node keeps the clips that it made, the driver sees files alone."""
    under_way = cluster.JOBS_A_WORKER * (FRAMES + PERSON + 2 * TEXT) / MB
    print("| workers | videos a second | driver, share of a core | into the driver and to disk, MB/s | "
          "object stores, GB in all |")  # fmt: skip
    print("|---|---|---|---|---|")
    for workers in WORKERS:
        rate = workers / seconds
        cost = job + wait[workers] + megabyte * video
        recent = cluster.RECENT * (PERSON + TEXT) / MB
        print(f"| {workers} | {rate:.3g} | {rate * cost:.2%} | {rate * (video + PERSON / MB):.3g} | "
              f"{(workers * under_way + recent) / 1000:.3g} |")  # fmt: skip
    cost = job + megabyte * video
    wait_each = wait[WORKERS[-1]] / WORKERS[-1]  # it grows with the number of references
    limit = ((cost**2 + 4 * wait_each * seconds) ** 0.5 - cost) / (2 * wait_each)
    print(
        f"\nThe driver is the first limit, at {limit:,.0f} workers: a core of its own is busy all the time."
    )
    print(f"A worker's share of its node's object store: {under_way:.0f} MB.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=115, help="a video's on one worker (default: %(default)g)"
    )
    parser.add_argument("--megabytes", type=float, default=3, help="of a video's file (default: %(default)g)")
    parser.add_argument("--jobs", type=int, default=JOBS, help="jobs to measure with (default: %(default)d)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        job, memory = measure_driver(Path(scratch), args.jobs)
        print(f"driver: {job * 1000:.1f} ms of processor time a job; its own memory after {min(WARM, args.jobs // 4)}, "
              f"half and all of {args.jobs} jobs: {', '.join(f'{one:.0f}' for one in memory)} MiB")  # fmt: skip
        one, four = (measure_throughput(Path(scratch), workers) for workers in (1, 4))
        print(f"four workers that sleep 2 s a job against one: {four / one:.2f} times its jobs a second")
        with cluster._connected(cluster.Cluster()) as ray:
            wait = {count: measure_wait(ray, cluster.JOBS_A_WORKER * count) for count in WORKERS}
            megabyte, disk = measure_megabyte(ray, Path(scratch))
        waits = ", ".join(
            f"{count * cluster.JOBS_A_WORKER}: {spent * 1000:.2f}" for count, spent in wait.items()
        )
        print(f"ray.wait, ms by references: {waits}")
        print(f"a megabyte fetched and written: {megabyte * 1000:.2f} ms; this disk took {disk:.0f} MB/s\n")
        print_table(job, wait, megabyte, args.seconds, args.megabytes)


if __name__ == "__main__":
    main()
