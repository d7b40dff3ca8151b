"""Layers of boxes that other boxes are made of, and who keeps them.

A snapshot takes the upper directory of a box that is down, as a commit does, and no image is made
of it. What keeps its layer from being collected as garbage is a *hold*: ROOT/snapshots/NAME, which
names the process that has the snapshot, and the layers. The hold of a process that is dead goes,
with the layer, when a command next lists the containers and none of them has it. One that is given
up is renamed (``NAME.gone``) until its layers are deleted: whoever is killed meanwhile has not
forgotten them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from .. import atomic
from ..errors import Unsupported
from ..image.layers import LayerInfo, boot_id, layer_name
from ..oci import image as oci
from . import commit, graph, layered, process
from .store import storing

if TYPE_CHECKING:
    from ..image.store import ImageStore
    from .lifecycle import Lifecycle
    from .record import Container, ContainerRecord

DIRECTORY = "snapshots"
GONE = ".gone"
# What mount(2) takes in one page, with the init layer and the upper directory.
MAX_LAYERS = oci.MAX_LAYERS - 2


class _Hold(msgspec.Struct):
    """One hold.

    Attributes:
        owner: pid and start time. own: the layers that no image has.
    """

    owner: tuple[int, int]
    own: list[str]
    layers: list[str]


_decoder: msgspec.json.Decoder[_Hold] = msgspec.json.Decoder(_Hold)


def hold(root: str, name: str, own: Sequence[str], layers: Sequence[str]) -> None:
    """Keep layers as long as this process lives, or until ``let_go``.

    Raises:
        OSError
    """
    data = _Hold(owner=process.own(), own=list(own), layers=[*own, *layers])
    os.makedirs(f"{root}/{DIRECTORY}", mode=0o700, exist_ok=True)
    atomic.write(f"{root}/{DIRECTORY}/{name}", msgspec.json.encode(data), sync=False)


def let_go(root: str, name: str) -> None:
    """Take a hold away."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{root}/{DIRECTORY}/{name}")


def give_up(root: str, names: Sequence[str], release: Callable[[list[str]], object]) -> None:
    """Take the holds of layers away, and delete the layers.

    Args:
        release: deletes those that nothing needs.
    """
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{root}/{DIRECTORY}/{name}", f"{root}/{DIRECTORY}/{name}{GONE}")
    release(list(names))
    for name in names:
        let_go(root, f"{name}{GONE}")


def _holds(root: str) -> dict[str, _Hold]:
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"{root}/{DIRECTORY}"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                with open(f"{root}/{DIRECTORY}/{name}", "rb") as file:
                    found[name] = _decoder.decode(file.read())
    return found


def held(root: str) -> set[str]:
    """Names of all layers that somebody holds."""
    holds = _holds(root).items()
    return {layer for name, one in holds if not name.endswith(GONE) for layer in one.layers}


def sweep(root: str, used: Iterable[str], release: Callable[[list[str]], object]) -> None:
    """Take away the holds of dead processes, and delete their layers.

    Args:
        used: layers of containers: who is still being removed keeps them for now.
        release: deletes layers that nothing needs.
    """
    if not os.path.isdir(f"{root}/{DIRECTORY}"):
        return
    in_use = set(used)
    for name, one in _holds(root).items():
        if process.is_alive(*one.owner) or in_use.intersection(one.own):
            continue
        kept = f"{root}/{DIRECTORY}/{name}"
        if not name.endswith(GONE):
            with contextlib.suppress(FileNotFoundError):  # another sweep
                os.rename(kept, f"{kept}{GONE}")
        if one.own:
            release(one.own)
        let_go(root, name.removesuffix(GONE) + GONE)


# ---- taking one ------------------------------------------------------------------------------


def check(record: ContainerRecord) -> None:
    """Raises Unsupported: boxes of this store have no layers."""
    if not graph.of(record).layers_are_upper:
        raise Unsupported(
            f"the storage driver {record.driver} cannot take snapshots",
            hint="overlay can: see `fastbox info` for why it is not used here",
        )


def is_unchanged(container: Container) -> bool:
    """Whether nothing was written since it was made, or since its last snapshot."""
    return not os.listdir(f"{container.directory}/upper")


def take(lifecycle: Lifecycle, images: ImageStore, container: Container) -> list[str]:
    """Make a layer of what a container that is down has written; the names of its own layers, top
    first. In constant time, unless it has as many layers as there can be: then its own become one.

    Raises:
        FastboxError
    """
    record = container.record
    with storing(f"taking a snapshot of {record.name}"):
        with lifecycle.store.locked(record.id):
            base = layered.image_layers(record)
            if len(record.layers) >= MAX_LAYERS:
                name = _merged(lifecycle, images, container)
                own = [name]
            else:
                name = _announced(images)
                own = [name, *record.committed]
                hold(lifecycle.root, name, own, base)
            _swap(lifecycle, container, name, own, base)
    return own


def copy(lifecycle: Lifecycle, images: ImageStore, container: Container) -> list[str]:
    """Make a layer of a copy of what a container that is up has written, paused meanwhile; the
    names of the layers of the copy, top first."""
    record = container.record
    with storing(f"taking a snapshot of {record.name}"):
        with lifecycle.store.locked(record.id):
            container = lifecycle.store.load(record.id)
            full = len(record.layers) >= MAX_LAYERS
            with lifecycle.frozen(container):
                if full:
                    name = _merged(lifecycle, images, container)
                else:
                    upper = f"{container.directory}/upper"
                    name = _copied(lifecycle, images, record, [upper], record.committed)
            own = [name] if full else [name, *record.committed]
    return own


def _announced(images: ImageStore) -> str:
    """The name of a layer that is about to appear; its metadata are those of a commit's."""
    diff_id = f"sha256:{os.urandom(32).hex()}"
    name = layer_name(diff_id)
    info = LayerInfo(diff_id=diff_id, size=-1, entries=0, boot=boot_id(), pending=True)
    images.layers.write(name, info)
    return name


def _merged(lifecycle: Lifecycle, images: ImageStore, container: Container) -> str:
    record = container.record
    base = layered.image_layers(record)
    if len(base) + 1 > MAX_LAYERS:
        raise Unsupported(
            f"a snapshot of {record.name} would have more than {MAX_LAYERS} layers",
            hint=f"its image has {len(base)}: `fastbox export` and `import` make it one",
        )
    directories = layered.writable(container.directory, record, lifecycle.layers_dir)
    return _copied(lifecycle, images, record, directories, [])


def _copied(
    lifecycle: Lifecycle,
    images: ImageStore,
    record: ContainerRecord,
    directories: Sequence[str],
    below: Sequence[str],
) -> str:
    """A layer with a hold.

    Args:
        below: the box's own layers that it lies on.
    """
    staged, links = images.stage_layer(), images.stage_layer()
    try:
        commit.copy_uppers(directories, staged, links)
        name = _announced(images)
        hold(lifecycle.root, name, [name, *below], layered.image_layers(record))
        os.rename(staged, f"{lifecycle.layers_dir}/{name}")
        return name
    finally:
        images.discard_layer(staged)
        images.discard_layer(links)


def _swap(
    lifecycle: Lifecycle, container: Container, name: str, own: list[str], base: list[str]
) -> None:
    """The upper directory becomes the layer, unless that is there already, and an empty one like it
    takes its place. Should this process be killed in between, the box goes anyhow."""
    from .._core.tree import remove_tree

    directory, record = container.directory, container.record
    upper, layer = f"{directory}/upper", f"{lifecycle.layers_dir}/{name}"
    fresh = f"{directory}/upper.new"
    os.mkdir(fresh)
    commit.make_alike(upper, fresh)
    record.layers, record.committed = [*own, *base], own
    lifecycle.store.save_record(record, sync=False)
    if os.path.isdir(layer):
        os.rename(upper, f"{directory}/upper.old")
        os.rename(fresh, upper)
        remove_tree(f"{directory}/upper.old")
    else:
        os.rename(upper, layer)
        os.rename(fresh, upper)
    # Where overlayfs keeps an index, that is of the one upper directory.
    remove_tree(f"{directory}/work/index")
