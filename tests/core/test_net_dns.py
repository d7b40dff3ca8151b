"""fastbox-net's name server: names of containers, and queries that others answer."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.core.net_helper import (
    AAAA,
    ANY,
    BINARY,
    FORMERR,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    PTR,
    REFUSED,
    SERVFAIL,
    TXT,
    A,
    Answer,
    Helper,
    Networks,
    Reaction,
    Upstream,
    ask,
    bound,
    in_namespace,
    query,
    receive_message,
    reply,
    running,
    send_message,
)
from tests.support.wait import wait_for

CORE = os.path.dirname(BINARY)
INTERNAL = "network n1 front\nnetwork n2 back.end\ninternal\n"


@pytest.fixture
def networks(base: str) -> Networks:
    return Networks(os.path.join(base, "networks"))


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with bound(socket.SOCK_DGRAM) as s:
        yield s


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with bound(socket.SOCK_STREAM) as s:
        yield s


@pytest.fixture
def helper(networks: Networks, udp: socket.socket, tcp: socket.socket) -> Iterator[Helper]:
    networks.write("dns", INTERNAL)
    with running(networks, udp=udp, tcp=tcp) as started:
        yield started
        assert started.is_alive()


@contextlib.contextmanager
def upstreams(networks: Networks, *reactions: Reaction) -> Iterator[list[Upstream]]:
    """Name servers that become the helper's, in this order."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Upstream(react)) for react in reactions]
        networks.write("dns", "network n1 front\n" + "".join(s.line for s in servers))
        yield servers


def fine(packet: bytes) -> list[bytes]:
    return [reply(packet, address="192.0.2.7")]


def silent(packet: bytes) -> list[bytes]:
    return []


# ---- our own names ----------------------------------------------------------------------------


def test_a_name(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2")
    answer = ask(udp, query("web", id=0xBEEF))
    assert answer.id == 0xBEEF and answer.rcode == NOERROR
    assert answer.flags & 0x8580 == 0x8580  # an answer, ours, recursion wanted and available
    assert answer.records == [("web", A, 1, "172.18.0.2")]
    assert not answer.edns
    assert ask(udp, query("WeB")).values == ["172.18.0.2"]
    assert ask(udp, query("WeB")).question == "WeB"  # 0x20: the case comes back


def test_both_families(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2", "fd00::2")
    networks.name("n1", "old", "172.18.0.3")
    assert ask(udp, query("web", AAAA)).values == ["fd00::2"]
    assert ask(udp, query("web", A)).values == ["172.18.0.2"]
    for type in (AAAA, TXT, ANY, PTR):
        answer = ask(udp, query("old", type))
        assert (answer.rcode, answer.values) == (NOERROR, [])


def test_names_are_right_at_once(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    assert ask(udp, query("web")).rcode == SERVFAIL
    networks.name("n1", "web", "172.18.0.2")
    assert ask(udp, query("web")).values == ["172.18.0.2"]
    os.unlink(f"{networks.path}/n1/names/web/172.18.0.2")
    assert ask(udp, query("web")).rcode == SERVFAIL  # no addresses: a name that is going away
    os.rmdir(f"{networks.path}/n1/names/web")
    assert ask(udp, query("web")).rcode == SERVFAIL


def test_networks_in_order_and_by_name(
    networks: Networks, udp: socket.socket, helper: Helper
) -> None:
    networks.name("n1", "web", "172.18.0.2")
    networks.name("n2", "web", "172.19.0.2")
    networks.name("n2", "db", "172.19.0.3", "fd00::3")
    networks.name("n1", "db", "172.18.0.3")
    networks.name("n2", "a.b", "172.19.0.9")
    networks.name("n3", "secret", "172.20.0.2")
    assert ask(udp, query("web")).values == ["172.18.0.2"]
    assert ask(udp, query("web.front")).values == ["172.18.0.2"]
    assert ask(udp, query("web.back.end")).values == ["172.19.0.2"]
    assert ask(udp, query("WEB.Back.END")).values == ["172.19.0.2"]
    assert ask(udp, query("db", AAAA)).values == ["fd00::3"]  # the first network that has one
    assert ask(udp, query("a.b")).values == ask(udp, query("a.b.back.end")).values == ["172.19.0.9"]
    for name in ("web.back", "web.n1", "secret", "secret.n3", "a.b.front"):
        assert ask(udp, query(name)).rcode == SERVFAIL


def test_all_addresses_in_turn(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    addresses = {f"172.18.0.{i}" for i in range(2, 7)}
    networks.name("n1", "web", *addresses)
    answers = [ask(udp, query("web")).values for _ in range(5)]
    assert all(set(values) == addresses and len(values) == 5 for values in answers)
    assert {values[0] for values in answers} == addresses


def test_links(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.name("bridge0", "db", "172.17.0.2")
    networks.name("n1", "db", "172.18.0.2")
    networks.name("n2", "db", "172.19.0.2")
    networks.write("dns", INTERNAL + "alias data db bridge0\nalias Store db n2\n")
    assert ask(udp, query("data")).values == ["172.17.0.2"]
    assert ask(udp, query("store")).values == ["172.19.0.2"]
    assert ask(udp, query("store.back.end")).values == ["172.19.0.2"]
    assert ask(udp, query("store.front")).rcode == SERVFAIL
    assert ask(udp, query("db")).values == ["172.18.0.2"]
    networks.write("dns", INTERNAL)
    assert ask(udp, query("data")).rcode == SERVFAIL


def test_pointers(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.lease("n1", "172.18.0.2", "web")
    networks.lease("n2", "fd00::1:0:0:2", "db.one")
    networks.lease("n2", "1:0:2:3:4:5:6:7", "single-zero")
    networks.lease("n2", "::1", "short")
    networks.lease("n2", "10.0.0.1", "../x")
    six = "2.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"
    assert ask(udp, query("2.0.18.172.in-addr.arpa", PTR)).values == ["web.front"]
    assert ask(udp, query(six, PTR)).values == ["db.one.back.end"]
    assert ask(udp, query(six.upper(), PTR)).values == ["db.one.back.end"]
    for address, name in (("1:0:2:3:4:5:6:7", "single-zero"), ("::1", "short")):
        digits = socket.inet_pton(socket.AF_INET6, address).hex()
        reverse = ".".join(reversed(digits)) + ".ip6.arpa"
        assert ask(udp, query(reverse, PTR)).values == [f"{name}.back.end"]
    for name in (
        "3.0.18.172.in-addr.arpa", "18.172.in-addr.arpa", "1.2.0.18.172.in-addr.arpa",
        "256.0.18.172.in-addr.arpa", "2..in-addr.arpa", "in-addr.arpa", "1.0.0.10.in-addr.arpa",
        six[2:], "g" + six[1:], "ip6.arpa",
    ):  # fmt: skip
        assert ask(udp, query(name, PTR)).rcode == SERVFAIL


def test_what_the_client_takes(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "many", *(f"172.18.1.{i}" for i in range(100)))
    short = ask(udp, query("many"))
    assert short.truncated and 0 < len(short.values) < 100 and len(short.packet) <= 512
    some = ask(udp, query("many", size=1232))
    assert some.truncated and some.edns and len(short.values) < len(some.values) < 100
    assert len(some.packet) <= 1232
    whole = ask(udp, query("many", size=4096))
    assert not whole.truncated and whole.edns and len(set(whole.values)) == 100
    assert ask(udp, query("many", size=100)).packet  # less than 512 means 512


def test_names_that_are_no_file_names(
    networks: Networks, udp: socket.socket, helper: Helper
) -> None:
    networks.name("n1", "web", "172.18.0.2")
    for labels in ([b".."], [b"."], [b"../web"], [b"..", b"names", b"web"], [b"web\0x"], [b"a/b"],
                   [b"web/"], [b"we.b"], [b"w\xc3\xa4b"], [b"*"], []):  # fmt: skip
        name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        packet = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">2H", A, 1)
        assert ask(udp, packet).rcode == SERVFAIL
    longest = ".".join(["x" * 63] * 3 + ["y" * 61])
    assert ask(udp, query(longest)).rcode == SERVFAIL


# ---- what is no query -------------------------------------------------------------------------


def test_malformed_packets(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2")
    good = query("web")
    head, twice = good[:2] + b"\1\0", query("web", size=512)
    for bad in (
        head + b"\0\0" + bytes(6),  # no question
        head + b"\0\2" + bytes(6) + good[12:] * 2,  # two
        good[:-1],
        good[:12] + b"\xc0\x0c\0\1\0\1",  # a pointer to itself
        good[:12] + b"\x40" + good[13:],
        good[:12] + b"\x3fx" * 8,
        good[:12] + b"\1x" * 127 + b"\1x\0\0\1\0\1",  # 256 bytes of name
        good[:11] + b"\1" + good[12:],  # a record that is not there
        good[:11] + b"\1" + good[12:] + b"\0\0\x29\4\0\0\0\0\0\xff\xff",  # longer than the packet
        twice[:10] + b"\0\2" + twice[12:] + b"\0\0\x29" + bytes(8),
    ):
        assert ask(udp, bad).rcode == FORMERR
    assert ask(udp, good[:2] + b"\x28\0" + good[4:]).rcode == NOTIMP  # an update
    version = ask(udp, query("web", size=512)[:-5] + b"\1\0\0\0\0")
    assert version.edns and version.packet[-6] == 1 and not version.values  # BADVERS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(30)
        s.connect(udp.getsockname())
        for ignored in (b"", b"x" * 11, good[:2] + b"\x80\0" + good[4:], b"\0" * 3000):
            s.send(ignored)
        s.send(good)
        assert Answer(s.recv(4096)).values == ["172.18.0.2"]  # the only answer


def mutant(rng: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(1, 6)):
        kind = rng.randrange(5)
        at = rng.randrange(len(data) + 1)
        if kind == 0 and at < len(data):
            data[at] = rng.choice([0, 1, 12, 63, 64, 0xC0, 0xFF, rng.randrange(256)])
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif kind == 2:
            del data[at : at + rng.randrange(1, 20)]
        elif kind == 3:
            data = data[:at] + rng.choice(seeds)[at:]
        elif at < len(data):
            data[rng.randrange(min(12, len(data)))] = rng.randrange(256)
    return bytes(data[:1400]) or b"\0"


SEEDS = [
    query("web"),
    query("web.front", AAAA, size=4096),
    query("2.0.18.172.in-addr.arpa", PTR, size=600),
    query("2.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", PTR),
    query(".".join(["x" * 63] * 3 + ["y" * 61])),
    query("example.org", TXT),
    reply(query("web"), address="1.2.3.4"),
]


def test_mutants_over_udp(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2")
    rng = random.Random(4)
    with upstreams(networks, lambda p: [mutant(rng, [p, *SEEDS]), *fine(p)]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(udp.getsockname())
            for i in range(8000):
                s.send(mutant(rng, SEEDS))
                if i % 100 == 99:
                    assert ask(udp, query("web")).values == ["172.18.0.2"]


def test_mutants_over_tcp(networks: Networks, tcp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2")
    rng = random.Random(5)
    for _ in range(400):
        with socket.create_connection(tcp.getsockname(), 30) as s, contextlib.suppress(OSError):
            data = b"".join(
                struct.pack(">H", max(0, len(m) + rng.choice([0, 0, 0, -1, 3]))) + m
                for m in (mutant(rng, SEEDS) for _ in range(4))
            )
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
    with socket.create_connection(tcp.getsockname(), 30) as s:
        send_message(s, query("web"))
        assert Answer(receive_message(s)).values == ["172.18.0.2"]


def test_the_parser_under_sanitizers(base: str) -> None:
    """The same code with AddressSanitizer and UBSan, without the sockets."""
    program = os.path.join(base, "net_fuzz")
    source = os.path.join(os.path.dirname(__file__), "net_fuzz.c")
    files = [f"{CORE}/monitor/net/{part}.c" for part in PARSER]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", f"-I{CORE}"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", *flags, "-o", program, source, *files], check=True)
    Networks(os.path.join(base, "networks")).write("dns", INTERNAL)
    directory = os.open(os.path.join(base, "networks"), os.O_RDONLY)
    try:
        done = subprocess.run(
            [program, str(directory), "200000"],
            pass_fds=[directory],
            capture_output=True,
            text=True,
        )
    finally:
        os.close(directory)
    assert done.returncode == 0, done.stderr


PARSER = ("message", "names", "config", "text", "pool", "server")


# ---- names of others --------------------------------------------------------------------------


def test_forwarding(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    with upstreams(networks, fine) as (server,):
        for i in range(20):
            sent = query("Example.org", id=i + 1, size=1400)
            answer = ask(udp, sent)
            assert answer.id == i + 1 and answer.values == ["192.0.2.7"]
            assert answer.records[0][2] == 60  # theirs, unchanged
            transport, _, packet = server.seen[-1]
            assert transport == "udp" and packet[2:] == sent[2:]
        assert len({packet[:2] for _, _, packet in server.seen}) > 15
        assert len({port for _, port, _ in server.seen}) > 15


def test_in_the_container_s_namespace(networks: Networks) -> None:
    """The sockets are in another network than the helper, whose servers are the host's."""

    def make() -> tuple[socket.socket, socket.socket, socket.socket, socket.socket]:
        client, connection = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        udp = bound(socket.SOCK_DGRAM, "127.0.0.11", port=53)
        return udp, bound(socket.SOCK_STREAM, "127.0.0.11", port=53), client, connection

    networks.name("n1", "web", "172.18.0.2")
    with contextlib.ExitStack() as stack:
        udp, tcp, client, connection = map(stack.enter_context, in_namespace(make))
        (server,) = stack.enter_context(upstreams(networks, fine))
        stack.enter_context(running(networks, udp=udp, tcp=tcp))
        for s in (client, connection):
            s.settimeout(30)
            s.connect(("127.0.0.11", 53))
        for name, address in (("web", "172.18.0.2"), ("example.org", "192.0.2.7")):
            client.send(query(name))
            assert Answer(client.recv(512)).values == [address]
            send_message(connection, query(name))
            assert Answer(receive_message(connection)).values == [address]
        assert [transport for transport, _, _ in server.seen] == ["udp", "tcp"]


def test_own_names_are_not_forwarded(
    networks: Networks, udp: socket.socket, helper: Helper
) -> None:
    networks.name("n1", "web", "172.18.0.2")
    networks.lease("n1", "172.18.0.2", "web")
    with upstreams(networks, fine) as (server,):
        for name, type in (("web", A), ("web", AAAA), ("web.front", TXT)):
            assert ask(udp, query(name, type)).rcode == NOERROR
        assert ask(udp, query("2.0.18.172.in-addr.arpa", PTR)).values == ["web.front"]
        chaos = query("web")[:-2] + b"\0\3"
        assert ask(udp, chaos).rcode == NOERROR  # of another class: not ours
        assert [packet[2:] for _, _, packet in server.seen] == [chaos[2:]]


def test_internal_networks_ask_nobody(
    networks: Networks, udp: socket.socket, tcp: socket.socket, helper: Helper
) -> None:
    with upstreams(networks, fine) as (server,):
        networks.write("dns", "network n1 front\ninternal\n" + server.line)
        assert ask(udp, query("example.org")).rcode == SERVFAIL
        os.unlink(f"{networks.path}/boxes/c0ffee/dns")  # nor without a configuration
        assert ask(udp, query("example.org")).rcode == SERVFAIL
        with socket.create_connection(tcp.getsockname(), 30) as s:
            send_message(s, query("example.org"))
            assert Answer(receive_message(s)).rcode == SERVFAIL
        assert server.seen == []


def test_the_next_server(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    for rcode in (SERVFAIL, REFUSED):
        failing = lambda p, rcode=rcode: [reply(p, rcode=rcode)]  # noqa: E731
        with upstreams(networks, failing, fine) as (first, second):
            assert ask(udp, query("example.org")).values == ["192.0.2.7"]
            assert len(first.seen) == len(second.seen) == 1
    with upstreams(networks, silent, fine) as (first, second):
        assert ask(udp, query("example.org")).values == ["192.0.2.7"]
        assert len(first.seen) == 1
    with upstreams(networks, lambda p: [reply(p, rcode=NXDOMAIN)], fine) as (first, second):
        assert ask(udp, query("example.org")).rcode == NXDOMAIN
        assert second.seen == []


def test_nobody_helps(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    with bound(socket.SOCK_DGRAM) as gone:
        port = gone.getsockname()[1]
    networks.write("dns", f"network n1 front\nserver 127.0.0.1#{port}\n")
    answer = ask(udp, query("example.org", id=77, size=1400))
    assert (answer.id, answer.rcode, answer.question) == (77, SERVFAIL, "example.org")
    with upstreams(networks, lambda p: [p[:2] + b"\x81\x81" + bytes(8)]):
        assert ask(udp, query("example.org")).rcode == SERVFAIL
    networks.write("dns", "server no.address\nserver 127.0.0.1#0\nserver 127.0.0.1#99999\nserver\n"
                          f"server 127.0.0.1#{port}\n")  # fmt: skip
    assert ask(udp, query("example.org")).rcode == SERVFAIL


def test_forged_answers(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    def react(packet: bytes) -> list[bytes]:
        number = struct.unpack(">H", packet[:2])[0]
        other = reply(query("other.org"), address="6.6.6.6", id=number)
        return [
            reply(packet, address="6.6.6.6", id=number ^ 1),
            other,
            packet,  # no answer
            packet[:2] + b"\x81\x80" + bytes(8),  # no question
            reply(packet, address="6.6.6.6")[:20],
            b"",
            *fine(packet),
        ]

    with upstreams(networks, react) as (server,):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
            server.react = lambda p: (
                forger.sendto(reply(p, address="6.6.6.6"), ("127.0.0.1", server.seen[-1][1])),
                react(p),
            )[1]
            assert ask(udp, query("example.org")).values == ["192.0.2.7"]


def test_six_is_an_address_of_servers_too(
    networks: Networks, udp: socket.socket, helper: Helper
) -> None:
    with Upstream(fine, "::1") as server:
        for address in ("::1", "::1%1", "::1%lo"):
            networks.write("dns", f"server {address}#{server.port}\n")
            assert ask(udp, query("example.org")).values == ["192.0.2.7"]


def test_many_queries_at_a_time(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    """More than the table holds: the oldest are dropped, the newest answered."""
    networks.name("n1", "web", "172.18.0.2")
    with upstreams(networks, silent) as (server,):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(udp.getsockname())
            for i in range(1500):
                s.send(query(f"x{i}.example.org", id=i))
                if i % 100 == 99:  # what does not fit into the socket is lost
                    assert ask(udp, query("web")).values == ["172.18.0.2"]
        server.react = fine
        assert ask(udp, query("late.example.org")).values == ["192.0.2.7"]
        assert len(os.listdir(f"/proc/{helper.pid}/fd")) < 600


# ---- over TCP ---------------------------------------------------------------------------------


def test_tcp(networks: Networks, tcp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2")
    networks.name("n1", "many", *(f"172.18.{i // 200}.{i % 200}" for i in range(900)))
    with socket.create_connection(tcp.getsockname(), 30) as s:
        send_message(s, query("web"))
        assert Answer(receive_message(s)).values == ["172.18.0.2"]
        send_message(s, query("many"))
        answer = Answer(receive_message(s))
        assert len(set(answer.values)) == 900 and not answer.truncated
        for byte in struct.pack(">H", len(query("web"))) + query("web"):
            s.sendall(bytes([byte]))
        assert Answer(receive_message(s)).values == ["172.18.0.2"]


def test_pipelined_queries(networks: Networks, tcp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2")
    with upstreams(networks, fine) as (server,):
        with socket.create_connection(tcp.getsockname(), 30) as s:
            packets = [query(("web", "example.org")[i % 2], id=i) for i in range(200)]
            s.sendall(b"".join(struct.pack(">H", len(p)) + p for p in packets))
            s.shutdown(socket.SHUT_WR)
            for i in range(200):
                answer = Answer(receive_message(s))
                assert answer.id == i
                assert answer.values == [("172.18.0.2", "192.0.2.7")[i % 2]]
            assert s.recv(1) == b""
        assert {transport for transport, _, _ in server.seen} == {"tcp"}


def test_tcp_asks_the_next_server(networks: Networks, tcp: socket.socket, helper: Helper) -> None:
    reactions = [silent, lambda p: [reply(p, rcode=REFUSED)], lambda p: [b"x"], fine]
    with upstreams(networks, *reactions) as servers:
        with socket.create_connection(tcp.getsockname(), 30) as s:
            send_message(s, query("example.org", id=5))
            answer = Answer(receive_message(s))
            assert (answer.id, answer.values) == (5, ["192.0.2.7"])
        assert [len(server.seen) for server in servers] == [1, 1, 1, 1]
    networks.write("dns", "server 127.0.0.1#1\n")
    with socket.create_connection(tcp.getsockname(), 30) as s:
        send_message(s, query("example.org", id=6))
        answer = Answer(receive_message(s))
        assert (answer.id, answer.rcode) == (6, SERVFAIL)


def test_more_connections_than_there_is_room(
    networks: Networks, tcp: socket.socket, helper: Helper
) -> None:
    networks.name("n1", "web", "172.18.0.2")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(tcp.getsockname(), 30))
        s = stack.enter_context(socket.create_connection(tcp.getsockname(), 30))
        send_message(s, query("web"))
        assert Answer(receive_message(s)).values == ["172.18.0.2"]


def test_a_client_that_reads_nothing(
    networks: Networks, udp: socket.socket, tcp: socket.socket, helper: Helper
) -> None:
    networks.name("n1", "many", *(f"172.18.{i // 200}.{i % 200}" for i in range(900)))
    networks.name("n1", "web", "172.18.0.2")
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(tcp.getsockname())
        s.setblocking(False)
        packet = struct.pack(">H", len(query("many"))) + query("many")
        with contextlib.suppress(BlockingIOError):
            while True:
                s.send(packet)
        assert ask(udp, query("web")).values == ["172.18.0.2"]
        s.settimeout(30)
        for _ in range(100):  # nothing of it is lost
            assert len(Answer(receive_message(s)).values) == 900


# ---- the process ------------------------------------------------------------------------------


def test_it_has_no_rights(networks: Networks, udp: socket.socket, helper: Helper) -> None:
    networks.name("n1", "web", "172.18.0.2")
    assert ask(udp, query("web")).values
    with open(f"/proc/{helper.pid}/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == ""
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert os.stat(f"/proc/{helper.pid}/mem").st_uid == 0  # not dumpable
    assert os.readlink(f"/proc/{helper.pid}/cwd") == "/"
    links = {
        os.readlink(f"/proc/{helper.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{helper.pid}/fd")
    }
    assert {link for link in links if link[0] == "/"} == {"/dev/null", "/etc", networks.path}


def test_it_ends_when_idle(networks: Networks, udp: socket.socket, tcp: socket.socket) -> None:
    networks.write("dns", INTERNAL)
    with running(networks, udp=udp, tcp=tcp, idle=0) as helper:
        assert helper.wait() == 0
    networks.name("n1", "web", "172.18.0.2")
    with running(networks, udp=udp, idle=1) as helper:
        assert ask(udp, query("web")).values == ["172.18.0.2"]
        assert helper.wait() == 0


def test_it_is_not_idle_while_a_query_is_under_way(networks: Networks, udp: socket.socket) -> None:
    with upstreams(networks, silent, fine):
        with running(networks, udp=udp, idle=1) as helper:
            assert ask(udp, query("example.org")).values == ["192.0.2.7"]
            assert helper.wait() == 0


def test_its_leash(networks: Networks, udp: socket.socket) -> None:
    networks.write("dns", INTERNAL)
    networks.name("n1", "web", "172.18.0.2")
    with subprocess.Popen(["sleep", "1000"]) as process:
        leash = os.pidfd_open(process.pid)
        try:
            with running(networks, udp=udp, leash=leash) as helper:
                assert ask(udp, query("web")).values == ["172.18.0.2"]
                process.kill()
                assert helper.wait() == 0
        finally:
            os.close(leash)


def test_without_a_leash_it_dies_with_its_parent(networks: Networks, udp: socket.socket) -> None:
    networks.write("dns", INTERNAL)
    networks.name("n1", "web", "172.18.0.2")
    child = f"""
import sys; sys.path[:0] = {[os.path.dirname(os.path.dirname(CORE))]!r}
import socket
from tests.core.net_helper import Helper, Networks
networks = Networks.__new__(Networks)
networks.path = {networks.path!r}
print(Helper(networks, udp=socket.socket(fileno={udp.fileno()})).pid, flush=True)
sys.stdin.read()
"""
    argv = [sys.executable, "-c", child]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[udp.fileno()],
        cwd=os.path.dirname(os.path.dirname(CORE)),
    ) as process:  # fmt: skip
        assert process.stdout
        pid = int(process.stdout.readline())
        helper = os.pidfd_open(pid)
        try:
            assert ask(udp, query("web")).values == ["172.18.0.2"]
            process.kill()
            process.wait()
            wait_for(lambda: not os.path.exists(f"/proc/{pid}") or is_zombie(pid), "its end")
        finally:
            os.close(helper)


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    return True


@pytest.mark.parametrize("argv", ["", "x", "x -1", "x 60001", "../x 0", "x 0 y"])
def test_arguments(argv: str) -> None:
    done = subprocess.run(["fastbox-net", *argv.split()], executable=BINARY, capture_output=True)
    assert done.returncode == 125
