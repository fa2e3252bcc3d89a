"""The paper's Table 2 on the nano model: the whole, without the second stage, without IITF.

    python -m benchmarks.ablation STATE [--stills 700] [--clips 300] [--people 50]

STATE is what scripts/train_nano.sh has left. Each arm is trained from nothing by recipes/nano_*.toml, on the same
examples with the same seeds and steps, and judged on people and combinations of words that training never sees
(scripts/nano/judge_videos.py):

| arm | identity in IITF | face latent in stage two |
|---|---|---|
| whole | yes | shown to three samples in ten |
| without stage two | yes | never; the second half of the steps goes on as the first |
| without IITF | never, in training and in the videos | shown to three samples in ten |

Prints one table. STATE/ablation keeps the arms, so the same command resumes; its sheet.png shows the same people in all
of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from echovideo_model.devices import computes_slowly
from echovideo_model.files import write_atomically
from echovideo_model.picture import INK, PAPER, TITLE_SIZE, line_height, write
from echovideo_model.training.loop import train
from echovideo_model.training.recipe import Dropout, Every, Recipe, read_recipe

ROOT = Path(__file__).parents[1]
FIGURES = {
    "own": "similarity to the own photo",
    "strangers": "similarity to strangers",
    "five": "the right one of 64 among the nearest five",
    "place": "place",
    "colour": "clothing colour",
    "camera": "camera move",
    "action": "action",
    "motion": "change from frame to frame, of 255",
}


@dataclass(frozen=True)
class Arm:
    """One way to train, and how its videos are made."""

    title: str
    iitf: bool = True
    second_stage: bool = True

    @property
    def request(self) -> list[str]:
        """What judge_videos.py is told: a model is shown what its training showed it."""
        strength = [] if self.iitf else ["--strength", "0"]
        return strength if self.second_stage else [*strength, "--no-face-latent"]


ARMS = {
    "whole": Arm("whole"),
    "without_stage_two": Arm("without stage two", second_stage=False),
    "without_iitf": Arm("without IITF", iitf=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("state", type=Path)
    parser.add_argument(
        "--stills", type=int, default=700, help="steps of the first stage (default: %(default)s)"
    )
    parser.add_argument(
        "--clips", type=int, default=300, help="steps of the second stage (default: %(default)s)"
    )
    parser.add_argument("--people", type=int, default=50, help="judged (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    state, steps = arguments.state, (arguments.stills, arguments.clips)
    figures = {}
    for name, arm in ARMS.items():
        transformer = train_arm(name, arm, state, steps)
        figures[name] = judge_arm(arm, transformer, state, state / "ablation" / name, arguments.people)
    report(figures, arguments.people)
    save_sheet(state / "ablation")


def train_arm(name: str, arm: Arm, state: Path, steps: tuple[int, int]) -> Path:
    """The folder of the trained transformer. Arms whose first stage is the same share it."""
    output = state / "ablation" / ("stills" if arm.iitf else "stills_without_iitf")
    stills = plan("stills", state, arm, output, steps[0])
    first = train(stills, torch.device("cpu")) / "transformer"
    clips = plan("clips", state, arm, state / "ablation" / name / "run", steps[1])
    clips = replace(clips, model=replace(clips.model, transformer=first))
    if not arm.second_stage:
        clips = replace(clips, face_latent=0.0)
    return train(clips, torch.device("cpu")) / "transformer"


def plan(stage: str, state: Path, arm: Arm, output: Path, steps: int) -> Recipe:
    """Nano's recipe of a stage, shorter and without samples."""
    recipe = read_recipe(ROOT / "recipes" / f"nano_{stage}.toml")
    recipe = replace(
        recipe, examples=state / stage, output=output, steps=steps, every=Every(20, 100), samples=None
    )
    if computes_slowly(torch.bfloat16, torch.device("cpu")):
        recipe = replace(recipe, batch=replace(recipe.batch, precision="fp32"))
    if arm.iitf:
        return recipe
    missing = recipe.dropout.text + recipe.dropout.both  # the text is missing as often, the identity always
    return replace(recipe, dropout=Dropout(text=0, identity=1 - missing, both=missing))


def judge_arm(arm: Arm, transformer: Path, state: Path, folder: Path, people: int) -> dict[str, float]:
    """The means of judge_videos.py over one video of each person."""
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    links = {parts / part.name: part for part in (state / "models").iterdir()}
    links |= {parts / "transformer": transformer, folder / "judges.pt": state / "judges.pt"}
    for link, source in links.items():
        link.unlink(missing_ok=True)
        link.symlink_to(source.resolve())
    models = folder / "models"
    run_script("pack.py", parts, "--output", models)
    run_script("judge_videos.py", folder, "--models", models, "--people", people, "--seeds", 1, *arm.request)
    figures: dict[str, float] = json.loads((folder / "judged.json").read_text("utf-8"))["videos"]
    return figures


def run_script(name: str, *arguments: object) -> None:
    """A script of scripts/nano, as the command line runs it."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / "nano" / name), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def report(figures: dict[str, dict[str, float]], people: int) -> None:
    print(f"{people} people never seen, one video each")
    print(f"| | {' | '.join(arm.title for arm in ARMS.values())} |\n|---|{'---|' * len(ARMS)}")
    for key, text in FIGURES.items():
        print(f"| {text} | {' | '.join(f'{figures[name][key]:.3f}' for name in ARMS)} |")


def save_sheet(folder: Path) -> None:
    """Each arm's sheet under its title: photo, five frames of the video, five of the real clip."""
    sheets = [Image.open(folder / name / "judged.png") for name in ARMS]
    top = line_height(TITLE_SIZE) + 12
    page = Image.new(
        "RGB", (max(sheet.width for sheet in sheets), sum(top + sheet.height for sheet in sheets)), PAPER
    )
    y = 0
    for sheet, arm in zip(sheets, ARMS.values(), strict=True):
        write(ImageDraw.Draw(page), (0, y + 6), [arm.title], TITLE_SIZE, INK)
        page.paste(sheet, (0, y + top))
        y += top + sheet.height
    with write_atomically(folder / "sheet.png") as temporary:
        page.save(temporary, "PNG")


if __name__ == "__main__":
    main()
