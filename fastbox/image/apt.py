"""What the host's apt configuration says: its release, its mirrors, its proxies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import msgspec

OS_RELEASE = "/etc/os-release"
SOURCES = "/etc/apt"
_MAX_FILE = 1 << 20
# Options of a source that mean the same when an image is assembled.
_OPTIONS = {"signed-by", "trusted", "check-valid-until", "allow-insecure"}


class Source(msgspec.Struct):
    """One line of ``sources.list``: packages of one suite from one mirror."""

    uri: str
    suite: str
    components: list[str]
    options: dict[str, str] = {}

    def line(self, suite: str) -> str:
        """In the one-line format, for another suite."""
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        head = f"deb [{options}]" if options else "deb"
        return " ".join([head, self.uri, suite, *self.components])


def host_suite(path: str = OS_RELEASE) -> str | None:
    """Code name of this machine's release (``bookworm``), None if it has none."""
    for line in _lines(path):
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip().strip("\"'") or None
    return None


def mirrors(mine: str | None, wanted: str, directory: str = SOURCES) -> list[str]:
    """sources.list lines for the release ``wanted``, from the mirrors of the release ``mine``.

    Updates and security come along (``bookworm-security`` becomes ``trixie-security``); sources
    that are not the distribution's are left out. Empty when nothing fits: mmdebstrap then uses the
    distribution's own mirror.
    """
    found: list[str] = []
    for source in sources(directory):
        for base in (mine, wanted):
            rest = source.suite.removeprefix(base) if base else source.suite
            if base and source.suite.startswith(base) and (not rest or rest[0] in "-/"):
                found.append(source.line(wanted + rest))
                break
    return list(dict.fromkeys(found))


def sources(directory: str = SOURCES) -> Iterator[Source]:
    """All binary package sources that apt is configured with."""
    parts = os.path.join(directory, "sources.list.d")
    try:
        names = sorted(os.listdir(parts))
    except OSError:
        names = []
    yield from _one_line(os.path.join(directory, "sources.list"))
    for name in names:
        if name.endswith(".list"):
            yield from _one_line(os.path.join(parts, name))
        elif name.endswith(".sources"):
            yield from _deb822(os.path.join(parts, name))


def _one_line(path: str) -> Iterator[Source]:
    """``deb [options] URI SUITE COMPONENT…`` (sources.list(5))."""
    for line in _lines(path):
        text = line.partition("#")[0]
        match = re.fullmatch(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*?)\s*", text)
        if match is None:
            continue
        pairs = [entry.partition("=") for entry in (match.group(1) or "").split()]
        options = {key.lower(): value for key, _, value in pairs}
        yield Source(match.group(2), match.group(3), match.group(4).split(), _useful(options))


def _deb822(path: str) -> Iterator[Source]:
    """Stanzas of ``Key: value`` (sources.list(5), deb822-style)."""
    stanza: dict[str, str] = {}
    key = ""
    for line in [*_lines(path), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            yield from _stanza(stanza)
            stanza = {}
        elif line[0].isspace():
            stanza[key] = stanza.get(key, "") + "\n" + line.strip()
        else:
            key, _, value = line.partition(":")
            key = key.strip().lower()
            stanza[key] = value.strip()


def _stanza(stanza: dict[str, str]) -> Iterator[Source]:
    if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes") == "no":
        return
    for uri in stanza.get("uris", "").split():
        for suite in stanza.get("suites", "").split():
            yield Source(uri, suite, stanza.get("components", "").split(), _useful(stanza))


def _useful(options: dict[str, str]) -> dict[str, str]:
    """Options to keep; a key that is in the stanza itself has no place on a line."""
    return {
        key: value
        for key, value in options.items()
        if key in _OPTIONS and value and not any(c.isspace() or c == "]" for c in value)
    }


def proxies() -> dict[str, str]:
    """Environment for what apt is configured to use as proxies, unless it has them already."""
    import shutil
    import subprocess

    program = shutil.which("apt-config")
    if program is None:
        return {}
    names = {"http_proxy": "Acquire::http::Proxy", "https_proxy": "Acquire::https::Proxy"}
    wanted = [word for pair in names.items() for word in pair if pair[0] not in os.environ]
    done = subprocess.run(
        [program, "shell", *wanted], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    found = dict(re.findall(r"^(https?_proxy)='([^']*)'$", done.stdout, re.M))
    return {key: value for key, value in found.items() if value and value != "DIRECT"}


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE).splitlines()
    except OSError:
        return []
