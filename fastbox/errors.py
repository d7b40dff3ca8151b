"""The one hierarchy of errors that fastbox raises.

Every error is a single line that says what was being done, to what, and why it failed; ``hint``
says what to do about it. ``exit_code`` is the status with which a command ends that met the error;
``run_exit_code`` is the one of ``fastbox run`` (Docker's 125, 126 and 127).
"""

from __future__ import annotations

import os


class FastboxError(Exception):
    """Base of all errors.

    Args:
        message: one line, without a final period.
        hint: what the user can do, one line, or None.
    """

    exit_code: int = 1
    run_exit_code: int = 125

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InvalidArgument(FastboxError):
    """A value given by the caller (flag, method argument, file) is not acceptable."""


class NotFound(FastboxError):
    """A container, image, volume or other named object does not exist."""


class Detached(FastboxError):
    """A client left a container (by its detach keys), which goes on."""


class Conflict(FastboxError):
    """The object's state or another object stands in the way (name taken, in use, running)."""


class NotRunning(Conflict):
    """The operation needs a running container."""


class Ambiguous(FastboxError):
    """An id prefix fits more than one object."""


class Unsupported(FastboxError):
    """The kernel, host or this version of fastbox cannot do what was asked."""


class PermissionDenied(FastboxError):
    """The engine lacks a privilege that the operation needs."""


class StoreError(FastboxError):
    """State on disk is damaged or could not be read or written (full disk, I/O error)."""


class ArchiveError(FastboxError):
    """An archive is malformed, hostile or over a limit."""


class ImageError(FastboxError):
    """A manifest, index or image config is malformed or not usable here."""


class RegistryError(FastboxError):
    """A registry could not be reached or answered with an error.

    Args:
        status: HTTP status, or None when there was no answer.
    """

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class AuthError(RegistryError):
    """The registry refused the credentials, or wants some."""


class DigestMismatch(RegistryError):
    """Content does not have the digest or size under which it was asked for."""


class LaunchError(FastboxError, OSError):
    """A step of starting a process in a container failed.

    Attributes:
        errno: the error number of the failed system call, 0 if there was none.
        step: name of the step, for example ``"mount"`` or ``"exec"``.
        path: the path it was about, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int = 0,
        step: str = "",
        path: str | None = None,
        hint: str | None = None,
        run_exit_code: int = 125,
    ) -> None:
        FastboxError.__init__(self, message, hint=hint)
        self.errno = errno
        self.strerror = os.strerror(errno) if errno else None
        self.step = step
        self.path = path
        self.run_exit_code = run_exit_code


class CommandFailed(FastboxError):
    """`fastbox.run(..., check=True)` ended with a status other than 0."""

    def __init__(self, message: str, *, returncode: int, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
