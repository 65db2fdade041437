"""A bundle in two parts: each suffices for its side, is refused by the other, and names the whole."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from mixpriv.export.split import split
from mixpriv.export.targets import export_bundle

import mixpriv
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.cli.client.main import main as client_main
from mixpriv.cli.research.main import main
from mixpriv.cli.server.main import main as server_main
from mixpriv.errors import InputError, OutputError
from mixpriv.server.repository import write_repository
from mixpriv.wire.contract import SegmenterContract
from tests.support.phantom import write_scan
from tests.support.toybundle import write_toy_bundle, write_toy_crop_bundle

CLIENT = {"unmixer.onnx", "local.onnx", "extractor.onnx", "reference.npz"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_bundle(tmp_path_factory.mktemp("whole"), local=True)


@pytest.fixture(scope="module")
def parts(whole: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split(whole, tmp_path_factory.mktemp("split") / "parts", {})


class TestParts:
    def test_each_has_its_own_files(self, parts: Path) -> None:
        names = {side: {path.name for path in (parts / side).iterdir()} for side in ("client", "server")}
        assert names["client"] == CLIENT | {"bundle.json", "LICENSE.txt"}
        assert names["server"] == {"segmenter.onnx", "bundle.json", "LICENSE.txt"}

    def test_both_name_the_whole(self, whole: Bundle, parts: Path) -> None:
        client, server = load_bundle(parts / "client"), load_bundle(parts / "server")
        assert (client.part, server.part) == ("client", "server")
        assert client.files == server.files == whole.files
        assert client.fingerprint == server.fingerprint == whole.fingerprint
        contract = SegmenterContract.of(client)
        assert contract == SegmenterContract.of(server) == SegmenterContract.of(whole)

    def test_of_another_network_do_not_go_together(self, parts: Path, tmp_path: Path) -> None:
        other = split(write_toy_bundle(tmp_path / "toy", sharpness=300, local=True), tmp_path / "parts", {})
        client, server = (SegmenterContract.of(load_bundle(f)) for f in (parts / "client", other / "server"))
        difference = client.difference(server.parameters, (server.mixture, server.segmentation_mixture))
        assert re.match(r"it serves toy-t1 0\.1\.0 \(fingerprint .*\), this client needs toy-t1", str(difference))

    def test_a_bundle_whose_record_names_no_files(self, tmp_path: Path) -> None:
        crop = write_toy_crop_bundle(tmp_path / "crop")
        parts = split(crop, tmp_path / "parts", {})
        client = load_bundle(parts / "client")
        assert client.files is not None
        assert client.files.keys() == {"segmenter.onnx", "unmixer.onnx", "reference.npz"}
        assert not client.has_local

    def test_the_client_s_does_not_tell_how_s_was_trained(self, tmp_path: Path) -> None:
        parts = split(load_bundle("hippocampus"), tmp_path / "parts", {})
        records = {s: json.loads((parts / s / "bundle.json").read_text()) for s in ("client", "server")}
        for name in ("config", "trained"):
            assert name in records["server"]
            assert name not in records["client"]
        assert records["client"]["limits"] == records["server"]["limits"]

    def test_a_mixture_of_the_two_is_refused(self, whole: Bundle, parts: Path, tmp_path: Path) -> None:
        folder = tmp_path / "mixed"
        folder.mkdir()
        for path in (*(parts / "server").iterdir(), *(parts / "client").iterdir()):
            (folder / path.name).write_bytes(path.read_bytes())
        with pytest.raises(InputError, match=r"segmenter\.onnx: expected no such file in the client's part$"):
            load_bundle(folder)


class TestLicence:
    def test_the_bundle_s(self, parts: Path) -> None:
        text = (parts / "server" / "LICENSE.txt").read_text()
        assert text == "toy-t1 0.1.0, the server's part: the segmenter.\n\nLicence: Apache-2.0\n"

    def test_one_for_each(self, whole: Bundle, tmp_path: Path) -> None:
        own = tmp_path / "own.txt"
        own.write_text("\n  All rights reserved\nAsk us.\n", encoding="utf-8")
        command = ["split", str(whole.directory), "-o", str(tmp_path / "parts"), "--server-licence", str(own)]
        assert main(command) == 0
        client, server = (load_bundle(tmp_path / "parts" / side) for side in ("client", "server"))
        assert (client.licence, server.licence) == ("Apache-2.0", "All rights reserved")
        assert (server.directory / "LICENSE.txt").read_bytes() == own.read_bytes()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\xff\xfe", "expected a licence as text in UTF-8"),
            (b"\n \n", "first line: licence: expected a name of 1 to 200 printable characters"),
            (b"\x1b[2Jx", "first line: licence: expected a name of 1 to 200 printable"),
            (b"x" * 300, "first line: licence: expected a name of 1 to 200 printable"),
        ],
    )
    def test_one_that_is_none(self, whole: Bundle, content: bytes, message: str, tmp_path: Path) -> None:
        (tmp_path / "own").write_bytes(content)
        with pytest.raises(InputError, match=f"own: {message}"):
            split(whole, tmp_path / "parts", {"client": tmp_path / "own"})
        assert not (tmp_path / "parts").exists()


class TestRefused:
    def test_the_client_s_by_the_server(self, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = "bundle toy-t1: this is the client's part, expected the server's part or the whole bundle"
        assert server_main(["--bundle", str(parts / "client"), "--port", "0"]) == 2
        assert capsys.readouterr().err == f"mixpriv-server: {said}\n"
        with pytest.raises(InputError, match=said):
            write_repository(load_bundle(parts / "client"), tmp_path / "models")
        with pytest.raises(InputError, match=said):
            export_bundle(load_bundle(parts / "client"), "onnx", tmp_path / "onnx")

    @pytest.mark.parametrize("arguments", [[], ["--mode", "local"], ["--server", "host.invalid:1"]])
    def test_the_server_s_by_the_client(
        self, parts: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scan = str(write_scan(tmp_path / "scan.nii.gz"))
        assert client_main(["segment", scan, "--bundle", str(parts / "server"), *arguments]) == 2
        said = "bundle toy-t1: this is the server's part, expected the client's part or the whole bundle"
        assert capsys.readouterr().err == f"mixpriv-client: error: {said}\n"

    @pytest.mark.parametrize("arguments", [[], ["--mode", "mixup"], ["--server", "embedded"]])
    def test_the_client_s_without_a_server(
        self, parts: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scan = str(write_scan(tmp_path / "scan.nii.gz"))
        assert client_main(["segment", scan, "--bundle", str(parts / "client"), *arguments]) == 2
        said = "bundle toy-t1: its network is at its owner's server: expected a server or mode local"
        assert capsys.readouterr().err == f"mixpriv-client: error: {said}\n"

    def test_a_part_is_not_split_again(self, parts: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="this is the server's part, expected the whole bundle"):
            split(load_bundle(parts / "server"), tmp_path / "again", {})

    def test_a_folder_that_exists(self, whole: Bundle, parts: Path) -> None:
        before = {path: hashlib.sha256(path.read_bytes()).digest() for path in parts.rglob("*.*")}
        with pytest.raises(OutputError, match="parts already exists"):
            split(whole, parts, {})
        assert before == {path: hashlib.sha256(path.read_bytes()).digest() for path in parts.rglob("*.*")}


class TestLocal:
    def test_the_client_s_part_has_the_mode_that_ships(self, whole: Bundle, parts: Path, tmp_path: Path) -> None:
        scan = write_scan(tmp_path / "scan.nii.gz")
        result = mixpriv.segment(scan, parts / "client", mode="local")
        assert result.exchanges == ()
        alike = result.labels == mixpriv.segment(scan, whole, mode="none").labels
        assert np.mean(alike) > 0.999, "the toy's networks do the same"

    def test_without_its_network_there_is_no_such_mode(self, tmp_path: Path) -> None:
        crop = split(write_toy_crop_bundle(tmp_path / "crop"), tmp_path / "parts", {}) / "client"
        with pytest.raises(
            InputError, match=r"^bundle toy-crop has no mode local: its unmixer needs a server's answer$"
        ):
            mixpriv.Client(crop, mode="local")
        with pytest.raises(
            InputError, match=r"^bundle toy-crop: its network is at its owner's server: expected a server$"
        ):
            mixpriv.Client(crop)
