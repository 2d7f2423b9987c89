"""The command line, as `python -m snnconvert`."""

import sys

from snnconvert.cli.main import main

sys.exit(main())
