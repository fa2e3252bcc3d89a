#!/usr/bin/env bash
# The whole job on a bare machine: sets itself up, then makes a video of a drawn person with the small model that ships.
exec "${PYTHON:-python3}" "$(dirname "$0")/run.py" demo "$@"
