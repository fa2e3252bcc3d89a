"""`echovideo train` and `echovideo prepare` as commands: a table that grows, one sentence when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from echovideo_model import cli
from echovideo_model.training.recipe import Recipe


def test_train_shows_a_table_and_says_where_the_model_is(
    recipe_of: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_of(("steps = 6", "steps = 4"), ("stats = 1", "stats = 2"))
    assert cli.main(["train", str(tmp_path / "recipe.toml"), "--device", "cpu"]) == 0
    header, *rows, model = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["step", "loss"]
    assert [row.split()[0] for row in rows] == ["2", "4"]
    assert all(len(row) == len(header) for row in rows)
    assert model == str(tmp_path / "run" / "model")
    assert (tmp_path / "run" / "model" / "transformer" / "config.json").is_file()


def test_memory_is_said_to_be_computed_and_nothing_is_trained(
    recipe_of: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_of()
    assert cli.main(["train", str(tmp_path / "recipe.toml"), "--memory"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Computed from sizes, not measured.")
    assert "activations" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "none.toml"], "the recipe none.toml cannot be read"),
        (["prepare", "none", "--output", "out"], "no folder none"),
        (["prepare", ".", "--output", "out", "--size", "64"], "'64' is not WIDTHxHEIGHT"),
    ],
)
def test_one_sentence_when_something_is_wrong(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"echovideo: {sentence}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
