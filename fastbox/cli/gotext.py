"""Numbers and quoting as Go reads and writes them, because Docker's grammar is Go's.

Flag values such as ``0x10``, ``1_000`` or ``+5`` are numbers there, and the error texts quote what
was typed in Go's way.
"""

from __future__ import annotations

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_BASES = {"0x": 16, "0b": 2, "0o": 8}


def quote(text: str) -> str:
    """``%q``: double quotes, what cannot be printed as an escape."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_ESCAPES.get(char) or _escape(char) for char in text) + '"'


def quote_char(char: str) -> str:
    """``%q`` of one rune: single quotes."""
    if char == '"':
        return "'\"'"
    if char == "'":
        return "'\\''"
    return f"'{_ESCAPES.get(char) or _escape(char)}'"


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of argv that is not UTF-8 (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def parse_bool(text: str) -> bool:
    """strconv.ParseBool.

    Raises:
        ValueError: with Go's text.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def parse_int(text: str, *, base: int = 0, bits: int = 64, function: str = "ParseInt") -> int:
    """strconv.ParseInt; base 0 reads prefixes (0x, 0o, 0b, 0) and underscores.

    Raises:
        ValueError: with Go's text.
    """
    negative = text.startswith("-")
    digits = text[1:] if text[:1] in ("+", "-") else text
    try:
        # int() also takes spaces, underscores and non-ASCII digits.
        if not digits.isascii() or not digits.replace("_", "").isalnum():
            raise ValueError
        if base:
            if "_" in digits:
                raise ValueError
            value = _digits(digits, base)
        elif digits[:2].lower() in _BASES:
            value = int(digits, 0)
        elif len(digits) > 1 and digits[0] == "0":
            value = int(digits.removeprefix("0").removeprefix("_"), 8)
        else:
            value = _digits(digits, 10)
    except ValueError:
        error = f"strconv.{function}: parsing {quote(text)}: invalid syntax"
        raise ValueError(error) from None
    value = -value if negative else value
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise ValueError(f"strconv.{function}: parsing {quote(text)}: value out of range")
    return value


def _digits(digits: str, base: int) -> int:
    # int() refuses thousands of digits; all that matters is that they are too many.
    if len(digits) > 100 and digits.replace("_", "").isdigit():
        return 1 << 100
    return int(digits, base)


def parse_float(text: str) -> float:
    """strconv.ParseFloat without hexadecimal numbers, infinities and NaN.

    Raises:
        ValueError: with Go's text.
    """
    try:
        if not text.isascii() or text.strip() != text or text.lower().strip("+-")[:1] in "in":
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax") from None


def format_g(value: float, precision: int) -> str:
    """``%.{precision}g``: Go's has a two-digit exponent and no trailing zeros, as Python's."""
    return f"{value:.{precision}g}"


def format_float(value: float) -> str:
    """How fmt prints a float64 (``%v``): the shortest text, exponent form from 1e21 on."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0 or 1e-4 <= abs(value) < 1e21:
        if value == int(value):
            return str(int(value))
        return repr(value) if "e" not in repr(value) else f"{value:f}".rstrip("0")
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return repr(value)
    sign = exponent[0] if exponent[0] in "+-" else "+"
    return f"{mantissa.removesuffix('.0')}e{sign}{exponent.lstrip('+-'):0>2}"
