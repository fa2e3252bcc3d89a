#!/usr/bin/env bash
# Every check of the project: sets itself up, then style, types, tests and the reference's numbers.
# Arguments go to pytest: bash scripts/test.sh -k samplers
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
python -m pip install --quiet --editable ".[test]"
ruff check .
ruff format --check .
mypy
python -m pytest "$@"
python -m benchmarks.parity tests/golden
