"""The commands: mixpriv-client, mixpriv-server, mixpriv."""

import os

# Before NumPy is loaded. Our products are small, and OpenBLAS' threads spin after each, beside the networks' own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
