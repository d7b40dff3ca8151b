"""bench/memory.py's readings."""

from __future__ import annotations

import os

from bench.memory import keepers, proportional, pss, tree_bytes

ROLLUP = """55d0-7ffe ---p 00000000 00:00 0                          [rollup]
Rss:                1836 kB
Pss:                 412 kB
Pss_Dirty:           204 kB
"""


def test_the_proportional_size() -> None:
    assert proportional(ROLLUP) == 412


def test_a_zombie_has_none() -> None:
    assert proportional("") == 0


def test_this_process_takes_megabytes() -> None:
    assert pss(os.getpid()) > 1024


def test_who_names_nothing_keeps_nothing() -> None:
    assert keepers(["0123456789abcdef-of-no-container"]) == set()


def test_a_tree_on_disk(tmp_path: object) -> None:
    os.mkdir(f"{tmp_path}/below")
    with open(f"{tmp_path}/below/file", "wb") as file:
        file.write(bytes(100_000))
        os.fsync(file.fileno())
    assert 100_000 <= tree_bytes(str(tmp_path)) < 200_000
