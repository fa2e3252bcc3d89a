"""`echovideo evaluate`: measures videos with the papers' metrics, as one table and a page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import expand_user
from . import say, say_json
from .arguments import Bars, add_json, add_models, check_outputs, find_models_folder, match_files

if TYPE_CHECKING:
    from ..metrics.evaluation import Person


def register(subparsers: Any) -> None:
    """Adds `evaluate` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure videos with the papers' metrics: FaceSim, CLIPScore, DynamicDegree, FID and others",
        description="Measure videos as the papers do, and write report.json, report.csv and report.html.",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=expand_user,
        metavar="RESULT",
        help="videos made by `generate`, or a table (.jsonl) of objects with video, photo and prompt",
    )
    parser.add_argument(
        "--against",
        type=expand_user,
        metavar="FOLDER",
        help="real videos or pictures, for FID between the two sets",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="only these metrics (default: all; docs/evaluation.md lists them)",
    )
    parser.add_argument(
        "--photo", type=expand_user, metavar="PHOTO", help="the person in every video that names no photo"
    )
    parser.add_argument(
        "--output",
        type=expand_user,
        default=Path("output", "evaluation"),
        metavar="FOLDER",
        help="for the report and the stored measurements, which are not repeated (default: "
        "output/evaluation)",
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first one available)")
    add_models(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures and reports; 0 also where numbers are missing, which the report then explains."""
    from ..devices import find_device
    from ..metrics.definitions import choose_metrics
    from ..metrics.evaluation import measure, measure_fid
    from ..metrics.measure import Judges
    from ..metrics.memory import Memory
    from ..metrics.page import draw_page
    from ..metrics.report import as_json, as_text, write_report
    from ..metrics.samples import read_samples

    metrics = choose_metrics(args.metrics)
    samples = read_samples(match_files(args.results), args.photo)
    reports = [args.output / f"report.{kind}" for kind in ("json", "csv", "html")]
    check_outputs(reports, [sample.video for sample in samples])
    args.output.mkdir(parents=True, exist_ok=True)
    judges = Judges(find_models_folder(args), find_device(args.device))
    memory = Memory(args.output)
    with Bars() as bars:
        rows = []
        for done, sample in enumerate(samples, start=1):
            rows.append(measure(sample, metrics, judges, memory, _load_person, bars))
            bars("evaluating", done, len(samples), "videos")
        fid = measure_fid(rows, args.against, judges, memory, bars) if args.against else None
    write_report(args.output, rows, metrics, fid, draw_page(rows, metrics, fid))
    if args.json:
        say_json(as_json(rows, metrics, fid))
    else:
        say(as_text(rows, metrics, fid))
        say("\n".join(map(str, reports)))
    return 0


def _load_person(path: Path) -> Person:
    """A photo's pixels, or an identity's embedding. Raises InvalidRequest or WrongModelFile."""
    from ..face.photo import load_photo
    from ..identity import Identity
    from ..metrics.evaluation import Person

    if path.suffix.lower() == ".safetensors":
        identity = Identity.load(path)
        return Person(embedding=identity.id_embedding.numpy(), encoders=identity.encoders)
    return Person(photo=load_photo(path))
