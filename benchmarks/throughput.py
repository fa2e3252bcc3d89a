"""Videos of the nano model over Ray on this machine: two workers with one thread each against one.

    python -m benchmarks.throughput         (needs Ray and two idle cores; five minutes)

The two take turns. A run is counted from the moment when each worker has made WARM videos, so that starting Ray and
loading the model are left out; what is made is what `echovideo batch --ray` makes, video files on disk included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from PIL import Image

from echovideo_model.batch.cluster import Cluster, Models, make_jobs_on
from echovideo_model.batch.folder import open_folder
from echovideo_model.batch.job import Job, read_jobs
from echovideo_model.facts import read_facts
from echovideo_model.nano import Clip, Person, draw_portrait
from echovideo_model.nano.models import FOLDER

WORKERS = 1, 2
PERSONS = 2
# Videos of each worker that are not counted: everybody is identified, every sentence encoded by then.
WARM = 2
STEPS = 10


def write_jobs(scratch: Path, count: int) -> list[Job]:
    """Jobs of equal work, in the model's own size."""
    for seed in range(PERSONS):
        Image.fromarray(draw_portrait(Person.from_seed(seed))[0]).save(scratch / f"{seed}.png")
    sentences = [Clip.from_seed(seed, person=seed).sentence for seed in range(PERSONS)]
    rows = (
        {"photos": [f"{n % PERSONS}.png"], "prompt": sentences[n % PERSONS], "seed": n, "steps": STEPS}
        for n in range(count)
    )
    table = scratch / "jobs.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_jobs(table, read_facts(FOLDER / "transformer"))


def measure_rate(workers: int, each: int) -> float:
    """Videos a second of so many workers, over `each` videos of each."""
    ends: list[float] = []

    def note(job: Job, result: str) -> None:
        if result != "made":
            raise RuntimeError(result)
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as scratch:
        jobs = write_jobs(Path(scratch), workers * (WARM + each))
        make_jobs_on(
            Cluster(workers=workers), jobs, open_folder(Path(scratch, "out")), Models(FOLDER, "cpu"), note
        )
    begun = workers * WARM
    return (len(ends) - begun) / (ends[-1] - ends[begun - 1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2, help="of one worker, then two (default: 2)")
    parser.add_argument("--each", type=int, default=10, help="videos of each worker in a run (default: 10)")
    args = parser.parse_args()
    for number in range(1, args.rounds + 1):
        one, two = (measure_rate(workers, args.each) for workers in WORKERS)
        print(f"round {number}: one worker {one:.3f} videos a second, two {two:.3f}: {two / one:.2f} times as many",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
