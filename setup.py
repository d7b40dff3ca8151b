"""Builds the compiled core: Cython extensions with their C files, and the static native helper.

Environment:
    FASTBOX_EXT=NAME    build only this extension (``tar``), or only the helpers (``native``)
    FASTBOX_DEBUG=1     -O0, debug symbols, assertions on
    FASTBOX_CC_STATIC   compiler for the static helpers (default: musl-gcc, else cc)
"""

from __future__ import annotations

import copy
import glob
import os
import re
import shutil
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

from distutils.command.build_scripts import build_scripts  # isort: skip  (setuptools' own copy)

CORE = "fastbox/_core"
DEBUG = os.environ.get("FASTBOX_DEBUG", "") not in ("", "0")
ONLY = os.environ.get("FASTBOX_EXT", "")

# An extension is NAME.pyx with all of NAME/*.c. What it needs beyond that stands here:
# "sources" are patterns of further C files, below fastbox/_core.
# "static" libraries are linked as archives where the archive is installed.
NEEDS: dict[str, dict[str, list[str]]] = {
    "tar": {
        "sources": ["crew/*.c", "tree/remove.c"],
        "static": ["isal"],
        "libraries": ["zstd", "crypto", "pthread"],
    },
    "pack": {
        "sources": ["crew/*.c", "tar/hash.c", "tar/xattrs.c"],
        "static": ["isal"],
        "libraries": ["zstd", "crypto", "pthread"],
    },
    "view": {
        "sources": [
            f"launch/{part}.c" for part in ("context", "ops", "paths", "console", "network")
        ],
        "libraries": ["pthread"],
    },
}

_LAUNCH = ("context", "paths", "ops", "console", "network", "users", "finish")

# Native programs, one static binary each: name -> patterns of C files below fastbox/_core.
# A program whose first pattern has no files is not part of this tree.
PROGRAMS: dict[str, list[str]] = {
    "fastbox-monitor": [
        "monitor/*.c",
        "monitor/net/*.c",
        "tree/remove.c",
        *(f"launch/{part}.c" for part in _LAUNCH),
    ],
}

# The `fastbox` command, beside pip's own script for the Python command line.
CLIENT = "fastbox"
CLIENT_SOURCES = ["client/*.c"]

C_FLAGS = ["-std=gnu11", "-Wall", "-Wno-unused-function", "-fvisibility=hidden", "-D_GNU_SOURCE"]
C_FLAGS += (
    ["-O0", "-g3", "-UNDEBUG", "-U_FORTIFY_SOURCE"]
    if DEBUG
    else ["-O2", "-g1", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"]
)
PROGRAM_FLAGS = ["-static", "-std=gnu11", "-Wall", "-Wextra", "-D_GNU_SOURCE"]
PROGRAM_FLAGS += (
    ["-O0", "-g3"]
    if DEBUG
    else ["-Os", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-s"]
)


def core_files(patterns: list[str]) -> list[str]:
    """The files below fastbox/_core that the patterns name, sorted, each once."""
    found = {path for p in patterns for path in glob.glob(os.path.join(CORE, p))}
    return sorted(found)


def headers() -> list[str]:
    return core_files(["*.h", "*/*.h", "*/*/*.h", "*.pxd", "*/*.pxi"])


def extensions() -> list[Extension]:
    """One extension for each .pyx there is."""
    found = []
    for pyx in core_files(["*.pyx"]):
        name = os.path.basename(pyx)[: -len(".pyx")]
        if ONLY not in ("", name):
            continue
        needs = NEEDS.get(name, {})
        libraries, objects = list(needs.get("libraries", [])), []
        for library in needs.get("static", []):
            archive = static_archive(library)
            if archive:
                objects.append(archive)
            else:
                libraries.insert(0, library)
        found.append(
            Extension(
                f"fastbox._core.{name}",
                [pyx, *core_files([f"{name}/*.c", *needs.get("sources", [])])],
                include_dirs=[CORE],
                libraries=libraries,
                extra_objects=objects,
                extra_compile_args=C_FLAGS,
                depends=headers(),
            )
        )
    return found


def static_archive(library: str) -> str | None:
    """Path of libLIBRARY.a, as the compiler finds it, or None."""
    file = f"lib{library}.a"
    command = [os.environ.get("CC", "cc").split()[0], f"-print-file-name={file}"]
    try:
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return path if path != file and os.path.exists(path) else None


def static_compiler() -> list[str]:
    """The compiler of the helpers, with the kernel's headers behind musl's own."""
    chosen = os.environ.get("FASTBOX_CC_STATIC")
    if chosen:
        return chosen.split()
    musl = shutil.which("musl-gcc")
    if not musl:
        return os.environ.get("CC", "cc").split()
    multiarch = subprocess.run(
        [musl, "-print-multiarch"], capture_output=True, text=True, check=False
    ).stdout.strip()
    behind = ["/usr/include", f"/usr/include/{multiarch}"]
    return [musl, *(word for path in behind for word in ("-idirafter", path))]


def build_native(target: str, sources: list[str], *flags: str, force: bool = False) -> None:
    """Compile a static program, unless it is newer than all that it is made from.

    Raises:
        CompileError
    """
    newest = max(os.stat(path).st_mtime_ns for path in [*sources, *headers(), __file__])
    if not force and os.path.exists(target) and os.stat(target).st_mtime_ns > newest:
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    # Written aside and renamed: a running monitor keeps its old file ("text file busy").
    temporary = f"{target}.{os.getpid()}.tmp"
    command = [*static_compiler(), *PROGRAM_FLAGS, *flags, f"-I{CORE}", "-o", temporary, *sources]
    print(" ".join(command))
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise CompileError(f"building {os.path.basename(target)} failed: {e}") from e
    os.chmod(temporary, 0o755)
    os.rename(temporary, target)


class BuildClient(build_scripts):
    """build_scripts for a script that is a native program: compiled where others are copied (and
    read as Python)."""

    def run(self) -> None:
        # The version that the package itself tells: the command server compares the two.
        with open("fastbox/__init__.py", encoding="utf-8") as file:
            version = re.search(r'^__version__ = "(.+)"', file.read(), re.MULTILINE)
        if version is None:
            raise CompileError("fastbox/__init__.py has no __version__")
        target = os.path.join(self.build_dir, CLIENT)
        define = f'-DFASTBOX_VERSION="{version[1]}"'
        build_native(target, core_files(CLIENT_SOURCES), define, force=bool(self.force))

    def get_source_files(self) -> list[str]:
        return []  # MANIFEST.in has them


class BuildCore(build_ext):
    """build_ext that makes the native programs too, beside the extensions."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # What pip calls cannot be told how many to compile at the same time.
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        if ONLY in ("", "native"):
            for name, patterns in PROGRAMS.items():
                self.build_program(name, patterns)
        if self.extensions:
            super().run()

    def build_extension(self, ext: Extension) -> None:
        # Several at a time: their common C files are compiled into a directory for each.
        alone = copy.copy(self)
        alone.build_temp = os.path.join(self.build_temp, ext.name)
        super(BuildCore, alone).build_extension(ext)

    def build_program(self, name: str, patterns: list[str]) -> None:
        if not core_files(patterns[:1]):
            print(f"note: {name}: no sources in {CORE}/{patterns[0]}", file=sys.stderr)
            return
        base = "." if self.inplace else self.build_lib
        build_native(os.path.join(base, CORE, name), core_files(patterns), force=self.force)

    def get_outputs(self) -> list[str]:
        outputs = super().get_outputs() if self.extensions else []
        made = [name for name, patterns in PROGRAMS.items() if core_files(patterns[:1])]
        return [*outputs, *(os.path.join(self.build_lib, CORE, name) for name in made)]


def cythonized() -> list[Extension]:
    # Imported here: `setup.py --version` and sdist need no Cython.
    from Cython.Build import cythonize

    return cythonize(  # type: ignore[no-any-return]
        extensions(),
        build_dir="build/cython",
        compiler_directives={"language_level": 3, "embedsignature": not DEBUG},
        force=DEBUG,
    )


setup(
    ext_modules=cythonized(),
    scripts=[CLIENT],
    cmdclass={"build_ext": BuildCore, "build_scripts": BuildClient},
)
