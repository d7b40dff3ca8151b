"""Compare the stubs of the compiled modules with the modules: mypy's stubtest on each.

A compiled module without a stub, or a stub without its module, is an error too.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys

CORE = "fastbox/_core"


def names(pattern: str) -> set[str]:
    """Module names of the files below fastbox/_core that match."""
    return {os.path.basename(path).split(".")[0] for path in glob.glob(f"{CORE}/{pattern}")}


def main() -> int:
    sources, stubs, built = names("*.pyx"), names("*.pyi"), names("*.so")
    problems = [f"{CORE}/{name}.pyx has no {name}.pyi" for name in sorted(sources - stubs)]
    problems += [f"{CORE}/{name}.pyx is not built" for name in sorted(sources - built)]
    problems += [f"{CORE}/{name}.pyi has no {name}.pyx" for name in sorted(stubs - sources)]
    for problem in problems:
        print(problem, file=sys.stderr)
    modules = [f"fastbox._core.{name}" for name in sorted(sources & stubs & built)]
    if not modules:
        return bool(problems)
    command = [sys.executable, "-m", "mypy.stubtest", "--concise", *modules]
    command += ["--allowlist", "tools/stubtest-allow.txt", "--ignore-unused-allowlist"]
    return subprocess.run(command).returncode or bool(problems)


if __name__ == "__main__":
    sys.exit(main())
