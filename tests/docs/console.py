"""Console blocks of the documentation, and a shell in which they are run.

A block is fenced by ```` ```console ````. A line that begins with ``$`` is typed into one shell
that lasts through all blocks; lines with ``>`` continue it; lines with ``#`` are typed into the
program that it started, at its prompt, on a terminal. All others are what is printed: ``…`` stands
for anything, alone on a line for any number of lines.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.command import Command
from tests.support.keyboard import Keyboard

_LEAVE = "^P^Q"
_END = "~end-of-command~"
_ESCAPES = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


class Step(NamedTuple):
    """A command of a block.

    Attributes:
        command: for the shell.
        typed: (line, what it prints) for a program on a terminal.
        expected: what is printed otherwise.
    """

    where: str
    command: str
    typed: list[tuple[str, list[str]]]
    expected: list[str]


def steps(path: str) -> Iterator[Step]:
    """The commands of a page, in their order."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    inside, step = False, None
    for number, line in enumerate(lines, 1):
        if not inside:
            inside = line == "```console"
            continue
        if line == "```":
            inside = False
            if step is not None:
                yield step
            step = None
        elif line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(f"{os.path.basename(path)}:{number}", line[2:], [], [])
        else:
            assert step is not None, f"{path}:{number}: a block begins with a command"
            _add(step, line)


def _add(step: Step, line: str) -> None:
    if line.startswith("# "):
        step.typed.append((line[2:], []))
    elif step.typed:
        step.typed[-1][1].append(line)
    elif line.startswith("> "):
        step.expected.append(line)  # joined by ``script``
    else:
        step.expected.append(line)


def script(step: Step) -> tuple[str, list[str]]:
    """The command with its continuation lines, and what it should print."""
    more = [line[2:] for line in step.expected if line.startswith("> ")]
    rest = [line for line in step.expected if not line.startswith("> ")]
    return "\n".join([step.command, *more]), rest


def fits(printed: str, expected: list[str]) -> bool:
    """Whether a text is what the page says, blanks between columns aside."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in printed.splitlines()]
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            words = re.sub(r"\s+", " ", line).strip().split("…")
            pattern += "[^\n]*".join(re.escape(word.strip()) for word in words) + r"\s?\n"
    text = "".join(f"{line}\n" for line in lines)
    return re.fullmatch(pattern, text) is not None


class Shell:
    """One bash that runs the blocks.

    Args:
        argv: what comes before ``bash`` (entering namespaces).
    """

    def __init__(self, argv: list[str], directory: str, env: dict[str, str]) -> None:
        self._argv = argv
        self._env = env
        self._directory = directory
        self._process = subprocess.Popen(
            [*argv, "bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=env,
        )

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, step: Step) -> None:
        """Do what a step says and compare.

        Raises:
            AssertionError: something else is printed, or the command fails although the page shows
                no error.
        """
        if step.typed:
            self._interact(step)
            return
        command, expected = script(step)
        status, printed = self._execute(command)
        assert fits(printed, expected), (
            f"{step.where}: $ {command}\nprints:\n{printed}\ninstead of:\n" + "\n".join(expected)
        )
        shows_error = not expected or any(word in printed for word in ("rror", ": ", "not found"))
        assert status == 0 or (expected and shows_error), f"{step.where}: exit status {status}"

    def _execute(self, command: str) -> tuple[int, str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        text = f"{{ {command}\n}} </dev/null\nprintf '%s %d\\n' '{_END}' $?\n"
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            head, mark, tail = line.decode(errors="replace").partition(_END)
            printed += head
            if mark:
                return int(tail), printed
        raise AssertionError(f"the shell ended in: {command}\n{printed}")

    def _interact(self, step: Step) -> None:
        words = Command([*self._argv, "sh", "-c", f"cd {self._directory} && {step.command}"], "/")
        words.env = self._env
        with Keyboard(words, columns=200) as keyboard:
            keyboard.see("# ", timeout=60)
            for line, expected in step.typed:
                if line == _LEAVE:
                    keyboard.type(b"\x10\x11")
                    break
                if line == "exit":
                    keyboard.type("exit\r")
                    break
                printed = _ESCAPES.sub("", keyboard.command(line)).replace("\r", "")
                assert fits(printed, expected), f"{step.where}: # {line}\nprints:\n{printed}"
            keyboard.wait()
