"""kill -9 of the command at any moment of each verb that changes images: nothing is damaged, nobody
else's image or container is touched, and the verb done again does what it should have done."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import random
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from fastbox import ContainerConfig, Engine
from fastbox.container.commit import commit
from fastbox.errors import NotFound
from fastbox.image.seal import sealed, unsealed
from tests.image.build import make, put
from tests.image.build import tar as tar_of
from tests.support.boxes import execute, start
from tests.support.command import Command, fastbox_program
from tests.support.registry import Registry
from tests.support.wait import wait_for
from tests.support.whole import check_whole

KILLS = 4  # of each verb
SEED = 20260
_STARTED = 0.35  # of a verb's time, when the interpreter has loaded what it needs, or is about to


class Killer:
    """Runs commands, and kills them at random."""

    def __init__(self) -> None:
        self.random = random.Random(SEED)

    def delays(self, whole: float) -> list[float]:
        """Moments spread over what a verb takes, in seconds."""
        parts = [(n + self.random.random()) / KILLS for n in range(KILLS)]
        return [whole * (_STARTED + (1 - _STARTED) * part) for part in parts]

    def kill(self, cli: Command, delay: float, *words: str, data: bytes = b"") -> None:
        client = cli.popen(*words)
        try:
            client.communicate(data, timeout=delay)
        except subprocess.TimeoutExpired:
            client.kill()
            client.communicate()


@pytest.fixture
def killer() -> Killer:
    return Killer()


def took(call: Callable[[], object]) -> float:
    """Seconds that a call took."""
    before = time.monotonic()
    call()
    return time.monotonic() - before


def noise(seed: int, size: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size)


def layers(seed: int) -> list[bytes]:
    return [tar_of({f"file{n}": noise(seed + n), "same": b"%d" % n}) for n in range(3)]


# ---- stores --------------------------------------------------------------------------------------


class Stores:
    """Copies of a store: images ``app``, ``other``, ``sealed`` and ``fresh`` (commits), containers
    ``web`` and ``keeper``."""

    def __init__(self, base: str, home: str) -> None:
        self.base = base
        self.home = home
        self.count = 0
        self.template = f"{base}/template"
        self.archive = f"{base}/archive.tar"
        engine = Engine(self.template, f"{base}/run")
        put(engine._images, "app", layers(0))
        self.other = make(engine._images, "other", "other").id
        put(engine._images, "loaded", layers(10))
        engine.save(["loaded"], self.archive)
        engine.remove_image("loaded")
        self._box(engine, "keeper", "other", {"kept": b"kept"})
        for number, name in enumerate(("sealed", "fresh", "web")):
            self._box(engine, name, "app", {"new": noise(20 + number), "same": b"changed"})
            if name != "web":
                commit(engine._lifecycle, engine._images, engine.container(name).id, name)
                engine.remove(name)
        sealed(engine._images, "sealed")

    @staticmethod
    def _box(engine: Engine, name: str, image: str, files: dict[str, bytes]) -> None:
        config = ContainerConfig(image=image, name=name, command=["x"], labels={name: "yes"})
        box = engine.create(config)
        for path, data in files.items():
            with open(f"{box.directory}/upper/{path}", "wb") as file:
                file.write(data)

    @contextlib.contextmanager
    def copy(self) -> Iterator[tuple[Engine, Command]]:
        """A copy, for the length of a block."""
        self.count += 1
        root = f"{self.base}/{self.count}"
        subprocess.run(["cp", "-a", "--", self.template, root], check=True)
        os.mkdir(f"{root}.run")
        argv = [fastbox_program(), "--root", root, "--runtime-dir", f"{root}.run"]
        yield Engine(root, f"{root}.run"), Command(argv, self.home)
        wait_for(lambda: not at_work(root), "who brings layers to the disk")
        subprocess.run(["rm", "-rf", root, f"{root}.run"], check=True)

    def check(self, engine: Engine) -> None:
        """The store is whole, and all is there that nobody was told to change."""
        check_whole(engine.root)
        assert engine.image("other").id == self.other
        keeper = engine.container("keeper")
        assert keeper.record.image_id == self.other
        with open(f"{keeper.directory}/upper/kept", "rb") as file:
            assert file.read() == b"kept"


def at_work(root: str) -> bool:
    """Whether a process has this store on its command line."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if root.encode() in file.read().split(b"\0"):
                return True
    return False


@pytest.fixture
def stores(in_memory: str, home: str) -> Stores:
    return Stores(in_memory, home)


def is_there(engine: Engine, name: str) -> bool:
    with contextlib.suppress(NotFound):
        return bool(engine._images.ensure_layers(engine.image(name)))
    return False


# ---- verbs of one store --------------------------------------------------------------------------


def see_commit(engine: Engine, out: str) -> None:
    assert [f"{c.kind} {c.path}" for c in engine.changes("web")] == ["A /new", "C /same"]
    assert len(engine._images.ensure_layers(engine.image("snap"))) >= 4
    top = engine._images.ensure_layers(engine.image("snap"))[:-3]
    assert any(os.path.exists(f"{engine.root}/layers/{name}/new") for name in top)


def see_archive(engine: Engine, out: str) -> None:
    with tarfile.open(out) as archive:
        assert "same" in "".join(archive.getnames()) or "manifest.json" in archive.getnames()
        for member in archive:
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None and len(content.read()) == member.size


def see_loaded(engine: Engine, out: str) -> None:
    assert len(engine._images.ensure_layers(engine.image("loaded"))) == 3


def see_removed(engine: Engine, out: str) -> None:
    assert not is_there(engine, "sealed")
    assert is_there(engine, "app") and is_there(engine, "fresh")


def see_pruned(engine: Engine, out: str) -> None:
    assert not (is_there(engine, "sealed") or is_there(engine, "fresh"))
    assert is_there(engine, "app")


def see_all_pruned(engine: Engine, out: str) -> None:
    assert [box.name for box in engine.containers(all=True)] == ["keeper"]
    assert [image.id for image in engine.images()] == [engine.image("other").id]


def see_tagged(engine: Engine, out: str) -> None:
    assert engine.image("second:1").id == engine.image("other").id


def see_sealed(engine: Engine, out: str) -> None:
    assert unsealed(engine._images) == []
    assert len(engine._images.ensure_layers(engine.image("fresh"))) == 4


def see_imported(engine: Engine, out: str) -> None:
    assert is_there(engine, "new:1")


VERBS: dict[str, tuple[list[str], Callable[[Engine, str], None]]] = {
    "commit": (["commit", "web", "snap"], see_commit),
    "export": (["export", "-o", "OUT", "web"], see_archive),
    "import": (["import", "ARCHIVE", "new:1"], see_imported),
    "save": (["save", "-o", "OUT", "fresh", "app"], see_archive),
    "load": (["load", "-i", "ARCHIVE"], see_loaded),
    "rmi": (["rmi", "sealed"], see_removed),
    "image-prune": (["image", "prune", "-af"], see_pruned),
    "system-prune": (["system", "prune", "-af", "--filter", "label!=keeper"], see_all_pruned),
    "tag": (["tag", "other", "second:1"], see_tagged),
    "seal": (["image", "settle", "--seal"], see_sealed),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_verb(stores: Stores, killer: Killer, verb: str) -> None:
    template, see = VERBS[verb]
    out = f"{stores.base}/out.tar"
    words = [{"OUT": out, "ARCHIVE": stores.archive}.get(word, word) for word in template]
    with stores.copy() as (engine, cli):
        whole = took(lambda: cli.ok(*words))
        see(engine, out)
    for delay in killer.delays(whole):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(out)
        with stores.copy() as (_, cli):
            root, runtime = cli.argv[2], cli.argv[4]
            killer.kill(cli, delay, *words)
            if os.path.exists(out):
                see_archive(Engine(root, runtime), out)  # it appears when it is whole
            stores.check(Engine(root, runtime))
            again = cli(*words)
            done = verb == "rmi" and "No such image" in again.err
            assert again.code == 0 or done, again
            see(Engine(root, runtime), out)
            stores.check(Engine(root, runtime))


def test_a_killed_commit_of_a_running_container(
    engine: Engine, cli: Command, root: str, killer: Killer, busybox_image: str
) -> None:
    box = start(engine, busybox_image, name="web")
    script = (
        "for n in $(seq 200); do echo $n > /$n; done; dd if=/dev/urandom of=/new bs=64k count=9"
    )
    assert execute(engine, box, "sh", "-c", script).code == 0
    before = engine.changes("web")
    image_id = engine.image("busybox").id
    delays = killer.delays(took(lambda: cli.ok("commit", "web", "snap")))
    for number, delay in enumerate(delays):
        killer.kill(cli, delay, "commit", "web", f"snap:{number}")
        assert cli.ok("ps", "--format", "{{.Names}} {{.State}}") == "web running"
        assert cli.ok("exec", "web", "cat", "/7") == "7"
        check_whole(root)
        cli.ok("commit", "web", f"snap:{number}")
        assert (engine.changes("web"), engine.image("busybox").id) == (before, image_id)
        check_whole(root)
    found = cli.ok("run", "--rm", "--network=none", "snap:0", "sh", "-c", "cat /200; wc -c < /new")
    assert found.split() == ["200", f"{9 * 65536}"]


# ---- registries ----------------------------------------------------------------------------------


def fetched(registry: Registry, repository: str, since: int) -> list[str]:
    """The blobs that were asked for since the log was so long."""
    found = []
    for line in registry.log()[since:].splitlines():
        words = line.replace('"', " ").split()
        if "GET" in words and f"/v2/{repository}/blobs/" in line:
            path = words[words.index("GET") + 1]
            found.append(path.rpartition("/")[2])
    return found


def test_a_killed_pull(stores: Stores, killer: Killer, registry: Registry) -> None:
    """The next one goes on: what was finished is not fetched again."""
    content = [tar_of({f"f{n}": noise(40 + n, 700_000), "same": b"%d" % n}) for n in range(7)]
    registry.push("killed/pull:1", content, compression="none")
    name = f"{registry.host}/killed/pull:1"
    with stores.copy() as (engine, cli):
        delays = killer.delays(took(lambda: cli.ok("pull", name)))
    for delay in delays:
        with stores.copy() as (engine, cli):
            killer.kill(cli, delay, "pull", name)
            stores.check(engine)
            kept = {digest[7:] for digest in engine._images.blobs.digests()}
            since = len(registry.log())
            cli.ok("pull", name)
            again = {digest.partition(":")[2] for digest in fetched(registry, "killed/pull", since)}
            assert not again & kept
            image = Engine(engine.root, engine.runtime_dir).image(name)
            assert len(engine._images.ensure_layers(image)) == 7
            stores.check(engine)


def test_a_killed_push(stores: Stores, killer: Killer, registry: Registry) -> None:
    """Of an image that has to be packed first."""

    def pushed(cli: Command, repository: str) -> None:
        cli.ok("push", f"{registry.host}/{repository}:1")
        _, _, data = registry.request("GET", f"/v2/{repository}/manifests/1")
        for blob in json.loads(data)["layers"]:
            path = f"/v2/{repository}/blobs/{blob['digest']}"
            assert registry.request("HEAD", path)[1]["content-length"] == str(blob["size"])

    with stores.copy() as (engine, cli):
        engine.tag("fresh", f"{registry.host}/killed/push:1")
        delays = killer.delays(took(lambda: pushed(cli, "killed/push")))
    for number, delay in enumerate(delays):
        repository = f"killed/push{number}"
        with stores.copy() as (engine, cli):
            engine.tag("fresh", f"{registry.host}/{repository}:1")
            killer.kill(cli, delay, "push", f"{registry.host}/{repository}:1")
            stores.check(engine)
            assert is_there(engine, "fresh")
            pushed(cli, repository)
            stores.check(engine)


def test_a_killed_login(cli: Command, killer: Killer, auth_registry: Registry) -> None:
    """The file of the credentials is the old one or the new one."""
    path = f"{cli.home}/.docker/config.json"
    os.mkdir(os.path.dirname(path))
    old = {
        "auths": {"other.example": {"auth": "YTpi"}},
        "credsStore": "",
        "HttpHeaders": {"a": "b"},
    }
    assert auth_registry.auth is not None
    user, password = auth_registry.auth
    words = ("login", "-u", user, "--password-stdin", auth_registry.host)

    def kept() -> dict[str, object]:
        with open(path, "rb") as file:
            found: dict[str, object] = msgspec.json.decode(file.read(), type=dict)
        return found

    def reset() -> None:
        with open(path, "w") as file:
            json.dump(old, file)

    reset()
    delays = killer.delays(took(lambda: cli.ok(*words, input=password)))
    new = kept()
    assert new != old
    for delay in delays:
        reset()
        killer.kill(cli, delay, *words, data=password.encode())
        assert kept() in (old, new)
        cli.ok(*words, input=password)
        assert kept() == new
