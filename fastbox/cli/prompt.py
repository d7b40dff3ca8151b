"""Questions to the user: ``Are you sure you want to continue? [y/N]``, names and passwords."""

from __future__ import annotations

import sys

from . import output


def confirm(warning: str) -> bool:
    """Ask on standard output, read the answer from standard input; only ``y`` means yes."""
    output.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    try:
        answer = sys.stdin.readline() if sys.stdin is not None else ""
    except KeyboardInterrupt:
        output.write("\n")  # the shell's prompt begins a line
        raise
    return answer.strip().lower() == "y"


def ask(question: str) -> str:
    """A line from standard input, without its end; empty at the end of input."""
    output.write(question)
    return sys.stdin.readline().rstrip("\r\n")


def ask_secret(question: str) -> str:
    """The same, from a terminal that does not show what is typed."""
    import signal
    import termios

    def hide(*_: object) -> None:
        termios.tcsetattr(0, termios.TCSAFLUSH, silent)

    before = termios.tcgetattr(0)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    # Ctrl-Z gives the terminal to the shell, which lets it show everything again.
    known = signal.signal(signal.SIGCONT, hide)
    try:
        # What was typed ahead was shown; it is no password. What comes after the question is one.
        hide()
        output.write(question)
        return sys.stdin.readline().rstrip("\r\n")
    finally:
        signal.signal(signal.SIGCONT, known)
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        output.write("\n")
