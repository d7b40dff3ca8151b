"""Go templates, third step: execution. ``--format`` is written in this language.

Supported: fields, indexes of maps by field, variables, pipelines, parentheses, ``if``, ``with``,
``range`` (``else``, ``break``, ``continue``), comments, trimming, the functions of Go's
text/template and Docker's own. Error texts are those of Go, with its ``missingkey=error``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .gotext import quote
from .template_lex import SyntaxProblem
from .template_parse import (
    Access,
    Action,
    Branch,
    Command,
    Function,
    Jump,
    Literal,
    Node,
    Parser,
    Pipe,
    Text,
)

__all__ = ["ExecutionProblem", "Header", "Row", "SyntaxProblem", "Template", "parse"]

# Names that Go's structs have where their JSON is spelled otherwise; both work with docker inspect.
_ALIASES = {
    "ID": "Id",
    "NanoCPUs": "NanoCpus",
    "CPUShares": "CpuShares",
    "CPUPeriod": "CpuPeriod",
    "CPUQuota": "CpuQuota",
}
_MAX_OUTPUT = 64 << 20
_NOTHING: Any = object()


class ExecutionProblem(Exception):
    """A template that does not fit the data; the text is Go's."""


class Row:
    """One line of a list: fields are made when they are asked for; ``_Name`` is a method.

    Args:
        type_name: what errors call it.
    """

    def __init__(self, fields: Mapping[str, Callable[..., Any]], type_name: str) -> None:
        self.fields = fields
        self.type_name = type_name

    def get(self, name: str, arguments: list[Any]) -> Any:
        """A field's value or a method's result; raises KeyError, or TypeError on the arguments."""
        if arguments or f"_{name}" in self.fields:
            return self.fields[f"_{name}"](*arguments)
        return self.fields[name]()

    def plain(self) -> Any:
        """What the function ``json`` makes of the line: texts, and lists of lines."""
        made = {name: make() for name, make in self.fields.items() if name[0] != "_"}
        return {k: v if isinstance(v, list) else str(v) for k, v in made.items()}


class Header(Row):
    """The line of headers: a field's value is its header, ``.Label "a.b-c"`` is ``b c``."""

    def __init__(self, headers: Mapping[str, str], type_name: str) -> None:
        super().__init__({}, type_name)
        self.headers = headers

    def get(self, name: str, arguments: list[Any]) -> Any:
        if name == "Label" and len(arguments) == 1:
            last = str(arguments[0]).rpartition(".")[2]
            return last.replace("-", " ").replace("_", " ")
        return self.headers.get(name)


def parse(source: str) -> Template:
    """Parse a template.

    Raises:
        SyntaxProblem: ``template: :1: unclosed action`` and the like.
    """
    from .template_functions import FUNCTIONS

    names = frozenset((*FUNCTIONS, "and", "or"))
    try:
        return Template(source, Parser(source, names).parse())
    except RecursionError:
        raise SyntaxProblem("template: :1: the template is nested too deeply") from None


class Template:
    """A parsed template."""

    def __init__(self, source: str, nodes: list[Node]) -> None:
        self.source = source
        self.nodes = nodes

    def execute(self, data: Any) -> str:
        """The text for ``data``.

        Raises:
            ExecutionProblem: a field that is not there, a function called with what it cannot take.
        """
        return _Run(self.source, data).run(self.nodes)


class _Loop(Exception):
    """``{{break}}`` or ``{{continue}}``."""


class _Run:
    def __init__(self, source: str, data: Any) -> None:
        self.source = source
        self.variables: list[tuple[str, Any]] = [("$", data)]
        self.out: list[str] = []
        self.length = 0

    def run(self, nodes: list[Node]) -> str:
        try:
            self._walk(self.variables[0][1], nodes)
        except RecursionError:
            raise ExecutionProblem("template: : the template is nested too deeply") from None
        return "".join(self.out)

    def _write(self, text: str) -> None:
        self.length += len(text)
        if self.length > _MAX_OUTPUT:
            raise ExecutionProblem(f"template: : more than {_MAX_OUTPUT >> 20} MiB of output")
        self.out.append(text)

    def _error(self, node: Node, message: str) -> ExecutionProblem:
        position = node.place if isinstance(node, Access) else node.position
        before = self.source[:position]
        newline = before.rfind("\n")
        line = before.count("\n") + 1
        column = len(before[newline + 1 :].encode("utf-8", "replace"))
        context = str(node)
        context = context[:20] + "..." if len(context) > 20 else context
        return ExecutionProblem(
            f'template: :{line}:{column}: executing "" at <{context}>: {message}'
        )

    # ---- statements ----------------------------------------------------------------------------

    def _walk(self, dot: Any, nodes: list[Node]) -> None:
        from .template_functions import text_of

        for node in nodes:
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Action):
                value = self._pipe(dot, node.pipe)
                if not node.pipe.variables:
                    self._write(text_of(value))
            elif isinstance(node, Branch):
                count = len(self.variables)
                try:
                    self._branch(dot, node)
                finally:
                    del self.variables[count:]
            elif isinstance(node, Jump):
                raise _Loop(node.text)

    def _branch(self, dot: Any, node: Branch) -> None:
        from .template_functions import truth

        if node.text == "range":
            self._range(dot, node)
            return
        value = self._pipe(dot, node.pipe)
        inner = value if node.text == "with" else dot
        if truth(value):
            self._walk(inner, node.body)
        else:
            self._walk(dot, node.otherwise)

    def _range(self, dot: Any, node: Branch) -> None:
        names, declares = node.pipe.variables, node.pipe.declares
        value = self._commands(dot, node.pipe)
        items = self._items(value, node)
        if not items:
            self._walk(dot, node.otherwise)
            return
        for key, item in items:
            count = len(self.variables)
            # One variable is the element; two are index or key, and element.
            pairs = zip(names, (key, item) if len(names) == 2 else (item,), strict=False)
            for name, content in pairs:
                self._set(name, content, declares)
            try:
                self._walk(item, node.body)
            except _Loop as jump:
                if str(jump) == "break":
                    break
            finally:
                del self.variables[count:]

    def _items(self, value: Any, node: Branch) -> list[tuple[Any, Any]]:
        if value is None:
            return []
        if isinstance(value, dict):
            return sorted(value.items())
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool) and value <= 1_000_000:
            return [(number, number) for number in range(value)]
        from .template_functions import text_of

        raise self._error(node.pipe, f"range can't iterate over {text_of(value)}")

    # ---- values --------------------------------------------------------------------------------

    def _set(self, name: str, value: Any, declare: bool) -> None:
        if declare:
            self.variables.append((name, value))
            return
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return

    def _variable(self, name: str) -> Any:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise AssertionError(name)  # the parser knows every variable

    def _pipe(self, dot: Any, pipe: Pipe) -> Any:
        value = self._commands(dot, pipe)
        for name in pipe.variables:
            self._set(name, value, pipe.declares)
        return value

    def _commands(self, dot: Any, pipe: Pipe) -> Any:
        value = _NOTHING
        for command in pipe.commands:
            value = self._command(dot, command, value)
        return value

    def _command(self, dot: Any, command: Command, final: Any) -> Any:
        first, *rest = command.words
        if isinstance(first, Function):
            return self._call(dot, command, final)
        if isinstance(first, Access):
            arguments = [self._value(dot, word) for word in rest]
            if final is not _NOTHING:
                arguments.append(final)
            return self._access(dot, first, arguments)
        if rest or final is not _NOTHING:
            raise self._error(first, f"can't give argument to non-function {first}")
        if isinstance(first, Literal) and first.value is None:
            raise self._error(first, "nil is not a command")
        return self._value(dot, first)

    def _value(self, dot: Any, node: Node) -> Any:
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, Access):
            return self._access(dot, node, [])
        if isinstance(node, Pipe):
            return self._pipe(dot, node)
        assert isinstance(node, Function)
        command = Command(node.position)
        command.words.append(node)
        return self._call(dot, command, _NOTHING)

    def _access(self, dot: Any, node: Access, arguments: list[Any]) -> Any:
        if node.base is None:
            value = dot
        elif isinstance(node.base, Pipe):
            value = self._pipe(dot, node.base)
        else:
            value = self._variable(node.base)
        if arguments and not node.names:
            raise self._error(node, f"can't give argument to non-function {node}")
        for index, name in enumerate(node.names):
            last = index == len(node.names) - 1
            value = self._field(value, name, node, arguments if last else [])
        return value

    def _field(self, value: Any, name: str, node: Access, arguments: list[Any]) -> Any:
        # Go speaks of what is in the parentheses.
        where = node.base.commands[-1].words[0] if isinstance(node.base, Pipe) else node
        if isinstance(value, Row):
            try:
                return value.get(name, arguments)
            except KeyError:
                problem = f"can't evaluate field {name} in type {value.type_name}"
                raise self._error(where, problem) from None
            except TypeError:
                problem = f"wrong number of args for {name}: want 1 got {len(arguments)}"
                raise self._error(where, problem) from None
        if isinstance(value, dict):
            if arguments:
                raise self._error(where, f"{name} is not a method but has arguments")
            for key in (name, _ALIASES.get(name)):
                if key in value:
                    return value[key]
            raise self._error(where, f"map has no entry for key {quote(name)}")
        if value is None:
            raise self._error(where, f"nil pointer evaluating interface {{}}.{name}")
        raise self._error(where, f"can't evaluate field {name} in type interface {{}}")

    def _call(self, dot: Any, command: Command, final: Any) -> Any:
        from .template_functions import FUNCTIONS, FunctionProblem, truth

        name, words = command.words[0].text, command.words[1:]
        if name in ("and", "or"):
            result: Any = None
            for word in words:
                result = self._value(dot, word)
                if truth(result) == (name == "or"):
                    return result
            if final is not _NOTHING:
                return final
            if not words:
                problem = f"wrong number of args for {name}: want at least 1 got 0"
                raise self._error(command.words[0], problem)
            return result
        arguments = [self._value(dot, word) for word in words]
        if final is not _NOTHING:
            arguments.append(final)
        make, least, most = FUNCTIONS[name]
        if len(arguments) < least or (most is not None and len(arguments) > most):
            want = f"at least {least}" if most is None else str(least)
            problem = f"wrong number of args for {name}: want {want} got {len(arguments)}"
            raise self._error(command.words[0], problem)
        try:
            return make(*arguments)
        except FunctionProblem as error:
            if error.argument is None:
                raise self._error(command, f"error calling {name}: {error}") from None
            word = words[error.argument - 1] if error.argument <= len(words) else command
            if isinstance(word, Literal):
                raise self._error(word, f"expected {error.wanted}; found {word}") from None
            raise self._error(word, str(error)) from None
