"""Packing what changes meanwhile, what cannot be packed, and stopping."""

from __future__ import annotations

import errno
import os
import signal
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from fastbox._core import pack
from fastbox.errors import FastboxError, StoreError

RING = 12 << 20  # more than the chunks under way hold


@pytest.fixture
def source(base: str) -> str:
    path = os.path.join(base, "source")
    os.mkdir(path)
    return path


@pytest.fixture(params=[True, False], ids=["clone", "careful"])
def clone(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


class Stalled:
    """A packing whose output nobody takes until ``rest`` does."""

    def __init__(self, reader: int, job: Future[pack.Packed], cancel: pack.Cancel) -> None:
        self.reader, self.job, self.cancel = reader, job, cancel

    def first(self) -> bytes:
        """Some bytes: so it has begun."""
        return os.read(self.reader, 512)

    def rest(self) -> bytes:
        data = b""
        while piece := os.read(self.reader, 1 << 20):
            data += piece
        return data


@pytest.fixture
def stalled() -> Iterator[Callable[..., Stalled]]:
    """stalled(source): it has written the first bytes, and waits for a reader."""
    readers = []
    with ThreadPoolExecutor() as pool:

        def start(source: str, **options: Any) -> Stalled:
            reader, writer = os.pipe()
            readers.append(reader)
            cancel = pack.Cancel()
            options.setdefault("whiteouts", "none")

            def work() -> pack.Packed:
                try:
                    return pack.pack(source, writer, cancel=cancel, **options)
                finally:
                    os.close(writer)

            return Stalled(reader, pool.submit(work), cancel)

        yield start
        for reader in readers:
            os.close(reader)


def large(path: str, size: int = RING) -> None:
    with open(path, "wb") as file:
        file.write(b"x" * size)


# ---- changes -------------------------------------------------------------------------------------


def test_file_that_becomes_shorter(source: str, stalled: Callable[..., Stalled]) -> None:
    large(f"{source}/a")
    run = stalled(source)
    run.first()
    os.truncate(f"{source}/a", 5)
    run.rest()
    with pytest.raises(StoreError) as caught:
        run.job.result()
    text = "cannot pack the files: a became shorter while it was packed"
    assert str(caught.value) == text
    error: Any = caught.value
    assert (error.entry, error.step, error.errno) == ("a", "changed", 0)


def test_file_that_grows_is_cut(source: str, stalled: Callable[..., Stalled]) -> None:
    large(f"{source}/a")
    run = stalled(source)
    data = run.first()
    with open(f"{source}/a", "ab") as file:
        file.write(b"y" * 100)
    data += run.rest()
    done = run.job.result()
    assert len(data) == done.size == done.tar_size
    assert b"y" not in data
    assert f"{RING:011o}".encode() in data


def test_names_that_go_and_come(source: str, stalled: Callable[..., Stalled]) -> None:
    """What was listed and is gone is left out; what has become another thing is packed as that."""
    large(f"{source}/a")
    for name in ("b", "c", "d", "e"):
        with open(f"{source}/{name}", "w"):
            pass
    os.mkdir(f"{source}/f")
    run = stalled(source)
    data = run.first()
    for name in ("b", "c", "d"):
        os.unlink(f"{source}/{name}")
    os.symlink("/etc/passwd", f"{source}/c")
    os.mknod(f"{source}/d", stat.S_IFCHR | 0o600, os.makedev(10, 130))  # /dev/watchdog
    os.rmdir(f"{source}/f")
    os.mkfifo(f"{source}/f")
    data += run.rest()
    run.job.result()
    import io

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {member.name: member.type for member in archive}
    assert found == {".": b"5", "a": b"0", "c": b"2", "d": b"3", "e": b"0", "f": b"6"}


def test_directory_that_is_moved_away(
    source: str, base: str, stalled: Callable[..., Stalled], clone: bool
) -> None:
    """Far down, the directories above are not held open: the way back is by "..", and it is not
    followed to where somebody else has moved us."""
    path = f"{source}/x"
    for _ in range(80):
        path += "/d"
    os.makedirs(path)
    large(f"{path}/a")
    run = stalled(source, clone=clone)
    run.first()
    os.mkdir(f"{base}/elsewhere")
    os.rename(f"{source}/x/d/d", f"{base}/elsewhere/d")
    run.rest()
    with pytest.raises(StoreError, match=r"/d/ was moved while it was packed$"):
        run.job.result()


def test_names_that_are_swapped_all_the_time(source: str, base: str, clone: bool) -> None:
    """A process of a container at work against us: an archive comes out, or an error, and nothing
    from outside is in it."""
    with open(f"{base}/secret", "w") as file:
        file.write("SECRET" * 100)
    os.mkdir(f"{base}/outside")
    with open(f"{base}/outside/secret", "w") as file:
        file.write("SECRET" * 100)
    kinds = []
    for number, make in enumerate(
        (
            lambda path: os.symlink(f"{base}/secret", path),
            lambda path: os.symlink(f"{base}/outside", path),
            os.mkdir,
            os.mkfifo,
            lambda path: open(path, "w").close(),
        )
    ):
        path = f"{base}/kind{number}"
        make(path)
        kinds.append(path)
    for number in range(50):
        with open(f"{source}/f{number:02}", "w"):
            pass
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            kind, name = kinds[turn % len(kinds)], f"{source}/f{turn % 7 * 7:02}"
            exchange(kind, name)
            turn += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(40):
            data = _archive(source, clone)
            assert b"SECRET" not in data
    finally:
        stop.set()
        thread.join()


def exchange(one: str, other: str) -> None:
    """renameat2(RENAME_EXCHANGE)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, one.encode(), -100, other.encode(), 2) == 0


def _archive(source: str, clone: bool) -> bytes:
    fd = os.memfd_create("archive")
    try:
        pack.pack(source, fd, whiteouts="none", clone=clone)
        return os.pread(fd, os.fstat(fd).st_size, 0)
    except StoreError as error:
        assert "changes all the time" in str(error)
        return b""
    finally:
        os.close(fd)


# ---- what a layer cannot say ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [os.mkdir, lambda path: open(path, "w").close()])
def test_name_of_a_whiteout(source: str, make: Callable[[str], None]) -> None:
    os.mkdir(f"{source}/d")
    make(f"{source}/d/.wh.x")
    with pytest.raises(StoreError) as caught:
        pack.pack(source, -1)
    text = "cannot pack d/.wh.x: in a layer, its name would delete another file"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("redirect", "it was renamed, and its content left in a layer below"),
        ("metacopy", "its content is in a layer below"),
    ],
)
def test_what_overlayfs_has_left_in_a_layer_below(source: str, name: str, text: str) -> None:
    os.mkdir(f"{source}/d")
    os.setxattr(f"{source}/d", f"trusted.overlay.{name}", b"x")
    with pytest.raises(StoreError, match=f"^cannot pack d: {text}"):
        pack.pack(source, -1)
    pack.pack(source, -1, whiteouts="none")


# ---- errors --------------------------------------------------------------------------------------


def test_no_directory(base: str) -> None:
    with pytest.raises(StoreError, match=r"^cannot pack /.*/nothing: No such file or directory$"):
        pack.pack(f"{base}/nothing", -1)
    os.symlink(base, f"{base}/link")
    with pytest.raises(StoreError, match=r"link: Not a directory$"):
        pack.pack(f"{base}/link", -1)


def test_full_disk(source: str) -> None:
    large(f"{source}/a")
    with open("/dev/full", "wb") as full:
        with pytest.raises(StoreError) as caught:
            pack.pack(source, full.fileno(), whiteouts="none")
    text = "cannot pack the files: writing the archive failed: No space left on device"
    assert str(caught.value) == text
    assert caught.value.hint == "free some space on that file system"
    assert getattr(caught.value, "errno", 0) == errno.ENOSPC


def test_name_is_printed_on_one_line(source: str) -> None:
    name = "\n\x1b[31m\udcff" + "ü" * 20
    os.mkdir(f"{source}/{name}")
    os.setxattr(f"{source}/{name}", "trusted.overlay.redirect", b"x")
    with pytest.raises(StoreError) as caught:
        pack.pack(source, -1)
    assert str(caught.value).startswith("cannot pack \\n\\x1b[31m\\xff" + "ü" * 20 + ": ")


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_nobody_reads(source: str, compression: str) -> None:
    large(f"{source}/a")
    with open(f"{source}/b", "wb") as file:
        file.write(os.urandom(RING))
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        pack.pack(source, writer, compression=compression)
    os.close(writer)


# ---- stopping ------------------------------------------------------------------------------------


def test_cancel_while_the_output_is_stuck(source: str, stalled: Callable[..., Stalled]) -> None:
    large(f"{source}/a")
    run = stalled(source)
    run.first()
    run.cancel.cancel()
    with pytest.raises(FastboxError, match=r"^packing was cancelled$"):
        run.job.result()
    with pytest.raises(FastboxError, match=r"^packing was cancelled$"):
        pack.pack(source, -1, cancel=run.cancel)


def test_exception_of_the_callback(source: str) -> None:
    large(f"{source}/a", 1000)
    seen: list[int] = []

    def stop(count: int) -> None:
        seen.append(count)
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        pack.pack(source, -1, on_progress=stop)
    assert len(seen) == 1


def test_progress_ends_with_the_whole(source: str) -> None:
    large(f"{source}/a")
    seen: list[int] = []
    done = pack.pack(source, -1, on_progress=seen.append)
    assert seen[-1] == done.tar_size
    assert seen == sorted(seen)


def test_interrupt(source: str) -> None:
    """A signal's exception ends it, although nobody reads."""
    large(f"{source}/a")
    reader, writer = os.pipe()
    before = signal.signal(signal.SIGUSR1, _raise_interrupt)
    sender = threading.Thread(target=_interrupt_when_readable, args=(reader,))
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            pack.pack(source, writer, whiteouts="none")
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
        os.close(reader)
        os.close(writer)


def _raise_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _interrupt_when_readable(reader: int) -> None:
    os.read(reader, 1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
