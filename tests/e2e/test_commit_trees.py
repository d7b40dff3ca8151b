"""Any tree that a container can have written: committed, pushed to a real registry, pulled, saved
and loaded elsewhere, with either graph driver, it is the same tree."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fastbox import ContainerConfig, Engine
from fastbox._core.pack import pack
from fastbox._core.tree import remove_tree
from fastbox.container.commit import commit
from fastbox.errors import NotFound
from fastbox.oci import image as oci
from tests.core.pack_trees import make_tree, trees
from tests.support.registry import Registry
from tests.support.whole import check_whole

PLACES = {"dev", "etc", "proc", "sys", ".dockerenv"}  # the engine's own, see container/init_layer
FOLDERS = ("", "a", "b", "b/c")  # of the base image; names that trees have, too
FILES = ("f", "a/f", "a/b", "b/c/f", "b/c/x", "b/linked")

deeds = st.lists(
    st.tuples(
        st.sampled_from([*FOLDERS[1:], *FOLDERS[1:], *FILES]),
        st.sampled_from(
            [
                "delete",
                "delete",
                "folder",
                "folder",
                "file",
                "write",
                "mode",
                "link",
                "rename",
                "attribute",
            ]
        ),
    ),
    max_size=4,
)
rounds = st.lists(st.tuples(deeds, st.sampled_from(FOLDERS), trees), min_size=1, max_size=3)


class Place:
    """A store of a driver's."""

    def __init__(self, root: str, driver: str) -> None:
        os.mkdir(root, 0o700)
        with open(f"{root}/driver", "w") as file:
            file.write(f"{driver}\n")
        self.engine = Engine(root, f"{root}.run")

    def box(self, image: str, name: str) -> None:
        self.engine.create(ContainerConfig(image=image, name=name, command=["x"], network="none"))

    @contextlib.contextmanager
    def files(self, name: str, *, write: bool = False) -> Iterator[str]:
        """The root of a container, as a path."""
        container_id = self.engine.container(name).id
        with self.engine._lifecycle.view(container_id, write=write, mounts=False) as view:
            yield f"/proc/self/fd/{view.root}"

    def tree(self, name: str) -> dict[str, tuple[object, ...]]:
        with self.files(name) as path:
            return listing(path)

    def tree_of_image(self, image: str) -> dict[str, tuple[object, ...]]:
        self.box(image, "look")
        try:
            assert self.engine.changes("look") == []
            return self.tree("look")
        finally:
            self.engine.remove("look")

    def empty(self) -> None:
        for box in self.engine.containers(all=True):
            self.engine.remove(box.id)
        for image in self.engine.images():
            if "docker.io/library/base:latest" not in image.names:
                with contextlib.suppress(NotFound):  # it has gone with its child
                    self.engine.remove_image(image.id, force=True)


def listing(root: str) -> dict[str, tuple[object, ...]]:
    """What there is below a directory: all that a layer can tell of it."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[tuple[int, int], str] = {}

    def look(full: str, name: str) -> None:
        # (The root itself is a descriptor's link.)
        info = os.lstat(full) if name else os.stat(full)
        is_dir, content = stat.S_ISDIR(info.st_mode), b""
        if stat.S_ISREG(info.st_mode):
            with open(full, "rb") as file:
                content = hashlib.sha256(file.read()).digest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.fsencode(os.readlink(full))
        follow = not name
        marks = {
            mark: os.getxattr(full, mark, follow_symlinks=follow)
            for mark in os.listxattr(full, follow_symlinks=follow)
            if not mark.startswith("security.selinux")
        }
        found[name] = (
            oct(info.st_mode), info.st_uid, info.st_gid, info.st_rdev, info.st_mtime_ns,
            0 if is_dir else info.st_size, sorted(marks.items()), content,
            None if is_dir else first.setdefault((info.st_dev, info.st_ino), name),
        )  # fmt: skip
        for child in sorted(os.listdir(full)) if is_dir else ():
            if name or child not in PLACES:
                look(f"{full}/{child}", f"{name}/{child}")

    look(root, "")
    return found


def make_base(path: str) -> None:
    """The tree of the base image."""
    for folder in FOLDERS:
        os.makedirs(f"{path}/{folder}", exist_ok=True)
    for number, name in enumerate(FILES[:-1]):
        with open(f"{path}/{name}", "w") as file:
            file.write(name * 100)
        os.chmod(f"{path}/{name}", 0o640 + number)
        os.setxattr(f"{path}/{name}", "user.base", name.encode())
    os.link(f"{path}/f", f"{path}/b/linked")
    for folder in FOLDERS:
        os.utime(f"{path}/{folder}", ns=(0, 123456789123456789))


def change(root: str, wanted: list[tuple[str, str]]) -> None:
    """Do to the files of an image what programs do."""
    for name, deed in wanted:
        path = f"{root}/{name}"
        if not os.path.isdir(os.path.dirname(path)):
            continue
        if not os.path.lexists(path):
            if deed == "folder":
                os.mkdir(path)
            continue
        is_dir = stat.S_ISDIR(os.lstat(path).st_mode)
        if deed in ("delete", "folder", "file"):
            remove_tree(path)
            if deed == "folder":
                os.makedirs(f"{path}/c")
            elif deed == "file":
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        elif deed == "mode":
            os.chmod(path, 0o4711)
        elif deed == "attribute" and (is_dir or os.path.isfile(path)):
            os.setxattr(path, "user.base", b"changed")
        elif deed == "write" and os.path.isfile(path):
            with open(path, "ab") as file:
                file.write(b"more")
        elif deed == "link" and not is_dir and not os.path.lexists(f"{path}-link"):
            os.link(path, f"{path}-link", follow_symlinks=False)
        elif deed == "rename" and not is_dir and not os.path.lexists(f"{path}-moved"):
            os.rename(path, f"{path}-moved")


@pytest.fixture
def places(base: str) -> Iterator[dict[str, Place]]:
    made = {
        "overlay": Place(f"{base}/overlay", "overlay"),
        "copy": Place(f"{base}/copy", "copy"),
        "pulled": Place(f"{base}/pulled", "overlay"),
    }
    tree = f"{base}/tree"
    os.mkdir(tree)
    make_base(tree)
    with open(f"{base}/base.tar", "wb") as file:
        pack(tree, file.fileno(), whiteouts="none")
    for place in made.values():
        place.engine.import_image(f"{base}/base.tar", "base")
    yield made
    for place in made.values():
        place.empty()


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(
    max_examples=20,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
)
@given(
    plan=rounds,
    driver=st.sampled_from(["overlay", "overlay", "copy"]),
    most=st.sampled_from([2, oci.MAX_LAYERS]),
)
@example(plan=[([("b", "delete")], "", []), ([("b", "folder")], "", [])], driver="overlay", most=2)
@example(plan=[([("b", "folder")], "b", []), ([("f", "link")], "", [])], driver="copy", most=2)
def test_any_tree(
    places: dict[str, Place],
    registry: Registry,
    session_base: str,
    plan: list[tuple[list[tuple[str, str]], str, list[Any]]],
    driver: str,
    most: int,
) -> None:
    """
    Args:
        most: layers that an image may have; with 2, a commit puts all that was changed into one.
    """
    source = places[driver]
    name = f"{registry.host}/trees/any:1"
    try:
        source.box("base", "web")
        image_of: Callable[[], object] = lambda: commit(  # noqa: E731
            source.engine._lifecycle, source.engine._images,
            source.engine.container("web").id, name,
        )  # fmt: skip
        for wanted, folder, tree in plan:
            with source.files("web", write=True) as path:
                change(path, wanted)
                target = f"{path}/{folder}"
                if not os.path.islink(target.rstrip("/")) and os.path.isdir(target):
                    make_tree(target, tree)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(oci, "MAX_LAYERS", most)
                image_of()
        assert len(source.engine.image(name).layers) <= min(most, len(plan) + 1)
        wanted_tree = source.tree("web")
        assert source.tree_of_image(name) == wanted_tree
        source.engine.push(name)
        assert source.tree_of_image(name) == wanted_tree
        places["pulled"].engine.pull(name)
        assert places["pulled"].tree_of_image(name) == wanted_tree
        with tempfile.TemporaryFile(dir=session_base) as archive:
            source.engine.save([name], archive.fileno())
            archive.seek(0)
            other = places["copy" if driver == "overlay" else "overlay"]
            other.engine.load(archive)
        assert other.tree_of_image(name) == wanted_tree
        check_whole(source.engine.root)
    finally:
        for place in places.values():
            place.empty()
