"""``pip install .`` into an empty environment, on the oldest and the newest Python that is here.

``PYTHONS="3.10 3.12"`` names others. The wheel must hold all that runs: compiled modules, the
static monitor, data files, stubs.
"""

from __future__ import annotations

import os
import subprocess
import zipfile

import pytest

from tests.support.command import Command

# Two wheels are compiled, which takes minutes on a machine that has other work.
TIME_LIMIT = 1200

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def interpreters() -> dict[str, str]:
    """``3.11`` -> path, of the versions to be tested."""
    script = os.path.join(PROJECT, "tools", "python.sh")
    done = subprocess.run([script, "--all"], stdout=subprocess.PIPE, text=True, check=True)
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = {}
    for path in done.stdout.split():
        name = subprocess.run([path, "-c", version], stdout=subprocess.PIPE, text=True, check=True)
        found[name.stdout.strip()] = path
    wanted = os.environ.get("PYTHONS", "").split()
    if wanted:
        missing = set(wanted) - set(found)
        if missing:
            raise pytest.UsageError(f"no such Python here: {', '.join(sorted(missing))}")
        return {name: found[name] for name in wanted}
    names = list(found)
    return {name: found[name] for name in dict.fromkeys([names[0], names[-1]])}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A copy of what git tracks (and what is new): nothing that was built before can help."""
    target = str(tmp_path_factory.mktemp("source"))
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout
    existing = [
        n for n in names.split(b"\0") if n and os.path.exists(os.path.join(PROJECT.encode(), n))
    ]
    subprocess.run(
        ["cp", "--parents", "-a", "-t", target, "--", *existing], cwd=PROJECT, check=True
    )
    return target


class Installed:
    """An environment with nothing in it but fastbox."""

    def __init__(self, directory: str, python: str, source: str) -> None:
        self.wheels = os.path.join(directory, "wheels")
        self.environment = os.path.join(directory, "venv")
        subprocess.run([python, "-m", "venv", self.environment], check=True)
        self.pip("wheel", "--no-deps", "-w", self.wheels, source)
        self.wheel = os.path.join(self.wheels, os.listdir(self.wheels)[0])
        self.pip("install", self.wheel)

    def pip(self, *words: str) -> None:
        argv = [os.path.join(self.environment, "bin", "pip"), "-q", "--disable-pip-version-check"]
        done = subprocess.run([*argv, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    def program(self, name: str) -> str:
        return os.path.join(self.environment, "bin", name)


@pytest.fixture(scope="module", params=interpreters().items(), ids=lambda item: item[0])
def installed(
    request: pytest.FixtureRequest, source: str, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    version, python = request.param
    return Installed(str(tmp_path_factory.mktemp(f"python{version}")), python, source)


def test_the_wheel_holds_everything(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = {info.filename: info.external_attr >> 16 for info in wheel.infolist()}
    core = [os.path.basename(name).split(".")[0] for name in names if name.endswith(".so")]
    sources = [name for name in os.listdir(f"{PROJECT}/fastbox/_core") if name.endswith(".pyx")]
    assert sorted(core) == sorted(name.removesuffix(".pyx") for name in sources)
    assert names["fastbox/_core/fastbox-monitor"] & 0o111 == 0o111
    assert {"fastbox/py.typed", "fastbox/data/seccomp.json"} <= set(names)
    assert {f"fastbox/_core/{name}.pyi" for name in core} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert {top.rpartition(".")[2] for top in tops} == {"fastbox", "data", "dist-info"}
    (client,) = [name for name in names if ".data/" in name]
    assert client.endswith(".data/scripts/fastbox")
    assert names[client] & 0o111 == 0o111
    assert not [name for name in names if name.endswith((".c", ".pyx", ".h"))]


def test_every_module_can_be_imported(installed: Installed, tmp_path: object) -> None:
    code = (
        "import importlib, pkgutil, fastbox\n"
        "names = [m.name for m in pkgutil.walk_packages(fastbox.__path__, 'fastbox.')"
        " if not m.name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names), fastbox.__file__)\n"
    )
    python = installed.program("python")
    argv = [python, "-I", "-W", "error", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    count, path = done.stdout.split()
    assert int(count) > 30
    assert path.startswith(installed.environment)


def test_the_programs_are_static(installed: Installed) -> None:
    find = "import fastbox._core as c, os; print(os.path.dirname(c.__file__))"
    argv = [installed.program("python"), "-I", "-c", find]
    core = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    for path, most in (
        (os.path.join(core, "fastbox-monitor"), 200_000),
        (installed.program("fastbox"), 100_000),
    ):
        with open(path, "rb") as file:
            program = file.read()
        assert program.startswith(b"\x7fELF")
        assert b"ld-musl" not in program and b"ld-linux" not in program
        assert len(program) < most


def test_a_container_runs(
    installed: Installed, root: str, runtime_dir: str, home: str, busybox_tar: str
) -> None:
    program = installed.program("fastbox")
    fastbox = Command([program, "--root", root, "--runtime-dir", runtime_dir], home)
    fastbox.ok("import", busybox_tar, "busybox")
    assert fastbox.ok("run", "--rm", "busybox", "echo", "hello") == "hello"
    container = fastbox.ok("run", "-d", "busybox", "sh", "-c", "echo logged; exec sleep 1000")
    assert fastbox.ok("ps", "-q", "--no-trunc") == container
    fastbox.ok("rm", "-f", container)
    assert Command([installed.program("fastbox-python")], home).ok("--version") == (
        Command([installed.program("fastbox")], home).ok("--version")
    )
