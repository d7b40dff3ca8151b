"""Commands on several objects: each is tried, what failed is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import FastboxError
from . import output
from .errors import message_of

_PARALLEL = 50


def each(
    names: Sequence[str],
    act: Callable[[str], str | None],
    *,
    parallel: bool = False,
) -> int:
    """Do something to every name and print, in their order, what it gives back.

    Args:
        act: gives the line to print, None for none.
        parallel: at the same time (``stop`` waits up to ten seconds for each, and much of what
            ``rm`` does is waiting for the kernel).

    Returns:
        The exit status: 1 if anything failed.
    """
    errors: list[FastboxError] = []
    for outcome in _outcomes(names, act, parallel and len(names) > 1):
        try:
            text = outcome()
        except FastboxError as error:
            errors.append(error)
            continue
        if text is not None:
            output.line(text)
    for failure in errors:
        output.error(message_of(failure))
    return 1 if errors else 0


def _outcomes(
    names: Sequence[str], act: Callable[[str], str | None], parallel: bool
) -> list[Callable[[], str | None]]:
    if not parallel:
        return [_later(act, name) for name in names]
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(min(len(names), _PARALLEL)) as pool:
        futures = [pool.submit(act, name) for name in names]
        try:
            wait(futures)
        except BaseException:  # interrupted: what has begun is finished, the rest is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result for future in futures]


def _later(act: Callable[[str], str | None], name: str) -> Callable[[], str | None]:
    return lambda: act(name)
