"""Go templates, first step: text to tokens."""

from __future__ import annotations

from .gotext import quote_char

KEYWORDS = frozenset(
    (
        "break",
        "continue",
        "define",
        "else",
        "end",
        "if",
        "nil",
        "range",
        "template",
        "block",
        "with",
    )
)
_SPACES = " \t\r\n"
_TRIM_LEFT = frozenset(("- ", "-\t", "-\r", "-\n"))
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip


class SyntaxProblem(Exception):
    """A template that is not well formed; the text is Go's."""


def problem(position: int, source: str, message: str) -> SyntaxProblem:
    """``template: :LINE: message``."""
    line = source.count("\n", 0, position) + 1
    return SyntaxProblem(f"template: :{line}: {message}")


class Token:
    """A piece of a template.

    Attributes:
        kind: ``text``, ``left``, ``right``, ``space``, ``field`` (``.Name``), ``dot``,
            ``variable``, ``identifier``, ``keyword``, ``bool``, ``number``, ``string``, ``raw``,
            ``char``, ``declare`` (``:=``), ``assign``, ``pipe``, ``open``, ``close``, ``comma``,
            ``stray`` (a character that belongs nowhere), ``eof``.
    """

    __slots__ = ("kind", "position", "value")

    def __init__(self, kind: str, value: str, position: int) -> None:
        self.kind = kind
        self.value = value
        self.position = position

    def __str__(self) -> str:
        """As Go names it in error messages."""
        if self.kind == "eof":
            return "EOF"
        if self.kind in ("keyword", "dot"):
            return f"<{self.value}>"
        from .gotext import quote

        return quote(self.value[:10]) + ("..." if len(self.value) > 10 else "")


def tokens(source: str) -> list[Token]:
    """Split a template.

    Raises:
        SyntaxProblem: an action, comment or string that does not end, a stray character.
    """
    found: list[Token] = []
    position, trim = 0, False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        offset = position
        if trim:
            stripped = text.lstrip(_SPACES)
            offset += len(text) - len(stripped)
            text = stripped
        if start >= 0 and source[start + 2 : start + 4] in _TRIM_LEFT:
            text = text.rstrip(_SPACES)
        if text:
            found.append(Token("text", text, offset))
        if start < 0:
            found.append(Token("eof", "", len(source)))
            return found
        position, trim = _action(source, start, found)


def _action(source: str, start: int, found: list[Token]) -> tuple[int, bool]:
    """Tokens of one ``{{…}}``; where it ends and whether it trims what follows."""
    index = start + 2
    if source[index : index + 2] in _TRIM_LEFT:
        index += 2
    if source.startswith("/*", index):
        end = source.find("*/", index)
        if end < 0:
            raise problem(start, source, "unclosed comment")
        index = end + 2
        trim = source[index : index + 1] in tuple(_SPACES) and source[index + 1 :].startswith("-}}")
        if trim:
            index += 2
        if not source.startswith("}}", index):
            raise problem(start, source, "comment ends before closing delimiter")
        return index + 2, trim
    found.append(Token("left", "{{", start))
    depth = 0
    while True:
        if source.startswith("}}", index):
            if depth:
                raise problem(index, source, "unclosed left paren")
            found.append(Token("right", "}}", index))
            return index + 2, False
        if source[index : index + 1] in tuple(_SPACES) and source.startswith("-}}", index + 1):
            if depth:
                raise problem(index, source, "unclosed left paren")
            found.append(Token("right", "}}", index))
            return index + 4, True
        if index >= len(source):
            raise problem(start, source, "unclosed action")
        token, index = _token(source, index, start)
        depth += (token.kind == "open") - (token.kind == "close")
        if depth < 0:
            raise problem(token.position, source, "unexpected right paren")
        found.append(token)


def _token(source: str, index: int, start: int) -> tuple[Token, int]:
    char = source[index]
    if char in _SPACES:
        end = index
        # A space before a trim marker belongs to the marker.
        while (
            end < len(source) and source[end] in _SPACES and not source.startswith("-}}", end + 1)
        ):
            end += 1
        return Token("space", source[index : max(end, index + 1)], index), max(end, index + 1)
    if source.startswith(":=", index):
        return Token("declare", ":=", index), index + 2
    simple = {"=": "assign", "|": "pipe", "(": "open", ")": "close", ",": "comma"}.get(char)
    if simple:
        return Token(simple, char, index), index + 1
    if char in "\"'`":
        return _quoted(source, index, char)
    if char in "+-0123456789" or (char == "." and source[index + 1 : index + 2].isdigit()):
        return _number(source, index)
    if char == "." or char == "$":
        end = _word_end(source, index + 1)
        _check_terminator(source, end)
        if char == "$":
            return Token("variable", source[index:end], index), end
        return Token("field" if end > index + 1 else "dot", source[index:end], index), end
    if char.isalpha() or char == "_":
        end = _word_end(source, index)
        _check_terminator(source, end)
        word = source[index:end]
        kind = "keyword" if word in KEYWORDS else "identifier"
        return Token("bool" if word in ("true", "false") else kind, word, index), end
    if char == ":":
        raise problem(index, source, "expected :=")
    if char.isascii() and char.isprintable():
        return Token("stray", char, index), index + 1
    code = f"U+{ord(char):04X} {quote_char(char)}"
    raise problem(index, source, f"unrecognized character in action: {code}")


def _word_end(source: str, index: int) -> int:
    while index < len(source) and (source[index].isalnum() or source[index] == "_"):
        index += 1
    return index


def _check_terminator(source: str, index: int) -> None:
    """What may follow a name."""
    if index >= len(source):
        return
    char = source[index]
    if char in _SPACES or char in ".,|:)(=" or source.startswith("}}", index):
        return
    raise problem(index, source, f"bad character U+{ord(char):04X} {quote_char(char)}")


def _quoted(source: str, index: int, mark: str) -> tuple[Token, int]:
    kind = {'"': "string", "'": "char", "`": "raw"}[mark]
    end = index + 1
    while end < len(source) and source[end] != mark:
        if source[end] == "\\" and mark != "`":
            end += 1
        elif source[end] == "\n" and mark != "`":
            end = len(source)
        end += 1
    if end >= len(source):
        what = {"string": "quoted string", "char": "character constant", "raw": "raw quoted string"}
        raise problem(index, source, f"unterminated {what[kind]}")
    return Token(kind, source[index : end + 1], index), end + 1


def _number(source: str, index: int) -> tuple[Token, int]:
    end = index + 1
    while end < len(source) and (
        source[end].isalnum()
        or source[end] in "._"
        or (source[end] in "+-" and source[end - 1] in "eE" and not source.startswith("0x", index))
    ):
        end += 1
    return Token("number", source[index:end], index), end


def unquote(text: str) -> str:
    """The value of a quoted constant.

    Raises:
        ValueError: an escape that Go does not know.
    """
    body = text[1:-1]
    if text[0] == "`" or "\\" not in body:
        return body
    result: list[str] = []
    index = 0
    while index < len(body):
        if body[index] != "\\":
            result.append(body[index])
            index += 1
            continue
        letter = body[index + 1]
        lengths = {"x": 2, "u": 4, "U": 8}
        if letter in _ESCAPES:
            result.append(_ESCAPES[letter])
            index += 2
        elif letter in lengths:
            digits = body[index + 2 : index + 2 + lengths[letter]]
            if len(digits) != lengths[letter]:
                raise ValueError("invalid syntax")
            result.append(chr(int(digits, 16)))
            index += 2 + lengths[letter]
        elif letter in "01234567":
            result.append(chr(int(body[index + 1 : index + 4], 8)))
            index += 4
        else:
            raise ValueError("invalid syntax")
    return "".join(result)
