"""What the ``inspect`` commands share: find each object, print JSON or fill in a template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import FastboxError
from . import output
from .errors import CliError, TemplateError, message_of
from .flags import Flag, Text

FORMAT = Flag(
    "-f --format",
    Text(),
    "Format output using a custom template:\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting "
    "output with templates",
)
SYNTAX_ERROR = 64


class Formatter:
    """One ``--format``, parsed before anything is looked up.

    Args:
        text: ``""`` (indented JSON), ``json`` (compact) or a template.
        name: what syntax errors call the template.

    Raises:
        TemplateError: a syntax error; the exit status is 64.
    """

    def __init__(self, text: str, name: str = "") -> None:
        self.text = text
        self.template: Any = None
        if text and text != "json":
            from . import template

            try:
                self.template = template.parse(text)
            except template.SyntaxProblem as error:
                text = str(error).replace("template: :", f"template: {name}:", 1)
                raise TemplateError(
                    f"template parsing error: {text}", exit_code=SYNTAX_ERROR
                ) from None

    def fill(self, element: Any) -> str:
        """The template's text for one object.

        Raises:
            TemplateError: it does not fit.
        """
        from . import template

        try:
            text: str = self.template.execute(_with_optional(element))
        except template.ExecutionProblem as error:
            raise TemplateError(f"template parsing error: {error}") from None
        return text

    def render(self, elements: list[Any]) -> str:
        """All objects.

        Raises:
            TemplateError
        """
        if self.template is not None:
            return "".join(self.fill(element) + "\n" for element in elements) or "\n"
        return as_json(elements, indent=0 if self.text == "json" else 4) + "\n"


def as_json(value: Any, *, indent: int) -> str:
    """JSON in lines with that indent; on one line for 0. Like ``json.dumps``, which writes
    indented text fifty times slower."""
    import msgspec

    try:
        text = msgspec.json.encode(value)
        return (msgspec.json.format(text, indent=indent) if indent else text).decode()
    except (UnicodeEncodeError, TypeError, OverflowError, msgspec.MsgspecError):
        import json  # for bytes of argv that are no UTF-8, numbers beyond 64 bits

        separators = None if indent else (",", ":")
        return json.dumps(value, ensure_ascii=False, indent=indent or None, separators=separators)


def show(names: Sequence[str], find: Callable[[str], Any], format: str | None) -> int:
    """Print what is found, in the order of ``names``; then tell what is not.

    Args:
        find: gives an object's JSON, or raises FastboxError.
    """
    formatter = Formatter(format or "")
    errors: list[FastboxError] = []
    elements = []
    for name in names:
        try:
            elements.append(find(name))
        except FastboxError as error:
            errors.append(error)
    problem = None
    try:
        output.write(formatter.render(elements))
    except TemplateError as error:
        output.write("\n")
        problem = error
    for failure in [*errors, *([problem] if problem else [])]:
        output.error(message_of(failure))
    return 1 if errors or problem else 0


def missing(name: str) -> CliError:
    """No object of any kind has this name."""
    return CliError(f"error: no such object: {name}")


# What Docker's types have although its JSON leaves it out when empty: scripts ask for it.
_OPTIONAL: dict[str, dict[str, dict[str, Any]]] = {
    "HostConfig": {
        "": {"SizeRw": None, "SizeRootFs": None},
        "State": {"Health": None},
        "Config": {"Healthcheck": None},
    },
    "RootFS": {"": {"Variant": "", "VirtualSize": 0}},
}


def _with_optional(element: Any) -> Any:
    """The object with the optional fields of its kind, for a template."""
    if not isinstance(element, dict):
        return element
    for mark, parts in _OPTIONAL.items():
        if mark in element:
            element = dict(element)
            for part, fields in parts.items():
                if part:
                    element[part] = {**fields, **(element.get(part) or {})}
                else:
                    element = {**fields, **element}
    return element
