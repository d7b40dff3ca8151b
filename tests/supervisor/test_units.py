"""The systemd units: what they say, what systemd thinks of them, where they are put."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from fastbox.errors import FastboxError
from fastbox.supervisor import units
from tests.support.command import Command


def test_print(cli: Command, root: str, runtime_dir: str) -> None:
    text = cli.ok("supervisor", "install", "--print")
    assert text.startswith("# /etc/systemd/system/fastbox.service\n[Unit]\n")
    assert f" -I -m fastbox --root {root} --runtime-dir {runtime_dir} supervisor run\n" in text
    for line in ("Type=notify", "KillMode=process", "Delegate=yes", "Restart=on-failure",
                 "TasksMax=infinity", "WantedBy=multi-user.target",
                 f"ListenStream={runtime_dir}/supervisor.sock"):  # fmt: skip
        assert f"\n{line}\n" in text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_systemd_reads_them(base: str) -> None:
    root = f'{base}/a store with 100% "odd" $NAME'
    for name, text in (
        (units.SERVICE, units.service(root, f"{root}/run")),
        (units.SOCKET, units.listener(f"{root}/run")),
    ):
        with open(f"{base}/{name}", "w") as file:
            file.write(text)
    paths = [f"{base}/{name}" for name in (units.SERVICE, units.SOCKET)]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if base in line or "fastbox." in line]
    assert (done.returncode, ours) == (0, [])


def test_install_and_uninstall_without_systemd(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "systemd_runs", lambda: False)
    directory = f"{base}/etc/systemd/system"
    done = units.install("/var/lib/fastbox", "/run/fastbox", directory)
    assert done[:3] == [
        f"wrote {directory}/fastbox.service",
        f"wrote {directory}/fastbox.socket",
        "systemd is not running here: nothing was enabled",
    ]
    assert done[3].endswith("--root /var/lib/fastbox --runtime-dir /run/fastbox supervisor start")
    assert os.stat(f"{directory}/fastbox.service").st_mode & 0o777 == 0o644
    assert sorted(os.listdir(directory)) == ["fastbox.service", "fastbox.socket"]
    units.install("/var/lib/fastbox", "/run/fastbox", directory)  # once more is no error
    assert units.uninstall(directory) == [
        f"removed {directory}/fastbox.service",
        f"removed {directory}/fastbox.socket",
    ]
    assert os.listdir(directory) == []
    assert units.uninstall(directory) == ["no units are installed"]


def test_install_with_systemd(base: str, runtime_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(units, "systemd_runs", lambda: True)
    monkeypatch.setattr(units, "_systemctl", lambda *words: asked.append(words))
    units.install("/var/lib/fastbox", runtime_dir, base)
    units.uninstall(base)
    assert asked == [
        ("daemon-reload",),
        ("enable", "--now", "fastbox.socket", "fastbox.service"),
        ("disable", "--now", "fastbox.service", "fastbox.socket"),
        ("daemon-reload",),
    ]


def test_where_they_cannot_be_written(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "systemd_runs", lambda: False)
    with open(f"{base}/file", "w"):
        pass
    with pytest.raises(FastboxError, match=re.escape("fastbox.service failed: file exists")):
        units.install("/var/lib/fastbox", "/run/fastbox", f"{base}/file")
