"""``bootstrap``: an image from the host distribution's own package mirrors, by mmdebstrap, for
machines that reach no registry."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import FastboxError, InvalidArgument, Unsupported
from ..oci import reference as references
from . import apt
from . import changes as dockerfile
from .importer import import_image

if TYPE_CHECKING:
    import subprocess

    from .store import ImageStore
    from .types import Image

VARIANTS = (
    "apt", "buildd", "custom", "debootstrap", "essential", "extract", "important", "minbase",
    "required", "standard",
)  # fmt: skip
_KEPT_LINES = 30  # of mmdebstrap's output, for the error
_GRACE = 30.0  # seconds that a cancelled mmdebstrap gets for cleaning up


def bootstrap(
    store: ImageStore,
    reference: str,
    *,
    include: Iterable[str] = (),
    suite: str | None = None,
    changes: Iterable[str] = (),
    variant: str = "minbase",
    output: Callable[[str], None] | None = None,
) -> Image:
    """Assemble an image.

    Args:
        reference: its name.
        include: packages beyond the variant's, with dependencies (``NAME``, ``NAME=VERSION``).
        suite: release code name; None is the host's. The mirrors are those of the host's apt.
        changes: Dockerfile instructions. ``CMD ["bash"]`` is set where they name no command and
            the variant has a shell.
        variant: mmdebstrap's package set.
        output: told each line that mmdebstrap prints, from another thread.

    Raises:
        InvalidArgument: an impossible name, package, suite or variant, or a bad instruction.
        Unsupported: no mmdebstrap here. FastboxError: mmdebstrap failed; its words.
    """
    references.parse(reference)
    instructions = list(changes)
    config = dockerfile.apply(None, instructions)
    if config.cmd is None and config.entrypoint is None and variant not in ("custom", "extract"):
        instructions.append('CMD ["bash"]')
    command = _command(list(include), suite, variant)
    run = _Run(command, output)
    try:
        run.start()
        return import_image(
            store,
            run,  # type: ignore[arg-type]  # it has the one method that is used
            reference,
            changes=instructions,
            # Without "-" and the mirrors: `history` shows it.
            message=f"bootstrap: {' '.join(command[1 : command.index('-')])}",
        )
    finally:
        run.close()


def _command(include: list[str], suite: str | None, variant: str) -> list[str]:
    if variant not in VARIANTS:
        raise InvalidArgument(
            f"unknown variant {variant!r}", hint=f"known variants: {', '.join(VARIANTS)}"
        )
    packages = [name for entry in include for name in entry.split(",") if name]
    for name in packages:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?(?:[=/][\w.+:~-]+)?", name, re.A):
            raise InvalidArgument(f"invalid package name {name!r}")
    if suite is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", suite, re.A):
        raise InvalidArgument(f"invalid suite {suite!r}")
    import shutil

    program = shutil.which("mmdebstrap")
    if program is None:
        raise Unsupported(
            "cannot assemble an image: mmdebstrap is not installed", hint="apt install mmdebstrap"
        )
    mine = apt.host_suite()
    wanted = suite or mine
    if wanted is None:
        raise InvalidArgument(
            "cannot tell this machine's release: /etc/os-release has no VERSION_CODENAME",
            hint="name one with --suite",
        )
    command = [program, f"--variant={variant}", "--format=tar"]
    if packages:
        command.append(f"--include={','.join(packages)}")
    return [*command, wanted, "-", *apt.mirrors(mine, wanted)]


class _Run:
    """mmdebstrap, as a file object to read the tar from. Its end is an end only if it succeeded;
    so an image is never made of half a tree."""

    def __init__(self, command: list[str], output: Callable[[str], None] | None) -> None:
        self._command = command
        self._output = output
        self._lines: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._follow, name="bootstrap", daemon=True)

    def start(self) -> None:
        """Start it. Not done by the constructor, so that ``close`` ends it whenever an interrupt
        comes."""
        import subprocess

        environment = {
            **os.environ,
            **apt.proxies(),
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                # Its own group, so that all of its helpers can be told to end.
                start_new_session=True,
            )
        except OSError as error:
            why = (error.strerror or "").lower()
            raise Unsupported(f"cannot run {self._command[0]}: {why}") from error
        self._reader.start()

    def read(self, count: int) -> bytes:
        """The next bytes of the tar.

        Raises:
            FastboxError: mmdebstrap failed.
        """
        assert self._process is not None and self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), count)
        if not data:
            status = self._process.wait()
            self._reader.join()
            if status != 0:
                raise self._failure(status)
        return data

    def close(self) -> None:
        """End mmdebstrap if it still runs."""
        import subprocess

        process = self._process
        if process is None:
            return
        if process.poll() is None:
            # SIGINT makes it unmount and remove what it made.
            for number in (signal.SIGINT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE)
                    break
        if self._reader.ident is not None:
            self._reader.join()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def _follow(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        for raw in self._process.stderr:
            # Progress bars are lines that end in a carriage return.
            line = raw.decode(errors="replace").rstrip().rpartition("\r")[2]
            self._lines = [*self._lines[-_KEPT_LINES:], line]
            if self._output is not None and line:
                self._output(line)

    def _failure(self, status: int) -> FastboxError:
        errors = [line[3:] for line in self._lines if line.startswith("E: ")]
        # "STEP failed: E: COMMAND failed" only says where; the command itself said why before.
        told = [line for line in errors if " failed: E: " not in line and "mmdebstrap" not in line]
        said = [line for line in self._lines if line and line[:3] not in ("I: ", "W: ", "E: ")]
        why = (told[:1] or said[-1:] or errors[:1] or [f"exit status {status}"])[0][:300]
        return FastboxError(
            f"mmdebstrap failed: {why}", hint="its whole output is shown with --debug"
        )
