"""``fastbox info``."""

from __future__ import annotations

from typing import Any

from . import human, output
from .command import App, FlagCommand
from .flags import Values
from .inspecting import FORMAT, Formatter


def info(app: App, values: Values, words: list[str]) -> int:
    """Print what the engine and its host are like; warnings go to standard error."""
    formatter = Formatter(values.format or "")
    facts = app.engine.info()
    if formatter.template is not None:
        output.line(formatter.fill(facts))
        return 0
    if values.format == "json":
        from .template_functions import to_json

        output.line(to_json(facts))
        return 0
    output.write(_text(facts))
    for warning in facts.get("Warnings") or ():
        output.error(warning)
    return 0


def _text(facts: dict[str, Any]) -> str:
    from .. import __version__

    def fact(name: str) -> str:
        return str(facts.get(name, ""))

    plugins = facts.get("Plugins") or {}
    lines = [
        "Client:",
        f" Version:    {__version__}",
        "",
        "Server:",
        f" Containers: {fact('Containers')}",
        f"  Running: {fact('ContainersRunning')}",
        f"  Paused: {fact('ContainersPaused')}",
        f"  Stopped: {fact('ContainersStopped')}",
        f" Images: {fact('Images')}",
        f" Server Version: {fact('ServerVersion')}",
        f" Storage Driver: {fact('Driver')}",
        f"  Backing Filesystem: {fact('BackingFilesystem')}",
        f" Logging Driver: {fact('LoggingDriver')}",
        f" Cgroup Driver: {fact('CgroupDriver')}",
        f" Cgroup Version: {fact('CgroupVersion')}",
        " Plugins:",
        *(f"  {kind}: {' '.join(names)}" for kind, names in plugins.items()),
        f" Runtimes: {fact('DefaultRuntime')}",
        f" Default Runtime: {fact('DefaultRuntime')}",
        " Security Options:",
        *_security(facts.get("SecurityOptions") or ()),
        f" Kernel Version: {fact('KernelVersion')}",
        f" Operating System: {fact('OperatingSystem')}",
        f" OSType: {fact('OSType')}",
        f" Architecture: {fact('Architecture')}",
        f" CPUs: {fact('NCPU')}",
        f" Total Memory: {human.binary_size(facts.get('MemTotal') or 0)}",
        f" Name: {fact('Name')}",
        f" ID: {fact('ID')}",
        f" Docker Root Dir: {fact('DockerRootDir')}",
        f" Runtime Dir: {fact('RuntimeDir')}",
        *_registries(facts.get("RegistryConfig") or {}),
        *_list("Configuration Files", facts.get("ConfigurationFiles") or ()),
    ]
    return "\n".join(lines) + "\n"


def _registries(config: dict[str, Any]) -> list[str]:
    """What is excepted from TLS, and the mirrors of Docker Hub."""
    indexes = config.get("IndexConfigs") or {}
    names = [name for name, index in indexes.items() if not index["Secure"]]
    insecure = [*names, *(config.get("InsecureRegistryCIDRs") or ())]
    mirrors = _list("Registry Mirrors", config.get("Mirrors") or ())
    return _list("Insecure Registries", insecure) + mirrors


def _list(title: str, items: Any) -> list[str]:
    """A title and an item a line, nothing for no items."""
    return [f" {title}:", *(f"  {item}" for item in items)] if items else []


def _security(options: Any) -> list[str]:
    """``name=seccomp,profile=builtin`` as a name with its properties below."""
    lines = []
    for option in options:
        for field in option.split(","):
            key, _, value = field.partition("=")
            lines.append(f"  {value}" if key == "name" else f"   {key.capitalize()}: {value}")
    return lines


COMMAND = FlagCommand("info", info, "", (FORMAT,), most=0)
