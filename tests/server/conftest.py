from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixpriv.bundle import Bundle
from mixpriv.server.triton import TritonServer
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_bundle(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[TritonServer]:
    """A real tritonserver on loopback TCP; tests must leave it as it was."""
    with TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0) as running:
        yield running


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No shared memory of servers that this process started may be left."""
    yield
    assert list(Path("/dev/shm").glob(f"mixpriv-{os.getpid()}-*")) == []
