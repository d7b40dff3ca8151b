"""``top``: the host's ps, cut down to one container's processes."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..errors import FastboxError, InvalidArgument, Unsupported

DEFAULT = ("-ef",)


def top(
    pids: Collection[int], ps_args: list[str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Run ps and keep the rows of ``pids``.

    Args:
        pids: as the host numbers them.
        ps_args: options of ps, ``-ef`` if none; they must keep the PID column.

    Returns:
        (titles, rows)

    Raises:
        InvalidArgument: ps refuses the options, or prints no PID column.
        Unsupported: there is no ps.
    """
    import subprocess

    arguments = list(ps_args or DEFAULT)
    _check(arguments)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "COLUMNS": "1000"}
    try:
        done = subprocess.run(
            ["ps", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
    except FileNotFoundError as error:
        raise Unsupported(
            "listing the container's processes failed: there is no ps on this system",
            hint="install the package procps",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise FastboxError("listing the container's processes failed: ps does not end") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidArgument(f"error running ps: {reason or f'exit status {done.returncode}'}")
    return parse(done.stdout.decode(errors="replace"), pids)


def _check(arguments: list[str]) -> None:
    """Another column under the title PID would be taken for it: ``-o ppid=PID``."""
    if any("\0" in argument for argument in arguments):
        raise InvalidArgument("an option of ps holds a NUL character")
    for name, title in re.findall(r"\s(\S*)=\s*(PID\S*)", " " + " ".join(arguments)):
        # pid alone, at the end of a list, or behind the letter of its option: -opid, axopid
        if not re.fullmatch(r"(?:\S*,|(?:--format=|-?\w*o)?)pid", name):
            raise InvalidArgument(f'specifying "{name}={title}" is not allowed')


def parse(output: str, pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of ps's output; the last column takes the rest of its line.

    Raises:
        InvalidArgument: there is no PID column, or it holds something else than numbers.
    """
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidArgument(
            "Couldn't find PID field in ps output", hint="the options of ps must keep PID"
        )
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    rows: list[list[str]] = []
    inside = False
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if not fields:
            continue
        pid = fields[column] if column < len(fields) else ""
        if pid == "-":  # a thread, below its process (ps m)
            if inside:
                rows.append([field.rstrip() for field in fields])
            continue
        if not pid.isdigit():
            raise InvalidArgument(f"Unexpected pid '{pid}': not a number")
        inside = pid in wanted
        if inside:
            rows.append([field.rstrip() for field in fields])
    return titles, rows
