"""Run as a module."""

import sys

from mixpriv.cli.client.main import main

sys.exit(main())
