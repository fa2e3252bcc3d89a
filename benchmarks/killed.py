"""Does `echovideo batch --ray` keep its promise when it is killed? Many small jobs, SIGKILL at random moments.

    python -m benchmarks.killed             (needs Ray; 200 jobs, three workers)

The table is made once undisturbed, in one process. Then over Ray, and --kills times a worker or the driver is killed; a
killed driver is followed by the same command, until it ends by itself. Every video must be there once, whole, with the
bytes of the undisturbed run; nothing that was started may still be running.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import psutil

from echovideo_model import tiny
from echovideo_model.video import describe

ACTIONS = ("waves", "nods", "reads", "runs", "sleeps")


def write_table(folder: Path, count: int) -> Path:
    for name, portrait in zip(("one.png", "two.png"), tiny.PORTRAITS, strict=True):
        shutil.copy(portrait, folder / name)
    rows = (
        {"photos": [("one.png", "two.png")[n % 2]], "prompt": f"A man {ACTIONS[n % 5]}.", "seed": n, "height": 32,
         "width": 32, "frames": 1, "steps": 1, "output": f"{n}.mp4"}
        for n in range(count)
    )  # fmt: skip
    table = folder / "jobs.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return table


def start(table: Path, output: Path, models: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "echovideo_model", "batch", str(table), "--output", str(output)]
    command += ["--models", str(models), "--device", "cpu", *more]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def hash_videos(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.mp4")}


def kill_something(driver: subprocess.Popen[bytes], chance: random.Random, a_driver: bool) -> str:
    """Kills the driver or one of Ray's processes that does a job's work; returns what it was."""
    children = psutil.Process(driver.pid).children(recursive=True)
    workers = [child for child in children if child.name().startswith(("ray::_Worker", "ray::encode_mp4"))]
    if a_driver or not workers:
        driver.kill()
        driver.wait()
        _, alive = psutil.wait_procs(children, timeout=300)
        if alive:
            raise RuntimeError(f"still running without their driver: {alive}")
        return "the driver"
    worker = chance.choice(workers)
    name = worker.name()
    worker.kill()
    return name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument(
        "--kills", type=int, default=8, help="every fourth of the driver (default: %(default)d)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models, table = tiny.build(folder / "models"), write_table(folder, args.jobs)
        if status := start(table, folder / "quiet", models).wait():
            raise RuntimeError(f"the undisturbed run ended with {status}")
        quiet, killed = hash_videos(folder / "quiet"), folder / "killed"
        ray = ("--ray", "--workers", str(args.workers))
        driver = start(table, killed, models, *ray)
        for kill in range(args.kills):
            goal = min(
                len(hash_videos(killed)) + 1 + chance.randrange(args.jobs // args.kills), args.jobs - 1
            )
            while driver.poll() is None and len(list(killed.glob("*.mp4"))) < goal:
                time.sleep(0.1)
            time.sleep(chance.random())
            if driver.poll() is not None:
                break
            what = kill_something(driver, chance, kill % 4 == 3)
            print(f"{len(list(killed.glob('*.mp4')))} videos there: killed {what}", flush=True)
            if driver.poll() is not None:
                driver = start(table, killed, models, *ray)
        status = driver.wait()
        made = hash_videos(killed)
        whole = sum(describe(path).frames == 1 for path in killed.glob("*.mp4"))
        same = sum(quiet[name] == digest for name, digest in made.items())
        beside = sorted({path.name for path in killed.iterdir()} - set(made))
        print(f"exit status {status}; {len(made)} videos of {args.jobs}, {whole} whole, {same} with the bytes of the "
              f"undisturbed run; beside them: {beside}")  # fmt: skip
        sys.exit(not (status == 0 and len(made) == whole == same == args.jobs))


if __name__ == "__main__":
    main()
