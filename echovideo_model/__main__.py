"""`python -m echovideo_model` is the command `echovideo`."""

import sys

from .cli import main

sys.exit(main())
