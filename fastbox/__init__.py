"""fastbox: a container engine as a library.

    >>> import fastbox
    >>> result = fastbox.run("redis", ["redis-cli", "--version"])
    >>> result.returncode, result.stdout

``Engine`` has every verb, ``AsyncEngine`` the same as coroutines, ``run`` is the short way for a
command's output. Everything is imported when first used: ``import fastbox`` costs a millisecond.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # importing typing would take most of this module's time
if TYPE_CHECKING:
    from typing import Any

    from .aio import AsyncEngine as AsyncEngine
    from .container.config import ContainerConfig as ContainerConfig
    from .container.config import Device as Device
    from .container.config import Mount as Mount
    from .container.config import RestartPolicy as RestartPolicy
    from .container.config import Ulimit as Ulimit
    from .container.record import Container as Container
    from .container.record import Status as Status
    from .engine import Engine as Engine
    from .errors import FastboxError as FastboxError
    from .events.event import Event as Event
    from .image.types import Image as Image
    from .image.types import Volume as Volume
    from .pool import Pool as Pool
    from .pool import PoolStats as PoolStats
    from .runner import Result as Result
    from .runner import run as run
    from .tracing import Trace as Trace

_PLACES = {
    "AsyncEngine": "aio",
    "Container": "container.record",
    "ContainerConfig": "container.config",
    "Device": "container.config",
    "Engine": "engine",
    "Event": "events.event",
    "FastboxError": "errors",
    "Image": "image.types",
    "Mount": "container.config",
    "Pool": "pool",
    "PoolStats": "pool",
    "RestartPolicy": "container.config",
    "Result": "runner",
    "Status": "container.record",
    "Trace": "tracing",
    "Ulimit": "container.config",
    "Volume": "image.types",
    "run": "runner",
}

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'fastbox' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{place}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
