"""ps, images, volume ls: fields, columns, what the engine is asked for."""

from __future__ import annotations

import json
import time

import pytest

from fastbox.container.record import MountPoint, Status
from tests.cli.conftest import Fastbox
from tests.cli.fake import DIGEST, ID, IMAGE_ID, FakeEngine, box, image, volume

NOW = 1767323045.0 + 3  # three seconds after the boxes were made


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def test_ps_has_its_header_even_without_containers(fastbox: Fastbox) -> None:
    header = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    assert fastbox("ps").out == header


def test_ps(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [
        box(
            args=["--save", "", "a b c"], status=Status.RUNNING,
            state_started_at="2026-01-02T03:04:06Z",
        )
    ]  # fmt: skip
    assert fastbox("ps").out == (
        "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         "
        "PORTS     NAMES\n"
        '0123456789ab   redis     "redis-server --save…"   3 seconds ago   Up 2 seconds   '
        "          web\n"
    )
    assert fake.asked("containers")[1] == {"all": False, "filters": {}, "size": False}


@pytest.mark.parametrize(
    ("status", "state", "text"),
    [
        (Status.CREATED, {}, "Created"),
        (Status.RUNNING, {"state_started_at": "2026-01-02T03:04:05Z"}, "Up 3 seconds"),
        (Status.PAUSED, {"state_started_at": "2026-01-02T03:04:05Z"}, "Up 3 seconds (Paused)"),
        (
            Status.EXITED,
            {"state_exit_code": 137, "state_finished_at": "2026-01-02T03:04:07Z"},
            "Exited (137) 1 second ago",
        ),
        (
            Status.RESTARTING,
            {"state_exit_code": 1, "state_finished_at": "2026-01-02T03:04:06Z"},
            "Restarting (1) 2 seconds ago",
        ),
        (Status.REMOVING, {}, "Removal In Progress"),
        (Status.DEAD, {}, "Dead"),
    ],
)
def test_status(
    fastbox: Fastbox, fake: FakeEngine, status: Status, state: dict[str, object], text: str
) -> None:
    fake.boxes = [box(status=status, **state)]
    assert (
        fastbox("ps", "-a", "--format", "{{.Status}} {{.State}}").out == f"{text} {status.value}\n"
    )


def test_fields_of_ps(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    fake.boxes = [
        box(
            labels={"b": "2", "a": "1"},
            mounts=[
                MountPoint(type="volume", name="f" * 20, source="/s", destination="/d"),
                MountPoint(type="bind", source="/host", destination="/e"),
            ],
            size_rw=1100,
            size_root=77_800_000,
        )
    ]
    row = json.loads(fastbox("ps", "-a", "-s", "--format", "json").out)
    assert row == {
        "Command": '"redis-server"',
        "CreatedAt": "2026-01-02 03:04:05 +0000 UTC",
        "HealthStatus": "",
        "ID": "0123456789ab",
        "Image": "redis",
        "Labels": "a=1,b=2",
        "LocalVolumes": "1",
        "Mounts": "f" * 14 + "…,/host",
        "Names": "web",
        "Networks": "bridge",
        "Platform": "",
        "Ports": "",
        "RunningFor": "3 seconds ago",
        "Size": "1.1kB (virtual 77.8MB)",
        "State": "created",
        "Status": "Created",
    }
    assert list(row) == sorted(row)
    out = fastbox("ps", "-a", "--no-trunc", "--format", '{{.ID}} {{.Mounts}} {{.Label "a"}}').out
    assert out == f"{ID} {'f' * 20},/host 1\n"


def test_sizes_are_only_measured_when_they_are_shown(fastbox: Fastbox, fake: FakeEngine) -> None:
    for words, wanted in (
        (("--format", "{{.Size}}"), True),
        (("-s",), True),
        (("--format", "{{.ID}}"), False),
        (("-q", "--format", "{{.Size}}"), False),
    ):
        fake.calls.clear()
        assert fastbox("ps", *words).code == 0
        assert fake.asked("containers")[1]["size"] is wanted


def test_quiet_wins_over_a_template(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box(), box("db", "f" * 64)]
    assert fastbox("ps", "-aq", "--format", "x").out == f"0123456789ab\n{'f' * 12}\n"
    assert fastbox("ps", "-aq", "--no-trunc").out == f"{ID}\n{'f' * 64}\n"


def test_the_last_ones_of_all_states(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("a"), box("b", "e" * 64), box("c", "f" * 64)]
    assert fastbox("ps", "-l", "--format", "{{.Names}}").out == "a\n"
    assert fastbox("ps", "-n", "2", "--format", "{{.Names}}").out == "a\nb\n"
    assert fastbox("ps", "-n", "0", "-q").out == ""
    assert fastbox("ps", "-q").out == ""


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("{{", "failed to parse template: template: :1: unclosed action"),
        ("{{foo}}", 'failed to parse template: template: :1: function "foo" not defined'),
        (
            "{{.Foo}}",
            'failed to execute template: template: :1:2: executing "" at <.Foo>: can\'t evaluate '
            "field Foo in type *formatter.ContainerContext",
        ),
        (
            "table {{.Foo}}",
            'failed to execute template: template: :1:8: executing "" at <.Foo>: can\'t evaluate '
            "field Foo in type *formatter.ContainerContext",
        ),
    ],
)
def test_ps_tries_its_template_first(
    fastbox: Fastbox, fake: FakeEngine, format: str, message: str
) -> None:
    result = fastbox("ps", "--format", format)
    assert (result.code, result.out, result.err) == (1, "", f"{message}\n")
    assert fake.calls == []


def test_filters_of_ps(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web"), box("db", "f" * 64)]
    assert fastbox("ps", "-aq", "-f", "name=eb", "-f", "status=created").out == "0123456789ab\n"
    result = fastbox("ps", "-f", "foo=bar")
    assert result.code == 1
    assert result.err.split("\n")[0] == "Error: invalid filter 'foo'"


def test_control_characters_do_not_reach_the_terminal(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box(args=["\x1b[31m"], status=Status.CREATED)]
    assert "\x1b" not in fastbox("ps", "-a").out


def test_an_image_given_as_an_id_is_cut(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box(image=IMAGE_ID)]
    assert fastbox("ps", "-a", "--format", "{{.Image}}").out == "d" * 12 + "\n"
    assert fastbox("ps", "-a", "--no-trunc", "--format", "{{.Image}}").out == IMAGE_ID + "\n"


# ---- images ------------------------------------------------------------------------------------


def test_images(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.stored = [
        image(
            "docker.io/library/redis:latest", "docker.io/library/redis:6", "localhost:5000/me/x:1"
        ),
        image(created=""),
    ]
    assert fastbox("images").out == (
        "REPOSITORY            TAG       IMAGE ID       CREATED         SIZE\n"
        "redis                 latest    dddddddddddd   3 seconds ago   12.3MB\n"
        "redis                 6         dddddddddddd   3 seconds ago   12.3MB\n"
        "localhost:5000/me/x   1         dddddddddddd   3 seconds ago   12.3MB\n"
        "<none>                <none>    dddddddddddd   N/A             12.3MB\n"
    )
    assert fake.asked("images") == ((None,), {"all": False, "filters": {}})


def test_images_in_short(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.stored = [image("docker.io/library/redis:latest", "docker.io/library/redis:6")]
    assert fastbox("images", "-q").out == "dddddddddddd\n" * 2
    assert fastbox("images", "-q", "--no-trunc").out == f"{IMAGE_ID}\n" * 2
    # Unlike with ps, a template wins.
    assert fastbox("images", "-q", "--format", "{{.Tag}}").out == "latest\n6\n"


def test_digests(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.stored = [
        image("docker.io/library/a:1", repo_digests=[f"docker.io/library/a@{DIGEST}"]),
        image("docker.io/library/b:1"),
        image(repo_digests=[f"docker.io/library/c@{DIGEST}"]),
    ]
    lines = fastbox("images", "--digests").out.splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["a", "1", DIGEST], ["b", "1", "<none>"], ["c", "<none>", DIGEST],
    ]  # fmt: skip
    assert fastbox("images", "--format", "{{.Repository}}:{{.Tag}}").out == "a:1\nb:1\nc:<none>\n"


def test_what_images_asks_for(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("image", "ls", "-a", "-f", "dangling=true", "-f", "label=a=b", "redis:6")
    assert fake.asked("images") == (
        ("redis:6",),
        {"all": True, "filters": {"dangling": ["true"], "label": ["a=b"]}},
    )


def test_volume_ls(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.kept = [volume("data"), volume("f" * 64)]
    assert fastbox("volume", "ls").out == (
        f"DRIVER    VOLUME NAME\nlocal     data\nlocal     {'f' * 64}\n"
    )
    fake.calls.clear()
    assert fastbox("volume", "list", "-q", "-f", "dangling=1").out == f"data\n{'f' * 64}\n"
    assert fake.asked("volumes")[1] == {"filters": {"dangling": ["1"]}}
