"""Receipts: what one says, also of a segmentation that failed, and that any change of it or of the wire is found."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import nibabel as nib
import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from mixpriv.key import ClientKey
from mixpriv.wire.contract import SegmenterContract
from tests.cli.running import started
from tests.support.certificates import Authority, needs_openssl
from tests.wire.fakeserver import FakeServer, response
from tests.wire.serving import listening

Segment = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fake(bundle: Bundle) -> FakeServer:
    answer = np.zeros((1, len(bundle.classes) - 1, *bundle.grid_shape), np.uint8)
    answer[:, 0] = 200
    return FakeServer(SegmenterContract.of(bundle), lambda context: response(answer))


@pytest.fixture
def address(fake: FakeServer) -> Iterator[str]:
    with listening(fake) as place:
        yield place


@pytest.fixture
def segment(bundle: Bundle, capsys: pytest.CaptureFixture[str], address: str) -> Segment:
    def run(*arguments: object, server: str = address) -> tuple[int, str, str]:
        command = ["segment", "--bundle", bundle.directory, "--mode", "mixup", "--server", server, *arguments]
        code = main(list(map(str, command)))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Segment:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["verify", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def receipt_in(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())["receipt"])


class TestReceipt:
    def test_says_what_was_sent_to_whom(
        self, segment: Segment, verify: Segment, scan: Path, tmp_path: Path, fake: FakeServer, address: str,
        bundle: Bundle,
    ) -> None:  # fmt: skip
        path, wire = tmp_path / "r.json", tmp_path / "wire"
        assert segment(scan, "--references", 2, "--receipt", path, "--save-wire", wire)[0] == 0
        said = receipt_in(path)
        assert said["bundle"] == {"name": bundle.name, "version": bundle.version, "fingerprint": bundle.fingerprint}
        assert (said["mode"], said["re_identification_check"]) == ("mixup", "not made")
        assert (said["may_have_left_this_machine"], said["segmentation"]) == (True, "written")
        contents = [request.raw_input_contents[0] for request in fake.requests]
        assert [one["sha256"] for one in said["requests"]] == [hashlib.sha256(c).hexdigest() for c in contents]
        for one in said["requests"]:
            (sent,) = one["sent"]
            assert (sent["server"], sent["certificate"], sent["answered"]) == (address, "no certificate", True)
        code, out, _ = verify(path, wire)
        assert code == 0
        assert f"to {address} (no certificate), answered" in out
        assert f"{wire}: the requests and answers are those of the receipt" in out

    def test_holds_nothing_of_the_scan(self, segment: Segment, scan: Path, tmp_path: Path) -> None:
        """Neither its name nor anything by which two scans of one grid differ, but for digests."""
        named = scan.rename(scan.with_name("Jane-Doe-1970.nii.gz"))
        assert segment(named, "--receipt", tmp_path / "r.json")[0] == 0
        said = receipt_in(tmp_path / "r.json")
        assert "jane" not in json.dumps(said).lower()
        for key in ("time", "requests", "software", "bundle", "mode", "re_identification_check"):
            said.pop(key)
        assert said == {"may_have_left_this_machine": True, "segmentation": "written"}

    @needs_openssl
    def test_names_the_certificate_of_the_connection(
        self, segment: Segment, scan: Path, tmp_path: Path, fake: FakeServer
    ) -> None:
        authority = Authority(tmp_path / "pki")
        party = authority.server()
        with listening(fake, "localhost", party) as server:
            options = ("--tls-ca", authority.certificate, "--receipt", tmp_path / "r.json")
            assert segment(scan, *options, server=server)[0] == 0
        (one,) = receipt_in(tmp_path / "r.json")["requests"]
        der = ssl.PEM_cert_to_DER_cert(party.certificate.read_text())
        assert [sent["certificate"] for sent in one["sent"]] == [f"sha256:{hashlib.sha256(der).hexdigest()}"]

    def test_of_several_scans_is_a_file_each(self, segment: Segment, scan: Path, tmp_path: Path) -> None:
        other = scan.with_name("other.nii.gz")
        other.write_bytes(scan.read_bytes())
        code, _, err = segment(scan, other, "--receipt", tmp_path / "r.json")
        assert code == 2
        assert "expected a folder for the receipts of several scans" in err
        assert segment(scan, other, "--receipt", tmp_path / "receipts")[0] == 0
        names = {path.name for path in (tmp_path / "receipts").iterdir()}
        assert names == {"head_receipt.json", "other_receipt.json"}

    def test_is_not_overwritten(self, segment: Segment, scan: Path, tmp_path: Path, fake: FakeServer) -> None:
        (tmp_path / "r.json").write_text("old")
        code, _, err = segment(scan, "--receipt", tmp_path / "r.json")
        assert (code, fake.requests) == (2, [])
        assert "r.json: output exists" in err

    @pytest.mark.parametrize("options", [("--mode", "local"), ("--mode", "none")])
    def test_needs_something_that_is_sent(
        self, bundle: Bundle, scan: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["segment", scan, "--bundle", bundle.directory, "--receipt", "r.json", *options]
        assert main(list(map(str, arguments))) == 2
        assert "--receipt" in capsys.readouterr().err


class TestFailures:
    def test_after_a_request_leave_a_receipt(
        self, segment: Segment, verify: Segment, scan: Path, tmp_path: Path, fake: FakeServer
    ) -> None:
        """The second of two is refused: one was answered, of the other it is not known what arrived."""
        well = fake.answer
        fake.answer = lambda context: (
            well(context) if len(fake.requests) == 1 else context.abort(grpc.StatusCode.INTERNAL, "broken")
        )
        assert segment(scan, "--references", 2, "--receipt", tmp_path / "r.json")[0] == 3
        said = receipt_in(tmp_path / "r.json")
        assert said["segmentation"] == "not written"
        assert [[sent["answered"] for sent in one["sent"]] for one in said["requests"]] == [[True], [False]]
        assert [one["answer_sha256"] is None for one in said["requests"]] == [False, True]
        assert "no usable answer, it may have arrived" in verify(tmp_path / "r.json")[1]

    def test_tell_of_every_server_that_got_it(
        self, segment: Segment, scan: Path, tmp_path: Path, fake: FakeServer, address: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("mixpriv.wire.servers.SILENCE_S", 30)  # a busy machine is no silent server
        bad = FakeServer(fake.contract, lambda context: context.abort(grpc.StatusCode.INTERNAL, "broken"))
        with listening(bad) as first:
            path = tmp_path / "r.json"
            assert segment(scan, "--receipt", path, "--references", 2, server=f"{first},{address}")[0] == 0
            said = [one for request in receipt_in(path)["requests"] for one in request["sent"]]
            assert {one["server"]: one["answered"] for one in said} == {first: False, address: True}

    def test_before_a_request_leave_none(self, segment: Segment, scan: Path, tmp_path: Path, fake: FakeServer) -> None:
        assert segment(scan, "--receipt", tmp_path / "r.json", server="127.0.0.1:1")[0] == 3
        scan.write_bytes(b"broken")
        assert segment(scan, "--receipt", tmp_path / "r.json")[0] == 2
        assert (list(tmp_path.glob("*.json")), fake.requests) == ([], [])

    def test_of_an_output_leave_one(self, segment: Segment, scan: Path, tmp_path: Path, fake: FakeServer) -> None:
        """Somebody makes the output while the server works: nothing of it is lost, and the receipt says so."""
        well = fake.answer

        def slowly(context: Any) -> Any:
            (scan.parent / "head_dseg.nii.gz").write_text("another's")
            return well(context)

        fake.answer = slowly
        assert segment(scan, "--receipt", tmp_path / "r.json")[0] == 2
        assert receipt_in(tmp_path / "r.json")["segmentation"] == "not written"
        assert (scan.parent / "head_dseg.nii.gz").read_text() == "another's"

    def test_by_a_signal_leave_one(self, bundle: Bundle, scan: Path, tmp_path: Path, fake: FakeServer) -> None:
        """As a process, interrupted while the server works."""
        import signal
        import threading

        reached, go_on = threading.Event(), threading.Event()

        def hang(context: Any) -> Any:
            reached.set()
            go_on.wait(30)
            return context.abort(grpc.StatusCode.INTERNAL, "too late")

        fake.answer = hang
        with listening(fake) as server:
            options = ("--bundle", bundle.directory, "--mode", "mixup", "--server", server)
            with started("segment", scan, *options, "--receipt", tmp_path / "r.json") as running:
                assert reached.wait(60)
                running.send_signal(signal.SIGINT)
                running.communicate(timeout=60)
            go_on.set()
        assert running.returncode == 130
        said = receipt_in(tmp_path / "r.json")
        assert (said["segmentation"], said["requests"][0]["answer_sha256"]) == ("not written", None)


class TestVerify:
    @pytest.fixture
    def kept(self, segment: Segment, scan: Path, tmp_path: Path) -> tuple[Path, Path]:
        assert segment(scan, "--receipt", tmp_path / "r.json", "--save-wire", tmp_path / "wire")[0] == 0
        return tmp_path / "r.json", tmp_path / "wire"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"mode": "mixup"', '"mode": "shielded"', "the signature does not fit"),
            ('"not made"', '"passed"', "the signature does not fit"),
            ('\n  "public_key"', '\n  "note": "x",\n  "public_key"', "changed after it was signed"),
            ('{\n  "receipt"', '{\n  "receipt": {},\n  "receipt"', "changed after it was signed"),
            ("}\n", "}\n\n", "changed after it was signed"),
            ("{", "[" * 100_000, "not a receipt of mixpriv"),
            ('"signature"', '"other"', "not a receipt of mixpriv"),
            ('"signature": "', '"signature": "zz', "the signature does not fit"),
        ],
    )
    def test_finds_any_change(self, kept: tuple[Path, Path], verify: Segment, old: str, new: str, message: str) -> None:
        text = kept[0].read_text()
        changed = (
            text[: text.rindex(old)] + new + text[text.rindex(old) + len(old) :]
            if old == "}\n"
            else (text.replace(old, new, 1))
        )
        assert changed != text
        kept[0].write_text(changed)
        code, out, err = verify(kept[0])
        assert (code, out) == (2, "")
        assert message in err

    def test_finds_another_wire(self, kept: tuple[Path, Path], verify: Segment) -> None:
        for name, what in (("segmentation_mixture.nii.gz", "received"), ("mixture.nii.gz", "sent")):
            image = nib.load(kept[1] / name)
            voxels = np.asanyarray(image.dataobj).copy()
            voxels.flat[7] = voxels.flat[7] / 2 + 1
            (kept[1] / name).unlink()
            nib.save(nib.Nifti1Image(voxels, image.affine), kept[1] / name)
            code, _, err = verify(*kept)
            assert code == 2
            assert f"what was {what} in request 1 is not what the receipt says" in err

    def test_finds_a_wire_that_differs_by_less_than_fp16_tells(self, kept: tuple[Path, Path], verify: Segment) -> None:
        image = nib.load(kept[1] / "mixture.nii.gz")
        nib.save(
            nib.Nifti1Image(np.asarray(image.dataobj) + np.float32(1e-6), image.affine), kept[1] / "mixture.nii.gz"
        )
        code, _, err = verify(*kept)
        assert code == 2
        assert "expected values of FP16 sent and of UINT8 received" in err

    def test_knows_whose_key_it_is(
        self, kept: tuple[Path, Path], verify: Segment, capsys: pytest.CaptureFixture[str], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        assert main(["key", "public"]) == 0
        own = capsys.readouterr().out.strip()
        assert len(bytes.fromhex(own)) == 32
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
        assert "has no key yet: give its owner's by --key" in verify(kept[0])[2]
        assert not (tmp_path / "elsewhere").exists()
        for typed in (own, own.upper(), f" {own}\n"):
            assert verify(kept[0], "--key", typed)[0] == 0
        assert f"got that of {own}" in verify(kept[0], "--key", "0" * 64)[2]
        assert "expected 64 hexadecimal digits" in verify(kept[0], "--key", "key")[2]

    def test_a_forger_has_another_key(self, kept: tuple[Path, Path], verify: Segment) -> None:
        from mixpriv.client import receipt

        document = json.loads(kept[0].read_text())
        document["receipt"]["mode"] = "shielded"
        forger = receipt._signing_key(ClientKey(bytes(32)))
        document["public_key"] = receipt.public_key(ClientKey(bytes(32)))
        document["signature"] = forger.sign(receipt._DOMAIN + receipt._encode(document["receipt"])).hex()
        kept[0].write_bytes(receipt._encode(document))
        assert "expected the signature of key" in verify(kept[0])[2]

    def test_reads_no_endless_file(self, verify: Segment) -> None:
        assert "/dev/zero: not a receipt of mixpriv" in verify("/dev/zero", "--key", "0" * 64)[2]
