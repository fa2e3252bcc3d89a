"""`generate` over several ranks, which --ranks or torchrun starts. Only the first writes files and prints."""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, InvalidRequest, RankLost
from .arguments import Bars
from .making import find_identities, make_videos, parse_pipeline_settings, read_requests
from .process import log_on_stderr, stop_as_by_ctrl_c

if TYPE_CHECKING:
    import torch

    from ..parallel.ranks import Ranks


def add_ranks(group: Any) -> None:
    """Adds --ranks to a group of arguments."""
    group.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="share each video among N GPUs of this machine, or N processes on its CPU (default: "
        "%(default)s; see docs/scale.md for which N is worth it, and for several machines)",
    )


def start_ranks(args: argparse.Namespace) -> int:
    """--ranks N: starts N processes on this machine."""
    from ..devices import find_devices
    from ..parallel.launch import start
    from ..parallel.ranks import Ranks
    from ..pipeline_over_ranks import PipelineOverRanks, is_guided

    if args.ranks < 1:
        raise InvalidRequest(f"--ranks must be at least 1, not {args.ranks}")
    requests = read_requests(args)
    devices = find_devices(args.device, args.ranks)
    settings = parse_pipeline_settings(args, "cpu")  # this process has no part in the work
    pipeline = PipelineOverRanks(Ranks(size=args.ranks), is_guided(requests), **settings)
    pipeline.check(faces=not find_identities(args))
    start(partial(_run_started_rank, args), devices)
    return 0


def is_rank() -> bool:
    """Whether torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def run_rank(args: argparse.Namespace) -> int:
    """Does this process's part, as one of the ranks that torchrun started."""
    from ..devices import find_rank_device
    from ..parallel.ranks import join

    if args.ranks != 1:
        raise InvalidRequest(f"torchrun sets the number of ranks: leave out --ranks {args.ranks}")
    device = find_rank_device(args.device)
    try:
        with join(device) as ranks:
            _run_rank(args, ranks, device)
    except (RankLost, KeyboardInterrupt) as error:
        if int(os.environ["RANK"]) == 0:
            raise
        return RankLost.exit_code if isinstance(error, RankLost) else Cancelled.exit_code
    return 0


def _run_started_rank(args: argparse.Namespace, ranks: Ranks, device: torch.device) -> None:
    """_run_rank in a fresh process, in which the command line has not run yet."""
    if not ranks.first:  # it has nothing to say and nothing to tidy up
        return _run_rank(args, ranks, device)
    with stop_as_by_ctrl_c(), log_on_stderr():
        _run_rank(args, ranks, device)


def _run_rank(args: argparse.Namespace, ranks: Ranks, device: torch.device) -> None:
    from ..pipeline_over_ranks import PipelineOverRanks, is_guided

    if not ranks.first:
        guided = ranks.receive()
        PipelineOverRanks(ranks, guided, **parse_pipeline_settings(args, device)).assist()
        return
    requests, settings = read_requests(args), parse_pipeline_settings(args, device)
    guided = is_guided(requests)
    ranks.share(guided)
    with Bars() as bars:
        pipeline = PipelineOverRanks(ranks, guided, **settings, on_progress=bars)
        make_videos(args, requests, pipeline, bars)
        pipeline.close()
