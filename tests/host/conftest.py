"""The fixtures of testbed/fixtures.py: a host, and the folders that it works in."""

from testbed.fixtures import base, folder, host, released

__all__ = ["base", "folder", "host", "released"]
