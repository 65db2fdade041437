"""Settings for all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.kernels.emulation import build_emulation

# The cores are shared: how long an example takes says nothing.
settings.register_profile("mixpriv", deadline=None)
settings.load_profile("mixpriv")


@pytest.fixture(scope="session")
def emulation(request: pytest.FixtureRequest) -> Path:
    """The file of an extension that emulates CUDA devices on the CPU."""
    return build_emulation(request.config.cache.mkdir("cuda-emulation"))
