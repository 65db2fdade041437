from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.bundle import load_bundle
from mixpriv.wire.contract import SegmenterContract
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = write_toy_bundle(tmp_path_factory.mktemp("toy")).directory
    return str(folder)


@pytest.fixture(scope="session")
def contract(toy_folder: str) -> SegmenterContract:
    return SegmenterContract.of(load_bundle(toy_folder))
