"""Examples and their order: a function of (seed, step), whoever reads them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echovideo_model.errors import InvalidRequest
from echovideo_model.training.examples import Examples, Order, generator, write_example
from tests.training.conftest import write_examples

SHAPES = st.lists(st.sampled_from([(1, 4, 4), (2, 4, 4), (2, 4, 6)]), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None)
@given(shapes=SHAPES, batch=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_an_epoch_shows_every_take_in_batches_of_one_shape(
    shapes: list[tuple[int, ...]], batch: int, seed: int
) -> None:
    order = Order(shapes, batch, seed)
    batches = [order.at(step) for step in range(order.batches_per_epoch)]
    assert all(len(takes) == batch and len({shapes[take] for take in takes}) == 1 for takes in batches)
    seen = Counter(take for takes in batches for take in takes)
    assert set(seen) == set(range(len(shapes)))
    for shape in set(shapes):  # what fills a last batch up is spread over its shape
        counts = [seen[take] for take in range(len(shapes)) if shapes[take] == shape]
        assert max(counts) - min(counts) <= 1


@given(step=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_step_has_the_same_batch_whatever_was_read_before(step: int) -> None:
    shapes = [(1, 4, 4)] * 7 + [(2, 4, 4)] * 5
    used, fresh = Order(shapes, 3, 1), Order(shapes, 3, 1)
    for before in range(step - 3, step):
        used.at(max(0, before))
    assert used.at(step) == fresh.at(step)


def test_epochs_and_seeds_differ() -> None:
    def epoch(seed: int, number: int) -> list[list[int]]:
        order = Order([(1, 4, 4)] * 30, 5, seed)
        return [order.at(step) for step in range(number * 6, number * 6 + 6)]

    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_takes_come_back_as_they_were_written(tmp_path: Path) -> None:
    folder = write_examples(tmp_path, 2)
    read = Examples(folder)
    assert len(read) == 4
    assert [read.latent_shape(take) for take in range(4)] == [(2, 4, 6)] * 2 + [(1, 4, 4)] * 2
    sample = read.read(3, generator(0))
    assert sample.caption == "another of 1"
    assert sample.mean.shape == (16, 1, 4, 4)
    assert sample.text.shape == (6, 16)
    assert sample.face_tokens.shape == (196, 768)
    identities = {read.read(3, generator(seed)).id_embedding[0].item() for seed in range(20)}
    assert len(identities) == 2  # any take meets any identity of its person


@pytest.mark.parametrize("damage", ["cut", "other tensors", "nothing at all"])
def test_an_example_that_is_not_whole_is_named(tmp_path: Path, damage: str) -> None:
    folder = write_examples(tmp_path, 3)
    broken = folder / "1.safetensors"
    if damage == "cut":
        broken.write_bytes(broken.read_bytes()[:-100])
    elif damage == "other tensors":
        write_example(broken, {"mean": torch.zeros(1, 16, 1, 4, 4)}, ["one"])
    else:
        broken.write_bytes(b"")
    with pytest.raises(InvalidRequest, match=r"1\.safetensors is not a complete example"):
        Examples(folder)


def test_a_folder_without_examples_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no examples in"):
        Examples(tmp_path)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="mean holds NaN"):
        write_example(tmp_path / "x.safetensors", {"mean": torch.full((1, 16, 1, 4, 4), torch.nan)}, ["one"])
    assert list(tmp_path.iterdir()) == []
