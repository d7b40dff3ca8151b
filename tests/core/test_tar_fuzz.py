"""Damaged archives: an error or a tree, the same on both ways, never a crash and never outside."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastbox._core.tree import remove_tree
from fastbox.errors import FastboxError
from tests.core.tar_archives import Tar, extract, tree
from tests.core.tar_mutants import mutant

LIMITS = {"max_bytes": 4 << 20, "max_entries": 200}


def comparable(result: tuple[object, object]) -> tuple[object, object]:
    """What does not depend on which thread met its error first: the source's are met while the
    writer is somewhere before."""
    error, found = result
    if error is None or not re.search("gzip|zstd|more than is allowed$", str(error)):
        return error, found
    return True, None


def agree(data: bytes, dest: str) -> bool:
    """Unpack both ways, insist on one outcome, say whether it was a tree."""
    one, two = outcome(data, dest, True), outcome(data, dest, False)
    assert (one[0] is None) == (two[0] is None)
    if data[:2] != b"\x1f\x8b" or one[0] is None:
        assert comparable(one) == comparable(two)
    return one[0] is None


def outcome(data: bytes, dest: str, openat2: bool) -> tuple[object, object]:
    os.mkdir(dest)
    error = None
    try:
        extract(data, dest, openat2=openat2, **LIMITS)
    except FastboxError as e:
        error = str(e)
    # Directories whose time the archive did not set have the present one.
    found = tree(dest, times=False)
    remove_tree(dest)
    return error, found


@pytest.mark.parametrize("first", range(0, 600, 50))
def test_mutants(base: str, first: int) -> None:
    outside = os.path.join(base, "outside")
    os.mkdir(outside)
    os.mkdir(os.path.join(outside, "x"))
    before = tree(outside)
    ended = {True: 0, False: 0}
    for seed in range(first, first + 50):
        data = mutant(seed, outside)
        good = agree(data, os.path.join(base, "one"))
        assert tree(outside) == before, seed
        assert os.listdir(base) == ["outside"], seed
        ended[good] += 1
    assert ended[True] and ended[False], "mutants are to be both good and bad"


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(max_size=3000),
    start=st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"]),
)
def test_noise(base: str, data: bytes, start: bytes) -> None:
    error, found = outcome(start + data, os.path.join(base, "noise"), True)
    assert error is not None or found is not None


names = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", ".wh.a", "l", "m"]), min_size=1, max_size=5
).map("/".join)
entries = st.lists(
    st.tuples(st.sampled_from("0125"), names, names, st.integers(0, 700)), min_size=1, max_size=12
)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(entries=entries)
def test_any_order_of_names_and_links(base: str, entries: list[tuple[str, str, str, int]]) -> None:
    """All ways of naming, linking and replacing few names: both ways of resolving agree."""
    archive = Tar()
    for type, name, link, size in entries:
        archive.entry(name, type, b"d" * size if type == "0" else b"", link=link or "a")
    agree(archive.bytes(), os.path.join(base, "tree"))
    assert os.listdir(base) == []
