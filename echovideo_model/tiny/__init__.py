"""A complete set of tiny seeded checkpoints in the released file layout: for the demonstration and the tests."""

from __future__ import annotations
