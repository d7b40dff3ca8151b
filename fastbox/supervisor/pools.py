"""The pools of the configuration: kept by the supervisor, taken from by whoever starts a container
(see ``container.pool_client``)."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from .. import __version__, configuration
from ..container import pool_client
from ..container.pool_prepare import Prepared
from ..container.pool_take import Dead
from ..errors import FastboxError
from ..pool import Pool
from ..pool_settings import PoolSetting
from ..sockets import bound, end_listening, is_neighbour

if TYPE_CHECKING:
    from ..engine import Engine

LOOK = 5.0  # seconds between looks at the configuration, and tries of what failed
PATIENCE = 0.2  # seconds that a client has to ask
MAX_REQUEST = 65536  # bytes


class _Kept(msgspec.Struct):
    """A pool of the configuration; None: it could not be made, for this reason."""

    setting: PoolSetting
    pool: Pool | None = None
    error: str = ""


class Pools:
    """All of them, with two threads: one makes them and looks at the configuration, one serves.

    Args:
        engine: of the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._kept: list[_Kept] = []
        self._end = threading.Event()
        self._note: Callable[[str], None] = print
        self._problem = ""
        self._listener: socket.socket | None = None
        self._keeper = threading.Thread(target=self._keep, name="fastbox-pools", daemon=True)

    def start(self, note: Callable[[str], None]) -> None:
        """Begin; ``note`` is told what goes wrong."""
        self._note = note
        with contextlib.suppress(FileNotFoundError):  # of one that was killed
            os.unlink(self._path)
        self._keeper.start()

    def close(self) -> None:
        """Throw away what is prepared."""
        self._end.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._stop_listening()
        for kept in self._kept:
            if kept.pool is not None:
                kept.pool.close()

    @property
    def _path(self) -> str:
        return pool_client.socket_path(self._engine.runtime_dir)

    # the thread that keeps them -----------------------------------------------------------------
    def _keep(self) -> None:
        while not self._end.is_set():
            try:
                self._look()
            except Exception as error:  # nobody else would hear of it
                self._tell(f"keeping pools failed: {error}")
            self._end.wait(LOOK)

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            if problem:
                self._note(problem)

    def _look(self) -> None:
        try:
            settings = configuration.load().pool
        except FastboxError as error:
            self._tell(f"pools are as they were: {error}")
            return
        self._tell("")
        self._drop([kept for kept in self._kept if kept.setting not in settings])
        known = [kept.setting for kept in self._kept]
        with self._lock:
            self._kept += [_Kept(setting) for setting in settings if setting not in known]
        for kept in self._kept:
            if kept.pool is None and not self._end.is_set():
                self._make(kept)
        if any(kept.pool is not None for kept in self._kept):
            self._listen()
        else:
            self._stop_listening()

    def _drop(self, several: list[_Kept]) -> None:
        for kept in several:
            with self._lock:
                self._kept.remove(kept)
            if kept.pool is not None:
                kept.pool.close()

    def _make(self, kept: _Kept) -> None:
        setting = kept.setting
        try:
            kept.pool = Pool(
                self._engine,
                setting.image,
                setting.size,
                max_memory=setting.max_memory,
                pull="never",
                **setting.options,
            )
            kept.error = ""
        except FastboxError as error:
            if str(error) != kept.error:
                self._note(f"pool of {setting.image}: {error}")
            kept.error = str(error)

    # the thread that serves ---------------------------------------------------------------------
    def _listen(self) -> None:
        if self._listener is not None:
            return
        self._listener = listener = bound(self._path, socket.SOCK_SEQPACKET)
        listener.listen(64)
        threading.Thread(
            target=self._serve_for_ever, args=(listener,), name="fastbox-pool-socket", daemon=True
        ).start()

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listener, self._listener = self._listener, None
        end_listening(listener)  # wakes the thread

    def _serve_for_ever(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._serve(connection)
                except OSError:
                    pass  # the client's trouble
                except Exception as error:
                    self._tell(f"handing over a prepared container failed: {error!r}")

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        pid, allowed = pool_client.peer(connection)
        if not allowed or not is_neighbour(pid):
            return
        version, _, rest = connection.recv(MAX_REQUEST).partition(b"\n")
        said, _, key = rest.partition(b"\n")
        same = version == __version__.encode()
        if same and said == pool_client.circumstances(self._engine.root):
            for pool in self._pools_of(key):
                if pool.hand_over(lambda prepared: _send(connection, prepared)):
                    return
        connection.send(b"N")

    def _pools_of(self, key: bytes) -> list[Pool]:
        with self._lock:
            pools = [kept.pool for kept in self._kept if kept.pool is not None]
        return [pool for pool in pools if key and pool.key == key]

    # telling ------------------------------------------------------------------------------------
    @property
    def problem(self) -> str:
        """Why the configuration's pools are not kept as it says; "" if they are."""
        return self._problem

    def status(self) -> list[dict[str, Any]]:
        """``image``, ``options`` and ``size`` of each; ``error``, ``""`` if all is well; of one
        that was made ``ready``, ``taken``, ``missed`` and ``memory`` (bytes), see ``PoolStats``."""
        with self._lock:
            return [_status(kept) for kept in self._kept]


def _status(kept: _Kept) -> dict[str, Any]:
    setting = kept.setting
    found = {"image": setting.image, "options": setting.options, "size": setting.size}
    if kept.pool is None:
        return {**found, "error": kept.error or "being made"}
    stats = kept.pool.stats()
    return {
        **found,
        "error": stats.error or stats.short,
        "ready": stats.ready,
        "taken": stats.taken,
        "missed": stats.missed,
        "memory": stats.memory,
    }


def _send(connection: socket.socket, prepared: Prepared) -> None:
    from ..container.pool_prepare import is_dead

    if is_dead(prepared):
        raise Dead
    rights = array.array("i", [prepared.owner.fileno(), prepared.order.fileno()])
    text = pool_client.offer(prepared)
    if len(text) > pool_client.PACKET:  # labels of an image can be that long
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    connection.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
