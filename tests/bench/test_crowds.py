"""Starts per second: many.c for commands, threads for functions."""

from __future__ import annotations

import threading

import pytest

from bench.commands import CommandFailed
from bench.crowds import rate_of_call, rate_of_command


def test_copies_of_a_command_are_counted(tmp_path: object) -> None:
    argv = ["sh", "-c", f"echo x >> {tmp_path}/log"]
    rate = rate_of_command(argv, 3, 0.05)
    with open(f"{tmp_path}/log") as file:
        assert len(file.readlines()) == rate.count >= 3
    assert rate.seconds >= 0.05


def test_each_copy_has_a_number_and_a_slot(tmp_path: object) -> None:
    argv = ["sh", "-c", 'echo "$1 $2" >> ' + f"{tmp_path}/log", "sh", "a{}", "b{s}b"]
    rate = rate_of_command(argv, 2, 0.03)
    with open(f"{tmp_path}/log") as file:
        numbers, slots = zip(*(line.split() for line in file), strict=True)
    assert sorted(numbers) == sorted(f"a{number}" for number in range(rate.count))
    assert set(slots) == {"b0b", "b1b"}


def test_a_copy_that_fails_ends_it() -> None:
    with pytest.raises(CommandFailed, match="ended with status 3"):
        rate_of_command(["sh", "-c", "exit 3"], 2, 10)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="No such file"):
        rate_of_command(["/no/such/program"], 2, 10)


def test_calls_are_counted() -> None:
    lock, calls = threading.Lock(), []

    def call() -> None:
        with lock:
            calls.append(1)

    rate = rate_of_call(call, 4, 0.01)
    assert rate.count == len(calls) >= 4


def test_a_call_that_fails_ends_it() -> None:
    def call() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        rate_of_call(call, 2, 10)
