"""Whether something leaves this machine is what the segmenter says, and no argument can say otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle, Impostors
from mixpriv.client.pipeline import Pipeline, open_pipeline
from mixpriv.client.segment import segment
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import InputError
from mixpriv.key import load_or_create_key
from mixpriv.protection.modes import Mixup, Plain, Shielded
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.transport import GrpcSegmenter
from tests.support.phantom import brain_scan
from tests.support.pipelines import using
from tests.support.remote import RemoteSegmenter
from tests.wire.fakeserver import FakeServer, response


@pytest.fixture
def server(bundle: Bundle) -> FakeServer:
    answer = np.zeros((1, len(bundle.classes) - 1, *bundle.grid_shape), np.uint8)
    return FakeServer(SegmenterContract.of(bundle), lambda context: response(answer))


@pytest.fixture(params=["127.0.0.1", "unix"])
def place(request: pytest.FixtureRequest, server: FakeServer, tmp_path: Path) -> Iterator[Address]:
    """Where the server listens: on this machine, but behind it may be a tunnel."""
    running = server.bind()
    text = f"unix:{tmp_path}/socket" if request.param == "unix" else "127.0.0.1:0"
    port = running.add_insecure_port(text)
    running.start()
    yield Address.parse(text.replace(":0", f":{port}"))
    running.stop(None).wait()


@pytest.fixture(params=[ServerPool, GrpcSegmenter])
def remote(request: pytest.FixtureRequest, place: Address, bundle: Bundle, home: Path) -> Iterator[Pipeline]:
    """A client that was told nothing but its segmenter."""
    with ExitStack() as stack:
        where = [place] if request.param is ServerPool else place
        segmenter = stack.enter_context(request.param(where, SegmenterContract.of(bundle), timeout_s=10))
        yield open_pipeline(bundle, Mixup(), load_or_create_key(), segmenter)


def test_a_request_to_a_server_is_booked_under_its_address(remote: Pipeline, place: Address) -> None:
    segment(brain_scan()[0], remote)
    (entry,) = remote.ledger.entries()
    assert entry.server == place.text
    assert entry.left_machine


def test_another_view_for_a_server_is_refused(remote: Pipeline, server: FakeServer) -> None:
    segment(brain_scan()[0], remote)
    with pytest.raises(InputError, match=r"a server saw it on .* another view would tell it more"):
        segment(brain_scan()[0], using(remote, Plain()))
    assert len(server.requests) == 1


def test_a_mixture_too_much_like_its_scan_is_not_sent_to_a_server(remote: Pipeline, server: FakeServer) -> None:
    assert remote.bundle.shielded is not None
    shielded = replace(remote.bundle.shielded, impostors=Impostors(0.2, 1.0, -1e3))
    strict = using(replace(remote, bundle=replace(remote.bundle, shielded=shielded)), Shielded())
    with pytest.raises(InputError, match="mixtures were drawn and each is too much like it"):
        segment(brain_scan()[0], strict)
    assert server.requests == []
    assert remote.ledger.entries() == []


def test_several_servers_are_booked_as_they_were_named(bundle: Bundle) -> None:
    places = [Address.parse("127.0.0.1:1"), Address.parse("127.0.0.1:2")]
    with ServerPool(places, SegmenterContract.of(bundle)) as pool:
        assert (pool.leaves_machine, pool.address) == (True, "127.0.0.1:1,127.0.0.1:2")


def test_a_network_in_this_process_keeps_what_it_is_shown(pipeline: Pipeline) -> None:
    assert not pipeline.leaves_machine
    segment(brain_scan()[0], pipeline)
    assert [entry.server for entry in pipeline.ledger.entries()] == ["embedded"]


@pytest.mark.parametrize("address", ["", "embedded"])
def test_what_leaves_is_not_booked_as_what_stays(address: str, pipeline: Pipeline) -> None:
    with pytest.raises(
        InputError, match=f"^segmenter: expected the address of what leaves this machine, got '{address}'"
    ):
        replace(pipeline, segmenter=RemoteSegmenter(pipeline.bundle, address))


def test_a_segmenter_that_does_not_say_is_not_used(pipeline: Pipeline) -> None:
    class Silent:
        segment = InProcessSegmenter.segment

    with pytest.raises(AttributeError, match="leaves_machine"):
        replace(pipeline, segmenter=Silent())
