from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixpriv import cuda


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
