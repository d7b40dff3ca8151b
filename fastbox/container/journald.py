"""Reading back what the journald driver has sent, by the host's journalctl."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Generator
from typing import Any

import orjson

from ..errors import StoreError, Unsupported
from .logs import LogLine

CHECK = 0.5  # seconds between two looks whether the container has ended
_MAX_ENTRY = 1 << 20


def read(
    container_id: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
    is_running: Callable[[], bool] = lambda: False,
) -> Generator[LogLine, None, None]:
    """Lines in the order in which they were written; arguments as ``logs.read_logs``.

    Raises:
        Unsupported: there is no journalctl. StoreError: it failed.
    """
    import subprocess

    argv = ["journalctl", "-o", "json", "--all", "-q", f"CONTAINER_ID_FULL={container_id}"]
    argv += [f"-n{tail}"] if tail is not None else ["-nall"] if follow else []
    argv += [f"--since=@{since:.6f}"] if since is not None else []
    argv += [f"--until=@{until:.6f}"] if until is not None else []
    argv += ["-f"] if follow else []
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError as error:
        raise Unsupported(
            "reading the log failed: there is no journalctl on this system"
        ) from error
    with child:
        try:
            assert child.stdout is not None and child.stderr is not None
            yield from _lines(child.stdout.fileno(), is_running if follow else None)
        finally:
            child.terminate()
        if not follow and child.wait() > 0:
            reason = child.stderr.read().decode(errors="replace").strip()
            raise StoreError(f"reading the log failed: journalctl: {reason}")


def _lines(fd: int, is_running: Callable[[], bool] | None) -> Generator[LogLine, None, None]:
    rest = b""
    while True:
        # Asked before reading: what a container wrote before its end is read after it.
        running = is_running is None or is_running()
        while is_running is None or select.select([fd], [], [], CHECK)[0]:
            data = os.read(fd, 1 << 16)
            if not data:
                return
            *entries, rest = (rest + data).split(b"\n")
            for entry in entries:
                line = _parse(entry)
                if line is not None:
                    yield line
            if len(rest) > _MAX_ENTRY:
                rest = b""
        if not running:
            return


def _parse(entry: bytes) -> LogLine | None:
    from ..oci.times import format_ns

    try:
        fields: dict[str, Any] = orjson.loads(entry)
        message = fields.get("MESSAGE")
        data = bytes(message) if isinstance(message, list) else str(message or "").encode()
        time = format_ns(int(fields["__REALTIME_TIMESTAMP"]) * 1000)
    except (ValueError, KeyError, TypeError):
        return None
    stream = "stderr" if str(fields.get("PRIORITY")) == "3" else "stdout"
    return LogLine(time, stream, data, fields.get("CONTAINER_PARTIAL_MESSAGE") == "true")
