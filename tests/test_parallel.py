"""A prediction over 2, 3 and 4 processes is that of one; and whatever ends one process ends all, with a sentence."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, distributed

from echovideo_model.devices import find_devices
from echovideo_model.errors import InvalidRequest, NoFaceFound, RankLost
from echovideo_model.identity import Identity
from echovideo_model.limits import TRAINED_FRAMES, TRAINED_SIZES
from echovideo_model.parallel import launch
from echovideo_model.parallel.ranks import Ranks, join
from echovideo_model.parallel.spread import Spread, check_ranks
from echovideo_model.pipeline import Result
from echovideo_model.pipeline_over_ranks import PipelineOverRanks, is_guided
from echovideo_model.request import Request, latent_shape
from echovideo_model.tiny.networks import IITF_SIZES
from echovideo_model.tiny.weights import draw_state
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes

TOKENS = 226
RANKS = (2, 3, 4)
TOLERANCE = 1e-5


class Case(NamedTuple):
    """One prediction, and by how many ranks it is made."""

    shape: tuple[int, ...]  # of the latents
    branches: int = 2
    heads: int = 6
    ranks: tuple[int, ...] = RANKS


SMALL = [
    Case((1, 16, 2, 10, 14)),  # 296 tokens, which 3 ranks pad
    Case((1, 16, 3, 6, 10), branches=1),  # 271 tokens, which any number pads; no guidance
    Case((1, 16, 1, 2, 2)),  # 227 tokens, of which the last rank has one of video
]
TRAINED = [  # with no more heads than the ranks can share: attention over 20,896 tokens takes a second for each
    Case(latent_shape(TRAINED_FRAMES, *size), heads=heads, ranks=ranks)
    for size in TRAINED_SIZES
    for heads, ranks in ((2, (2, 4)), (3, (3,)))
]


def predict(case: Case, spread: Spread) -> Tensor:
    network = make_network(case.heads)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(case.shape, generator=generator).expand(case.branches, -1, -1, -1, -1)
    context = torch.randn(case.branches, TOKENS, IITF_SIZES.text_width, generator=generator)
    face_latent = torch.randn(1, 16, 1, *case.shape[-2:], generator=generator)
    return spread.predict(network, x, torch.full((case.branches,), 759), context, face_latent)


ALONE = Spread(Ranks(), Ranks(), None)


def make_network(heads: int) -> EchoVideoTransformer:
    sizes = TransformerSizes(blocks=1, heads=heads, head_width=16, time_width=32, iitf=IITF_SIZES)
    with torch.device("meta"):
        network = EchoVideoTransformer(sizes)
    network.load_state_dict(draw_state(network), assign=True)
    return network.requires_grad_(False)


@torch.no_grad()
def differ(rank: int, folder: Path, cases: list[Case], out: Connection) -> None:
    """Rank `rank` of 4 sends, for each number of ranks in which it takes part and each case, how far off it is."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = distributed.FileStore(str(folder / "store"), max(RANKS))
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=max(RANKS), timeout=timedelta(minutes=5)
    )
    expected = torch.load(folder / "expected.pt")
    for size in RANKS:
        group = distributed.new_group(list(range(size)))
        if rank >= size:
            continue
        ranks = Ranks(rank, size, group)
        spreads = {branches: Spread.make(ranks, guided=branches == 2 or size == 4) for branches in (1, 2)}
        for case, alone in zip(cases, expected, strict=True):
            if size in case.ranks:
                together = predict(case, spreads[case.branches])
                out.send((size, case, float((together - alone).abs().max())))
    distributed.destroy_process_group()


server = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
server.set_forkserver_preload(["pytest", "echovideo_model.parallel.launch", "echovideo_model.pipeline"])
"""Forks what has imported PyTorch and has no threads: quicker than to import it anew, and safer than forking pytest."""


def run_processes(count: int, work: Callable[..., None], *args: Any) -> list[list[Any]]:
    """What each of `count` processes sends."""
    pipes = [server.Pipe(duplex=False) for _ in range(count)]
    processes = [
        server.Process(target=work, args=(rank, *args, theirs)) for rank, (_, theirs) in enumerate(pipes)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    sent: list[list[Any]] = []
    for ours, _ in pipes:
        sent.append([])
        with suppress(EOFError):
            while True:
                sent[-1].append(ours.recv())
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count
    return sent


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the loopback device is called lo on Linux")


@needs_linux
@pytest.mark.parametrize("cases", [SMALL, TRAINED], ids=["few tokens", "the trained sizes"])
def test_2_3_and_4_ranks_predict_what_one_does(cases: list[Case], tmp_path: Path) -> None:
    """In float32."""
    with torch.no_grad():
        expected = [predict(case, ALONE) for case in cases]
    for v in expected:
        assert v.std() > 0.1  # or it would be easy to be near
    torch.save(expected, tmp_path / "expected.pt")
    sent = run_processes(max(RANKS), differ, tmp_path, cases)
    for rank, results in enumerate(sent):
        compared = [(size, case) for size, case, _ in results]
        assert compared == [
            (size, case) for size in RANKS if rank < size for case in cases if size in case.ranks
        ]
        for size, case, difference in results:
            assert difference < TOLERANCE, (size, case)


def sample_over_ranks(rank: int, folder: Path, models: Path, person: Identity, out: Connection) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = distributed.FileStore(str(folder / "store"), 4)
    with join(torch.device("cpu"), store=store, rank=rank, world_size=4) as ranks:
        pipeline = PipelineOverRanks(ranks, is_guided([SMALL_REQUEST]), models, "cpu")
        if not ranks.first:
            pipeline.assist()
            assert {"vae", "text_encoder"}.isdisjoint(vars(pipeline))
            return
        out.send(pipeline.generate(person, SMALL_REQUEST).latents)
        pipeline.close()


SMALL_REQUEST = Request("A man waves.", height=64, width=64, frames=5, steps=3)  # of the fixture `run`


@needs_linux
def test_a_whole_run_over_4_ranks_draws_the_same_noise_and_ends_where_one_does(
    run: Result, person: Identity, tiny_set: Path, tmp_path: Path
) -> None:
    (latents,), *others = run_processes(4, sample_over_ranks, tmp_path, tiny_set, person)
    assert others == [[], [], []]
    torch.testing.assert_close(latents, run.latents, atol=TOLERANCE, rtol=TOLERANCE)


def test_ranks_that_cannot_share_the_heads_are_refused_with_those_that_can() -> None:
    for ranks in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96):
        check_ranks(ranks, heads=48, guided=True)
    with pytest.raises(
        InvalidRequest, match=r"5 ranks .* 48 attention heads .* 1, 2, 3, 4, 6, 8, 12, 16, 24, 32"
    ):
        check_ranks(5, heads=48, guided=True)
    with pytest.raises(InvalidRequest, match="choose 1, 2, 3, 4, 6, 8, 12, 16, 24, 48"):
        check_ranks(32, heads=48, guided=False)


def test_without_guidance_there_is_one_branch() -> None:
    for guidance in ("constant", "reference"):
        scale = {"constant": 1.0, "reference": 0.0}[guidance]
        request = replace(SMALL_REQUEST, guidance=guidance)
        assert is_guided([request])
        assert not is_guided([replace(request, guidance_scale=scale)])


# What ends one rank ends all -------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process ids of all that launch.start has started, by the server above."""
    started, start_rank = [], launch._start_rank

    def note(*args: Any) -> Any:
        one = start_rank(*args)
        started.append(one.process.pid)
        return one

    monkeypatch.setattr(launch.multiprocessing, "get_context", lambda method: server)
    monkeypatch.setattr(launch, "_start_rank", note)
    return started


def require_gone(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


CPUS = [torch.device("cpu")] * 3


def fail_on_the_second(how: Callable[[], None], ranks: Ranks, device: torch.device) -> None:
    ranks.wait()
    if ranks.rank == 1:
        how()
    ranks.receive() if ranks.rank else ranks.gather(torch.zeros(1))  # for ever, if nothing ends it


def find_no_face() -> None:
    raise NoFaceFound("no face here")


def run_out_of_memory() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@needs_linux
@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        (find_no_face, NoFaceFound, "^no face here$"),
        (run_out_of_memory, MemoryError, "^$"),
        (be_killed, RankLost, "rank 1 of 3 was ended by SIGKILL"),
        (partial(sys.exit, 7), RankLost, "rank 1 of 3 ended with exit status 7"),
    ],
)
def test_whatever_ends_one_rank_ends_all_with_its_sentence(
    started: list[int], how: Callable[[], None], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        launch.start(partial(fail_on_the_second, how), CPUS)
    require_gone(started)


@needs_linux
def test_ctrl_c_leaves_no_process(started: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_wait_for_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch.start(partial(fail_on_the_second, signal.pause), CPUS)
    require_gone(started)


# Devices ---------------------------------------------------------------------------------------------------------


def test_each_rank_has_a_gpu_of_its_own_or_a_share_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_devices("cpu", 3) == CPUS
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (
        find_devices(None, 2) == find_devices("cuda", 2) == [torch.device("cuda", 0), torch.device("cuda", 1)]
    )
    with pytest.raises(InvalidRequest, match="3 ranks need 3 GPUs, but this machine has 2: choose --ranks 2"):
        find_devices(None, 3)
