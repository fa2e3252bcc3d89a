"""The errors have one name, wherever the package is imported from."""

from __future__ import annotations

import importlib.util
import pickle

from echovideo_model import errors


def test_a_copy_imported_under_a_folder_s_path_shows_the_short_name() -> None:
    """As ComfyUI imports its custom nodes."""
    spec = importlib.util.spec_from_file_location("/home/me/ComfyUI.echovideo_model.errors", errors.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    family = [kind for kind in vars(copy).values() if isinstance(kind, type)]
    assert len(family) > 5
    assert {kind.__module__ for kind in family} == {"echovideo_model.errors"}


def test_an_error_can_be_sent_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(errors.NoFaceFound("no face found")))
    assert type(again) is errors.NoFaceFound
    assert str(again) == "no face found"
