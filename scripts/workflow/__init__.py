"""The parts of scripts/make_workflows.py."""
