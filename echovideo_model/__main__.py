"""`python -m echovideo_model` runs the command `echovideo`."""

import sys

from .cli import main

sys.exit(main())
