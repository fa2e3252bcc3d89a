#!/usr/bin/env bash
# Every check of the project: sets itself up, then style, types, tests and the reference's numbers.
# Arguments go to pytest: bash scripts/test.sh -k samplers
exec "${PYTHON:-python3}" "$(dirname "$0")/run.py" test "$@"
