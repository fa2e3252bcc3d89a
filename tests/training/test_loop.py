"""A run learns, goes on where it was left, to the bit, and says in one sentence what stopped it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from echovideo_model.errors import InvalidRequest, ModelFileMissing
from echovideo_model.training import loop, state
from echovideo_model.training.loop import learning_rate, train
from echovideo_model.training.recipe import Optimizer, Recipe, read_recipe
from echovideo_model.training.trained import Trained
from echovideo_model.weights.loading import load_transformer

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
Make = Callable[..., Recipe]


def saved(recipe: Recipe) -> dict[str, Tensor]:
    return load_file(recipe.output / state.STATE)


def require_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def lines(recipe: Recipe) -> list[dict[str, Any]]:
    text = (recipe.output / state.STATS).read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "samples_per_second": None} for line in text]


@pytest.mark.parametrize(
    ("precision", "capability", "warned"),
    [("bf16", "AVX2", True), ("bf16", "AVX512", False), ("fp32", "AVX2", False)],
)
def test_a_cpu_that_emulates_bfloat16_is_named_with_the_remedy(
    recipe_of: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: str,
    capability: str,
    warned: bool,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    Trained(recipe_of(("micro = ", f'precision = "{precision}"\nmicro = ')), CPU)
    assert ('set precision = "fp32"' in caplog.text) == warned


# Learning -----------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_released_layout_is_written(recipe_of: Make) -> None:
    recipe = recipe_of(
        ("steps = 6", "steps = 40"), ("stats = 1", "stats = 10"), ("rate = 1e-3", "rate = 1e-2")
    )
    model = train(recipe, CPU)
    losses = [line["loss"] for line in lines(recipe)]
    assert losses[-1] < 0.9 * losses[0]
    network = load_transformer(model / "transformer")
    assert network.sizes == recipe.model.sizes
    averaged = saved(recipe)["average.transformer.proj_out.weight"]
    torch.testing.assert_close(network.proj_out.weight, averaged.bfloat16())
    assert not torch.equal(averaged, saved(recipe)["weights.transformer.proj_out.weight"])
    config = json.loads((model / "transformer" / "config.json").read_text(encoding="utf-8"))
    assert (config["num_layers"], config["max_text_seq_length"]) == (2, 6)


@pytest.mark.parametrize(
    "change", [("micro = 2", "micro = 4"), ("micro = 2", "micro = 2\ncheckpointing = true")]
)
def test_accumulation_and_checkpointing_change_nothing_but_rounding(
    recipe_of: Make, tmp_path: Path, change: tuple[str, str]
) -> None:
    plain, other = recipe_of(), recipe_of(change, ('"run"', '"other"'))
    train(plain, CPU)
    train(other, CPU)
    for name, value in saved(plain).items():
        torch.testing.assert_close(saved(other)[name], value, atol=2e-4, rtol=2e-3)


def test_bf16_computes_narrow_and_keeps_wide(recipe_of: Make) -> None:
    wide, narrow = (
        recipe_of(),
        recipe_of(('"run"', '"narrow"'), ("micro = 2", 'micro = 2\nprecision = "bf16"')),
    )
    train(wide, CPU)
    train(narrow, CPU)
    assert all(value.dtype == torch.float32 for value in saved(narrow).values())
    losses = [[line["loss"] for line in lines(recipe)] for recipe in (narrow, wide)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


def test_a_lora_leaves_the_weights_alone(recipe_of: Make, tmp_path: Path, tiny_set: Path) -> None:
    recipe = recipe_of()
    train(recipe, CPU)
    path = tmp_path / "lora.toml"
    path.write_text(
        f'examples = "{recipe.examples}"\noutput = "lora"\nsteps = 3\n[model]\n'
        'transformer = "run/model/transformer"\n[optimizer]\nrate = 1e-2\n[lora]\nrank = 2\n',
        encoding="utf-8",
    )
    lora = read_recipe(path)
    model = train(lora, CPU)
    written = load_file(model / "lora.safetensors")
    assert len(written) == 2 * 4 * 2  # down and up of four layers in two blocks
    assert all(value.any() for value in written.values())
    assert all(name.startswith(("weights.", "average.", "exp_avg")) for name in saved(lora))


def test_the_rate_rises_stays_and_falls() -> None:
    optimizer = Optimizer(rate=1.0, warmup=10, flat=0.5, last=0.1)
    rates = [learning_rate(optimizer, step, 100) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[10:50] == [1.0] * 40
    assert rates[74] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1)
    assert rates[50:] == sorted(rates[50:], reverse=True)


# Going on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("muon", ["false", "true"])
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(
    recipe_of: Make, monkeypatch: pytest.MonkeyPatch, muon: str
) -> None:
    optimizer = ("warmup = 2", f"warmup = 2\nmuon = {muon}")
    whole, stopped = recipe_of(optimizer), recipe_of(optimizer, ('"run"', '"stopped"'))
    train(whole, CPU)
    loss = Trained.loss
    calls = 0

    def interrupted(self: Trained, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2 * 5:  # in the middle of step 5, after the save of step 4
            raise KeyboardInterrupt
        return loss(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trained, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(stopped, CPU)
    with open(stopped.output / state.STATS, "a", encoding="utf-8") as stats:
        stats.write('{"step": 5, "lo')  # killed in the middle of a line
    train(stopped, CPU)
    require_equal(saved(stopped), saved(whole))
    assert lines(stopped) == lines(whole)
    for file in (whole.output / "model").rglob("*.safetensors"):
        assert (stopped.output / file.relative_to(whole.output)).read_bytes() == file.read_bytes()


def start(recipe: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "echovideo_model", "train", str(recipe), "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_sigkill_at_any_moment_costs_nothing_but_time(recipe_of: Make, tmp_path: Path) -> None:
    whole = recipe_of(('"run"', '"whole"'), ("steps = 6", "steps = 60"))
    train(whole, CPU)
    recipe_of(("steps = 6", "steps = 60"))
    run = tmp_path / "run"
    process = start(tmp_path / "recipe.toml")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (run / state.STATE).exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (run / state.STATE).exists()
    assert torch.isfinite(load_file(run / state.STATE)["weights.transformer.proj_out.weight"]).all()
    again = start(tmp_path / "recipe.toml")
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert out.split()[:2] == ["step", "loss"]
    require_equal(load_file(run / state.STATE), saved(whole))


@pytest.mark.parametrize("muon", ["false", "true"])
def test_two_ranks_are_one(recipe_of: Make, tmp_path: Path, muon: str) -> None:
    """Of two micro-batches each rank takes one, and a sum of two has one order: equal to the bit."""
    optimizer = ("warmup = 2", f"warmup = 2\nmuon = {muon}")
    alone = recipe_of(optimizer, ('"run"', '"alone"'))
    train(alone, CPU)
    together = recipe_of(optimizer)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        start(
            tmp_path / "recipe.toml",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in range(2)
    ]
    outs = [process.communicate(timeout=240) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outs
    require_equal(saved(together), saved(alone))
    assert outs[1][0] == ""  # the first rank alone reports


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("size = 4", "size = 8", "batch.size = 4, not 8"),
        ("heads = 1\nhead_", "heads = 2\nhead_", "heads"),
        ("warmup = 2", "muon = true", "optimizer.muon = False, not True"),
    ],
)
def test_another_recipe_does_not_go_on_with_the_run(recipe_of: Make, old: str, new: str, name: str) -> None:
    before = saved(recipe_of()) if (recipe_of().output / state.STATE).exists() else None
    assert before is None
    train(recipe_of(), CPU)
    kept = saved(recipe_of())
    with pytest.raises(InvalidRequest, match=name):
        train(recipe_of((old, new)), CPU)
    require_equal(saved(recipe_of()), kept)


def test_a_run_from_before_a_setting_goes_on_with_its_default(recipe_of: Make) -> None:
    recipe = recipe_of()
    train(recipe, CPU)
    path = recipe.output / state.STATE
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    older = json.loads(metadata["recipe"])
    for name in ("timestep_shift", "motion_weight", "likeness"):
        del older[name]
    del older["optimizer"]["muon"]
    save_file(saved(recipe), path, {**metadata, "recipe": json.dumps(older)})
    train(recipe_of(("steps = 6", "steps = 7")), CPU)
    assert [line["step"] for line in lines(recipe)] == list(range(1, 8))


# What goes wrong ----------------------------------------------------------------------------------------------


def test_nan_stops_with_the_step_and_the_remedy_and_the_last_save_is_kept(
    recipe_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of()
    make_batch = loop.make_batch

    def poisoned(examples: Any, takes: Any, places: Any, step: int, *more: Any) -> Any:
        batch = make_batch(examples, takes, places, step, *more)
        return replace(batch, noise=batch.noise * torch.nan) if step == 4 else batch

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_batch", poisoned)
        with pytest.raises(
            InvalidRequest, match=r"the loss of step 4 is NaN .* lower \[optimizer\] rate \(now 0\.001\)"
        ):
            train(recipe, CPU)
    assert all(value.isfinite().all() for value in saved(recipe).values())
    assert lines(recipe)[-1]["step"] == 3
    whole = recipe_of(('"run"', '"whole"'))
    train(whole, CPU)
    train(recipe, CPU)
    require_equal(saved(recipe), saved(whole))


def test_a_full_disk_is_said_and_the_last_save_is_kept(
    recipe_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of()
    write, saves = state.write_file, 0

    def full(path: Path, *more: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == 2:
            from echovideo_model.files import write_atomically

            with write_atomically(path) as temporary:
                temporary.write_bytes(b"half of it")
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(state, "write_file", full)
        with pytest.raises(InvalidRequest, match="the disk is full; free some space"):
            train(recipe, CPU)
    assert not [path for path in recipe.output.iterdir() if path.name.startswith(".")]
    whole = recipe_of(('"run"', '"whole"'))
    train(whole, CPU)
    train(recipe, CPU)  # from the save of step 2
    require_equal(saved(recipe), saved(whole))


def test_what_the_recipe_names_must_be_there(recipe_of: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no examples"):
        train(replace(recipe_of(), examples=tmp_path / "none"), CPU)
    recipe = recipe_of()
    model = replace(recipe.model, sizes=None, transformer=tmp_path / "none")
    with pytest.raises(ModelFileMissing):
        train(replace(recipe, model=model), CPU)
    assert not recipe.output.exists()
