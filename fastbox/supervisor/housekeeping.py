"""What is done once an hour: what killed commands left behind is removed."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import FastboxError


def clean(root: str, runtime: str) -> list[str]:
    """Sweep the store. Each part takes its own locks, and leaves alone what somebody works on.

    Returns:
        A line for each part that failed.
    """
    from ..container.store import ContainerStore
    from ..image.store import ImageStore

    store = ContainerStore(root, runtime)
    parts: dict[str, Callable[[], object]] = {
        "containers": store.sweep,
        "images": ImageStore(root).cleanup,
    }
    problems = []
    for name, sweep in parts.items():
        try:
            sweep()
        except (FastboxError, OSError) as error:
            problems.append(f"sweeping {name} failed: {error}")
    return problems
