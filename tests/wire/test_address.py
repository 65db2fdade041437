from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from mixpriv.errors import InputError
from mixpriv.wire.address import Address, parse_servers
from mixpriv.wire.channel import open_channel
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.token import Token

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


class TestSeveral:
    def test_are_kept_in_order(self) -> None:
        assert [a.text for a in parse_servers("b:2, a:1,unix:/run/s")] == ["b:2", "a:1", "unix:/run/s"]

    @pytest.mark.parametrize("text", ["a:1,a:1", ",".join(f"a:{n}" for n in range(1, 66))])
    def test_must_differ_and_be_few(self, text: str) -> None:
        with pytest.raises(InputError, match="expected up to 64 different addresses"):
            parse_servers(text)

    def test_one_of_them_malformed(self) -> None:
        with pytest.raises(InputError, match="server address '': expected HOST:PORT"):
            parse_servers("a:1,")


class TestNames:
    """What a name stands for, told by a resolver that the test answers for."""

    @pytest.fixture(autouse=True)
    def no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
            monkeypatch.delenv(variable, raising=False)

    def answer(self, monkeypatch: pytest.MonkeyPatch, *ips: str) -> None:
        families = [socket.AF_INET6 if ":" in ip else socket.AF_INET for ip in ips]
        found = [(family, 1, 6, "", (ip, 8001)) for family, ip in zip(families, ips, strict=True)]
        monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: found)

    def test_of_several_servers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, "10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1")
        found = Address.parse("seg.example.org:8001").resolve(5)
        assert [(a.text, a.name) for a in found] == [
            ("10.0.0.1:8001", "seg.example.org"),
            ("10.0.0.2:8001", "seg.example.org"),
        ]

    def test_of_one_server_is_left_to_grpc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, "fd00::1", "10.0.0.1")
        (found,) = Address.parse("seg.example.org:8001").resolve(5)
        assert (found.text, found.name) == ("seg.example.org:8001", None)

    def test_cannot_make_a_server_local(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, "127.0.0.1", "127.0.0.2")
        assert not any(address.is_local for address in Address.parse("seg.example.org:8001").resolve(5))

    def test_a_resolver_that_hangs_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: time.sleep(1.5) or [])
        begin = time.monotonic()
        assert len(Address.parse("seg.example.org:8001").resolve(0.1)) == 1
        assert time.monotonic() - begin < 1

    def test_behind_a_proxy_are_the_proxys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, "10.0.0.2", "10.0.0.1")
        monkeypatch.setenv("https_proxy", "http://proxy:3128")
        assert len(Address.parse("seg.example.org:8001").resolve(5)) == 1

    def test_is_what_the_certificate_must_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = ChannelOptions(monkeypatch)
        open_channel(Address("10.0.0.1:8001", "10.0.0.1", "seg.example.org"), None)
        assert opened.options["grpc.ssl_target_name_override"] == "seg.example.org"


class TestToken:
    @pytest.mark.parametrize("end", ["", "\n"])
    def test_from_a_file(self, tmp_path: Path, end: str) -> None:
        (tmp_path / "token").write_text("abcdefgh01234567" + end)
        (tmp_path / "token").chmod(0o600)
        token = Token.load(tmp_path / "token")
        assert token is not None
        assert token.metadata == (("triton-grpc-protocol-token", "abcdefgh01234567"),)
        assert "abcdefgh" not in repr(token)

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MIXPRIV_TOKEN", raising=False)
        assert Token.load(None) is None
        monkeypatch.setenv("MIXPRIV_TOKEN", "abcdefgh01234567")
        assert Token.load(None) == Token("abcdefgh01234567")

    @pytest.mark.parametrize("text", ["", "short", "with a space in it 0123", "with,comma,0123456789", "é" * 20])
    def test_bad_ones_are_refused_and_not_shown(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "token").write_text(text, encoding="utf-8")
        (tmp_path / "token").chmod(0o600)
        with pytest.raises(InputError, match="expected 16 to 256 letters") as caught:
            Token.load(tmp_path / "token")
        assert not text or text not in str(caught.value).replace(str(tmp_path), "")

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
    def test_that_others_may_know_is_refused(self, tmp_path: Path, mode: int) -> None:
        (tmp_path / "token").write_text("abcdefgh01234567")
        (tmp_path / "token").chmod(mode)
        with pytest.raises(InputError, match=rf"token: .*token: expected mode 0600, got {mode:04o}; others may know"):
            Token.load(tmp_path / "token")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_that_a_service_is_shown_by_its_group(self, tmp_path: Path) -> None:
        """Mounted secrets of Kubernetes are so: another user's, readable by our group."""
        path = tmp_path / "token"
        path.write_text("abcdefgh01234567")
        os.chown(path, 12345, -1)
        path.chmod(0o440)
        assert Token.load(path) == Token("abcdefgh01234567")
        path.chmod(0o444)
        with pytest.raises(InputError, match="expected mode 0600, got 0444"):
            Token.load(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"token: .*none: No such file"):
            Token.load(tmp_path / "none")

    def test_never_goes_out_in_plain_text(self) -> None:
        with pytest.raises(InputError, match="plain text would give the token away"):
            open_channel(Address.parse("node:1"), None, insecure=True, token=Token("abcdefgh01234567"))


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
        assert opened.options["grpc.compression_enabled_algorithms_bitset"] == 1

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
        path.chmod(0o600)
        with pytest.raises(InputError, match=r"text\.pem: not a usable PEM certificate"):
            open_channel(Address.parse("node:8001"), TlsOptions(certificate_chain=path, private_key=path))

    def test_chain_without_key(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="belong together"):
            open_channel(Address.parse("node:8001"), TlsOptions(certificate_chain=tmp_path / "chain.pem"))
