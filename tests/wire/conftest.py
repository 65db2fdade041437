from __future__ import annotations

import pytest

from mixpriv.wire.contract import SegmenterContract
from tests.toybundle import write_toy_bundle


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> SegmenterContract:
    return SegmenterContract.of(write_toy_bundle(tmp_path_factory.mktemp("toy")))
