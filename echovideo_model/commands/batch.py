"""`echovideo batch`: a table of jobs becomes a folder of videos; the same command again makes what is missing."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..files import expand_user
from . import say, say_json
from .arguments import add_json, add_models, models_folder, parse_dtype

if TYPE_CHECKING:
    from ..batch.job import Job

NOT_ALL = 1  # the exit status where jobs have failed


def register(subparsers: Any) -> None:
    """Adds `batch` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "batch",
        help="make the videos of a table of jobs",
        description="Make the videos of a table, one job a line: photos or an identity, a prompt, any setting. The "
        "same command again makes what is missing. Exits with 0 only if every video is there.",
    )
    parser.add_argument(
        "table", nargs="?", type=expand_user, metavar="JOBS", help="JSON lines, or CSV with the same columns"
    )
    parser.add_argument("--output", type=expand_user, default=Path("output", "batch"), metavar="FOLDER",
                        help="where the videos go (default: %(default)s)")  # fmt: skip
    parser.add_argument("--example", action="store_true", help="print a line of a table and stop")
    parser.add_argument("--retry", action="store_true", help="also make what failed before")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first one available)")
    parser.add_argument(
        "--transformer", type=expand_user, metavar="PATH", help="another file or folder for the transformer"
    )
    parser.add_argument("--weight-dtype", metavar="DTYPE", help="as for `echovideo generate`")
    add_models(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The whole table is checked before the first network is loaded."""
    from ..batch.job import EXAMPLE, read_jobs
    from ..batch.work import FAILURES, make_jobs, plan_jobs
    from ..errors import InvalidRequest
    from ..files import check_writable
    from ..pipeline import Pipeline

    if args.example:
        say(json.dumps(EXAMPLE))
        return 0
    if args.table is None:
        raise InvalidRequest("batch needs a table of jobs: `echovideo batch --example` prints a line of one")
    jobs = read_jobs(args.table)
    check_writable(args.output / FAILURES)
    plan = plan_jobs(jobs, args.output, args.retry)
    failed = 0
    if plan.pending:
        pipeline = Pipeline(
            models_folder(args), args.device, parse_dtype(args.weight_dtype), args.transformer
        )
        pipeline.check(faces=any(job.photos for job in plan.pending))
        with tqdm(total=len(plan.pending), desc="videos", unit="video", disable=None) as bar:

            def report(job: Job, result: str) -> None:
                if result != "made":
                    with suppress(OSError):  # nobody reads it any more
                        tqdm.write(f"echovideo: {result}", file=sys.stderr)
                bar.update()

            failed = make_jobs(plan.pending, args.output, pipeline, report)
    made = len(plan.pending) - failed
    summary = {"made": made, "already there": plan.done, "failed": failed, "failed before": plan.failed}
    if args.json:
        say_json(summary)
    else:
        say(", ".join(f"{count} {what}" for what, count in summary.items() if count or what == "made"))
        if failed or plan.failed:
            say(f"what failed is in {args.output / FAILURES}; --retry makes it again")
    return NOT_ALL if failed or plan.failed else 0
