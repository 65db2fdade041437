"""Operators that are trusted apart: who gets what, also when servers fail, and which of them are not apart."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from mixpriv.errors import InputError, ServerUnavailableError
from mixpriv.wire import servers
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.spread import Spread
from mixpriv.wire.tls import TlsOptions
from tests.support.certificates import Authority, Party, needs_openssl
from tests.wire.fakeserver import FakeServer, response
from tests.wire.serving import listening

HOSTS = [f"127.0.0.{n}" for n in range(1, 6)]


@pytest.fixture
def fakes(contract: SegmenterContract) -> list[FakeServer]:
    def well(context: object) -> object:
        return response(np.full((1, 5, 16, 16, 16), 7, np.uint8))

    return [FakeServer(contract, well) for _ in HOSTS]


@contextmanager
def operators(fakes: list[FakeServer], parties: list[Party] | None = None) -> Iterator[list[Address]]:
    with ExitStack() as stack:
        parties_or_none = parties or [None] * len(fakes)
        yield [
            Address.parse(stack.enter_context(listening(fake, host, party)))
            for fake, host, party in zip(fakes, HOSTS, parties_or_none, strict=False)
        ]


def mixture(number: int) -> np.ndarray:
    return np.full((1, 1, 16, 16, 16), number / 8, np.float16)


def numbers(fake: FakeServer) -> list[int]:
    """Which requests came to a server."""
    return [int(np.frombuffer(request.raw_input_contents[0], np.float16)[0] * 8) for request in fake.requests]


class TestRequests:
    def test_go_to_one_operator_each_whatever_the_order_of_names(
        self, contract: SegmenterContract, fakes: list[FakeServer]
    ) -> None:
        with operators(fakes) as places:
            for order in (places, places[::-1]):
                with Spread(order, 5, contract, timeout_s=5) as spread:
                    spread.check()
                    for number in range(5):
                        spread.recipient(number).segment(mixture(number))
        assert [numbers(fake) for fake in fakes] == [[n, n] for n in range(5)]

    def test_are_repeated_at_their_operator_alone(
        self, contract: SegmenterContract, fakes: list[FakeServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(servers, "FIRST_PAUSE_S", 0.02)
        well, calls = fakes[1].answer, iter(range(9))

        def at_first_busy(context: grpc.ServicerContext) -> object:
            busy = next(calls) < 2
            return context.abort(grpc.StatusCode.UNAVAILABLE, "maximum queue size") if busy else well(context)

        fakes[1].answer = at_first_busy
        fakes[2].answer = lambda context: context.abort(grpc.StatusCode.INTERNAL, "broken")
        with operators(fakes) as places, Spread(places, 3, contract, timeout_s=5) as spread:
            for number in range(2):
                spread.recipient(number).segment(mixture(number))
            with pytest.raises(ServerUnavailableError, match=r"server 127\.0\.0\.3"):
                spread.recipient(2).segment(mixture(2))
        assert [numbers(fake) for fake in fakes] == [[0], [1, 1, 1], [2], [], []]

    def test_are_not_sent_unless_all_operators_are_there(
        self, contract: SegmenterContract, fakes: list[FakeServer]
    ) -> None:
        with (
            operators(fakes[:1]) as places,
            Spread([*places, Address.parse("127.0.0.9:1")], 2, contract) as spread,
            pytest.raises(ServerUnavailableError, match=r"server 127\.0\.0\.9:1 cannot be reached"),
        ):
            spread.check()
        assert numbers(fakes[0]) == []


class TestOperators:
    @pytest.mark.parametrize(
        ("texts", "count", "message"),
        [
            (["127.0.0.1:1", "127.0.0.2:1"], 3, "expected a server for each of 3 references, got 2"),
            (["127.0.0.1:1", "127.0.0.2:1"], 1, "expected 2 references or more, got 1"),
            (["127.0.0.1:1", "127.0.0.1:2"], 2, r"have one (name|address) \(127\.0\.0\.1\)"),
            (["127.0.0.1:1", "localhost:1"], 2, r"have one address \(127\.0\.0\.1\)"),
            (["127.0.0.1:1", "[::ffff:127.0.0.1]:1"], 2, r"have one address \(127\.0\.0\.1\)"),
            (["seg.example.org:1", "SEG.example.org:2"], 2, "have one name"),
            (["seg.example.org:1", "seg.example.org.:2"], 2, "have one name"),
            (["127.0.0.1:1", "unix:/tmp/s"], 2, "got a Unix socket"),
        ],
    )
    def test_that_are_not_several_are_refused(
        self, contract: SegmenterContract, texts: list[str], count: int, message: str
    ) -> None:
        with pytest.raises(InputError, match=f"^spread: .*{message}"):
            Spread([Address.parse(text) for text in texts], count, contract, insecure=True)

    def test_two_names_of_one_address_are_refused(
        self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = {"a.example.org": ["10.0.0.1", "10.0.0.2"], "b.example.org": ["10.0.0.3", "10.0.0.2"]}
        monkeypatch.setattr(
            "socket.getaddrinfo",
            lambda host, port, **how: [(socket.AF_INET, 1, 6, "", (ip, 0)) for ip in known.get(host, [host])],
        )
        with pytest.raises(InputError, match=r"a\.example\.org:1 and b\.example\.org:1 have one address \(10\.0\.0\.2"):
            Spread([Address.parse("a.example.org:1"), Address.parse("b.example.org:1")], 2, contract)

    def test_a_name_that_later_means_anothers_address_gets_nothing(
        self, contract: SegmenterContract, fakes: list[FakeServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The address of the very connection counts, not what the name meant when it was looked up."""
        real, asked = socket.getaddrinfo, iter(range(99))

        def look_up(host: str, port: object, *arguments: object, **options: object) -> object:
            if host != "later.example.org":
                return real(host, port, *arguments, **options)  # type: ignore[arg-type]
            return real("127.0.0.7" if next(asked) == 0 else "127.0.0.1", port, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr("socket.getaddrinfo", look_up)
        with operators(fakes[:1]) as places:
            (first,) = places
            later = Address.parse(first.text.replace("127.0.0.1", "later.example.org"))
            with Spread([first, later], 2, contract, timeout_s=5, insecure=True) as spread:
                spread.recipient(0).segment(mixture(0))
                with pytest.raises(InputError, match=r"have one address \(127\.0\.0\.1\)"):
                    spread.recipient(1).segment(mixture(1))
        assert numbers(fakes[0]) == [0]


@needs_openssl
class TestCertificates:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path / "pki")

    def tls(self, authority: Authority) -> TlsOptions:
        return TlsOptions(Path(authority.certificate), server_name="operator.example.org")

    def parties(self, authority: Authority, count: int) -> list[Party]:
        made = []
        for number in range(count):
            party = authority.server("operator.example.org")
            own = Party(*(path.with_name(f"{number}-{path.name}") for path in (party.certificate, party.key)))
            party.certificate.rename(own.certificate)
            party.key.rename(own.key)
            made.append(own)
        return made

    def test_of_their_own_are_accepted_and_known(
        self, contract: SegmenterContract, fakes: list[FakeServer], authority: Authority
    ) -> None:
        with (
            operators(fakes, self.parties(authority, 5)) as places,
            Spread(places, 5, contract, tls=self.tls(authority), timeout_s=10) as spread,
        ):
            spread.check()
            for number in range(5):
                spread.recipient(number).segment(mixture(number))
            domains = [spread.domain(number).split() for number in range(5)]
        assert [numbers(fake) for fake in fakes] == [[n] for n in range(5)]
        assert all([part.split(":")[0] for part in one] == ["address", "certificate", "name"] for one in domains)
        assert len({part for one in domains for part in one}) == 15

    def test_that_are_one_are_refused_before_anything_is_sent(
        self, contract: SegmenterContract, fakes: list[FakeServer], authority: Authority
    ) -> None:
        (party,) = self.parties(authority, 1)
        with (
            operators(fakes[:2], [party, party]) as places,
            Spread(places, 2, contract, tls=self.tls(authority), timeout_s=10) as spread,
            pytest.raises(InputError, match=r"127\.0\.0\.\d:\d+ and 127\.0\.0\.\d:\d+ have one certificate"),
        ):
            spread.check()
        assert [numbers(fake) for fake in fakes[:2]] == [[], []]
