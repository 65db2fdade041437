"""Run as a module."""

import sys

from mixpriv.cli.bids.main import main

sys.exit(main())
