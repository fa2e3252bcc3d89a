"""Fixtures of the browser tests: those of the host tests, and Chromium. Needs playwright (pip) and a Chromium."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import checkpoints
from testbed.fixtures import folder, host, released
from testbed.harness import Host
from testbed.page import CHROMIUM, SETTINGS, Browser, browser
from testbed.photos import write_photos

__all__ = ["folder", "host", "released"]


@pytest.fixture(scope="session")
def base(folder: Path, released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's base directory: tiny models, photos with two people, one and nobody, and no welcome dialog."""
    if importlib.util.find_spec("playwright") is None or CHROMIUM is None:
        pytest.skip("the browser tests need playwright (pip install playwright) and Chromium")
    made = tmp_path_factory.mktemp("comfy")
    checkpoints.write_checkpoints(made, released)
    write_photos(made / "input")
    settings = made / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    return made


@pytest.fixture
def page(host: Host) -> Iterator[Browser]:
    """A fresh page; at its end, nothing of ours may have gone wrong in it."""
    with browser(host.address) as opened:
        opened.setting("Comfy.ColorPalette", "dark")  # settings are the host's, and outlive a page
        yield opened
        assert opened.complaints == []
