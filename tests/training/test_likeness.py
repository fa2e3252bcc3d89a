"""The likeness of what is predicted: what it counts, what it leaves alone, and a run that is trained with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from echovideo_model.errors import WrongModelFile
from echovideo_model.schedule import add_noise, alphas_cumprod, velocity
from echovideo_model.training.likeness import LatentRecogniser, likeness_loss
from echovideo_model.training.loop import train
from echovideo_model.training.objective import Batch, Prediction
from echovideo_model.training.recipe import Recipe
from echovideo_model.training.state import STATE

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("likeness") / "latent_recogniser.safetensors"
    save_file(LatentRecogniser().state_dict(), path)
    return path


def batch_of(recogniser: LatentRecogniser, timesteps: list[int]) -> Batch:
    """Clips whose people are those that the recogniser sees in them."""
    random = torch.Generator().manual_seed(1)
    clip = torch.randn(1, 16, 1, 8, 8, generator=random)
    x0 = clip.expand(len(timesteps), -1, -1, -1, -1)
    with torch.no_grad():
        person = 20 * recogniser(x0[:, :, 0])
    noise, empty = torch.randn(x0.shape, generator=random), torch.zeros(len(timesteps))
    return Batch(x0, noise, torch.tensor(timesteps), empty, empty, person, empty)


def predict(batch: Batch, x0: torch.Tensor) -> Prediction:
    """The v that means `x0`."""
    power = torch.tensor(alphas_cumprod())[batch.timesteps]
    x = add_noise(batch.x0, batch.noise, power)
    share = power.view(-1, 1, 1, 1, 1)
    noise = (x - share.sqrt() * x0) / (1 - share).sqrt()
    return Prediction(velocity(x0, noise, power).float(), x.float(), power)


def test_another_clip_costs_more_than_the_right_one_and_most_at_middling_noise(recogniser: Path) -> None:
    network = LatentRecogniser.load(recogniser)
    batch = batch_of(network, [50, 300, 900])
    right = likeness_loss(network, batch, predict(batch, batch.x0))
    other = likeness_loss(network, batch, predict(batch, batch.x0.flip(3)))
    assert right.abs().max() < 1e-3
    assert (other > 10 * right).all()
    assert other[1] > other[0]
    assert other[1] > other[2]


def test_without_an_identity_there_is_no_likeness(recogniser: Path) -> None:
    network = LatentRecogniser.load(recogniser)
    batch = batch_of(network, [300])
    nobody = replace(batch, id_embedding=torch.zeros_like(batch.id_embedding))
    assert likeness_loss(network, nobody, predict(batch, batch.x0.flip(3))).item() == 0


def test_a_run_with_likeness_trains_other_weights_and_leaves_the_recogniser(
    recipe_of: Callable[..., Recipe], recogniser: Path
) -> None:
    before = recogniser.read_bytes()
    plain = recipe_of()
    train(plain, CPU)
    other = recipe_of(('"run"', '"other"'), more=f'\n[likeness]\nrecogniser = "{recogniser}"\n')
    train(other, CPU)
    name = "weights.transformer.proj_out.weight"
    weights = [load_file(recipe.output / STATE)[name] for recipe in (plain, other)]
    assert not torch.equal(*weights)
    assert all(not name.startswith("weights.recogniser") for name in load_file(other.output / STATE))
    assert recogniser.read_bytes() == before


def test_another_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(WrongModelFile, match=r"other\.safetensors is not a recogniser of latents"):
        LatentRecogniser.load(path)


def test_the_script_learns_to_tell_people_apart_in_their_latents(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(3)
    faces, people = torch.randn(8, 16, 1, 4, 4, generator=random), torch.randn(8, 512, generator=random)
    for number, (face, person) in enumerate(zip(faces, people, strict=True)):
        tensors = {"mean": face[None], "deviation": torch.full((1, 16, 1, 4, 4), 0.1)}
        tensors["id_embedding"] = 20 * person[None]
        save_file(tensors, tmp_path / f"{number}.safetensors")
    output = tmp_path / "out" / "latent_recogniser.safetensors"
    output.parent.mkdir()
    arguments = [tmp_path, "--held-out", tmp_path, "--output", output, "--steps", "60"]
    script = ROOT / "scripts" / "nano" / "train_latent_recogniser.py"
    run = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert "8 frames of 8 held-out people" in run.stdout
    network = LatentRecogniser.load(output)
    cosines = network(0.7 * faces[:, :, 0]) @ torch.nn.functional.normalize(people, dim=-1).T
    assert torch.equal(cosines.argmax(1), torch.arange(8))
