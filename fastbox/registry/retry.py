"""Which failures are tried again, how often and after how long."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ..errors import RegistryError
from .guard import Guard
from .text import clean

_T = TypeVar("_T")

# 501 and 505 will not get better. 408 is the server's word for "too slow, come again".
RETRIED_STATUS = frozenset((408, 429, 500, 502, 503, 504))


class Transient(Exception):
    """A failure that may go away.

    Attributes:
        error: what to raise when it does not.
        retry_after: seconds that the server asked for, or None.
        busy: the server limits our rate (429), which takes longer to pass.
        fresh: nothing had ever come from this host, so it may just as well not exist.
    """

    def __init__(
        self,
        error: RegistryError,
        *,
        retry_after: float | None = None,
        busy: bool = False,
        fresh: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after
        self.busy = busy
        self.fresh = fresh


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a client is; times in seconds.

    Attributes:
        attempts: tries in a row without progress (Docker's five).
        fresh_attempts: tries at a host that never answered.
        cap: longest wait between two tries, whatever Retry-After says.
        total: most time spent waiting for one request.
        stall: how long a peer may take for the next step (headers, or `floor` bytes).
        floor: bytes that must come in each `stall` seconds.
        progress: bytes after which the tries count from the start.
    """

    attempts: int = 5
    fresh_attempts: int = 3
    base: float = 1.0
    busy_base: float = 2.0
    cap: float = 60.0
    total: float = 300.0
    connect: float = 15.0
    stall: float = 60.0
    floor: int = 60 * 1024
    progress: int = 1024 * 1024


class Backoff:
    """The waits of one request: doubling, with jitter, bounded in number and sum."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.failures = 0
        self.waited = 0.0

    def progressed(self) -> None:
        """Count from the start again (a download got somewhere)."""
        self.failures = 0
        self.waited = 0.0

    def delay(self, failure: Transient) -> float:
        """Seconds to wait before the next try.

        Raises:
            RegistryError: ``failure.error``: there is no next try.
        """
        policy = self.policy
        self.failures += 1
        limit = policy.fresh_attempts if failure.fresh else policy.attempts
        if self.failures >= limit or self.waited >= policy.total:
            raise failure.error from failure.__cause__
        base = policy.busy_base if failure.busy else policy.base
        seconds = base * float(2 ** (self.failures - 1))
        seconds += seconds * 0.1 * random.random()
        if failure.retry_after is not None:
            seconds = failure.retry_after
        seconds = min(seconds, policy.cap, policy.total - self.waited)
        self.waited += seconds
        return seconds


def persist(
    action: Callable[[], _T],
    guard: Guard,
    policy: Policy,
    notify: Callable[[int], None] | None = None,
) -> _T:
    """Call ``action`` until it does not raise Transient.

    Args:
        notify: told each second how many seconds remain to the next try.

    Raises:
        RegistryError: the last failure, when patience is over.
        Cancelled: by the guard.
    """
    backoff = Backoff(policy)
    while True:
        try:
            return action()
        except Transient as failure:
            pause(guard, backoff.delay(failure), notify)


def pause(guard: Guard, seconds: float, notify: Callable[[int], None] | None = None) -> None:
    """Wait, counting down."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if notify is not None:
            notify(max(1, round(left)))
        guard.wait(min(1.0, left))


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 section 10.2.3); None when absent or unusable.

    A date in the past is as good as none.
    """
    if value is None or len(value) > 64:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def describe(error: BaseException) -> str:
    """A short reason for a failed connection, without addresses of objects and nested text."""
    number = getattr(error, "errno", None)
    reason = getattr(error, "reason", None)  # of ssl.SSLError, whose errno is no errno
    if isinstance(reason, str):
        return clean("TLS: " + reason.replace("_", " ").lower())
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return clean(str(error)).rstrip(".") or type(error).__name__
