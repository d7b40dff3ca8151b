"""Several pulls at once, pulls that are interrupted, and pulls that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastbox.errors import FastboxError, StoreError
from fastbox.image import fetch
from fastbox.image.pull import pull
from fastbox.image.store import ImageStore
from fastbox.registry.guard import Cancelled, Guard
from fastbox.registry.retry import Policy
from tests.support.registry import digest_of
from tests.support.wait import wait_for

from .conftest import QUICK, Puller, layer
from .server import FaultyRegistry, Handler, cut_after, status

State = Callable[[], dict[str, list[str]]]

PROGRAM = """
import sys
from fastbox.image.store import ImageStore
from fastbox.image.pull import pull
from fastbox.errors import FastboxError
try:
    result = pull(ImageStore(sys.argv[1]), sys.argv[2], progress=lambda event: None)
    print(result.status, result.image.id)
except FastboxError as error:
    print("Error:", error)
    sys.exit(1)
except KeyboardInterrupt:
    sys.exit(130)
"""


class Process:
    """A pull in a process of its own."""

    def __init__(self, root: str, reference: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, root, reference],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """Status and output."""
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@pytest.fixture
def start(root: str, faulty: FaultyRegistry) -> Iterator[Callable[[str], Process]]:
    """``start("app")``: begin a pull in another process; all of them end with the test."""
    started: list[Process] = []

    def begin(name: str) -> Process:
        process = Process(root, f"{faulty.host}/{name}")
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()


class Gate:
    """Answers that wait, after so many bytes of the body, until they are let through."""

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, handler: Handler) -> None:
        stream = handler.wfile
        handler.wfile = _Waiting(stream, self)  # type: ignore[assignment]
        try:
            handler.honest()
        finally:
            handler.wfile = stream


class _Waiting:
    def __init__(self, stream: Any, gate: Gate) -> None:
        self._stream = stream
        self._gate = gate
        self._head = True

    def write(self, data: bytes) -> int:
        if self._head:
            self._head = False
            return int(self._stream.write(data))
        after = self._gate.after
        self._stream.write(data[:after])
        self._stream.flush()
        self._gate.reached.set()
        # The test opens the gate; the limit is for a test that failed before it could.
        self._gate.open.wait(60)
        self._stream.write(data[after:])
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


# ---- at once -------------------------------------------------------------------------------------


def test_two_processes_pull_one_image_and_fetch_each_blob_once(
    faulty: FaultyRegistry, start: Callable[[str], Process], store: ImageStore
) -> None:
    """59"""
    contents = [layer(f"f{n}", size=100_000) for n in range(4)]
    described = faulty.add_image("app", contents)
    gate = Gate(after=1000)
    first_blob = described["layers"][0]["digest"]
    faulty.on(first_blob, gate)
    one = start("app")
    assert gate.reached.wait(60)
    two = start("app")
    wait_for(lambda: len(faulty.requests("GET .*manifests/latest")) == 2, "the second pull")
    gate.open.set()
    assert one.end() == (0, f"downloaded {described['config']}\n")
    assert two.end() == (0, f"downloaded {described['config']}\n")
    for blob in described["layers"]:
        assert len(faulty.requests(f"GET .*{blob['digest']}")) == 1
    image = store.resolve(f"{faulty.host}/app")
    assert all(store.layer_dir(diff_id) for diff_id in image.layers)


def test_many_pulls_in_one_process(faulty: FaultyRegistry, store: ImageStore, state: State) -> None:
    """59: images that share layers."""
    shared = [layer(f"shared{n}", size=50_000) for n in range(3)]
    images = [faulty.add_image(f"app{n}", [*shared, layer(f"own{n}")]) for n in range(6)]
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            Puller(store, faulty.host)(f"app{n}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    blobs = {blob["digest"] for image in images for blob in image["layers"]}
    for blob in blobs:
        assert len(faulty.requests(f"GET .*{blob}")) == 1
    assert state()["parts"] == state()["staged"] == []
    assert len(state()["layers"]) == 9


def test_who_waits_takes_over_when_the_other_is_killed(
    faulty: FaultyRegistry, start: Callable[[str], Process]
) -> None:
    """6, 59"""
    described = faulty.add_image("app", [layer("a", size=500_000)])
    blob = described["layers"][0]["digest"]
    gate = Gate(after=200_000)
    faulty.on(blob, gate)
    one = start("app")
    assert gate.reached.wait(60)
    two = start("app")
    wait_for(lambda: len(faulty.requests("GET .*manifests/latest")) == 2, "the second pull")
    one.signal(signal.SIGKILL)
    one.end()
    gate.open.set()
    assert two.end() == (0, f"downloaded {described['config']}\n")
    second = faulty.requests(f"GET .*{blob}")[1]
    assert 0 < int(second.headers["range"][6:-1]) <= 200_000


def test_no_more_layers_at_once_than_allowed(faulty: FaultyRegistry, puller: Puller) -> None:
    active: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def count(handler: Handler) -> None:
        with lock:
            active.append(1)
            most.append(len(active))
        handler.honest()
        with lock:
            active.pop()

    faulty.add_image("app", [layer(f"f{n}", size=200_000) for n in range(8)])
    config = faulty.manifests["app:latest"][0]
    assert config
    faulty.on("/blobs/", count, times=-1)
    puller("app", max_parallel=2)
    assert max(most) <= 2


# ---- interrupted ---------------------------------------------------------------------------------


def test_ctrl_c_stops_all_and_leaves_what_can_be_resumed(
    faulty: FaultyRegistry, start: Callable[[str], Process], store: ImageStore, state: State
) -> None:
    described = faulty.add_image("app", [layer(f"f{n}", size=400_000) for n in range(5)])
    gates = []
    for blob in described["layers"]:
        gate = Gate(after=150_000)
        gates.append(gate)
        faulty.on(blob["digest"], gate)
    process = start("app")
    wait_for(lambda: sum(gate.reached.is_set() for gate in gates) == 3, "three downloads")

    def written() -> bool:
        parts = os.listdir(os.path.join(store.directory, "ingest"))
        sizes = [os.stat(os.path.join(store.directory, "ingest", p)).st_size for p in parts]
        return sum(size == 150_000 for size in sizes) == 3

    wait_for(written, "what was sent to be on disk")
    process.signal(signal.SIGINT)
    code, output = process.end()
    for gate in gates:
        gate.open.set()
    assert (code, output) == (130, "")
    found = state()
    assert found["blobs"] == found["layers"] == found["staged"] == []
    assert found["parts"]
    assert Puller(store, faulty.host)("app").status == "downloaded"
    ranges = [s.headers["range"] for s in faulty.requests("GET .*blobs/") if "range" in s.headers]
    assert ranges == ["bytes=150000-"] * 3
    assert state()["parts"] == []


def test_ctrl_c_before_the_registry_answers(
    faulty: FaultyRegistry, start: Callable[[str], Process]
) -> None:
    faulty.on("manifests/", lambda handler: handler.stall(), times=-1)
    process = start("app")
    wait_for(lambda: faulty.requests("manifests/"), "the request")
    process.signal(signal.SIGINT)
    assert process.end() == (130, "")


def test_ctrl_c_while_waiting_to_retry(
    faulty: FaultyRegistry, start: Callable[[str], Process]
) -> None:
    """65: immediate, whatever Retry-After says."""
    faulty.add_image("app", [layer("a")])
    faulty.on("blobs/", status(429, headers={"Retry-After": "3600"}), times=-1)
    process = start("app")
    wait_for(lambda: faulty.requests("blobs/"), "the request")
    process.signal(signal.SIGINT)
    assert process.end() == (130, "")


def test_another_thread_may_cancel(faulty: FaultyRegistry, store: ImageStore, state: State) -> None:
    described = faulty.add_image("app", [layer("a", size=300_000), layer("b", size=300_000)])
    gate = Gate(after=100_000)
    for blob in described["layers"]:
        faulty.on(blob["digest"], gate)
    guard = Guard()
    canceller = threading.Thread(target=lambda: (gate.reached.wait(60), guard.cancel()))
    canceller.start()
    with pytest.raises(Cancelled):
        pull(store, f"{faulty.host}/app", guard=guard)
    canceller.join()
    gate.open.set()
    assert state()["staged"] == state()["blobs"] == []


def test_a_progress_callback_that_raises_ends_the_pull(
    faulty: FaultyRegistry, store: ImageStore, state: State
) -> None:
    faulty.add_image("app", [layer("a", size=300_000), layer("b")])

    def progress(event: Any) -> None:
        raise ZeroDivisionError("the callback's own")

    with pytest.raises(ZeroDivisionError):
        pull(store, f"{faulty.host}/app", progress=progress, policy=QUICK)
    assert state()["staged"] == []


def test_the_first_error_is_the_one_that_is_told(faulty: FaultyRegistry, puller: Puller) -> None:
    """The other layers are cancelled, which is no news."""
    described = faulty.add_image("app", [layer("a", size=300_000), layer("b")])
    gate = Gate(after=1000)
    faulty.on(described["layers"][0]["digest"], gate)

    def fail(handler: Handler) -> None:
        gate.reached.wait(60)
        handler.reply(404)

    faulty.on(described["layers"][1]["digest"], fail)
    with pytest.raises(FastboxError, match="HTTP status 404"):
        puller("app")
    gate.open.set()


# ---- killed (6) ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tenth", range(10))
def test_kill_9_in_mid_download(
    faulty: FaultyRegistry, start: Callable[[str], Process], store: ImageStore, state: State,
    tenth: int,
) -> None:  # fmt: skip
    content = layer("a", size=300_000)
    described = faulty.add_image("app", [content])
    blob = described["layers"][0]
    gate = Gate(after=blob["size"] * tenth // 10)
    faulty.on(blob["digest"], gate)
    process = start("app")
    assert gate.reached.wait(60)
    part = store.ingest_path(blob["digest"])
    wait_for(
        lambda: os.path.exists(part) and os.stat(part).st_size == gate.after, "the bytes on disk"
    )
    process.signal(signal.SIGKILL)
    process.end()
    gate.open.set()
    # As in a new process, which cleans up what the killed one staged.
    again = Puller(ImageStore(store.root), faulty.host)("app")
    assert again.image.layers == [digest_of(content)]
    second = faulty.requests(f"GET .*{blob['digest']}")[1]
    assert second.headers.get("range") == (f"bytes={gate.after}-" if gate.after else None)
    assert state()["parts"] == state()["staged"] == []


# ---- full disks (20) -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(base: str) -> Iterator[str]:
    """A file system of 4 MiB."""
    path = os.path.join(base, "small")
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_disk_that_fills_up_while_unpacking(faulty: FaultyRegistry, small_disk: str) -> None:
    """The archive is small, what it unpacks to is not."""
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 16 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    faulty.add_image("big", [stream.getvalue()])
    faulty.add_image("small", [layer("a")])
    store = ImageStore(os.path.join(small_disk, "root"))
    puller = Puller(store, faulty.host)
    with pytest.raises(StoreError, match="no space left on device") as caught:
        puller("big")
    assert caught.value.hint
    assert os.listdir(os.path.join(store.directory, "ingest")) == []
    assert os.listdir(os.path.join(store.layers.staging)) == []


def test_a_disk_that_fills_up_while_downloading(
    faulty: FaultyRegistry, small_disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty.add_image("big", [layer("a", size=6 << 20)])
    store = ImageStore(os.path.join(small_disk, "root"))
    # Somebody else takes the space after we looked.
    monkeypatch.setattr("fastbox.image.pull._Pull._check_space", lambda self, layers: None)
    monkeypatch.setattr(fetch, "_RESERVE", 0)
    with pytest.raises(StoreError, match="no space left on device"):
        Puller(store, faulty.host)("big")
    assert len(faulty.requests("GET .*blobs/")) <= 3
    assert os.listdir(os.path.join(store.directory, "ingest")) == []
    assert os.listdir(os.path.join(store.layers.staging)) == []


def test_a_patient_policy_is_the_default() -> None:
    policy = Policy()
    assert (policy.attempts, policy.cap, policy.total, policy.stall) == (5, 60.0, 300.0, 60.0)


def test_a_cut_while_another_layer_goes_on(faulty: FaultyRegistry, puller: Puller) -> None:
    described = faulty.add_image("app", [layer("a", size=200_000), layer("b", size=200_000)])
    faulty.on(described["layers"][0]["digest"], cut_after(1000), times=3)
    puller("app")
    assert len(faulty.requests(described["layers"][1]["digest"])) == 1
