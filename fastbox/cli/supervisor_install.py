"""``fastbox supervisor install``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .flags import Flag, Switch, Values


def install(app: App, values: Values, words: list[str]) -> int:
    """Write the systemd units, enable and start them; or print them."""
    from ..supervisor import units

    root, runtime = app.engine.root, app.engine.runtime_dir
    if values.print:
        output.write(f"# {units.DIRECTORY}/{units.SERVICE}\n{units.service(root, runtime)}\n")
        output.write(f"# {units.DIRECTORY}/{units.SOCKET}\n{units.listener(runtime)}")
        return 0
    for line in units.install(root, runtime):
        output.line(line)
    return 0


COMMAND = FlagCommand(
    "supervisor_install",
    install,
    "",
    (Flag("--print", Switch(), "Print the units instead of installing them"),),
    most=0,
)
