"""What strangers see of the pack: its version, its addresses, its pictures, its forms."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

import echovideo_model
from testbed.readme import README

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RAW = "https://raw.githubusercontent.com/comfyui-echovideo/ComfyUI-EchoVideo/main/"


def test_there_is_one_version() -> None:
    assert PROJECT["project"]["version"] == echovideo_model.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {echovideo_model.__version__}" in changelog


@pytest.mark.parametrize(("what", "shape"), [("Icon", 1), ("Banner", 21 / 9)])
def test_the_registry_s_pictures_are_in_the_repository_and_of_its_shapes(what: str, shape: float) -> None:
    address = PROJECT["tool"]["comfy"][what]
    assert address.startswith(RAW)
    with Image.open(ROOT / address.removeprefix(RAW)) as picture:
        assert picture.width / picture.height == pytest.approx(shape)
        assert what != "Icon" or picture.width <= 400


def test_addresses_point_at_this_repository() -> None:
    urls = PROJECT["project"]["urls"]
    assert {"Repository", "Documentation", "Bug Tracker"} <= urls.keys()
    for name in ("Documentation", "Bug Tracker", "Changelog"):
        assert urls[name].startswith(urls["Repository"])
    assert README.startswith("# ComfyUI-EchoVideo")


@pytest.mark.parametrize(
    "file", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda file: file.name
)
def test_a_workflow_runs_scripts_that_are_there(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    called = re.findall(r"(?<![\w./])(?:ComfyUI-EchoVideo/)?(scripts/\S+)", file.read_text(encoding="utf-8"))
    assert called
    assert [script for script in called if not (ROOT / script).is_file()] == []


def test_a_report_of_a_problem_asks_for_what_doctor_says() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/problem.yml").read_text(encoding="utf-8"))
    asked = {part["id"]: part for part in form["body"]}
    assert "echovideo doctor" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"]


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == echovideo_model.__version__
    assert citation["preferred-citation"]["url"] == PROJECT["project"]["urls"]["Paper"]


@pytest.mark.parametrize("name", ["example_workflows", "example", "examples", "workflow"])
def test_no_other_folder_takes_the_place_of_the_templates(name: str) -> None:
    """ComfyUI serves a pack's templates from the first of these that exists, and `workflows` is the last it tries."""
    assert not (ROOT / name).exists()
