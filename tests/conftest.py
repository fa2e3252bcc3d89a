"""What tests share: the tiny set of models, a pipeline on it, the person in the first portrait, and one small run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from echovideo_model.identity import Identity
    from echovideo_model.pipeline import Pipeline, Result


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from several threads, and lose tenfold where other work keeps them waiting for
    each other; also, results are equal to the bit only for one number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """A shell starts its background jobs deaf to Ctrl-C, which they and their children stay: these tests send it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of the demonstration."""
    from echovideo_model import tiny

    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pipeline(tiny_set: Path) -> Pipeline:
    from echovideo_model.pipeline import Pipeline

    return Pipeline(tiny_set, device="cpu")


@pytest.fixture(scope="session")
def person(pipeline: Pipeline) -> Identity:
    from echovideo_model.tiny import PORTRAITS

    return pipeline.identify(PORTRAITS[0])


@pytest.fixture(scope="session")
def run(pipeline: Pipeline, person: Identity) -> Result:
    """64 x 64 pixels, 5 frames, 3 steps, everything else by default."""
    from echovideo_model.request import Request

    return pipeline.generate(person, Request("A man waves.", height=64, width=64, frames=5, steps=3))
