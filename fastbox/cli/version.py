"""``fastbox version``."""

from __future__ import annotations

from typing import Any

from . import output
from .command import App, FlagCommand
from .flags import Values
from .inspecting import FORMAT, Formatter


def version_line() -> str:
    """What ``fastbox --version`` prints."""
    from .. import __version__

    return f"fastbox version {__version__}"


def version(app: App, values: Values, words: list[str]) -> int:
    """Print versions. There is no server: its block tells of the engine inside the client."""
    formatter = Formatter(values.format or "", name="version")
    facts = app.engine.version()
    data = {"Client": facts, "Server": facts}
    if formatter.template is not None:
        output.line(formatter.fill(data))
    elif values.format == "json":
        from .template_functions import to_json

        output.line(to_json(data))
    else:
        output.write(_text(facts))
    return 0


def _text(facts: dict[str, Any]) -> str:
    client = (
        ("Version", facts["Version"]),
        ("Python version", facts.get("PythonVersion", "")),
        ("OS/Arch", f"{facts.get('Os', '')}/{facts.get('Arch', '')}"),
    )
    server = (
        ("Version", facts["Version"]),
        ("OCI runtime spec", facts.get("OciRuntimeSpec", "")),
        ("OS/Arch", f"{facts.get('Os', '')}/{facts.get('Arch', '')}"),
        ("Kernel version", facts.get("KernelVersion", "")),
    )
    lines = ["Client:", *_block(client, 1), "", "Server: fastbox, in the client", " Engine:"]
    return "\n".join([*lines, *_block(server, 2)]) + "\n"


def _block(facts: tuple[tuple[str, Any], ...], indent: int) -> list[str]:
    return [f"{' ' * indent}{name + ':':<{19 - indent + 1}}{value}" for name, value in facts]


COMMAND = FlagCommand("version", version, "", (FORMAT,), most=0)
