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
    from .pool_types import PoolStats as PoolStats
    from .runner import Result as Result
    from .runner import run as run
    from .sandbox.aio import AsyncSandbox as AsyncSandbox
    from .sandbox.aio import async_run_many as async_run_many
    from .sandbox.box import Sandbox as Sandbox
    from .sandbox.many import Job as Job
    from .sandbox.many import run_many as run_many
    from .sandbox.result import SandboxResult as SandboxResult
    from .sandbox.snapshot import Snapshot as Snapshot
    from .tracing import Trace as Trace

_PLACES = {
    "AsyncEngine": "aio",
    "AsyncSandbox": "sandbox.aio",
    "Container": "container.record",
    "ContainerConfig": "container.config",
    "Device": "container.config",
    "Engine": "engine",
    "Event": "events.event",
    "FastboxError": "errors",
    "Image": "image.types",
    "Job": "sandbox.many",
    "Mount": "container.config",
    "Pool": "pool",
    "PoolStats": "pool_types",
    "RestartPolicy": "container.config",
    "Result": "runner",
    "Sandbox": "sandbox.box",
    "SandboxResult": "sandbox.result",
    "Snapshot": "sandbox.snapshot",
    "Status": "container.record",
    "Trace": "tracing",
    "Ulimit": "container.config",
    "Volume": "image.types",
    "async_run_many": "sandbox.aio",
    "run": "runner",
    "run_many": "sandbox.many",
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
