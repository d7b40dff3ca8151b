"""The journal as a file: many writers, damage, full disks, rotation; and who reads it meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
import orjson
import pytest

from fastbox.errors import InvalidArgument, StoreError
from fastbox.events import Journal, container_attributes, journal
from fastbox.events.event import Event
from fastbox.events.stream import EventStream
from tests.support.wait import wait_for


class Config(msgspec.Struct, frozen=True):
    image: str = "redis"


class Record(msgspec.Struct):
    id: str = "c" * 64
    name: str = "web"
    labels: dict[str, str] = {}
    config: Config = Config()


@pytest.fixture
def root(base: str) -> str:
    return f"{base}/store"


@pytest.fixture
def log(root: str) -> Journal:
    return Journal(root)


def past(root: str, **options: object) -> list[Event]:
    """All that the journal holds."""
    with EventStream(root, 0, options.pop("until", "0s"), options) as stream:  # type: ignore[arg-type]
        return list(stream)


def actions(events: list[Event]) -> list[str]:
    return [event.action for event in events]


# ---- lines -----------------------------------------------------------------------------------


def test_a_line_is_small_and_begins_with_its_type(root: str, log: Journal) -> None:
    log.container("kill", Record(labels={"a": "b"}), signal="9")
    with open(log.path, "rb") as file:
        line = file.read()
    assert line.startswith(b'{"Type":"container","Action":"kill","Actor":{"ID":"cccc')
    assert line.endswith(b"}\n") and line.count(b"\n") == 1
    [event] = past(root)
    assert event.attributes == {"a": "b", "image": "redis", "name": "web", "signal": "9"}
    assert event.to_docker() == {
        "status": "kill",
        "id": "c" * 64,
        "from": "redis",
        "Type": "container",
        "Action": "kill",
        "Actor": {"ID": "c" * 64, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 10**9,
        "timeNano": event.time_ns,
    }
    assert os.stat(log.path).st_mode & 0o777 == 0o600
    assert os.stat(log.directory).st_mode & 0o777 == 0o700


def test_the_engine_tells_its_own_attributes_above_the_labels(root: str, log: Journal) -> None:
    log.container("kill", Record(labels={"name": "x", "image": "y", "signal": "z"}), signal="9")
    assert past(root)[0].attributes == {"name": "web", "image": "redis", "signal": "9"}


def monitor_line(record: Record, action: str = "die", extra: str = "") -> bytes:
    """As the native monitor writes it."""
    about = container_attributes(record) + extra
    return (
        b'{"Type":"container","Action":"%b","Actor":{"ID":"%b","Attributes":{%b}},'
        b'"time":1,"timeNano":1000000005}\n'
    ) % (action.encode(), record.id.encode(), about.encode())


def append(log: Journal, data: bytes) -> None:
    """As somebody else writes it."""
    os.makedirs(log.directory, exist_ok=True)
    with open(log.path, "ab") as file:
        file.write(data)


def test_the_monitor_writes_lines_too(root: str, log: Journal) -> None:
    record = Record(labels={"exitCode": "a label", "quote": '"\n\0\x1b', "ü": "é"})
    append(log, monitor_line(record, "die", ',"exitCode":"0","execDuration":"12"'))
    [event] = past(root)
    assert (event.type, event.action, event.id) == ("container", "die", record.id)
    assert event.time_ns == 1_000_000_005
    assert event.attributes == {
        "image": "redis",
        "name": "web",
        "exitCode": "0",
        "execDuration": "12",
        "quote": '"\n\0\x1b',
        "ü": "é",
    }


def test_attributes_are_bounded_and_fit_into_an_argument() -> None:
    few = Record(labels={"k": "\0\n"})
    assert container_attributes(few) == '"k":"\\u0000\\n","name":"web","image":"redis"'
    many = Record(labels={f"key{n}": "v" * 1000 for n in range(100)})
    assert orjson.loads("{" + container_attributes(many) + "}") == {
        "name": "web",
        "image": "redis",
    }
    assert container_attributes(Record(config=Config(image=""))) == '"name":"web"'


def test_what_is_not_utf8_is_told_all_the_same(root: str, log: Journal) -> None:
    log.container("exec_create: \udcff", Record(labels={"a": "\udcff"}))
    log.image("tag", "sha256:1", "x", {"config": {"Labels": {"a": "\ud800"}}})
    assert [(e.action, e.attributes) for e in past(root)] == [
        ("exec_create: ?", {"name": "web"}),
        ("tag", {"name": "x"}),
    ]


def test_a_long_command_line_is_cut() -> None:
    assert journal.command_line("exec_start", ["sh", "-c", "true"]) == "exec_start: sh -c true"
    long = journal.command_line("exec_start", ["x" * 100_000])
    assert len(long) == journal.MAX_ACTION and long.endswith("…")


@pytest.mark.parametrize(
    "damage",
    [
        b'{"Type":"container","Action":"sta',  # killed in the middle of its write
        b'{"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{}},"timeNano":1',
        b"\0" * 5000,  # a power loss
        b'{"Type":5,"Action":"start","Actor":{"ID":"x","Attributes":{}},"timeNano":1}\n',
        b'{"Type":"container","Action":"start"}\n',
        b"[]\n\n\nnull\n",
        b"\xff\xfe\n",
        b'{"Type":' * 1000,
        b"x" * (3 << 20),
        b'{"Type":"container","Actor":' + b"[" * 100_000,
    ],
)
def test_damage_costs_no_other_event(root: str, log: Journal, damage: bytes) -> None:
    log.container("create", Record())
    with EventStream(root, None, None, None) as stream:
        append(log, damage)
        log.container("start", Record())
        log.container("stop", Record())
        assert [next(stream).action, next(stream).action] == ["start", "stop"]
    assert actions(past(root)) == ["create", "start", "stop"]


def test_a_whole_event_without_its_newline_counts(root: str, log: Journal) -> None:
    append(log, monitor_line(Record(), "die")[:-1])
    log.container("start", Record())
    assert actions(past(root)) == ["die", "start"]


def test_a_label_cannot_look_like_an_event(root: str, log: Journal) -> None:
    forged = monitor_line(Record(id="e" * 64)).decode()
    log.container("create", Record(labels={"a": forged, forged: "b"}))
    append(log, b"torn")
    log.container("start", Record(labels={"a": forged, forged: "b"}))
    assert actions(past(root)) == ["create", "start"]


# ---- who cannot write ------------------------------------------------------------------------


def test_a_full_disk(base: str) -> None:
    path = f"{base}/small"
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", path], check=True)
    try:
        log = Journal(path)
        log.container("create", Record())
        filler = os.open(f"{path}/filler", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space left"):
            while True:
                os.write(filler, b"x" * 4096)
        os.close(filler)
        for _ in range(100):
            log.container("start", Record(labels={"a": "b" * 100}))
        with open(log.path, "rb") as file:
            assert not file.read().endswith(b"\n")  # the last one was written in part
        os.unlink(f"{path}/filler")
        log.container("stop", Record())
        found = actions(past(path))
        assert (found[0], found[-1]) == ("create", "stop")
        assert set(found[1:-1]) == {"start"} and len(found) < 100
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_journal_that_cannot_be_opened_is_no_error(base: str) -> None:
    with open(f"{base}/events", "w"):
        pass
    log = Journal(base)
    log.container("create", Record())
    with pytest.raises(StoreError, match=r"reading the events in .* failed: file exists"):
        EventStream(base, None, None, None)


def test_a_link_is_not_followed(root: str, log: Journal, base: str) -> None:
    os.makedirs(log.directory)
    os.symlink(f"{base}/elsewhere", log.path)
    log.container("create", Record())
    assert not os.path.exists(f"{base}/elsewhere")
    with pytest.raises(StoreError, match="too many levels of symbolic links"):
        past(root)


WRITER = """
import sys
from fastbox.events import Journal
from fastbox.events import journal
from tests.events.test_journal import Record
root, number, journal.LIMIT = sys.argv[1], sys.argv[2], int(sys.argv[3])
log = Journal(root)
record = Record(name=number, labels={"a": "x" * 200})
index = 0
for line in sys.stdin:
    for _ in range(int(line)):
        log.container("start", record, index=str(index))
        index += 1
"""


class Writers:
    """Processes that append to one journal.

    Args:
        limit: bytes of a file.
    """

    def __init__(self, root: str, number: int, limit: int) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, root, str(n), str(limit)],
                stdin=subprocess.PIPE,
                text=True,
            )
            for n in range(number)
        ]

    def write(self, count: int) -> None:
        """Let each of them write so many."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{count}\n")
            process.stdin.flush()

    def end(self) -> None:
        for process in self.processes:
            process.communicate()
            assert process.returncode == 0


def test_many_processes_append_at_once(root: str) -> None:
    """No line is torn, lost or doubled."""
    writers = Writers(root, 8, 1 << 30)
    writers.write(500)
    writers.end()
    with open(f"{root}/events/journal", "rb") as file:
        lines = [orjson.loads(line) for line in file]
    found = [tuple(line["Actor"]["Attributes"][k] for k in ("name", "index")) for line in lines]
    assert sorted(found) == sorted((str(n), str(i)) for n in range(8) for i in range(500))
    for n in range(8):  # each writer's in its order
        own = [int(index) for name, index in found if name == str(n)]
        assert own == sorted(own)


def test_a_follower_sees_each_event_once_across_rotations(root: str) -> None:
    """Many small files, many writers; the reader lags less than a file behind."""
    found: list[Event] = []
    with EventStream(root, None, None, {"type": ["container"]}) as stream:
        writers = Writers(root, 8, 100_000)
        for _ in range(40):
            writers.write(10)
            found += [next(stream) for _ in range(80)]
        writers.end()
        assert stream.poll() is None
    keys = sorted((event.name, int(event.attributes["index"])) for event in found)
    assert keys == [(str(n), i) for n in range(8) for i in range(400)]
    assert sorted(os.listdir(f"{root}/events")) == ["journal", "journal.1"]
    # A writer may be at its write when the file is renamed.
    assert os.stat(f"{root}/events/journal.1").st_size < 110_000


def test_a_killed_writer_harms_nobody(root: str) -> None:
    for _ in range(5):
        writers = Writers(root, 1, 50_000)
        with EventStream(root, None, None, None) as stream:
            writers.write(10_000_000)
            next(stream)
        writers.processes[0].kill()
        writers.processes[0].communicate()
    with EventStream(root, None, None, None) as stream:
        Journal(root).container("start", Record())
        assert next(stream).name == "web"
    assert actions(past(root))[-1] == "start"


# ---- rotation --------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(journal, "LIMIT", 1000)
    return 1000


def test_rotation_keeps_two_files(root: str, log: Journal, small: int) -> None:
    for index in range(100):
        log.container("start", Record(), index=str(index))
    assert sorted(os.listdir(log.directory)) == ["journal", "journal.1"]
    found = [int(event.attributes["index"]) for event in past(root)]
    assert found == list(range(found[0], 100))
    assert 5 < len(found) < 20


def test_a_writer_notices_that_another_rotated(root: str, small: int) -> None:
    one, two = Journal(root), Journal(root)
    for index in range(30):
        one.container("start", Record(), index=str(index))
        if index in (0, 29):
            two.container("stop", Record())  # its file has been replaced several times by 29
    assert "stop" in actions(past(root))
    assert os.stat(one.path).st_size <= 1000 + 300


def test_a_late_writer_in_the_old_file_is_heard(root: str, log: Journal, small: int) -> None:
    """The monitor opens the journal, somebody renames it, the monitor writes."""
    log.container("create", Record())
    with (
        EventStream(root, None, None, {"event": ["die", "stop"]}) as stream,
        open(log.path, "ab") as old,
    ):
        while not os.path.exists(f"{log.path}.1"):
            log.container("start", Record())
        log.container("stop", Record())
        assert next(stream).action == "stop"
        assert stream.poll() is None
        old.write(monitor_line(Record()))
        old.flush()
        assert next(stream).action == "die"


def test_a_slow_reader_catches_up_over_two_rotations(root: str, log: Journal, small: int) -> None:
    with EventStream(root, None, None, None) as stream:
        log.container("start", Record(), index="0")
        index = 1
        assert next(stream).attributes["index"] == "0"
        # The file that it reads, one that it has not seen, and the current one.
        while len({os.stat(log.path).st_ino, *(file.identity[1] for file in stream._files)}) == 1:
            log.container("start", Record(), index=str(index))
            index += 1
        for _ in range(3):
            log.container("start", Record(), index=str(index))
            index += 1
        found = [int(next(stream).attributes["index"]) for _ in range(index - 1)]
        assert found == list(range(1, index))


def test_a_deleted_journal_is_made_anew(root: str, log: Journal) -> None:
    log.container("create", Record())
    with EventStream(root, None, None, None) as stream:
        os.unlink(log.path)
        log.container("start", Record())
        assert next(stream).action == "start"
        with open(log.path, "wb"):  # emptied
            pass
        assert stream.poll() in (None, [])
        log.container("stop", Record())
        assert next(stream).action == "stop"


def test_a_store_that_is_deleted_ends_the_stream(root: str, log: Journal) -> None:
    log.container("create", Record())
    with EventStream(root, None, None, None) as stream:
        os.unlink(log.path)
        os.rmdir(log.directory)
        with pytest.raises(StoreError, match="no such file or directory"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)


def test_threads_rotate_without_losing(
    root: str, log: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LIMIT", 5000)

    def write(number: int) -> None:
        log.container("start", Record(name=str(number)))

    with EventStream(root, None, None, None) as stream:
        for _ in range(50):
            threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(next(stream).name for _ in range(8)) == [str(n) for n in range(8)]
        assert stream.poll() is None


# ---- time ------------------------------------------------------------------------------------


def at(log: Journal, moment: int, action: str) -> None:
    line = b'{"Type":"container","Action":"%b","Actor":{"ID":"c","Attributes":{}},"timeNano":%d}\n'
    append(log, line % (action.encode(), moment))


def test_since_and_until_are_inclusive_and_exact(root: str, log: Journal) -> None:
    base = 1_700_000_000_000_000_000
    for offset in (0, 1, 2, 3):
        at(log, base + offset, f"a{offset}")

    def between(since: float | str, until: float | str) -> list[str]:
        with EventStream(root, since, until, None) as stream:
            return actions(list(stream))

    assert between("1700000000.000000001", "1700000000.000000002") == ["a1", "a2"]
    assert between("2023-11-14T22:13:20.000000003Z", "2023-11-14T23:13:21+01:00") == ["a3"]
    assert between(1_700_000_001.0, 1_700_000_002.0) == []
    assert between(0, 1_700_000_009) == ["a0", "a1", "a2", "a3"]
    assert len(between("1000000h", "1m")) == 4
    with pytest.raises(InvalidArgument, match="cannot be after `until` time"):
        between(2, 1)
    with pytest.raises(InvalidArgument, match="failed to parse value as time or duration"):
        between("yesterday", 1)


def test_events_out_of_order_are_all_shown(root: str, log: Journal) -> None:
    """Who takes the time first may write last; and clocks are set back."""
    for moment in (5, 9, 6, 7):
        at(log, moment, f"a{moment}")
    assert [e.action for e in EventStream(root, "0.000000006", "0.000000008", None)] == ["a6", "a7"]


def test_without_since_only_what_is_new(root: str, log: Journal) -> None:
    log.container("create", Record())
    stream = EventStream(root, None, None, None)
    log.container("start", Record())
    assert next(stream).action == "start"
    stream.close()
    assert list(stream) == []


def test_until_ends_a_stream_that_waits(root: str) -> None:
    assert list(EventStream(root, None, "-0.2s", None)) == []


def test_close_wakes_who_waits(root: str) -> None:
    stream = EventStream(root, None, None, None)
    results: list[list[Event]] = []
    thread = threading.Thread(target=lambda: results.append(list(stream)))
    thread.start()
    wait_for(stream._using.locked, "the reader to read")
    stream.close()
    thread.join()
    stream.close()
    assert results == [[]]


@pytest.fixture(params=["inotify", "polling"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "polling":
        from fastbox.watch import Watch

        monkeypatch.setattr(Watch, "_start", lambda self, directory: -1)
    yield


def test_a_follower_waits(root: str, log: Journal, waiting: None) -> None:
    seen: list[str] = []
    with EventStream(root, None, None, None) as stream:
        thread = threading.Thread(target=lambda: seen.extend(e.action for e in stream))
        thread.start()
        for number in range(20):
            log.container(f"a{number}", Record())
            wait_for(lambda n=number: len(seen) == n + 1, "the event")  # type: ignore[misc]
        stream.close()
        thread.join()
    assert seen == [f"a{number}" for number in range(20)]


# ---- filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"type": ["image", "volume"]}, [3, 4]),
        ({"event": ["start"]}, [0, 1]),
        ({"event": ["exec_create"]}, [2]),
        ({"event": ["exec_create: sh"]}, []),
        ({"container": ["we"]}, [0, 2]),
        ({"container": ["ccc"]}, [0, 1, 2]),
        ({"container": ["nothing", "db"]}, [1]),
        ({"image": ["redis"]}, [0, 2, 3]),
        ({"image": ["redis:7"]}, [2, 3]),
        ({"image": ["sha256:1"]}, [3]),
        ({"volume": ["data"]}, [4]),
        ({"label": ["a"]}, [0, 1]),
        ({"label": ["a=1", "b"]}, [1]),
        ({"label": ["a", "nothing"]}, []),
        ({"scope": ["local"]}, [0, 1, 2, 3, 4]),
        ({"scope": ["swarm"]}, []),
        ({"daemon": ["x"]}, []),
        ({"type": ["container"], "event": ["start"], "label": ["b=2"]}, [1]),
    ],
)
def test_filters(
    root: str, log: Journal, filters: dict[str, list[str]], numbers: list[int]
) -> None:
    log.container("start", Record(labels={"a": "1"}))
    log.container("start", Record(name="db", labels={"a": "1", "b": "2"}, config=Config("mysql")))
    log.container("exec_create: sh -c x", Record(config=Config("redis:7")))
    log.image("tag", "sha256:1", "redis:7", None)
    log.volume("create", "data")
    every = past(root)
    assert past(root, **filters) == [every[number] for number in numbers]


def test_an_unknown_filter(root: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        EventStream(root, None, None, {"colour": ["red"]})
