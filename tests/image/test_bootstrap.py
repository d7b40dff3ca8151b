"""``bootstrap``: what mmdebstrap is asked for, what becomes of it, and what when it fails."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from fastbox.errors import FastboxError, InvalidArgument, Unsupported
from fastbox.image import apt
from fastbox.image.bootstrap import bootstrap
from fastbox.image.store import ImageStore
from tests.image.build import leftovers, open_store, tar
from tests.support.wait import wait_for


def test_a_real_image_from_the_hosts_mirrors(store: ImageStore) -> None:
    lines: list[str] = []
    image = bootstrap(
        store, "boot:1", variant="extract", include=["busybox-static"], output=lines.append,
        changes=['CMD ["busybox", "sh"]'],
    )  # fmt: skip
    assert image.names == ["docker.io/library/boot:1"]
    assert image.config["config"] == {"Cmd": ["busybox", "sh"]}
    directory = store.layer_dir(image.layers[0])
    assert directory is not None
    assert os.access(os.path.join(directory, "usr/bin/busybox"), os.X_OK) or os.access(
        os.path.join(directory, "bin/busybox"), os.X_OK
    )
    assert any("success" in line for line in lines)
    assert threading.active_count() == 1


def test_a_package_that_does_not_exist(root: str, store: ImageStore) -> None:
    with pytest.raises(FastboxError, match=r"mmdebstrap failed: .*no-such-package-here") as caught:
        bootstrap(store, "boot", variant="extract", include=["no-such-package-here"])
    assert "\n" not in str(caught.value)
    assert store.images() == [] and leftovers(root) == []


@pytest.fixture
def fake(base: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stand-in for mmdebstrap, a shell script at the returned path."""
    directory = os.path.join(base, "bin")
    os.mkdir(directory)
    path = os.path.join(directory, "mmdebstrap")
    monkeypatch.setenv("PATH", directory + ":" + os.environ["PATH"])
    monkeypatch.setenv("FAKE_DIR", base)
    with open(os.path.join(base, "tree.tar"), "wb") as file:
        file.write(tar({"file": b"x" * 100_000}))
    return path


def script(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


def test_what_it_is_asked_for(
    store: ImageStore, base: str, fake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "host_suite", lambda: "bookworm")
    monkeypatch.setattr(apt, "mirrors", lambda mine, wanted: [f"deb http://m {wanted} main"])
    script(fake, 'for word; do echo "$word"; done > "$FAKE_DIR/argv"; cat "$FAKE_DIR/tree.tar"')
    image = bootstrap(store, "b", include=["a,b", "c=1.2"], suite="trixie")
    with open(os.path.join(base, "argv")) as file:
        assert file.read().splitlines() == [
            "--variant=minbase", "--format=tar", "--include=a,b,c=1.2", "trixie", "-",
            "deb http://m trixie main",
        ]  # fmt: skip
    assert image.config["config"] == {"Cmd": ["bash"]}
    bootstrap(store, "c", variant="custom")
    assert "Cmd" not in str(store.resolve("c").config["config"])


def test_half_a_tree_is_no_image(root: str, store: ImageStore, fake: str) -> None:
    # A whole archive, so that only the exit status tells.
    script(fake, 'cat "$FAKE_DIR/tree.tar"; echo "I: fine" >&2; echo "E: no more disk" >&2; exit 1')
    with pytest.raises(FastboxError, match=r"^mmdebstrap failed: no more disk$"):
        bootstrap(store, "b")
    assert store.images() == [] and store.layers.names() == [] and leftovers(root) == []


def test_no_words_but_a_status(store: ImageStore, fake: str) -> None:
    script(fake, "exit 3")
    with pytest.raises(FastboxError, match=r"^mmdebstrap failed: exit status 3$"):
        bootstrap(store, "b")


def test_an_interrupt_ends_it(root: str, store: ImageStore, base: str, fake: str) -> None:
    script(
        fake,
        "trap 'echo cleaned > \"$FAKE_DIR/trap\"; exit 1' INT\n"
        'echo "I: waiting" >&2\n'
        "while :; do sleep 0.05; done",
    )

    def holds_lock() -> bool:
        """Python may be interrupted between two calls; then the lock's descriptor is lost."""
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{fd}").endswith("/images/lock"):
                    return True
        return False

    def interrupt(line: str) -> None:
        wait_for(lambda: not holds_lock(), "the store's lock to be free")
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        bootstrap(store, "b", output=interrupt)
    with open(os.path.join(base, "trap")) as file:
        assert file.read() == "cleaned\n"
    assert store.images() == []
    open_store(root).prepare()  # an interrupt may come at any step; the next command cleans up
    assert leftovers(root) == []


def test_without_mmdebstrap(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unsupported, match=r"mmdebstrap is not installed") as caught:
        bootstrap(store, "b")
    assert caught.value.hint == "apt install mmdebstrap"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "huge"}, "unknown variant 'huge'"),
        ({"include": ["-o=x"]}, "invalid package name '-o=x'"),
        ({"include": ["a b"]}, "invalid package name 'a b'"),
        ({"include": ["./x.deb"]}, "invalid package name './x.deb'"),
        ({"suite": "--help"}, "invalid suite '--help'"),
        ({"suite": "a\nb"}, "invalid suite 'a\\\\nb'"),
        ({"changes": ["RUN x"]}, "RUN is not a valid change command"),
        ({"reference": "B"}, "must be lowercase"),
    ],
)
def test_bad_arguments_run_nothing(
    store: ImageStore, fake: str, options: dict[str, object], message: str
) -> None:
    script(fake, 'touch "$FAKE_DIR/ran"')
    with pytest.raises(InvalidArgument, match=message):
        bootstrap(store, **{"reference": "b", **options})  # type: ignore[arg-type]
    assert not os.path.exists(os.path.join(os.environ["FAKE_DIR"], "ran"))


# ---- apt's configuration ---------------------------------------------------------------------

ONE_LINE = """
# a comment
deb http://deb.debian.org/debian bookworm main contrib # trailing
deb-src http://deb.debian.org/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://deb.debian.org/debian-security bookworm-security main
deb https://download.example.com/linux stable main
deb http://old.example.com/debian bookworm/updates main
nonsense
"""
DEB822 = """Types: deb deb-src
# comment
URIs: http://a.example http://b.example
Suites: bookworm
 bookworm-updates
Components: main
 non-free-firmware
Signed-By: /usr/share/keyrings/k.gpg

Enabled: no
Types: deb
URIs: http://off.example
Suites: bookworm
Components: main

Types: deb
URIs: http://inline.example
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.fixture
def etc_apt(base: str) -> str:
    path = os.path.join(base, "apt")
    os.makedirs(os.path.join(path, "sources.list.d"))
    for name, text in {
        "sources.list": ONE_LINE,
        "sources.list.d/debian.sources": DEB822,
        "sources.list.d/off.list.disabled": "deb http://disabled.example bookworm main",
    }.items():
        with open(os.path.join(path, name), "w") as file:
            file.write(text)
    return path


def test_mirrors_of_the_hosts_release(etc_apt: str) -> None:
    signed = "[signed-by=/usr/share/keyrings/k.gpg]"
    assert apt.mirrors("bookworm", "bookworm", etc_apt) == [
        "deb http://deb.debian.org/debian bookworm main contrib",
        "deb [signed-by=/k.gpg] http://deb.debian.org/debian-security bookworm-security main",
        "deb http://old.example.com/debian bookworm/updates main",
        f"deb {signed} http://a.example bookworm main non-free-firmware",
        f"deb {signed} http://a.example bookworm-updates main non-free-firmware",
        f"deb {signed} http://b.example bookworm main non-free-firmware",
        f"deb {signed} http://b.example bookworm-updates main non-free-firmware",
        "deb http://inline.example bookworm main",
    ]


def test_mirrors_of_another_release(etc_apt: str) -> None:
    lines = apt.mirrors("bookworm", "trixie", etc_apt)
    assert lines[:2] == [
        "deb http://deb.debian.org/debian trixie main contrib",
        "deb [signed-by=/k.gpg] http://deb.debian.org/debian-security trixie-security main",
    ]
    assert not any("bookworm" in line or "download.example" in line for line in lines)


def test_no_sources_leave_it_to_mmdebstrap(base: str) -> None:
    assert apt.mirrors("bookworm", "bookworm", os.path.join(base, "none")) == []


def test_release_name(base: str) -> None:
    path = os.path.join(base, "os-release")
    for text, expected in [
        ('NAME="x"\nVERSION_CODENAME=bookworm\n', "bookworm"),
        ('VERSION_CODENAME="noble"\n', "noble"),
        ("NAME=x\n", None),
    ]:
        with open(path, "w") as file:
            file.write(text)
        assert apt.host_suite(path) == expected
    assert apt.host_suite(os.path.join(base, "none")) is None
