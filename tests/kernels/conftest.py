from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixpriv import cuda
from tests.kernels.emulation import build_emulation


@pytest.fixture(scope="session")
def emulation(request: pytest.FixtureRequest) -> Path:
    """The emulation's file."""
    return build_emulation(request.config.cache.mkdir("cuda-emulation"))


@pytest.fixture(scope="module", params=["emulation", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """CUDA devices, emulated or real, for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(cuda.EMULATION, raising=False)
        if request.param == "emulation":
            patch.setenv(cuda.EMULATION, str(request.getfixturevalue("emulation")))
        elif why := cuda.problem():
            pytest.skip(why)
        yield request.param
