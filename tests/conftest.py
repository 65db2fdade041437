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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folders, empty, and no settings from outside."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / "data"))
    for variable in ("MIXPRIV_SERVER", "MIXPRIV_TRACEBACK", "MIXPRIV_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MIXPRIV_THREADS", "")  # so that what a command sets is undone
    return tmp_path
