"""Layers that commits make: directories with a made-up diff-id, until ``seal`` makes their archive.

Nobody waits until such a layer is on the disk. It carries the boot id (see ``layers``) until
``settle`` has synced it, in a process of its own. Should the machine lose its power before, the
image is refused, and a further commit of the container, which has the same files, mends it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..locks import lock
from ..oci import image as oci
from ..volume import tree
from .layers import LayerInfo, boot_id, layer_name, storing, sync_filesystem
from .naming import PENDING

if TYPE_CHECKING:
    from .layers import LayerStore


def announce(layers: LayerStore, history: oci.History) -> str:
    """Write the metadata of a layer that is about to appear; its name.

    Raises:
        StoreError
    """
    diff_id = f"sha256:{os.urandom(32).hex()}"
    name = layer_name(diff_id)
    info = LayerInfo(
        diff_id=diff_id, size=-1, entries=0, boot=boot_id(), pending=True, history=history
    )
    # On the disk: it is the only place that tells of the layer what is not in it.
    layers.write(name, info, sync=True)
    return name


def adopt(layers: LayerStore, name: str) -> LayerInfo:
    """Take a layer as it is, although the machine was restarted before it was known to be on the
    disk: it is what its container has. Its metadata.

    Raises:
        StoreError
    """
    info = layers.read(name)
    if info is None:  # lost with the power
        made_up = f"sha256:{name}{os.urandom(20).hex()}"
        info = LayerInfo(diff_id=made_up, size=-1, entries=0, boot=boot_id(), pending=True)
        layers.write(name, info, sync=True)
    elif info.pending and info.boot not in ("", boot_id()):
        info.boot, info.size = boot_id(), -1
        layers.write(name, info, sync=True)
    return info


def unsettled(layers: LayerStore) -> list[str]:
    """Names of the layers that ``settle`` is to be called for."""
    found = []
    for name in layers.names():
        with contextlib.suppress(StoreError):  # damaged metadata are no reason to leave the others
            if _is_unsettled(layers, name):
                found.append(name)
    return found


def _is_unsettled(layers: LayerStore, name: str) -> bool:
    """Whether a layer was made in this life of the machine and is not known to be on the disk, or
    was not measured."""
    info = layers.read(name)
    if info is None or not info.pending:
        return False
    return info.boot == boot_id() or (info.size < 0 and not info.boot)


def settle(layers: LayerStore, names: list[str], *, locked: bool = False) -> None:
    """See that layers survive a power failure, and measure them.

    Args:
        locked: the caller holds their locks.

    Raises:
        StoreError: the disk fails, or metadata are damaged.
    """
    if not any(_is_unsettled(layers, name) for name in names):
        return
    with storing("sync", layers.directory):
        sync_filesystem(layers.directory)
    for name in names:
        held: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if not locked:
            held = lock(os.path.join(layers.directory, name))
        with contextlib.suppress(FileNotFoundError), held:  # removed meanwhile
            _note_settled(layers, name)


def _note_settled(layers: LayerStore, name: str) -> None:
    """Write down of a layer, whose lock the caller holds, that it was synced, and its size."""
    info = layers.read(name)
    if info is None or not info.pending or info.boot not in ("", boot_id()):
        return
    if info.boot or info.size < 0:
        with storing("measure the layer", layers.directory):
            info.size, info.entries = tree.measure(os.path.join(layers.directory, name))
        info.boot = ""
        layers.write(name, info, sync=True)


def descriptor(info: LayerInfo) -> oci.Descriptor:
    """What stands in a manifest for a layer without a blob."""
    return oci.Descriptor(
        media_type=oci.OCI_LAYER,
        digest=info.diff_id,
        size=0,
        annotations={PENDING: "1"},
    )
