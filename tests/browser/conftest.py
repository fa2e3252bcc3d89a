"""Fixtures of the browser tests: those of the host tests, and Chromium. Needs playwright (pip) and a Chromium."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOST_TESTS = Path(__file__).parents[1] / "host"
sys.path.insert(0, str(Path(__file__).parent))

from page import CHROMIUM, SETTINGS, Browser, browser  # noqa: E402

_spec = importlib.util.spec_from_file_location("host_fixtures", HOST_TESTS / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
folder, released, host = _fixtures.folder, _fixtures.released, _fixtures.host


@pytest.fixture(scope="session")
def base(folder: Path, released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's base directory: tiny models, photos with two people, one and nobody, and no welcome dialog."""
    import checkpoints
    from photos import write_photos

    if importlib.util.find_spec("playwright") is None or CHROMIUM is None:
        pytest.skip("the browser tests need playwright (pip install playwright) and Chromium")
    made = tmp_path_factory.mktemp("comfy")
    checkpoints.write_checkpoints(made, released)
    write_photos(made / "input")
    settings = made / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    return made


@pytest.fixture
def page(host) -> Iterator[Browser]:  # type: ignore[no-untyped-def]
    """A fresh page; at its end, nothing of ours may have gone wrong in it."""
    with browser(host.address) as opened:
        opened.setting("Comfy.ColorPalette", "dark")  # settings are the host's, and outlive a page
        yield opened
        assert opened.complaints == []
