"""Several servers, failing in every way: who is asked, how often, with which bytes, and for how long."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from mixpriv.errors import IncompatibleServerError, ServerBusyError, ServerLostError, ServerUnavailableError
from mixpriv.wire import servers
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.token import Token
from tests.wire.fakeserver import FakeServer, response

SHAPE = (1, 1, 16, 16, 16)
Answer = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first server first, and the shortest pauses."""
    monkeypatch.setattr("secrets.randbelow", lambda n: 0)
    monkeypatch.setattr(servers, "FIRST_PAUSE_S", 0.02)


def well(context: Any) -> Any:
    return response(np.full((1, 5, 16, 16, 16), 7, np.uint8))


def aborting(status: str, details: str = "") -> Answer:
    return lambda context: context.abort(grpc.StatusCode[status], details)


def after(failures: int, failing: Answer) -> Answer:
    """An answer that fails so often and is well from then on."""
    calls = iter(range(10**6))
    return lambda context: failing(context) if next(calls) < failures else well(context)


full = aborting("UNAVAILABLE", "Exceeds maximum queue size")
refusing = aborting("UNAVAILABLE", "This protocol is restricted, expecting header 'triton-grpc-protocol-token'")


@contextmanager
def pool(contract: SegmenterContract, *fakes: FakeServer | None, timeout_s: float = 5, **options: Any) -> Iterator[Any]:
    """A pool of running servers; None is one that does not listen."""
    with ExitStack() as stack:
        addresses = []
        for number, fake in enumerate(fakes):
            if fake is None:
                addresses.append(Address.parse(f"127.0.0.1:{number + 1}"))
                continue
            running = fake.bind()
            addresses.append(Address.parse(f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"))
            running.start()
            stack.callback(lambda running=running: running.stop(None).wait())
        yield stack.enter_context(ServerPool(addresses, contract, timeout_s=timeout_s, **options))


def mixture() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, np.float32).astype(np.float16)


class TestTurns:
    def test_are_taken(self, contract: SegmenterContract) -> None:
        fakes = [FakeServer(contract, well) for _ in range(3)]
        with pool(contract, *fakes) as segmenter:
            for _ in range(6):
                assert segmenter.segment(mixture()).max() == 7
        assert [len(fake.requests) for fake in fakes] == [2, 2, 2]

    def test_begin_anywhere(self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("secrets.randbelow", lambda n: 1)
        fakes = [FakeServer(contract, well) for _ in range(2)]
        with pool(contract, *fakes) as segmenter:
            segmenter.segment(mixture())
        assert [len(fake.requests) for fake in fakes] == [0, 1]

    @pytest.mark.parametrize(
        "failing", [full, refusing, aborting("UNAVAILABLE", "Socket closed"), aborting("INTERNAL")]
    )
    def test_pass_from_a_server_that_fails(self, contract: SegmenterContract, failing: Answer) -> None:
        bad, good = FakeServer(contract, failing), FakeServer(contract, well)
        with pool(contract, bad, good) as segmenter:
            for _ in range(4):
                assert segmenter.segment(mixture()).max() == 7
        assert len(bad.requests) == 1  # from then on it comes last
        assert len(good.requests) == 4

    def test_pass_from_a_server_that_is_not_there(self, contract: SegmenterContract) -> None:
        good = FakeServer(contract, well)
        with pool(contract, None, good) as segmenter:
            segmenter.check()
            assert segmenter.segment(mixture()).max() == 7

    def test_pass_from_one_that_does_not_answer_the_check(
        self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mixpriv.wire.transport.CHECK_TIMEOUT_S", 0.2)
        stopped, good = FakeServer(contract, well), FakeServer(contract, well)
        stopped.ModelConfig = lambda request, context: time.sleep(1)  # type: ignore[method-assign]
        with pool(contract, stopped, good) as segmenter:
            begin = time.monotonic()
            assert segmenter.segment(mixture()).max() == 7
            assert time.monotonic() - begin < 0.9
        assert stopped.requests == []


class TestOtherNetworks:
    def test_get_no_voxel_and_are_passed_over(self, contract: SegmenterContract) -> None:
        other = FakeServer(replace(contract, parameters={**contract.parameters, "fingerprint": "0" * 64}), well)
        good = FakeServer(contract, well)
        with pool(contract, other, good) as segmenter:
            segmenter.check()
            for _ in range(3):
                segmenter.segment(mixture())
        assert (len(other.requests), len(good.requests)) == (0, 3)

    def test_alone_are_an_incompatibility(self, contract: SegmenterContract) -> None:
        other = replace(contract, parameters={**contract.parameters, "fingerprint": "0" * 64})
        with pool(contract, FakeServer(other, well), FakeServer(other, well)) as segmenter:
            for ask in (segmenter.check, lambda: segmenter.segment(mixture())):
                with pytest.raises(IncompatibleServerError, match=r"none of 2 servers can be used: .*; server"):
                    ask()


class TestRepetition:
    @pytest.mark.parametrize(
        "failing",
        [full, aborting("UNAVAILABLE", "Socket closed"), aborting("INTERNAL", "Stub process 'm' is not healthy.")],
    )
    def test_has_the_same_bytes(self, contract: SegmenterContract, failing: Answer) -> None:
        fake = FakeServer(contract, after(2, failing))
        with pool(contract, fake) as segmenter:
            assert segmenter.segment(mixture()).max() == 7
        sent = {request.SerializeToString(deterministic=True) for request in fake.requests}
        assert (len(fake.requests), len(sent)) == (3, 1)

    @pytest.mark.parametrize("failing", [refusing, aborting("INTERNAL", "out of memory"), aborting("INVALID_ARGUMENT")])
    def test_is_not_tried_where_it_cannot_help(self, contract: SegmenterContract, failing: Answer) -> None:
        fake = FakeServer(contract, failing)
        with (
            pool(contract, fake) as segmenter,
            pytest.raises((ServerUnavailableError, IncompatibleServerError), match="server 127"),
        ):
            segmenter.segment(mixture())
        assert len(fake.requests) == 1

    def test_goes_on_until_the_deadline_while_a_server_is_busy(self, contract: SegmenterContract) -> None:
        fake = FakeServer(contract, full)
        with pool(contract, fake, timeout_s=1.0) as segmenter:
            begin = time.monotonic()
            with pytest.raises(ServerBusyError, match="its queue is full"):
                segmenter.segment(mixture())
            assert 0.3 < time.monotonic() - begin < 1.2
        assert len(fake.requests) > 4

    def test_ends_sooner_where_nobody_is(self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(servers, "LOST_PATIENCE_S", 0.5)
        with pool(contract, None, timeout_s=60) as segmenter:
            begin = time.monotonic()
            with pytest.raises(ServerLostError, match=r"server 127\.0\.0\.1:1 cannot be reached"):
                segmenter.segment(mixture())
            assert time.monotonic() - begin < 5

    def test_is_not_for_the_first_check(self, contract: SegmenterContract) -> None:
        with (
            pool(contract, None, None, timeout_s=60) as segmenter,
            pytest.raises(ServerUnavailableError, match=r"none of 2 servers can be used: server 127\.0\.0\.1:1 cannot"),
        ):
            segmenter.check()


class TestSilence:
    """Servers that take the connection and say nothing."""

    @pytest.fixture
    def silent(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Address]]:
        monkeypatch.setattr("mixpriv.wire.transport.CHECK_TIMEOUT_S", 1.0)
        monkeypatch.setattr(servers, "SILENCE_S", 0.1, raising=False)
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(8)]
            yield [Address.parse(f"127.0.0.1:{one.getsockname()[1]}") for one in sockets]

    def test_of_all_costs_the_time_of_one(self, contract: SegmenterContract, silent: list[Address]) -> None:
        with ServerPool(silent, contract, timeout_s=30) as segmenter:
            begin = time.monotonic()
            with pytest.raises(ServerUnavailableError, match=r"none of 8 servers can be used: .* no answer in time"):
                segmenter.check()
            assert time.monotonic() - begin < 2.5

    def test_of_most_does_not_hold_up_the_one_that_is_well(
        self, contract: SegmenterContract, silent: list[Address]
    ) -> None:
        good = FakeServer(contract, well)
        running = good.bind()
        address = Address.parse(f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}")
        running.start()
        with ServerPool([*silent, address], contract, timeout_s=30) as segmenter:
            begin = time.monotonic()
            for _ in range(3):
                assert segmenter.segment(mixture()).max() == 7
            assert time.monotonic() - begin < 2
        running.stop(None).wait()
        assert len(good.requests) == 3

    def test_of_a_resolver_about_many_names_costs_the_time_of_one(
        self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Address, "resolve", lambda self, timeout_s: time.sleep(0.3) or (self,))
        names = [Address.parse(f"seg{number}.example.org:1") for number in range(8)]
        begin = time.monotonic()
        ServerPool(names, contract, timeout_s=5, insecure=True).close()
        assert time.monotonic() - begin < 1.5


class TestNames:
    def test_are_looked_up_again_when_all_fail(
        self, contract: SegmenterContract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Behind a name, replicas go and others come."""
        fake = FakeServer(contract, well)
        running = fake.bind()
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        gone, come = Address.parse("127.0.0.1:1"), Address.parse(f"127.0.0.1:{port}")
        found = iter([(gone,), (come,)])
        monkeypatch.setattr(Address, "resolve", lambda self, timeout_s: next(found))
        with ServerPool([Address.parse("seg.example.org:1")], contract, timeout_s=5) as segmenter:
            assert segmenter.segment(mixture()).max() == 7
        running.stop(None).wait()


class TestToken:
    def test_is_in_every_call(self, contract: SegmenterContract) -> None:
        fake = FakeServer(contract, well)
        with pool(contract, fake, token=Token("abcdefgh01234567")) as segmenter:
            segmenter.segment(mixture())
        assert [dict(m).get("triton-grpc-protocol-token") for m in fake.metadata] == ["abcdefgh01234567"] * 2
