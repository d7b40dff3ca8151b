"""system df, system prune, image prune: what Docker's client prints for the same answers."""

from __future__ import annotations

import io
import json
import sys
import time

import pytest

from fastbox.container.record import MountPoint, Status
from fastbox.image.types import ImageUsage, StoreUsage
from fastbox.usage import DiskUsage, VolumeUsage
from tests.cli.conftest import Fastbox
from tests.cli.fake import ID, IMAGE_ID, FakeEngine, box, image, volume

QUESTION = "Are you sure you want to continue? [y/N] "
ENDED = {"status": Status.EXITED, "state_finished_at": "2026-01-02T03:04:05Z"}


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1767323045.0 + 3)


@pytest.fixture
def usage(fake: FakeEngine) -> DiskUsage:
    mount = MountPoint(type="volume", name="v1", source="/x", destination="/d")
    running = {"status": Status.RUNNING, "state_started_at": "2026-01-02T03:04:05Z"}
    fake.usage = DiskUsage(
        images=StoreUsage(
            size=130_000_000,
            reclaimable=84_321_000,
            images=[
                ImageUsage(
                    image=image("docker.io/library/redis:7", "docker.io/library/redis:latest"),
                    size=123_456_789, shared=77_777_777, containers=2,
                ),
                ImageUsage(
                    image=image(id="sha256:" + "a" * 64), size=1000, shared=0, containers=0
                ),
            ],
        ),
        containers=[
            box("web", args=["--x"], size_rw=1234, mounts=[mount], **running),
            box("old", "b" * 64, path="x", size_rw=10234, **ENDED),
        ],
        volumes=[
            VolumeUsage(volume=volume("v1"), links=1, size=5000),
            VolumeUsage(volume=volume("v2"), links=0, size=36),
            VolumeUsage(volume=volume("v3"), links=0, size=None),
        ],
    )  # fmt: skip
    return fake.usage


def test_df(fastbox: Fastbox, usage: DiskUsage) -> None:
    assert fastbox("system", "df").out == (
        "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n"
        "Images          2         1         130MB     84.32MB (64%)\n"
        "Containers      2         1         11.47kB   10.23kB (89%)\n"
        "Local Volumes   3         1         5.036kB   36B (0%)\n"
        "Build Cache     0         0         0B        0B\n"
    )


def test_df_in_detail(fastbox: Fastbox, usage: DiskUsage) -> None:
    assert fastbox("system", "df", "-v").out == (
        "Images space usage:\n\n"
        "REPOSITORY   TAG       IMAGE ID       CREATED         SIZE      SHARED SIZE   UNIQUE SIZE"
        "   CONTAINERS\n"
        "redis        7         dddddddddddd   3 seconds ago   123MB     77.78MB       45.68MB    "
        "   2\n"
        "<none>       <none>    aaaaaaaaaaaa   3 seconds ago   1kB       0B            1kB        "
        "   0\n"
        "\nContainers space usage:\n\n"
        "CONTAINER ID   IMAGE     COMMAND              LOCAL VOLUMES   SIZE      CREATED         "
        "STATUS                     NAMES\n"
        '0123456789ab   redis     "redis-server --x"   1               1.23kB    3 seconds ago   '
        "Up 3 seconds               web\n"
        'bbbbbbbbbbbb   redis     "x"                  0               10.2kB    3 seconds ago   '
        "Exited (0) 3 seconds ago   old\n"
        "\nLocal Volumes space usage:\n\n"
        "VOLUME NAME   LINKS     SIZE\n"
        "v1            1         5kB\n"
        "v2            0         36B\n"
        "v3            0         N/A\n"
        "\nBuild cache usage: 0B\n\n"
        "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n"
    )


def test_df_of_nothing(fastbox: Fastbox) -> None:
    assert fastbox("system", "df").out.splitlines()[1] == (
        "Images          0         0         0B        0B"
    )
    assert fastbox("system", "df", "-v", "--format", "json").out == (
        '{"Images":[],"Containers":[],"Volumes":[],"BuildCache":[]}'
    )


def test_df_in_other_formats(fastbox: Fastbox, usage: DiskUsage) -> None:
    assert fastbox("system", "df", "--format", "json").out.splitlines()[0] == (
        '{"Active":"1","Reclaimable":"84.32MB (64%)","Size":"130MB","TotalCount":"2",'
        '"Type":"Images"}'
    )
    assert fastbox("system", "df", "--format", "table {{.Type}}\t{{.Size}}").out == (
        "TYPE            SIZE\nImages          130MB\nContainers      11.47kB\n"
        "Local Volumes   5.036kB\nBuild Cache     0B\n"
    )
    wrong = fastbox("system", "df", "--format", "{{.Foo}}")
    assert (wrong.code, wrong.err) == (
        1,
        'template parsing error: template: :1:2: executing "" at <.Foo>: can\'t evaluate field'
        " Foo in type *formatter.diskUsageImagesContext\n",
    )


def test_df_in_detail_in_other_formats(fastbox: Fastbox, usage: DiskUsage) -> None:
    found = json.loads(fastbox("system", "df", "-v", "--format", "json").out)
    assert found["Images"][0] == {
        "Containers": "2", "CreatedAt": "2026-01-02 03:04:05 +0000 UTC",
        "CreatedSince": "3 seconds ago", "Digest": "<none>", "ID": IMAGE_ID, "Repository": "redis",
        "SharedSize": "77.78MB", "Size": "123MB", "Tag": "7", "UniqueSize": "45.68MB",
        "VirtualSize": "123.5MB",
    }  # fmt: skip
    assert [one["Size"] for one in found["Containers"]] == ["1.23kB", "10.2kB"]
    assert [one["Links"] for one in found["Volumes"]] == ["1", "0", "0"]
    assert json.loads(fastbox("system", "df", "-v", "--format", "{{json .}}").out) == found
    format = "{{range .Images}}{{.Repository}} {{.SharedSize}};{{end}}"
    assert fastbox("system", "df", "-v", "--format", format).out == "redis 77.78MB;<none> 0B;"
    assert fastbox("system", "df", "-v", "--format", "{{.Type}}").err == (
        'template: :1:2: executing "" at <.Type>: can\'t evaluate field Type in type'
        " *formatter.diskUsageContext\n"
    )
    assert fastbox("system", "df", "-v", "--format", "{{").code == 1


def test_df_takes_no_arguments(fastbox: Fastbox) -> None:
    assert fastbox("system", "df", "x").err.startswith(
        "fastbox: 'fastbox system df' accepts no arguments\n"
    )


# ---- prune ---------------------------------------------------------------------------------------


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_image_prune(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "n\n")
    refused = fastbox("image", "prune")
    assert (refused.code, refused.out, fake.calls) == (
        0, f"WARNING! This will remove all dangling images.\n{QUESTION}", [],
    )  # fmt: skip
    answer(monkeypatch, "y\n")
    done = fastbox("image", "prune", "-a", "--filter", "until=1h")
    assert done.out == (
        "WARNING! This will remove all images without at least one container associated to them.\n"
        f"{QUESTION}Deleted Images:\nuntagged: redis:7\ndeleted: {IMAGE_ID}\n\n"
        "Total reclaimed space: 12.35MB\n"
    )
    assert fake.asked("prune_images")[1] == {"all": True, "filters": {"until": ["1h"]}}
    fake.gone.clear()
    assert fastbox("image", "prune", "-f").out == "Total reclaimed space: 12.35MB\n"


def test_system_prune(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "n\n")
    assert fastbox("system", "prune").out == (
        "WARNING! This will remove:\n  - all stopped containers\n"
        "  - all networks not used by at least one container\n  - all dangling images\n"
        f"  - unused build cache\n\n{QUESTION}"
    )
    assert fake.calls == []
    answer(monkeypatch, "y\n")
    labels = ("label=b", "label=a", "label!=x")
    words = [word for label in labels for word in ("--filter", label)]
    assert fastbox("system", "prune", "-a", "--volumes", *words).out == (
        "WARNING! This will remove:\n  - all stopped containers\n"
        "  - all networks not used by at least one container\n"
        "  - all anonymous volumes not used by at least one container\n"
        "  - all images without at least one container associated to them\n"
        "  - all build cache\n\n"
        "  Items to be pruned will be filtered with:\n  - label!=x\n  - label=a\n  - label=b\n\n"
        f"{QUESTION}"
        f"Deleted Containers:\n{ID}\n\nDeleted Networks:\none\ntwo\n\n"
        f"Deleted Images:\nuntagged: redis:7\ndeleted: {IMAGE_ID}\n\n"
        "Total reclaimed space: 12.35MB\n"
    )
    assert fake.asked("prune_system")[1] == {
        "all": True, "volumes": True, "filters": {"label": ["b", "a"], "label!": ["x"]},
    }  # fmt: skip


def test_system_prune_of_volumes_knows_no_until(fastbox: Fastbox, fake: FakeEngine) -> None:
    wrong = fastbox("system", "prune", "-f", "--volumes", "--filter", "until=1h")
    assert (wrong.code, wrong.err, fake.calls) == (
        1, 'ERROR: The "until" filter is not supported with "--volumes"\n', [],
    )  # fmt: skip


# ---- images, rmi ---------------------------------------------------------------------------------


def test_images_ls_asks_back(fastbox: Fastbox, fake: FakeEngine) -> None:
    found = fastbox("images", "ls")
    assert (found.code, found.out, found.err) == (
        0,
        "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n",
        '\nNo images found matching "ls": did you mean "fastbox image ls"?\n',
    )
    for words in (("image", "ls", "ls"), ("images", "other"), ("images", "-q", "nothing")):
        assert fastbox(*words).err == ""
    fake.stored = [image("docker.io/library/ls:1")]
    assert fastbox("images", "ls").err == ""


def test_images_as_a_tree_is_refused(fastbox: Fastbox, fake: FakeEngine) -> None:
    found = fastbox("images", "--tree")
    assert (found.code, fake.calls) == (1, [])
    assert found.err.startswith("--tree is not supported\nhint: ")


def test_every_field_of_images(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.stored = [image("docker.io/library/redis:7")]
    assert json.loads(fastbox("images", "--format", "json").out) == {
        "Containers": "N/A", "CreatedAt": "2026-01-02 03:04:05 +0000 UTC",
        "CreatedSince": "3 seconds ago", "Digest": "<none>", "ID": "dddddddddddd",
        "Repository": "redis", "SharedSize": "N/A", "Size": "12.3MB", "Tag": "7",
        "UniqueSize": "N/A", "VirtualSize": "12.35MB",
    }  # fmt: skip


def test_what_rmi_asks_for(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("image", "rm", "--no-prune", "--platform", "linux/amd64,linux/386", "--platform",
            "arm64", "a")  # fmt: skip
    assert fake.asked("remove_image") == (
        ("a",),
        {"force": False, "prune": False, "platforms": ["linux/amd64", "linux/386", "arm64"]},
    )


def test_the_groups_list_their_verbs(fastbox: Fastbox) -> None:
    for group, verbs in (("image", "bootstrap import inspect ls prune pull rm tag"),
                         ("system", "df events info prune")):  # fmt: skip
        listed = fastbox(group, "--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
        names = {line.split()[0] for line in listed.splitlines()}
        assert set(verbs.split()) <= names
