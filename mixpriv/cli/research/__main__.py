"""Run as a module."""

import sys

from mixpriv.cli.research.main import main

sys.exit(main())
