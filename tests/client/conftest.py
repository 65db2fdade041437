from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.bundle import Bundle
from mixpriv.client.segment import Client, open_client
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.key import load_or_create_key
from tests.support.phantom import write_reference_model
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("toy"))
    write_reference_model(bundle)
    return bundle


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folders, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def client(bundle: Bundle, home: Path) -> Client:
    return open_client(bundle, load_or_create_key(), InProcessSegmenter(bundle.segmenter_path))
