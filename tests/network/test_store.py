"""Networks on disk: names, life, built-in ones, filters, damage."""

from __future__ import annotations

import json
import os
import re
import stat
import threading

import pytest

from fastbox.errors import (
    Ambiguous,
    Conflict,
    FastboxError,
    InvalidArgument,
    NotFound,
    StoreError,
    Unsupported,
)
from fastbox.events import Journal
from fastbox.network.store import NetworkStore
from fastbox.network.types import Network, Subnet
from tests.image.build import die_at


def open_store(root: str, runtime: str) -> NetworkStore:
    return NetworkStore(root, runtime, Journal(root))


@pytest.fixture
def store(root: str, runtime_dir: str) -> NetworkStore:
    return open_store(root, runtime_dir)


def events(root: str) -> list[tuple[str, str, str, dict[str, str]]]:
    with open(f"{root}/events/journal") as file:
        lines = [json.loads(line) for line in file]
    actors = [(e["Type"], e["Action"], e["Actor"]["ID"], e["Actor"]["Attributes"]) for e in lines]
    return [entry for entry in actors if entry[0] == "network"]


def test_create_get_list_remove(root: str, runtime_dir: str, store: NetworkStore) -> None:
    asked = [
        Subnet(subnet="10.123.0.0/24", ip_range="10.123.0.128/25", reserved={"x": "10.123.0.9"})
    ]
    made = store.create("app", subnets=asked, labels={"a": "b"}, internal=True)
    assert re.fullmatch(r"[0-9a-f]{64}", made.id)
    assert made.device == f"fb-{made.id[:12]}" and made.internal and made.is_user_defined
    assert made.subnets[0].gateway == "10.123.0.1" and made.subnets[0].ip_range == "10.123.0.128/25"
    assert store.get("app") == made == open_store(root, runtime_dir).resolve("app")
    assert store.resolve(made.id) == made == store.resolve(made.id[:6])
    assert stat.S_IMODE(os.stat(f"{root}/networks").st_mode) == 0o700
    assert [network.name for network in store.list()] == ["app", "bridge", "host", "none"]
    os.makedirs(f"{runtime_dir}/networks/{made.id}/leases")
    undone: list[str] = []
    assert store.remove(made.id[:8], undo=lambda n: undone.append(n.device)) == made
    assert undone == [made.device]
    assert not os.path.exists(f"{runtime_dir}/networks/{made.id}")
    with pytest.raises(NotFound, match=r"^network app not found$"):
        store.get("app")
    about = {"name": "app", "type": "bridge"}
    told = [("network", action, made.id, about) for action in ("create", "destroy")]
    assert events(root) == told
    assert sorted(os.listdir(f"{root}/networks")) == [".lock", ".pools", "bridge.json"]


def test_built_in_networks(root: str, store: NetworkStore, new_root: object) -> None:
    host, none = store.get("host"), store.get("none")
    assert not os.path.exists(f"{root}/networks")
    assert host == store.resolve(host.id) == store.get("host") and host.id != none.id
    assert (host.driver, none.driver, host.device) == ("host", "none", "")
    bridge = store.get("bridge")
    assert bridge == store.get("bridge") == store.resolve(bridge.id[:12])
    assert re.fullmatch(r"fb0-[0-9a-f]{8}", bridge.device) and not bridge.is_user_defined
    assert bridge.subnets[0].gateway.endswith(".0.1")
    assert open_store("/var/lib/other", "/x").get("host").id != host.id
    for name in ("bridge", "host", "none"):
        with pytest.raises(
            Conflict, match=f"^{name} is a pre-defined network and cannot be removed"
        ):
            store.remove(name)


@pytest.mark.parametrize("name", ["bridge", "host", "none", "default", "container:x"])
def test_reserved_names(store: NetworkStore, name: str) -> None:
    with pytest.raises(Conflict, match="operation is not permitted on predefined"):
        store.create(name)


@pytest.mark.parametrize("name", ["", " ", "-a", ".x", "a/b", "a b", "ä", "a\n", "../x", "x" * 201])
def test_bad_names(root: str, store: NetworkStore, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        store.create(name)
    assert "\n" not in str(caught.value)
    for look_up in (store.get, store.resolve):
        with pytest.raises(NotFound):
            look_up(name)
    assert not os.path.exists(f"{root}/networks/{name}.json")


def test_a_name_is_taken_once(store: NetworkStore) -> None:
    made: list[Network] = []
    refused: list[str] = []

    def create() -> None:
        try:
            made.append(store.create("one"))
        except Conflict as error:
            refused.append(str(error))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [network.id for network in made] == [store.get("one").id]
    assert refused == ["network with name one already exists"] * 7


def test_the_default_network_is_made_once(root: str, runtime_dir: str) -> None:
    ids: list[str] = []
    stores = [open_store(root, runtime_dir) for _ in range(8)]

    def look(store: NetworkStore) -> None:
        with store.lock(shared=True):  # a container that attaches
            ids.append(store.get("bridge").id)

    threads = [threading.Thread(target=look, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8 and len(set(ids)) == 1


def test_ambiguous_and_names_that_look_like_ids(store: NetworkStore) -> None:
    made = [store.create(f"net{n}") for n in range(17)]  # two ids begin with the same digit
    first = [network.id[0] for network in made]
    digit = next(d for d in first if first.count(d) > 1)
    with pytest.raises(Ambiguous, match=rf"^network {digit} is ambiguous"):
        store.resolve(digit)
    named = store.create(made[0].id[:4])
    assert store.resolve(named.name) == named


def test_in_use(store: NetworkStore) -> None:
    made = store.create("app")
    with pytest.raises(Conflict, match=r"network app has active endpoints \(web, db\)$"):
        store.remove("app", in_use=lambda network: ["web", "db"])
    assert store.prune(in_use=lambda network: ["web"]) == [] and store.get("app") == made


def test_prune(store: NetworkStore) -> None:
    assert store.prune() == []
    for name in ("a", "b", "c"):
        store.create(name, labels={"keep": "1"} if name == "c" else {})
    store.get("bridge")
    gone: list[str] = []
    filters = {"label!": ["keep"]}
    used = {"b": ["x"]}
    result = store.prune(
        filters=filters,
        in_use=lambda network: used.get(network.name, []),
        undo=lambda network: gone.append(network.name),
    )
    assert result == gone == ["a"]
    assert store.prune(filters={"until": ["1h"]}) == []
    with pytest.raises(InvalidArgument):
        store.prune(filters={"name": ["a"]})
    assert [n.name for n in store.list(filters={"type": ["custom"]})] == ["b", "c"]


def test_filters(store: NetworkStore) -> None:
    made = store.create("app", labels={"tier": "web"})

    def names(**filters: str) -> list[str]:
        return [n.name for n in store.list(filters={k: [v] for k, v in filters.items()})]

    assert names(name="pp") == names(name="^app$") == names(id=made.id[:9]) == ["app"]
    assert names(label="tier=web") == ["app"] and names(driver="null") == ["none"]
    assert names(type="builtin") == ["bridge", "host", "none"]
    assert names(scope="global") == [] and len(names(scope="local")) == 4
    assert names(dangling="true") == ["app"] and names(dangling="false") == []
    for bad in ({"foo": "x"}, {"type": "x"}, {"dangling": "x"}):
        with pytest.raises(InvalidArgument):
            names(**bad)


def test_drivers_and_options(store: NetworkStore) -> None:
    with pytest.raises(Conflict, match='only one instance of "host" network is allowed'):
        store.create("x", driver="host")
    with pytest.raises(InvalidArgument, match="could not find network driver"):
        store.create("x", driver="weave")
    with pytest.raises(InvalidArgument) as caught:
        store.create("x", driver_options={"foo": "1"})
    assert "com.docker.network.driver.mtu" in (caught.value.hint or "")
    with pytest.raises(Unsupported):
        store.create("x", driver_options={"com.docker.network.container_iface_prefix": "e"})
    with pytest.raises(InvalidArgument, match="needs the interface"):
        store.create("x", driver="macvlan")
    bad = {
        "mtu": "x",
        "com.docker.network.driver.mtu": "67",
        "com.docker.network.bridge.name": "a/b",
        "com.docker.network.bridge.enable_icc": "maybe",
        "com.docker.network.bridge.host_binding_ipv4": "::1",
    }
    for name, value in bad.items():
        with pytest.raises(InvalidArgument):
            store.create("x", driver_options={name: value})
    with pytest.raises(NotFound):
        store.get("x")
    named = store.create("x", driver_options={"com.docker.network.bridge.name": "br-mine"})
    assert named.device == "br-mine"
    with pytest.raises(Conflict, match="br-mine is network x's"):
        store.create("y", driver_options={"com.docker.network.bridge.name": "br-mine"})
    assert store.create("m", driver="macvlan", driver_options={"parent": "lo"}).device == "lo"


def test_what_cannot_be_made_is_undone(root: str, store: NetworkStore) -> None:
    def fails(network: Network) -> None:
        raise Unsupported("no bridge")

    with pytest.raises(Unsupported):
        store.create("app", made=fails)
    assert not os.path.exists(f"{root}/networks/app.json")
    assert store.create("app", made=lambda network: None).name == "app"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[" * 100000,
        b"\xff",
        b'{"id":"x","name":"app"}',
        b'{"id":"%b","name":"other","device":"x"}' % (b"0" * 64),
        b'{"id":"../../../%b","name":"app","device":"x"}' % (b"0" * 55),
        b'{"id":"%b","name":"app","device":"a/b"}' % (b"0" * 64),
        b'{"id":"%b","name":"app","device":"x","subnets":[{"subnet":"x"}]}' % (b"0" * 64),
    ],
)
def test_a_damaged_file_is_named(root: str, store: NetworkStore, text: bytes) -> None:
    store.create("app")
    with open(f"{root}/networks/app.json", "wb") as file:
        file.write(text)
    for look in (lambda: store.get("app"), lambda: store.resolve("app")):
        with pytest.raises(StoreError, match=f"{root}/networks/app.json is damaged") as caught:
            look()
        assert "\n" not in str(caught.value)
        assert caught.value.hint == "`fastbox network rm app` removes the network"
    # It is in no other network's way.
    assert store.get("host").name == "host"
    other = store.create("other")
    assert [n.name for n in store.list()] == ["bridge", "host", "none", "other"]
    assert store.resolve(other.id[:12]) == other
    (line,) = store.damaged()
    assert line.startswith(f"{root}/networks/app.json is damaged: ")
    with pytest.raises(Conflict, match="network with name app already exists"):
        store.create("app")
    assert store.prune() == ["other"]
    assert store.remove("app").name == "app" and store.damaged() == []
    store.create("app")


def test_a_damaged_default_network(root: str, store: NetworkStore) -> None:
    store.get("bridge")
    with open(f"{root}/networks/bridge.json", "wb"):
        pass
    assert [n.name for n in store.list()] == ["host", "none"]
    with pytest.raises(StoreError, match="is damaged"):
        store.get("bridge")
    store.remove("bridge")
    assert [n.name for n in store.list()] == ["bridge", "host", "none"]


def test_killed_at_any_point(root: str, runtime_dir: str) -> None:
    store = open_store(root, runtime_dir)
    store.get("bridge")
    point, whole = 0, False
    while not whole:
        point += 1
        whole = die_at(point, lambda: store.create("app"))
        names = [network.name for network in store.list()]
        assert names in (["app", "bridge", "host", "none"], ["bridge", "host", "none"])
        if "app" in names:
            die_at(point, lambda: store.remove("app"))
            assert not os.path.exists(f"{root}/networks/app.json") or store.remove("app")
    assert point > 5
    store.create("app")
    hidden = {name for name in os.listdir(f"{root}/networks") if name.startswith(".")}
    assert hidden == {".lock", ".pools"}


def test_no_room_is_an_error(store: NetworkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(StoreError, match="no space left") as caught:
        store.create("app")
    assert caught.value.hint == "free some space"
    monkeypatch.undo()
    with pytest.raises(FastboxError):
        store.get("app")
