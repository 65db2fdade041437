from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.errors import InputError
from mixpriv.wire.address import Address, TlsOptions, open_channel

LOCAL = ["127.0.0.1:8001", "127.8.9.1:1", "localhost:8001", "[::1]:8001", "unix:/run/mixpriv/s:1"]
REMOTE = ["10.0.0.7:8001", "node-3.example.org:8001", "localhost.example.org:8001", "[2001:db8::1]:8001", "0.0.0.0:80"]
MALFORMED = [
    "",
    "node",
    "node:",
    ":8001",
    "node:0",
    "node:65536",
    "dns:///node:8001",
    "http://node:8001",
    "unix:relative",
]


class TestAddress:
    @pytest.mark.parametrize("text", LOCAL)
    def test_knows_this_machine(self, text: str) -> None:
        assert Address.parse(text).is_local

    @pytest.mark.parametrize("text", REMOTE)
    def test_knows_other_machines(self, text: str) -> None:
        assert not Address.parse(text).is_local

    @pytest.mark.parametrize("text", MALFORMED)
    def test_refuses_other_forms(self, text: str) -> None:
        with pytest.raises(InputError, match="expected HOST:PORT or unix:/path"):
            Address.parse(text)


class ChannelOptions:
    """Stands in for gRPC's two ways to open a channel and remembers which was taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = ""
        self.options: dict[str, int] = {}
        for kind in ("insecure_channel", "secure_channel"):
            monkeypatch.setattr(f"grpc.{kind}", lambda *args, options, kind=kind: self.take(kind, options))

    def take(self, kind: str, options: list[tuple[str, int]]) -> None:
        self.kind, self.options = kind, dict(options)


class TestChannel:
    @pytest.mark.parametrize("text", LOCAL)
    def test_is_plain_on_this_machine(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        opened = ChannelOptions(monkeypatch)
        open_channel(Address.parse(text), None)
        assert opened.kind == "insecure_channel"
        assert opened.options["grpc.enable_http_proxy"] == 0
        assert opened.options["grpc.max_receive_message_length"] == 2**31 - 1

    @pytest.mark.parametrize("text", REMOTE)
    def test_is_encrypted_elsewhere_unless_refused(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        opened = ChannelOptions(monkeypatch)
        open_channel(Address.parse(text), None)
        assert opened.kind == "secure_channel"
        open_channel(Address.parse(text), None, insecure=True)
        assert opened.kind == "insecure_channel"

    def test_is_encrypted_here_when_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = ChannelOptions(monkeypatch)
        open_channel(Address.parse("127.0.0.1:8001"), TlsOptions())
        assert opened.kind == "secure_channel"

    def test_refuses_both(self) -> None:
        with pytest.raises(InputError, match="tls and insecure exclude each other"):
            open_channel(Address.parse("node:8001"), TlsOptions(), insecure=True)


class TestCertificates:
    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent\.pem or its key: No such file"):
            open_channel(Address.parse("node:8001"), TlsOptions(root_certificates=tmp_path / "absent.pem"))

    def test_text_is_no_certificate(self, tmp_path: Path) -> None:
        path = tmp_path / "text.pem"
        path.write_text("hello", encoding="utf-8")
        with pytest.raises(InputError, match=r"text\.pem: not a usable PEM certificate"):
            open_channel(Address.parse("node:8001"), TlsOptions(certificate_chain=path, private_key=path))

    def test_chain_without_key(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="belong together"):
            open_channel(Address.parse("node:8001"), TlsOptions(certificate_chain=tmp_path / "chain.pem"))
