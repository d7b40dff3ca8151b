"""Fixtures: a store of one's own, the real command, real images, a real registry; and two rules:
nothing is left behind by a test, and in CI nothing is skipped."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from fastbox._core.tree import remove_tree
from tests.support.command import Command, docker_works, fastbox_program
from tests.support.images import Templates, archive, changes
from tests.support.leaks import LeakCheck, cgroup_parent, empty_parents, nft_tables, open_text
from tests.support.netns import World
from tests.support.registry import Registry
from tests.support.site import Site
from tests.support.sweep import own_directory, sweep
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from fastbox.engine import Engine

# No deadline: a machine that is busy is no bug.
settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")

IMAGES = ("busybox", "debian", "redis", "systemd")


# ---- rules -----------------------------------------------------------------------------------


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """In CI a skipped test is a failed one, unless it is marked ``hardware``."""
    report = yield
    needless = not hasattr(report, "wasxfail") and item.get_closest_marker("hardware") is None
    if report.skipped and needless and _in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """In CI a module that skips itself is an error."""
    report = yield
    if report.skipped and _in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report


# Seconds; a test that hangs fails, and the others still run. A module that compiles says more.
TIME_LIMIT = 180


class TestHangs(Exception):
    """A test took longer than TIME_LIMIT, or its module's."""


def _interrupt_what_hangs(item: pytest.Item) -> Iterator[None]:
    """Interrupt a phase of a test (set-up, call, tear-down) that hangs, where it hangs; and again
    every few seconds, because what cleans up may hang too."""

    limit = getattr(getattr(item, "module", None), "TIME_LIMIT", TIME_LIMIT)

    def interrupt(number: int, frame: object) -> None:
        raise TestHangs(f"no end after {limit} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit, 10)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(_interrupt_what_hangs)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(_interrupt_what_hangs)
pytest_runtest_teardown = pytest.hookimpl(wrapper=True)(_interrupt_what_hangs)


FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
FORWARDED = pytest.StashKey[dict[str, str]]()
PARENTS = pytest.StashKey[dict[str, str]]()  # of the stores of all tests -> the test


def pytest_sessionstart(session: pytest.Session) -> None:
    """A run that is told to end (``timeout``) tears down, as one that is interrupted does; and one
    in the background (``nohup``, ``&``: these ignore signals) tests what signals do."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt("terminated")

    signal.signal(signal.SIGTERM, end)
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    if not _is_worker(session.config):
        session.config.stash[FORWARDED] = {path: open_text(path) for path in FORWARDING}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The host forwards packets after the tests if it did before."""
    for path, value in session.config.stash.get(FORWARDED, {}).items():
        if value and open_text(path) != value:
            with open(path, "w") as file:
                file.write(value)


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of several processes (``-n 2``) that share the tests."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers a module's tests stay together."""
    from tests.support.modules import ByModule

    return ByModule(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``twin`` runs with fastbox, and with docker where a daemon answers."""
    if "twin" in metafunc.fixturenames:
        engines = ["fastbox", *(["docker"] if docker_works() else [])]
        metafunc.parametrize("twin", engines, indirect=True)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Data is no name: two workers must collect the same names, and data may hold the time."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest, base: str) -> Iterator[LeakCheck]:
    """Fails the test that leaves a mount, cgroup, process, descriptor, thread … behind."""
    paths = [base]
    if "tmp_path" in request.fixturenames:
        paths.append(str(request.getfixturevalue("tmp_path")))
    check = LeakCheck(paths)
    yield check
    check.watch_stores()
    for root in (*check.roots, *check.stores):
        request.config.stash[PARENTS].setdefault(cgroup_parent(root), request.node.nodeid)
    left = check.leaks()
    if left:
        check.clean()
    check.remove_cgroups()
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


# ---- places ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def session_base() -> Iterator[str]:
    """A directory of this run. Its path is short: unix sockets below it have 108 bytes."""
    sweep("/tmp/fb-*")
    with own_directory("/tmp/fb-") as path:
        yield path


@pytest.fixture(scope="session", autouse=True)
def no_parent_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """The parent cgroup of a store that comes back after its test (a process that started one more
    container) is told at the end, with the test's name."""
    request.config.stash[PARENTS] = {}
    yield
    left = empty_parents(request.config.stash[PARENTS])
    for directory, _ in left:
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    if left:
        pytest.fail(f"parent cgroups that were left, and their tests: {left}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def configuration(session_base: str) -> Iterator[str]:
    """A configuration file that says nothing, in the place of this host's files; its path."""
    path = os.path.join(session_base, "config.toml")
    with open(path, "w") as file:
        # Whoever tests the command server configures it (``commanded``).
        file.write('daemon-json = ""\ncommand-server = false\n')
    before = os.environ.get("FASTBOX_CONFIG")
    os.environ["FASTBOX_CONFIG"] = path
    yield path
    if before is None:
        del os.environ["FASTBOX_CONFIG"]
    else:
        os.environ["FASTBOX_CONFIG"] = before


@pytest.fixture
def base(session_base: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A directory of the test, removed after it (kept with FASTBOX_TEST_KEEP=1)."""
    path = tempfile.mkdtemp(prefix="", dir=session_base)
    yield path
    if not os.environ.get("FASTBOX_TEST_KEEP"):
        remove_tree(path)


@pytest.fixture
def in_memory(base: str) -> Iterator[str]:
    """A directory on a file system in memory, where syncing costs nothing: for what is killed at
    each of its steps."""
    path = os.path.join(base, "memory")
    os.mkdir(path, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture(scope="session")
def templates(session_base: str) -> Templates:
    return Templates(session_base)


@pytest.fixture
def new_root(base: str, leak_check: LeakCheck) -> Iterator[Callable[[str], str]]:
    """``new_root("other")``: a further store, watched and emptied like ``root``."""
    made: list[str] = []

    def make(name: str) -> str:
        path = os.path.join(base, name)
        os.mkdir(path, 0o700)
        leak_check.watch(path)
        made.append(path)
        return path

    yield make
    for path in made:
        remove_containers(path, runtime_of(path))


@pytest.fixture
def root(
    new_root: Callable[[str], str], templates: Templates, request: pytest.FixtureRequest
) -> str:
    """The test's data root. It holds the images whose fixtures the test asks for."""
    path = new_root("root")
    wanted = [name for name in IMAGES if f"{name}_image" in request.fixturenames]
    if wanted:
        templates.copy(wanted, path)
    return path


@pytest.fixture
def runtime_dir(root: str) -> str:
    path = runtime_of(root)
    os.makedirs(path, 0o700, exist_ok=True)
    return path


def runtime_of(root: str) -> str:
    """The runtime directory that goes with a test's root."""
    return root + ".run"


def remove_containers(root: str, runtime_dir: str) -> None:
    """Remove, as a user would, what the test made; what remains then is a leak. The bridges of a
    store and its rules stay for its next container: they go here."""
    from fastbox import supervision

    supervision.stop(runtime_dir)  # and what follows does not bring it back
    _remove_each(root, runtime_dir)
    remove_networks(root)


def _remove_each(root: str, runtime_dir: str) -> None:
    directory = os.path.join(root, "containers")
    if not os.path.isdir(directory) or not os.listdir(directory):
        return
    from fastbox.engine import Engine
    from fastbox.errors import NotFound

    engine = Engine(root, runtime_dir)
    for container in engine.containers(all=True):
        with contextlib.suppress(NotFound):  # --rm: its monitor was faster
            engine.remove(container.id, force=True, volumes=True)


def remove_networks(root: str) -> None:
    """Remove the bridges of a store, and its table of the packet filter."""
    from fastbox.network import firewall

    table = firewall.table_name(root)
    if firewall.exists(table):
        firewall.remove(table)
    for device in bridges(root):
        subprocess.run(["ip", "link", "del", device], check=True)


def bridges(root: str) -> list[str]:
    """The store's bridges that there are (in the network namespace of this thread)."""
    found, there = [], {name for _, name in socket.if_nameindex()}
    for path in glob.glob(os.path.join(root, "networks", "*.json")):
        try:
            with open(path) as file:
                network = json.load(file)
        except (ValueError, RecursionError):  # a test of damaged files
            continue
        if network.get("driver") != "macvlan" and network.get("device") in there:
            found.append(network["device"])
    return found


# ---- faces -----------------------------------------------------------------------------------


@pytest.fixture
def engine(root: str, runtime_dir: str) -> Engine:
    """An Engine over the test's root."""
    from fastbox.engine import Engine

    return Engine(root, runtime_dir)


@pytest.fixture
def home(base: str) -> str:
    """``$HOME`` of the commands: no credentials, no configuration."""
    path = os.path.join(base, "home")
    os.mkdir(path)
    return path


@pytest.fixture
def cli(request: pytest.FixtureRequest, root: str, runtime_dir: str, home: str) -> Command:
    """The installed ``fastbox`` on the test's root. There is no command server, so it runs the
    Python command line; FASTBOX_TEST_SERVED=1 runs the same tests through one."""
    if os.environ.get("FASTBOX_TEST_SERVED"):
        served: Command = request.getfixturevalue("served")
        return served
    argv = [fastbox_program(), "--root", root, "--runtime-dir", runtime_dir]
    return Command(argv, home)


@pytest.fixture
def served(root: str, runtime_dir: str, home: str, base: str) -> Command:
    """``cli`` with a command server that runs what it is given."""
    from fastbox import supervision

    config = os.path.join(base, "served.toml")
    with open(config, "w") as file:
        file.write('daemon-json = ""\n')
    argv = [fastbox_program(), "--root", root, "--runtime-dir", runtime_dir]
    command = Command(argv, home, env={"FASTBOX_CONFIG": config})
    with pytest.MonkeyPatch.context() as patch:  # as `supervisor start` does, but for its start
        patch.setenv("FASTBOX_CONFIG", config)
        supervision.start(root, runtime_dir)
    wait_for(lambda: answers(supervision.command_socket_path(runtime_dir)), "the command server")
    return command


def answers(path: str) -> bool:
    """Whether somebody listens at a command socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        return connection.connect_ex(path) == 0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A host and a neighbour of the module's own, see ``site``."""
    with World() as made:
        yield made


@pytest.fixture(scope="module")
def module_site(
    world: World, session_base: str, templates: Templates, request: pytest.FixtureRequest
) -> Iterator[Site]:
    """A store on the host of the module's world, with busybox, or the module's ``IMAGES``; see
    ``site``."""
    base = tempfile.mkdtemp(prefix="", dir=session_base)
    root, home = os.path.join(base, "root"), os.path.join(base, "home")
    for path in (root, runtime_of(root), home):
        os.mkdir(path, 0o700)
    templates.copy(getattr(request.module, "IMAGES", ["busybox"]), root)
    before = world.inside("host", lambda: (interfaces(), nft_tables()))
    made = Site(world, root, runtime_of(root), home)
    yield made
    made.empty()
    world.inside("host", lambda: remove_networks(root))
    assert world.inside("host", lambda: (interfaces(), nft_tables())) == before
    remove_tree(base)


@pytest.fixture
def site(module_site: Site, leak_check: LeakCheck) -> Iterator[Site]:
    """fastbox on the host of the module's world, in a store of the module's: a test begins without
    containers and networks, but the ground of the default network may be there."""
    leak_check.watch(module_site.root)
    leak_check.paths.append(os.path.dirname(module_site.root))
    leak_check.watch_interfaces(lambda: module_site.world.inside("host", interfaces))
    yield module_site
    module_site.empty()


def interfaces() -> list[str]:
    """Those of this thread's network namespace."""
    return [name for _, name in socket.if_nameindex()]


@pytest.fixture
def twin(request: pytest.FixtureRequest, home: str) -> Iterator[Command]:
    """A command with ``busybox`` imported as ``fastbox-test/busybox``: fastbox, then docker."""
    image = "fastbox-test/busybox"
    options = [word for change in changes("busybox") for word in ("-c", change)]
    if request.param == "fastbox":
        cli: Command = request.getfixturevalue("cli")
        cli.ok("import", *options, archive("busybox"), image)
        yield cli
        return
    places = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
    docker = Command(["docker"], home, env=places)
    docker.ok("import", *options, archive("busybox"), image)
    yield docker
    for container in docker.ok("ps", "-aq", "--filter", f"ancestor={image}").split():
        docker.ok("rm", "-fv", container)
    docker.ok("rmi", "-f", image)


# ---- images and registries -------------------------------------------------------------------


@pytest.fixture
def busybox_image(root: str) -> str:
    """Name of an image with a static busybox: ``sh`` and some 270 applets; user app is 1000."""
    return "busybox"


@pytest.fixture
def redis_image(root: str) -> str:
    """Name of an image with Debian's redis-server and redis-cli."""
    return "redis"


@pytest.fixture
def systemd_image(root: str) -> str:
    """Name of an image whose init is systemd; for a privileged container."""
    return "systemd"


@pytest.fixture(scope="session")
def busybox_tar() -> str:
    """Path of the busybox root filesystem's tar."""
    return archive("busybox")


@pytest.fixture(scope="session")
def debian_tar() -> str:
    """Path of a Debian root filesystem's tar."""
    return archive("debian")


@pytest.fixture(scope="session")
def registry(session_base: str) -> Iterator[Registry]:
    """A registry that asks for no credentials. Use a repository name of your own."""
    server = Registry(os.path.join(session_base, "registry"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def auth_registry(session_base: str) -> Iterator[Registry]:
    """A registry that wants basic authentication (``registry.auth``)."""
    server = Registry(os.path.join(session_base, "auth-registry"), auth=True)
    yield server
    server.stop()
