"""Go templates, second step: tokens to a tree."""

from __future__ import annotations

from typing import Any

from .template_lex import SyntaxProblem, Token, problem, tokens, unquote


class Node:
    """A node of the tree; ``position`` is a character offset, ``str()`` its source text."""

    __slots__ = ("position", "text")

    def __init__(self, position: int, text: str = "") -> None:
        self.position = position
        self.text = text

    def __str__(self) -> str:
        return self.text


class Literal(Node):
    """A constant, and ``nil``."""

    __slots__ = ("value",)

    def __init__(self, token: Token, value: Any) -> None:
        super().__init__(token.position, token.value)
        self.value = value


class Access(Node):
    """``.A.B``, ``$x.A``, ``(…).A``: names looked up one after the other, from ``base``.

    ``base`` is None (the dot), the name of a variable, or a Pipe.
    """

    __slots__ = ("base", "names", "places")

    def __init__(self, position: int, base: str | Pipe | None) -> None:
        super().__init__(position)
        self.base = base
        self.names: list[str] = []
        self.places: list[int] = []

    @property
    def place(self) -> int:
        """Where Go says that it is: the second name of ``.A.B``, the first of ``$x.A``."""
        if self.base is None and len(self.places) > 1:
            return self.places[1]
        return self.places[0] if self.places else self.position

    def __str__(self) -> str:
        head = f"({self.base})" if isinstance(self.base, Pipe) else self.base or ""
        return head + "".join(f".{name}" for name in self.names) or "."


class Function(Node):
    """The name of a function."""

    __slots__ = ()


class Command(Node):
    """An operand, or a function or method with its arguments."""

    __slots__ = ("words",)

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.words: list[Node] = []

    def __str__(self) -> str:
        words = (f"({word})" if isinstance(word, Pipe) else str(word) for word in self.words)
        return " ".join(words)


class Pipe(Node):
    """Commands, each one's value being the last argument of the next; perhaps variables to set."""

    __slots__ = ("commands", "declares", "variables")

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.commands: list[Command] = []
        self.variables: list[str] = []
        self.declares = False

    def __str__(self) -> str:
        head = ""
        if self.variables:
            head = ", ".join(self.variables) + (" := " if self.declares else " = ")
        return head + " | ".join(str(command) for command in self.commands)


class Text(Node):
    """What is copied."""

    __slots__ = ()


class Action(Node):
    """``{{pipeline}}``."""

    __slots__ = ("pipe",)

    def __init__(self, position: int, pipe: Pipe) -> None:
        super().__init__(position)
        self.pipe = pipe


class Branch(Node):
    """``if``, ``with`` and ``range`` (``text`` says which)."""

    __slots__ = ("body", "otherwise", "pipe")

    def __init__(self, position: int, word: str, pipe: Pipe) -> None:
        super().__init__(position, word)
        self.pipe = pipe
        self.body: list[Node] = []
        self.otherwise: list[Node] = []


class Jump(Node):
    """``break`` and ``continue``."""

    __slots__ = ()


class Parser:
    """Reads one template.

    Args:
        functions: the names that are functions.
    """

    def __init__(self, source: str, functions: frozenset[str]) -> None:
        self.source = source
        self.functions = functions
        self.tokens = tokens(source)
        self.index = 0
        self.variables = ["$"]
        self.loops = 0

    def parse(self) -> list[Node]:
        """Raises:
        SyntaxProblem: with Go's text.
        """
        nodes, ended_by = self._list()
        if ended_by is not None:
            self._end_of_action(ended_by.value)
            raise self._error(ended_by, f"unexpected {{{{{ended_by.value}}}}}")
        return nodes

    # ---- helpers -------------------------------------------------------------------------------

    def _next(self) -> Token:
        token = self.tokens[self.index]
        if token.kind != "eof":
            self.index += 1
        return token

    def _peek(self) -> Token:
        return self.tokens[self.index]

    def _next_word(self) -> Token:
        self._skip_space()
        return self._next()

    def _skip_space(self) -> None:
        while self.tokens[self.index].kind == "space":
            self.index += 1

    def _error(self, token: Token, message: str) -> SyntaxProblem:
        return problem(token.position, self.source, message)

    def _unexpected(self, token: Token, context: str) -> SyntaxProblem:
        return self._error(token, f"unexpected {token} in {context}")

    # ---- text and actions ----------------------------------------------------------------------

    def _list(self) -> tuple[list[Node], Token | None]:
        """Nodes up to ``{{end}}``, ``{{else…}}`` (given back) or the end of the template (None)."""
        nodes: list[Node] = []
        while True:
            token = self._next()
            if token.kind == "eof":
                return nodes, None
            if token.kind == "text":
                nodes.append(Text(token.position, token.value))
                continue
            self._skip_space()
            token = self._peek()
            if token.kind == "keyword" and token.value in ("end", "else"):
                self._next()
                return nodes, token
            nodes.append(self._statement(token))

    def _statement(self, token: Token) -> Node:
        if token.kind == "keyword" and token.value in ("if", "with", "range"):
            self._next()
            return self._branch(token)
        if token.kind == "keyword" and token.value in ("break", "continue"):
            self._next()
            if not self.loops:
                raise self._error(token, f"{{{{{token.value}}}}} outside {{{{range}}}}")
            self._end_of_action(token.value)
            return Jump(token.position, token.value)
        if token.kind == "keyword" and token.value in ("define", "template", "block"):
            raise self._error(token, f"{{{{{token.value}}}}} is not supported")
        count = len(self.variables)
        pipe = self._pipeline("command", "right")
        if not pipe.declares:
            del self.variables[count:]
        return Action(token.position, pipe)

    def _branch(self, token: Token) -> Branch:
        count = len(self.variables)
        word = token.value
        pipe = self._pipeline(word, "right")
        node = Branch(token.position, word, pipe)
        self.loops += word == "range"
        node.body, ended_by = self._list()
        self.loops -= word == "range"
        if ended_by is not None and ended_by.value == "else":
            self._skip_space()
            following = self._peek()
            if following.kind == "keyword" and following.value == word and word != "range":
                # {{else if}} is {{else}}{{if}} that shares the {{end}}.
                self._next()
                node.otherwise = [self._branch(following)]
                del self.variables[count:]
                return node
            self._end_of_action("else")
            node.otherwise, ended_by = self._list()
            if ended_by is not None and ended_by.value == "else":
                raise self._error(ended_by, "expected end; found {{else}}")
        if ended_by is None:
            raise self._error(self._peek(), "unexpected EOF")
        self._end_of_action("end")
        del self.variables[count:]
        return node

    def _end_of_action(self, context: str) -> None:
        token = self._next_word()
        if token.kind != "right":
            raise self._unexpected(token, context)

    # ---- pipelines -----------------------------------------------------------------------------

    def _pipeline(self, context: str, end: str) -> Pipe:
        self._skip_space()
        pipe = Pipe(self._peek().position)
        self._declarations(pipe, context)
        while True:
            token = self._next_word()
            if token.kind == end:
                self._check(pipe, token, context)
                return pipe
            if token.kind in (
                "bool", "char", "dot", "field", "identifier", "number", "raw", "string",
                "variable", "open",
            ) or (token.kind == "keyword" and token.value == "nil"):  # fmt: skip
                self.index -= 1
                pipe.commands.append(self._command())
            else:
                raise self._unexpected(token, context)

    def _check(self, pipe: Pipe, token: Token, context: str) -> None:
        if not pipe.commands:
            raise self._error(token, f"missing value for {context}")
        for number, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.words[0], Literal):
                message = f"non executable command in pipeline stage {number}"
                raise self._error(token, message)

    def _declarations(self, pipe: Pipe, context: str) -> None:
        """``$x :=``, ``$x =``, and in a range ``$k, $v :=``."""
        start = self.index
        names: list[str] = []
        while self._peek().kind == "variable":
            names.append(self._next().value)
            self._skip_space()
            token = self._peek()
            if token.kind in ("declare", "assign"):
                self._next()
                if token.kind == "assign":
                    for name in names:
                        self._known(name, token)
                pipe.declares = token.kind == "declare"
                pipe.variables = names
                self.variables += names if pipe.declares else []
                return
            if token.kind == "comma" and context == "range" and len(names) == 1:
                self._next()
                self._skip_space()
                continue
            if token.kind == "comma":
                raise self._error(token, f"too many declarations in {context}")
            break
        self.index = start

    def _known(self, name: str, token: Token) -> None:
        if name not in self.variables:
            from .gotext import quote

            raise self._error(token, f"undefined variable {quote(name)}")

    def _command(self) -> Command:
        command = Command(self._peek().position)
        while True:
            self._skip_space()
            operand = self._operand()
            if operand is not None:
                command.words.append(operand)
            token = self._next()
            if token.kind == "space":
                continue
            if token.kind in ("right", "close"):
                self.index -= 1
            elif token.kind != "pipe":
                raise self._unexpected(token, "operand")
            break
        if not command.words:
            raise self._error(token, "empty command")
        return command

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind != "field":
            return node
        if isinstance(node, Literal) or (isinstance(node, Access) and str(node) == "."):
            token = self._peek()
            raise self._error(token, f"unexpected . after term {_quoted(str(node))}")
        if isinstance(node, Function):
            # A function without arguments, then a field of its result.
            command = Command(node.position)
            command.words.append(node)
            pipe = Pipe(node.position)
            pipe.commands.append(command)
            node = pipe
        if not isinstance(node, Access):
            assert isinstance(node, Pipe)
            node = Access(node.position, node)
        while self._peek().kind == "field":
            token = self._next()
            node.names.append(token.value[1:])
            node.places.append(token.position)
        return node

    def _term(self) -> Node | None:
        token = self._next()
        if token.kind == "identifier":
            if token.value not in self.functions:
                raise self._error(token, f"function {_quoted(token.value)} not defined")
            return Function(token.position, token.value)
        if token.kind == "dot":
            return Access(token.position, None)
        if token.kind == "field":
            access = Access(token.position, None)
            access.names.append(token.value[1:])
            access.places.append(token.position)
            return access
        if token.kind == "variable":
            self._known(token.value, token)
            return Access(token.position, token.value)
        if token.kind == "open":
            return self._pipeline("parenthesized pipeline", "close")
        if token.kind == "keyword" and token.value == "nil":
            return Literal(token, None)
        if token.kind in ("bool", "number", "string", "raw", "char"):
            return Literal(token, self._constant(token))
        self.index -= token.kind != "eof"
        return None

    def _constant(self, token: Token) -> Any:
        if token.kind == "bool":
            return token.value == "true"
        try:
            if token.kind == "number":
                return _number(token.value)
            text = unquote(token.value)
        except ValueError:
            if token.kind == "number":
                what = "illegal" if len(token.value) == 1 else "bad"
                what = "integer overflow" if token.value.isdigit() else f"{what} number syntax"
                raise self._error(token, f"{what}: {_quoted(token.value)}") from None
            raise self._error(token, "invalid syntax") from None
        if token.kind == "char":
            if len(text) > 1:
                raise self._error(token, f"malformed character constant: {token.value}")
            if not text:
                raise self._error(token, "invalid syntax")
            return ord(text)
        return text


def _number(text: str) -> int | float:
    from .gotext import parse_float, parse_int

    try:
        return parse_int(text)
    except ValueError:
        if text.isdigit():
            raise
        return parse_float(text)


def _quoted(text: str) -> str:
    from .gotext import quote

    return quote(text)
