#!/usr/bin/env bash
# The whole job on a bare machine: sets itself up, then runs `echovideo demo`.
exec "${PYTHON:-python3}" "$(dirname "$0")/run.py" demo "$@"
