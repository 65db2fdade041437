"""Run as a module."""

import sys

from mixpriv.cli.server.main import main

sys.exit(main())
