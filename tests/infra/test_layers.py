"""The architecture's rules, held by looking at the imports: arrows point down only, the command
line's library stays in ``cli``, heavy libraries are imported where they are used."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# part -> the parts that it may import. "base" is what lies beside them and knows none of them.
BASE = {
    "atomic",
    "cancelling",
    "configuration",
    "durable",
    "errors",
    "graphdriver",
    "locks",
    "pool_settings",
    "sockets",
    "tracing",
    "trash",
    "watch",
}
LOWER = {"_core", "oci"}
MAY_IMPORT = {
    "_core": set[str](),
    "oci": set[str](),
    "registry": LOWER,
    "events": {"oci"},
    "volume": LOWER | {"events"},
    "network": LOWER | {"events"},
    "image": LOWER | {"events", "registry", "volume"},
    "container": LOWER | {"events", "image", "network", "volume"},
    "check": LOWER | {"container", "image", "network", "volume"},
    "info": LOWER | {"container"},
    "verbs": LOWER | {"container", "pruning"},
    "listening": {"events"},
    "attaching": LOWER | {"container"},
    "files": LOWER | {"container"},
    "network_verbs": LOWER | {"container", "network", "pruning"},
    "image_verbs": LOWER | {"container", "image", "registry"},
    "registry_verbs": LOWER | {"image", "registry"},
    "resource_verbs": LOWER | {"check", "container", "network", "volume"},
    "pruning": {"events"},
    "usage": LOWER | {"container", "image", "volume"},
    "disk_verbs": LOWER | {"container", "image", "pruning", "usage"},
    "supervision": LOWER | {"container"},
    "supervised": LOWER | {"container", "supervision"},
    "pool": LOWER | {"container", "pool_pressure", "pool_types", "runner"},
    "pool_verbs": {"container", "pool"},
    "engine": LOWER
    | {"info", "registry", "volume", "image", "container", "verbs"}
    | {"attaching", "files", "resource_verbs", "supervised", "listening"}
    | {"disk_verbs", "pruning", "pool_verbs"}
    | {"network", "network_verbs", "image_verbs", "registry_verbs"},
    "runner": {"engine", "container"},
    "sandbox": LOWER | {"container", "engine", "image", "runner"},
    "supervisor": LOWER
    | {"pool"}
    | {"engine", "events", "container", "image", "network", "supervision", "volume"},
}
# Only inside functions: at module level each of these costs more than a container's start.
HEAVY = {
    "asyncio", "email", "http", "inspect", "multiprocessing", "rich", "ssl", "subprocess",
    "tarfile", "tempfile", "unittest", "urllib3", "urllib.request", "concurrent.futures",
    "pathlib", "dataclasses", "shutil", "typing_extensions", "logging", "uuid", "socketserver",
    "pyroute2", "ipaddress",
}  # fmt: skip
# The asyncio face is asyncio; nobody who does not ask for it loads it.
USED_THERE = {
    "fastbox.aio": {"asyncio", "concurrent.futures"},
    "fastbox.sandbox.aio": {"asyncio", "concurrent.futures"},
    "fastbox.aio_pool": {"asyncio"},
    "fastbox.cancelling": {"asyncio"},
    "fastbox.supervisor.commands": {"asyncio"},
    "fastbox.supervisor.service": {"asyncio", "concurrent.futures"},
    "fastbox.supervisor.sealing": {"asyncio"},
    "fastbox.supervisor.watch": {"asyncio"},
    "fastbox.supervisor.checks": {"asyncio"},
    "fastbox.supervisor.probe": {"asyncio"},
}
OCI_IO = {"io", "socket", "subprocess", "urllib3", "shutil", "tempfile"}


def modules() -> Iterator[tuple[str, str]]:
    """(dotted name, path) of each Python file of the package."""
    for directory, folders, files in os.walk(os.path.join(PROJECT, "fastbox")):
        folders.sort()
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                dotted = os.path.relpath(path, PROJECT)[:-3].replace("/", ".")
                yield dotted.removesuffix(".__init__"), path


MODULES = list(modules())


def imports(dotted: str, path: str, *, top_level_only: bool = False) -> Iterator[str]:
    """Absolute names of what a module imports, leaving out what is only for type checkers."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    package = dotted if path.endswith("__init__.py") else dotted.rpartition(".")[0]
    yield from _imports(tree.body, package, top_level_only)


def _imports(body: list[ast.stmt], package: str, top_level_only: bool) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            prefix = ".".join(
                [*(base if node.level else []), *([node.module] if node.module else [])]
            )
            yield prefix
            yield from (f"{prefix}.{alias.name}" for alias in node.names)
        elif top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        else:
            for field in ("body", "orelse", "finalbody", "handlers"):
                yield from _imports(getattr(node, field, []), package, top_level_only)


def part(dotted: str) -> str:
    """``fastbox.image.store`` -> ``image``."""
    return dotted.split(".")[1] if "." in dotted else ""


@pytest.mark.parametrize(("dotted", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_point_down(dotted: str, path: str) -> None:
    mine = part(dotted)
    found = {part(name) for name in imports(dotted, path) if name.startswith("fastbox.")}
    found.discard("__version__")
    if mine in MAY_IMPORT:
        assert found <= MAY_IMPORT[mine] | BASE | {mine}
    elif mine in BASE:
        assert found <= BASE | {"_core"}
    if mine != "cli":
        assert "cli" not in found or mine in ("", "__main__")
        assert "click" not in {name.split(".")[0] for name in imports(dotted, path)}


@pytest.mark.parametrize(("dotted", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_heavy_imports_are_made_where_used(dotted: str, path: str) -> None:
    found = set(imports(dotted, path, top_level_only=True))
    heavy = {name for name in found if name in HEAVY or name.split(".")[0] in HEAVY}
    assert not heavy - USED_THERE.get(dotted, set())


@pytest.mark.parametrize("path", [p for name, p in MODULES if part(name) == "oci"])
def test_oci_does_no_io(path: str) -> None:
    dotted = next(name for name, p in MODULES if p == path)
    assert not OCI_IO & {name.split(".")[0] for name in imports(dotted, path)}
    with open(path, encoding="utf-8") as file:
        calls = [
            ast.unparse(n.func) for n in ast.walk(ast.parse(file.read())) if isinstance(n, ast.Call)
        ]
    assert not {"open", "os.open", "os.stat", "os.listdir", "os.scandir"} & set(calls)


@pytest.mark.parametrize("path", [path for _, path in MODULES])
def test_a_file_is_read_in_one_sitting(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        assert sum(1 for _ in file) <= 620


def test_the_checks_see_an_import(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "x.py")
    with open(path, "w") as file:
        file.write(
            "from ..cli import main\nif TYPE_CHECKING:\n    import a\n"
            "def f():\n    import rich\ntry:\n    from . import y\nexcept ImportError: pass\n"
        )
    assert list(imports("fastbox.image.x", path)) == [
        "fastbox.cli", "fastbox.cli.main", "rich", "fastbox.image", "fastbox.image.y",
    ]  # fmt: skip
    assert "rich" not in set(imports("fastbox.image.x", path, top_level_only=True))


def loaded(code: str) -> set[str]:
    """Modules that are loaded after code has run in a fresh interpreter."""
    argv = [sys.executable, "-c", code + "\nimport sys; print(*sys.modules)"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_fastbox_loads_next_to_nothing() -> None:
    extra = loaded("import fastbox") - loaded("")
    foreign = {name for name in extra if not name.startswith("fastbox")}
    assert not foreign & (HEAVY | {"click", "msgspec", "orjson", "json", "re", "ctypes"})
    assert len(extra) < 15


def test_help_loads_no_engine() -> None:
    code = "from fastbox.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    extra = loaded(code)
    assert "click" in extra
    assert not extra & {"fastbox.engine", "urllib3", "rich", "asyncio", "ssl", "subprocess"}
