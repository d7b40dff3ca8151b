"""``fastbox port``."""

from __future__ import annotations

from ..network import ports
from . import gotext, output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Values


def port(app: App, values: Values, words: list[str]) -> int:
    """Which ports of the host are a container's: all, or those of one of its ports."""
    wanted = _wanted(words[1]) if len(words) > 1 else ""
    box = app.engine.container(words[0])
    bound = app.engine.networking(box).ports
    lines = []
    for key, found in ports.by_container((), bound).items():
        for each in found:
            where = ports.joined(each.host_ip, each.host)
            if not wanted:
                lines.append(f"{key} -> {where}")
            elif key == wanted:
                lines.append(where)
    if wanted and not lines:
        raise CliError(f"no public port '{words[1]}' published for {words[0]}")
    output.write("".join(line + "\n" for line in lines))
    return 0


def _wanted(text: str) -> str:
    number, _, protocol = text.partition("/")
    try:
        value = gotext.parse_int(number, base=10, function="ParseUint")
    except ValueError as error:
        raise CliError(f"invalid port ({number}): {error}") from None
    if not 0 <= value <= ports.LAST:
        reason = f"strconv.ParseUint: parsing {gotext.quote(number)}: value out of range"
        raise CliError(f"invalid port ({number}): {reason}")
    return f"{value}/{protocol or 'tcp'}"


COMMAND = FlagCommand("port", port, "CONTAINER [PRIVATE_PORT[/PROTO]]", least=1, most=2)
