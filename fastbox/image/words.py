"""Words of Dockerfile instructions: splitting, quotes, and variables (``$A``, ``${A:-word}``)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import InvalidArgument

_MAX_DEPTH = 20  # of ${A:-${B:-…}}


def split_words(text: str) -> list[str]:
    """Split at blanks that are neither quoted nor escaped; quotes and escapes stay."""
    words: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if not quote and char.isspace():
            if word:
                words.append(word)
            word = ""
            continue
        if char == "\\" and quote != "'" and position < len(text):
            word += char + text[position]
            position += 1
            continue
        if not quote and char in "\"'":
            quote = char
        elif char == quote:
            quote = ""
        word += char
    if word:
        words.append(word)
    return words


def expand(text: str, env: Mapping[str, str]) -> str:
    """Remove quotes and escapes and replace variables, as Docker's shell lexer does.

    Raises:
        InvalidArgument: an unfinished ``${``, an unknown modifier.
    """
    return _Lexer(text, env, 0).run()


class _Lexer:
    def __init__(self, text: str, env: Mapping[str, str], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise InvalidArgument("variables are nested too deep")
        self.text = text
        self.env = env
        self.depth = depth
        self.position = 0

    def run(self) -> str:
        result = []
        quote = ""
        while self.position < len(self.text):
            char = self._next()
            if quote == "'":
                if char == "'":
                    quote = ""
                else:
                    result.append(char)
            elif char == "\\":
                result.append(self._escaped(quote))
            elif char == "$":
                result.append(self._variable())
            elif char == '"':
                quote = "" if quote else '"'
            elif char == "'" and not quote:
                quote = "'"
            else:
                result.append(char)
        if quote:
            raise InvalidArgument("unexpected end of statement while looking for matching quote")
        return "".join(result)

    def _next(self) -> str:
        char = self.text[self.position]
        self.position += 1
        return char

    def _escaped(self, quote: str) -> str:
        if self.position == len(self.text):
            return "\\"
        char = self._next()
        if quote and char not in '"$\\':
            return "\\" + char
        return char

    def _variable(self) -> str:
        match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]").match(self.text, self.position)
        if match is not None:
            self.position = match.end()
            return self.env.get(match.group(), "")
        if self.text[self.position : self.position + 1] != "{":
            return "$"
        self.position += 1
        inner = self._braces()
        match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+").match(inner)
        if match is None:
            raise InvalidArgument(f"unsupported modifier in substitution: ${{{inner}}}")
        name, rest = match.group(), inner[match.end() :]
        value = self.env.get(name)
        if not rest:
            return value or ""
        modifier = re.match(r"(:?)([-+?])", rest)
        if modifier is None:
            raise InvalidArgument(f"unsupported modifier ({rest[:2]}) in substitution")
        present = bool(value) if modifier.group(1) else value is not None
        word = _Lexer(rest[modifier.end() :], self.env, self.depth + 1).run()
        if modifier.group(2) == "+":
            return word if present else ""
        if present:
            return value or ""
        if modifier.group(2) == "?":
            raise InvalidArgument(f"{name}: {word or 'is not allowed to be unset'}")
        return word

    def _braces(self) -> str:
        """The text up to the closing brace."""
        start = self.position
        depth = 1
        while self.position < len(self.text):
            char = self._next()
            if char == "\\" and self.position < len(self.text):
                self.position += 1
            elif char == "{":
                depth += 1
            elif char == "}":
                depth -= 1
                if depth == 0:
                    return self.text[start : self.position - 1]
        raise InvalidArgument("syntax error: missing '}'")
