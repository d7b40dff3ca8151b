"""The systemd units of the supervisor: their text, where they go, and telling systemd."""

from __future__ import annotations

import contextlib
import os

from .. import atomic, supervision
from ..errors import FastboxError

DIRECTORY = "/etc/systemd/system"
SERVICE = "fastbox.service"
SOCKET = "fastbox.socket"


def service(root: str, runtime: str) -> str:
    """fastbox.service. KillMode=process: containers' monitors are in its cgroup, and stay."""
    run = _line(supervision.command(root, runtime, "run"))
    stop = _line(supervision.command(root, runtime, "stop"))
    return f"""\
[Unit]
Description=fastbox supervisor: restart policies and health checks of containers
Documentation=man:systemd.service(5)
After=network-online.target local-fs.target
Wants=network-online.target
Requires={SOCKET}
RequiresMountsFor={_quoted(root)}
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
ExecStart={run}
ExecStop={stop}
Restart=on-failure
RestartSec=200ms
TimeoutStartSec=60
KillMode=process
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
Also={SOCKET}
"""


def listener(runtime: str) -> str:
    """fastbox.socket: whoever needs the supervisor starts it by connecting."""
    return f"""\
[Unit]
Description=fastbox supervisor socket
Documentation=man:systemd.socket(5)

[Socket]
ListenStream={supervision.socket_path(runtime).replace("%", "%%")}
SocketMode=0600
DirectoryMode=0700
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""


def install(root: str, runtime: str, directory: str = DIRECTORY) -> list[str]:
    """Write the units and, where systemd runs, enable and start them; a line for each thing done.

    Raises:
        FastboxError
    """
    texts = {SERVICE: service(root, runtime), SOCKET: listener(runtime)}
    done = []
    for name, text in texts.items():
        path = f"{directory}/{name}"
        try:
            os.makedirs(directory, exist_ok=True)
            atomic.write(path, text.encode(), mode=0o644)
        except OSError as error:
            raise FastboxError(f"writing {path} failed: {(error.strerror or '').lower()}") from None
        done.append(f"wrote {path}")
    if not systemd_runs():
        return [
            *done,
            "systemd is not running here: nothing was enabled",
            "at boot, let whatever starts services run: "
            + _line(supervision.command(root, runtime, "start")),
        ]
    # Ours would hold the lock and the socket's name.
    if supervision.is_running(runtime):
        supervision.stop(runtime)
        done.append("stopped the supervisor that was running")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(supervision.stopped_path(runtime))
    for words in (["daemon-reload"], ["enable", "--now", SOCKET, SERVICE]):
        _systemctl(*words)
        done.append(f"ran systemctl {' '.join(words)}")
    return done


def uninstall(directory: str = DIRECTORY) -> list[str]:
    """Remove the units; containers go on running.

    Raises:
        FastboxError
    """
    present = [name for name in (SERVICE, SOCKET) if os.path.exists(f"{directory}/{name}")]
    done = []
    if present and systemd_runs():
        _systemctl("disable", "--now", *present)
        done.append(f"ran systemctl disable --now {' '.join(present)}")
    for name in present:
        try:
            os.unlink(f"{directory}/{name}")
        except OSError as error:
            raise FastboxError(
                f"removing {directory}/{name} failed: {(error.strerror or '').lower()}"
            ) from None
        done.append(f"removed {directory}/{name}")
    if present and systemd_runs():
        _systemctl("daemon-reload")
    return done or ["no units are installed"]


def systemd_runs() -> bool:
    """sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def _systemctl(*words: str) -> None:
    import subprocess

    try:
        done = subprocess.run(
            ["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise FastboxError(f"systemctl cannot be run: {(error.strerror or '').lower()}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise FastboxError(f"systemctl {' '.join(words)} failed: {lines[-1]}")


def _line(words: list[str]) -> str:
    """A command line, in which no word is taken for a variable."""
    return " ".join(_quoted(word.replace("$", "$$")) for word in words)


def _quoted(text: str) -> str:
    """A word of a unit file: specifiers are none, blanks and quotes are its own."""
    text = text.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    return f'"{text}"' if any(char.isspace() or char in "\"';" for char in text) else text
