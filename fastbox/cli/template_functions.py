"""Functions of Go templates: those of Go's text/template and those that Docker adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .gotext import format_float, quote, quote_char

_MAX_PADDING = 10_000


class FunctionProblem(Exception):
    """A function cannot take its arguments.

    Args:
        argument: number of the argument whose type is wrong; wanted: the type that it must have.
    """

    def __init__(self, message: str, argument: int | None = None, wanted: str = "") -> None:
        super().__init__(message)
        self.argument = argument
        self.wanted = wanted


def _wrong_type(value: Any, wanted: str, argument: int) -> FunctionProblem:
    message = f"wrong type for value; expected {wanted}; got {type_name(value)}"
    return FunctionProblem(message, argument, wanted)


def type_name(value: Any) -> str:
    """Go's name of a value's type."""
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((str, "string"), (int, "int"), (float, "float64")):
        if isinstance(value, kind):
            return name
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, (list, tuple)):
        return "[]interface {}"
    return "interface {}" if value is None else "struct"


def truth(value: Any) -> bool:
    """Go's truth: not false, 0, nil or empty."""
    return bool(value)


def text_of(value: Any, *, inner: bool = False) -> str:
    """How fmt prints a value (``%v``)."""
    if value is None:
        return "<nil>" if inner else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, dict):
        pairs = (f"{key}:{text_of(item, inner=True)}" for key, item in sorted(value.items()))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(text_of(item, inner=True) for item in value)}]"
    return str(value)


# ---- Docker's ----------------------------------------------------------------------------------


def to_json(value: Any) -> str:
    """Compact JSON, ``<`` and ``>`` as they are."""
    import orjson

    try:
        return orjson.dumps(value, default=_json_default).decode()
    except TypeError as error:
        raise FunctionProblem(f"json: unsupported value: {error}") from None


def _json_default(value: Any) -> Any:
    from .template import Row

    if isinstance(value, Row):
        return value.plain()
    if isinstance(value, int):  # beyond 64 bits
        return float(value)
    raise TypeError(type(value).__name__)


def _string(value: Any, number: int = 1) -> str:
    if isinstance(value, str):
        return value
    raise _wrong_type(value, "string", number)


def _integer(value: Any, number: int = 1) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong_type(value, "int", number)


def _split(value: Any, separator: Any) -> list[str]:
    text, mark = _string(value), _string(separator, 2)
    return text.split(mark) if mark else list(text)


def _join(items: Any, separator: Any) -> str:
    if items is None:
        items = ()
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise _wrong_type(items, "[]string", 1)
    return _string(separator, 2).join(items)


def _title(text: Any) -> str:
    result, start = [], True
    for char in _string(text):
        result.append(char.upper() if start else char)
        start = not (char.isalnum() or char in "_'")
    return "".join(result)


def _pad(value: Any, left: Any, right: Any) -> str:
    text, before, after = _string(value), _integer(left, 2), _integer(right, 3)
    if max(before, after) > _MAX_PADDING:
        raise FunctionProblem(f"more than {_MAX_PADDING} spaces")
    return " " * before + text + " " * after if text else text


def _truncate(value: Any, limit: Any) -> str:
    text, length = _string(value), _integer(limit, 2)
    if length < 0:
        raise FunctionProblem(f"slice bounds out of range [:{length}]")
    # Go counts bytes.
    return text.encode("utf-8", "surrogateescape")[:length].decode("utf-8", "surrogateescape")


# ---- Go's --------------------------------------------------------------------------------------


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise FunctionProblem("index of untyped nil")
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise FunctionProblem(f"value has type {type_name(key)}; should be string")
            # Where all values are texts, what is missing is the empty one.
            texts = all(isinstance(item, str) for item in value.values())
            value = value.get(key, "" if texts else None)
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise FunctionProblem(f"cannot index slice/array with type {type_name(key)}")
            if not 0 <= key < len(value):
                raise FunctionProblem(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise FunctionProblem(f"can't index item of type {type_name(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if value is None:
        raise FunctionProblem("slice of untyped nil")
    if not isinstance(value, (list, tuple, str)):
        raise FunctionProblem(f"can't slice item of type {type_name(value)}")
    numbers = [0, len(value)]
    for place, bound in enumerate(bounds[:2]):
        if not isinstance(bound, int) or isinstance(bound, bool):
            raise FunctionProblem(f"cannot index slice/array with type {type_name(bound)}")
        if not 0 <= bound <= len(value):
            raise FunctionProblem(f"index out of range: {bound}")
        numbers[place] = bound
    if numbers[0] > numbers[1]:
        raise FunctionProblem(f"invalid slice index: {numbers[0]} > {numbers[1]}")
    return value[numbers[0] : numbers[1]]


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (dict, list, tuple)):
        return len(value)
    if value is None:
        raise FunctionProblem("len of nil pointer")
    raise FunctionProblem(f"len of type {type_name(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind.__name__
    return "nil" if value is None else "other"


def _eq(first: Any, *others: Any) -> bool:
    for other in others:
        kinds = {_kind(first), _kind(other)}
        if "other" in kinds:
            odd = first if _kind(first) == "other" else other
            raise FunctionProblem(f"non-comparable type {text_of(odd)}: {type_name(odd)}")
        if len(kinds) > 1:
            if "nil" in kinds:
                continue
            raise FunctionProblem("incompatible types for comparison")
        if first == other:
            return True
    return False


def _ne(first: Any, second: Any) -> bool:
    return not _eq(first, second)


def _compare(first: Any, second: Any) -> int:
    for value in (first, second):
        if _kind(value) not in ("int", "float", "str"):
            raise FunctionProblem("invalid type for comparison")
    if _kind(first) != _kind(second):
        raise FunctionProblem("incompatible types for comparison")
    return int(first > second) - int(first < second)


def _print(*values: Any) -> str:
    """Spaces only between operands of which neither is a text."""
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(text_of(value, inner=True))
    return "".join(parts)


def _println(*values: Any) -> str:
    return " ".join(text_of(value, inner=True) for value in values) + "\n"


def _printf(form: Any, *values: Any) -> str:
    """fmt.Sprintf for the verbs that make sense here."""
    form = _string(form)
    result: list[str] = []
    used = 0
    index = 0
    while index < len(form):
        percent = form.find("%", index)
        if percent < 0:
            result.append(form[index:])
            break
        result.append(form[index:percent])
        flags, width, precision, index = _directive(form, percent + 1)
        verb = form[index : index + 1]
        index += 1
        if not verb:
            result.append("%!(NOVERB)")
        elif verb == "%":
            result.append("%")
        elif used >= len(values):
            result.append(f"%!{verb}(MISSING)")
        else:
            text = _format(verb, values[used], flags, precision)
            used += 1
            result.append(_justify(text, flags, width))
    if used < len(values):
        extra = ", ".join(
            f"{type_name(value)}={text_of(value, inner=True)}" for value in values[used:]
        )
        result.append(f"%!(EXTRA {extra})")
    return "".join(result)


def _directive(form: str, index: int) -> tuple[str, int, int | None, int]:
    start = index
    while form[index : index + 1] in tuple("+-# 0"):
        index += 1
    flags = form[start:index]
    start = index
    while form[index : index + 1].isdigit():
        index += 1
    width = int(form[start : min(index, start + 6)] or 0)
    precision = None
    if form[index : index + 1] == ".":
        start = index = index + 1
        while form[index : index + 1].isdigit():
            index += 1
        precision = min(int(form[start : min(index, start + 6)] or 0), _MAX_PADDING)
    return flags, min(width, _MAX_PADDING), precision, index


def _justify(text: str, flags: str, width: int) -> str:
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and text[:1] in ("+", "-"):
        return text[0] + text[1:].rjust(width - 1, "0")
    return text.rjust(width, "0" if "0" in flags else " ")


def _format(verb: str, value: Any, flags: str, precision: int | None) -> str:
    plain = text_of(value, inner=True)
    if value is None and verb not in "vT":
        return f"%!{verb}(<nil>)"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if verb == "v":
        return plain
    if verb == "T":
        return type_name(value)
    if verb in "sq" and isinstance(value, str):
        cut = value if precision is None else value[:precision]
        return quote(cut) if verb == "q" else cut
    if verb == "s" and not number and not isinstance(value, bool):
        return plain
    if verb == "t" and isinstance(value, bool):
        return plain
    if verb in "xX" and isinstance(value, str):
        digits = value.encode("utf-8", "surrogateescape").hex()
        return digits.upper() if verb == "X" else digits
    if verb in "dxXobc" and number and isinstance(value, int):
        sign = "+" if "+" in flags else ""
        if verb == "c" and not 0 <= value < 0x110000:
            return "\ufffd"
        return format(value, sign + verb)
    if verb in "qU" and number and isinstance(value, int) and 0 <= value < 0x110000:
        return quote_char(chr(value)) if verb == "q" else f"U+{value:04X}"
    if verb in "feEgG" and isinstance(value, float):
        return format(value, f".{6 if precision is None else precision}{verb}")
    return f"%!{verb}({type_name(value)}={plain})"


def _html(*values: Any) -> str:
    text = _print(*values)
    for char, escape in (
        ("&", "&amp;"), ("'", "&#39;"), ('"', "&#34;"), ("<", "&lt;"), (">", "&gt;"),
    ):  # fmt: skip
        text = text.replace(char, escape)
    return text


def _js(*values: Any) -> str:
    text = _print(*values)
    for char, escape in (
        ("\\", "\\\\"), ("'", "\\'"), ('"', '\\"'), ("<", "\\u003C"), (">", "\\u003E"),
        ("&", "\\u0026"), ("=", "\\u003D"),
    ):  # fmt: skip
        text = text.replace(char, escape)
    return "".join(char if char >= " " else f"\\u{ord(char):04X}" for char in text)


def _urlquery(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values))


# name -> (function, fewest arguments, most arguments or None)
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int | None]] = {
    "json": (to_json, 1, 1),
    "split": (_split, 2, 2),
    "join": (_join, 2, 2),
    "title": (_title, 1, 1),
    "lower": (lambda text: _string(text).lower(), 1, 1),
    "upper": (lambda text: _string(text).upper(), 1, 1),
    "pad": (_pad, 3, 3),
    "truncate": (_truncate, 2, 2),
    "index": (_index, 1, None),
    "slice": (_slice, 1, 4),
    "len": (_len, 1, 1),
    "not": (lambda value: not truth(value), 1, 1),
    "eq": (_eq, 2, None),
    "ne": (_ne, 2, 2),
    "lt": (lambda first, second: _compare(first, second) < 0, 2, 2),
    "le": (lambda first, second: _compare(first, second) <= 0, 2, 2),
    "gt": (lambda first, second: _compare(first, second) > 0, 2, 2),
    "ge": (lambda first, second: _compare(first, second) >= 0, 2, 2),
    "print": (_print, 0, None),
    "println": (_println, 0, None),
    "printf": (_printf, 1, None),
    "html": (_html, 0, None),
    "js": (_js, 0, None),
    "urlquery": (_urlquery, 0, None),
}
