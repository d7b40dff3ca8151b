"""Commands on several objects at the same time."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

import pytest

from fastbox.cli import several


def test_an_interrupt_leaves_the_rest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has begun is finished; of a thousand, the others are not begun."""
    begun: list[str] = []
    both, go_on = threading.Barrier(3), threading.Event()
    shut_down = concurrent.futures.ThreadPoolExecutor.shutdown

    def act(name: str) -> str:
        begun.append(name)
        both.wait()
        go_on.wait()
        return name

    def interrupt(futures: Any) -> None:
        both.wait()
        raise KeyboardInterrupt

    def shutdown(self: Any, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shut_down(self, wait=False, cancel_futures=cancel_futures)
        go_on.set()
        shut_down(self, wait=wait)

    monkeypatch.setattr(several, "_PARALLEL", 2)
    monkeypatch.setattr(concurrent.futures, "wait", interrupt)
    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "shutdown", shutdown)
    with pytest.raises(KeyboardInterrupt):
        several.each([str(number) for number in range(1000)], act, parallel=True)
    assert sorted(begun) == ["0", "1"]
