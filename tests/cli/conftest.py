from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.client import segment as segmenting
from mixpriv.cli.client.main import main
from mixpriv.client.ledger import EMBEDDED
from mixpriv.client.segment import Client, open_client
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.key import load_or_create_key
from tests.cli.running import Run
from tests.support.phantom import write_reference_model, write_scan
from tests.support.remote import RemoteSegmenter
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("toy"))
    write_reference_model(bundle)
    return bundle


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folders, empty, and no settings from outside."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / "data"))
    for variable in ("MIXPRIV_SERVER", "MIXPRIV_TRACEBACK", "MIXPRIV_DEVICE", "MIXPRIV_CUDA_EMULATION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MIXPRIV_THREADS", "")  # so that what a command sets is undone
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    return tmp_path / "scans"


@pytest.fixture
def scan(folder: Path) -> Path:
    return write_scan(folder / "head.nii.gz")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """No server: the segmenter runs here. Holds every client that was opened."""
    opened: list[Client] = []

    def connect(connection: segmenting.Connection, stack: contextlib.ExitStack) -> Client:
        bundle = connection.bundle
        key = load_or_create_key()
        remote = connection.server != EMBEDDED
        segmenter = RemoteSegmenter(bundle, connection.server) if remote else InProcessSegmenter(bundle.segmenter_path)
        opened.append(open_client(bundle, key, segmenter, device=connection.device))
        return opened[-1]

    monkeypatch.setattr(segmenting, "connect", connect)
    return opened


@pytest.fixture
def run(bundle: Bundle, in_process: list[Client], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``segment`` on the toy bundle: exit code, standard output, standard error."""

    def segment(*arguments: object) -> tuple[int, str, str]:
        code = main(["segment", "--bundle", str(bundle.directory), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return segment
