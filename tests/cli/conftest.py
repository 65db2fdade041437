from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.api import EMBEDDED, Client
from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from mixpriv.engine.in_process import InProcessSegmenter
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
def no_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """No device but what a test asks for."""
    monkeypatch.delenv("MIXPRIV_CUDA_EMULATION", raising=False)


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

    def segmenter(client: Client) -> InProcessSegmenter:
        opened.append(client)
        if client.server in (None, EMBEDDED):
            return InProcessSegmenter(client.bundle.segmenter_path)
        return RemoteSegmenter(client.bundle, client.server)

    monkeypatch.setattr(Client, "_segmenter", segmenter)
    return opened


@pytest.fixture
def run_as_given(bundle: Bundle, in_process: list[Client], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``segment`` on the toy bundle: exit code, standard output, standard error."""

    def segment(*arguments: object) -> tuple[int, str, str]:
        code = main(["segment", "--bundle", str(bundle.directory), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return segment


@pytest.fixture
def run(run_as_given: Run) -> Run:
    """The same in mode mixup, where the arguments name no other."""
    return lambda *arguments: run_as_given("--mode", "mixup", *arguments)
