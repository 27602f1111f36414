"""`python -m quantfleet`: the command line."""

import sys

from quantfleet.cli.main import main

sys.exit(main())
