"""`echovideo batch`: turns a table of jobs into a folder of videos; repeating it makes whatever is missing."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..files import expand_user
from . import say, say_json
from .arguments import (
    add_ai_tag,
    add_credential,
    add_json,
    add_loras,
    add_models,
    find_facts,
    find_models_folder,
    parse_dtype,
    parse_loras,
    read_credential,
)

if TYPE_CHECKING:
    from ..batch.folder import Folder
    from ..batch.job import Job
    from ..batch.work import OnJob
    from ..credentials import Credential

NOT_ALL = 1  # the exit status where jobs have failed


def register(subparsers: Any) -> None:
    """Adds `batch` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "batch",
        help="make the videos of a table of jobs",
        description="Make the videos of a table, one job per line: photos or an identity, a prompt, any setting. "
        "Repeat the command to make whatever is missing. Exits with 0 only if every video is there.",
    )
    parser.add_argument(
        "table", nargs="?", type=expand_user, metavar="JOBS", help="JSON lines, or CSV with the same columns"
    )
    parser.add_argument(
        "--output",
        default=str(Path("output", "batch")),
        metavar="FOLDER",
        help="where to write the videos: a folder, or a URL such as s3://bucket/videos (default: "
        "%(default)s)",
    )
    parser.add_argument("--example", action="store_true", help="print a sample line of a table and stop")
    parser.add_argument("--retry", action="store_true", help="also retry what failed before")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first one available)")
    parser.add_argument(
        "--transformer", type=expand_user, metavar="PATH", help="another file or folder for the transformer"
    )
    add_loras(parser)
    parser.add_argument("--weight-dtype", metavar="DTYPE", help="as for `echovideo generate`")
    _add_ray(parser)
    add_ai_tag(parser)
    add_credential(parser)
    add_models(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _add_ray(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run on several devices or machines, with Ray")
    group.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="of a cluster (auto: the one that this machine belongs to); without an address, on this "
        "machine only",
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="how many workers make videos (default: one per GPU, or two fewer than the CPUs)",
    )
    group.add_argument(
        "--gpus-per-worker",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="0.5 means two workers per GPU (default: 1)",
    )


def run(args: argparse.Namespace) -> int:
    """The whole table is checked before the first network is loaded."""
    from ..batch.folder import FAILURES, open_folder
    from ..batch.job import EXAMPLE, read_jobs
    from ..batch.work import forget_failures, plan_jobs
    from ..errors import InvalidRequest

    if args.example:
        say(json.dumps(EXAMPLE))
        return 0
    if args.table is None:
        raise InvalidRequest("batch needs a table of jobs: `echovideo batch --example` prints a sample line")
    _check_ray(args)
    credential = read_credential(args)
    jobs = read_jobs(args.table, find_facts(args), parse_loras(args))
    folder = open_folder(args.output)
    folder.check()
    plan = plan_jobs(jobs, folder, args.retry)
    if args.retry:
        forget_failures(folder, plan.pending)
    failed = 0
    if plan.pending:
        with tqdm(total=len(plan.pending), desc="videos", unit="video", disable=None) as bar:

            def report(job: Job, result: str) -> None:
                if result != "made":
                    with suppress(OSError):  # nobody reads it any more
                        tqdm.write(f"echovideo: {result}", file=sys.stderr)
                bar.update()

            make = _make_on_ray if args.ray else _make_here
            failed = make(args, plan.pending, folder, credential, report)
    made = len(plan.pending) - failed
    summary = {"made": made, "already there": plan.done, "failed": failed, "failed before": plan.failed}
    if args.json:
        say_json(summary)
    else:
        say(", ".join(f"{count} {what}" for what, count in summary.items() if count or what == "made"))
        if failed or plan.failed:
            say(f"failed jobs are listed in {folder}/{FAILURES}; --retry tries them again")
    return NOT_ALL if failed or plan.failed else 0


def _check_ray(args: argparse.Namespace) -> None:
    from ..errors import InvalidRequest

    if args.workers is not None and args.workers < 1:
        raise InvalidRequest(f"--workers must be at least 1, not {args.workers}")
    share = args.gpus_per_worker
    if not 0 < share <= 1:
        raise InvalidRequest(f"--gpus-per-worker must be a share such as 0.5, or 1, not {share:g}")
    if args.ray is None and (args.workers is not None or share != 1):
        raise InvalidRequest("--workers and --gpus-per-worker need --ray: add it")


def _make_here(
    args: argparse.Namespace, jobs: list[Job], folder: Folder, credential: Credential | None, report: OnJob
) -> int:
    from ..batch.work import make_jobs
    from ..pipeline import Pipeline

    pipeline = Pipeline(
        find_models_folder(args),
        args.device,
        parse_dtype(args.weight_dtype),
        args.transformer,
        loras=parse_loras(args),
    )
    pipeline.check(faces=any(job.photos for job in jobs))
    pipeline.stay_on_device()
    return make_jobs(jobs, folder, pipeline, report, args.ai_tag, credential)


def _make_on_ray(
    args: argparse.Namespace, jobs: list[Job], folder: Folder, credential: Credential | None, report: OnJob
) -> int:
    from ..batch.cluster import Cluster, Models, make_jobs_on

    cluster = Cluster(None if args.ray == "local" else args.ray, args.workers, args.gpus_per_worker)
    transformer = args.transformer and args.transformer.resolve()
    dtype = parse_dtype(args.weight_dtype)
    loras = tuple(replace(lora, path=lora.path.resolve()) for lora in parse_loras(args))
    models = Models(find_models_folder(args).resolve(), args.device, dtype, transformer, loras)
    return make_jobs_on(cluster, jobs, folder, models, report, args.ai_tag, credential)
