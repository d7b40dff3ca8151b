"""fastbox-net's relays: published ports, from the host's sockets to the container's."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.core.net_helper import (
    TIMEOUT,
    Helper,
    Networks,
    bound,
    receive_exactly,
    running,
)
from tests.support.wait import wait_for

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.fixture
def networks(base: str) -> Networks:
    return Networks(os.path.join(base, "networks"))


def line(target: socket.socket) -> str:
    """A line of `ports`."""
    address, port = target.getsockname()[:2]
    return f"{'tcp' if target.type == STREAM else 'udp'} {address} {port}\n"


@contextlib.contextmanager
def relayed(
    networks: Networks, kind: int, address: str = "127.0.0.1", target: str = "127.0.0.1"
) -> Iterator[tuple[socket.socket, socket.socket, Helper]]:
    """(the published socket, the container's, the helper)"""
    with bound(kind, address) as published, bound(kind, target) as inside:
        networks.write("ports", line(inside))
        with running(networks, ports=[published]) as helper:
            helper.ready()
            yield published, inside, helper
            assert helper.is_alive()


@contextlib.contextmanager
def connected(
    published: socket.socket, inside: socket.socket
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(a client's end, the container's end) of a relayed connection."""
    address, port = published.getsockname()[:2]
    with socket.create_connection((address, port), TIMEOUT) as client:
        server, _ = inside.accept()
        with server:
            server.settimeout(TIMEOUT)
            yield client, server


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def descriptors(helper: Helper) -> int:
    return len(os.listdir(f"/proc/{helper.pid}/fd"))


# ---- TCP --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "target"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::1", "::1")],
)
def test_both_ways(networks: Networks, address: str, target: str) -> None:
    with relayed(networks, STREAM, address, target) as (published, inside, _):
        with connected(published, inside) as (client, server):
            for i in range(50):
                client.sendall(b"question %d" % i)
                assert receive_exactly(server, len(b"question %d" % i)) == b"question %d" % i
                server.sendall(b"answer %d" % i)
                assert receive_exactly(client, len(b"answer %d" % i)) == b"answer %d" % i


def test_mapped_addresses(networks: Networks) -> None:
    """An IPv4 client of a dual-stack socket."""
    with relayed(networks, STREAM, "::") as (published, inside, _):
        port = published.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), TIMEOUT) as client:
                server, _ = inside.accept()
                with server:
                    client.sendall(b"x")
                    assert server.recv(1) == b"x"


def test_what_was_sent_before_the_relay_connected(networks: Networks) -> None:
    with bound(STREAM) as published, bound(STREAM) as inside:
        networks.write("ports", line(inside))
        with socket.create_connection(published.getsockname(), TIMEOUT) as client:
            client.sendall(b"early")
            client.shutdown(socket.SHUT_WR)
            with running(networks, ports=[published]):
                server, _ = inside.accept()
                with server:
                    assert receive_exactly(server, 5) == b"early" and server.recv(1) == b""
                    server.sendall(b"late")
                    server.close()
                    assert receive_exactly(client, 4) == b"late" and client.recv(1) == b""


@pytest.mark.parametrize("sender", [0, 1])
def test_half_close(networks: Networks, sender: int) -> None:
    with relayed(networks, STREAM) as (published, inside, helper):
        before = descriptors(helper)
        with connected(published, inside) as ends:
            one, two = ends[sender], ends[1 - sender]
            one.sendall(b"all of it")
            one.shutdown(socket.SHUT_WR)
            assert receive_exactly(two, 9) == b"all of it" and two.recv(1) == b""
            for _ in range(3):  # the other direction stays open
                two.sendall(b"more")
                assert receive_exactly(one, 4) == b"more"
            two.shutdown(socket.SHUT_WR)
            assert one.recv(1) == b""
        wait_for(lambda: descriptors(helper) <= before + 4, "closed sockets")  # pipes are kept


@pytest.mark.parametrize("sender", [0, 1])
def test_much_data(networks: Networks, sender: int) -> None:
    """Both directions at a time, the receiver slower than the sender."""
    data = random.Random(1).randbytes(24 << 20)
    with relayed(networks, STREAM) as (published, inside, _):
        with connected(published, inside) as ends:
            one, two = ends[sender], ends[1 - sender]

            def send() -> None:
                one.sendall(data)
                one.shutdown(socket.SHUT_WR)

            threads = [in_thread(send), in_thread(lambda: two.sendall(data[:1000_000]))]
            try:
                assert receive_exactly(two, len(data)) == data and two.recv(1) == b""
                assert receive_exactly(one, 1000_000) == data[:1000_000]
            finally:
                for thread in threads:
                    thread.join()


def test_backpressure(networks: Networks) -> None:
    """Nobody reads: the sender is held up, others are not."""
    with relayed(networks, STREAM) as (published, inside, _):
        with connected(published, inside) as (client, server):
            client.setblocking(False)
            sent, before = 0, -1
            while sent != before:  # until a whole round of another connection makes no room
                before = sent
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sent += client.send(b"x" * 65536)
                with connected(published, inside) as (other, its):
                    other.sendall(b"y")
                    assert its.recv(1) == b"y"
            assert 0 < sent < 64 << 20
            assert len(receive_exactly(server, sent)) == sent


def test_a_refused_connection(networks: Networks) -> None:
    with relayed(networks, STREAM) as (published, _, helper):
        with bound(STREAM) as gone:
            networks.write("ports", line(gone))
        before = descriptors(helper)
        for _ in range(20):
            with pytest.raises(ConnectionResetError):  # as early as the client looks
                with socket.create_connection(published.getsockname(), TIMEOUT) as client:
                    client.recv(1)
        wait_for(lambda: descriptors(helper) <= before, "closed sockets")


@pytest.mark.parametrize("end", [0, 1])
def test_a_reset_arrives_as_one(networks: Networks, end: int) -> None:
    with relayed(networks, STREAM) as (published, inside, _):
        with connected(published, inside) as ends:
            ends[0].sendall(b"x")
            assert ends[1].recv(1) == b"x"
            ends[end].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ends[end].close()
            with pytest.raises(ConnectionResetError):
                ends[1 - end].recv(1)


def test_ports_go_where_their_lines_say(networks: Networks) -> None:
    with contextlib.ExitStack() as stack:
        published = [stack.enter_context(bound(STREAM)) for _ in range(5)]
        inside = [stack.enter_context(bound(STREAM)) for _ in range(2)]
        lines = ["-\n", line(inside[0]), "udp 127.0.0.1 1\n", line(inside[1])]  # and none
        networks.write("ports", "".join(lines))
        helper = stack.enter_context(running(networks, ports=published))
        for i in (0, 2, 4):
            with pytest.raises(ConnectionResetError):
                with socket.create_connection(published[i].getsockname(), TIMEOUT) as client:
                    client.recv(1)
        for i, target in ((1, inside[0]), (3, inside[1])):
            with connected(published[i], target) as (client, server):
                server.sendall(b"%d" % i)
                assert client.recv(1) == b"%d" % i
        networks.write("ports", line(inside[1]) + line(inside[1]))  # changed since
        for i in (0, 1):
            with connected(published[i], inside[1]) as (client, server):
                server.sendall(b"%d" % i)
                assert client.recv(1) == b"%d" % i
        assert helper.is_alive()


def test_more_connections_than_there_is_room(networks: Networks) -> None:
    """1024 are relayed; the others wait, and come in when there is room."""
    with relayed(networks, STREAM) as (published, inside, _):
        inside.listen(2048)
        published.listen(2048)
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(published.getsockname(), TIMEOUT))
                for _ in range(1100)
            ]
            servers = []
            for _ in range(1024):
                servers.append(stack.enter_context(inside.accept()[0]))
            for client in clients[:1024]:
                client.sendall(b"x")
            for server in servers:
                assert server.recv(1) == b"x"
            inside.setblocking(False)
            with pytest.raises(BlockingIOError):
                inside.accept()
            inside.settimeout(TIMEOUT)
            for client in clients[:1024]:
                client.close()
            for server in servers:
                server.close()
            for _ in range(1100 - 1024):
                server = stack.enter_context(inside.accept()[0])
                server.settimeout(TIMEOUT)
                server.sendall(b"in")
            for client in clients[1024:]:
                assert receive_exactly(client, 2) == b"in"


def test_connections_that_come_and_go(networks: Networks) -> None:
    """Ends in every order; nothing is left."""
    rng = random.Random(2)
    with relayed(networks, STREAM) as (published, inside, helper):
        before = descriptors(helper)
        for _ in range(300):
            with contextlib.suppress(OSError):
                with connected(published, inside) as ends:
                    for _ in range(rng.randrange(6)):
                        end = ends[rng.randrange(2)]
                        choice = rng.randrange(4)
                        if choice == 0:
                            end.sendall(b"x" * rng.randrange(1, 100_000))
                        elif choice == 1:
                            with contextlib.suppress(OSError):  # ENOTCONN, after a reset
                                end.shutdown(socket.SHUT_WR)
                        elif choice == 2:
                            end.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                            )
                        else:
                            end.close()
                            break
        wait_for(lambda: descriptors(helper) <= before + 32, "closed sockets")
        with connected(published, inside) as (client, server):
            client.sendall(b"x")
            assert server.recv(1) == b"x"


# ---- UDP --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "target"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::1", "::1")],
)
def test_datagrams(networks: Networks, address: str, target: str) -> None:
    with relayed(networks, DGRAM, address, target) as (published, inside, _):
        with contextlib.ExitStack() as stack:
            clients: list[socket.socket] = []
            for _ in range(5):
                client = stack.enter_context(socket.socket(published.family, DGRAM))
                client.settimeout(TIMEOUT)
                client.connect(published.getsockname())
                clients.append(client)
            seen = {}
            for _ in range(3):
                for i, client in enumerate(clients):
                    client.send(b"%d" % i)
                for _ in clients:
                    data, sender = inside.recvfrom(100)
                    assert seen.setdefault(data, sender) == sender  # a session for each client
                for i in range(5):
                    inside.sendto(b"to %d" % i, seen[b"%d" % i])
                for i, client in enumerate(clients):
                    assert client.recv(100) == b"to %d" % i
            assert len(set(seen.values())) == 5


def test_sizes_of_datagrams(networks: Networks) -> None:
    with relayed(networks, DGRAM) as (published, inside, _):
        with socket.socket(socket.AF_INET, DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.connect(published.getsockname())
            for size in (0, 1, 1500, 65507):
                client.send(b"x" * size)
                data, sender = inside.recvfrom(65536)
                assert len(data) == size
                inside.sendto(data, sender)
                assert len(client.recv(65536)) == size


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_answers_come_from_where_the_client_wrote_to(networks: Networks, address: str) -> None:
    with relayed(networks, DGRAM, address) as (published, inside, _):
        port = published.getsockname()[1]
        for to in ("127.0.0.1", "127.9.9.9", *(["::1"] if address == "::" else [])):
            family = socket.AF_INET6 if ":" in to else socket.AF_INET
            with socket.socket(family, DGRAM) as client:
                client.settimeout(TIMEOUT)
                client.sendto(b"hello", (to, port))
                data, sender = inside.recvfrom(100)
                inside.sendto(data, sender)
                assert client.recvfrom(100)[1][:2] == (to, port)


def test_more_clients_than_there_is_room(networks: Networks) -> None:
    with relayed(networks, DGRAM) as (published, inside, helper):
        before = descriptors(helper)
        with contextlib.ExitStack() as stack:
            for _ in range(1200):
                client = stack.enter_context(socket.socket(socket.AF_INET, DGRAM))
                client.sendto(b"x", published.getsockname())
                inside.recvfrom(100)
            assert descriptors(helper) <= before + 1024
            client.settimeout(TIMEOUT)
            client.sendto(b"y", published.getsockname())
            data, sender = inside.recvfrom(100)
            inside.sendto(data, sender)
            assert client.recv(100) == b"y"


def test_a_target_that_is_not_there_yet(networks: Networks) -> None:
    with relayed(networks, DGRAM) as (published, inside, _):
        with bound(DGRAM) as gone:
            target, place = line(gone), gone.getsockname()
        networks.write("ports", target)
        with socket.socket(socket.AF_INET, DGRAM) as client:
            client.settimeout(TIMEOUT)
            for _ in range(3):
                client.sendto(b"lost", published.getsockname())
            with bound(DGRAM, port=place[1]) as there:

                def arrives() -> bool:
                    client.sendto(b"found", published.getsockname())
                    there.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        return there.recv(100) == b"found"
                    return False

                wait_for(arrives, "a datagram")
            networks.write("ports", line(inside))  # moved: sessions end
            client.sendto(b"moved", published.getsockname())
            while (data := inside.recv(100)) == b"found":  # it was still on its way
                pass
            assert data == b"moved"


def test_it_is_not_idle_with_a_connection(networks: Networks) -> None:
    with bound(STREAM) as published, bound(STREAM) as inside:
        networks.write("ports", line(inside))
        with running(networks, ports=[published], idle=0) as helper:
            assert helper.wait() == 0
        with socket.create_connection(published.getsockname(), TIMEOUT) as client:
            # It is there, waiting, when the helper begins: one turn of its loop takes it.
            with running(networks, ports=[published], idle=0) as helper:
                server, _ = inside.accept()
                with server:
                    for _ in range(20):
                        client.sendall(b"x")
                        assert server.recv(1) == b"x"
                client.close()
                assert helper.wait() == 0
