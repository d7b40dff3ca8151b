"""Go templates: results and error texts were compared with docker 28's inspect -f."""

from __future__ import annotations

from typing import Any

import pytest

from fastbox.cli import template

DATA: dict[str, Any] = {
    "Id": "abc",
    "State": {"Pid": 12, "Running": True, "Nothing": None, "Float": 1.5, "Tiny": 0.00001},
    "List": ["a", "b"],
    "Mixed": [1, None, True, "x"],
    "Map": {"k": "v", "a": "<&>"},
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "81/tcp": None},
    "Text": "héé wörld",
}


def run(source: str, data: Any = DATA) -> str:
    return template.parse(source).execute(data)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "abc"),
        ("{{.ID}}", "abc"),  # the name of the field in Go
        ("{{ .Id }}", "abc"),
        ("{{\n.Id\n}}", "abc"),
        ("{{.State.Pid}} {{.State.Running}} {{.State.Float}} {{.State.Tiny}}", "12 true 1.5 1e-05"),
        ("{{.State.Nothing}}", "<no value>"),
        ("{{.List}} {{.Mixed}} {{.Map}}", "[a b] [1 <nil> true x] map[a:<&> k:v]"),
        ("{{$.Id}}", "abc"),
        ("{{(.State).Pid}}", "12"),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        # constants
        ('{{"a\\tb\\u00e9\\x41"}}', "a\tbéA"),
        ("{{`raw\\n`}}", "raw\\n"),
        ("{{1.5}} {{1e3}} {{0x10}} {{1_000}} {{-3}} {{.5}}", "1.5 1000 16 1000 -3 0.5"),
        ("{{'a'}}", "97"),
        ("{{true}} {{false}}", "true false"),
        # trimming and comments
        ("a {{- .Id -}} b", "aabcb"),
        ("x {{- /* c */ -}} y", "xy"),
        ("{{/* }} */}}x", "x"),
        ("{{- 3}}", "3"),
        ("{{-3}}", "-3"),
        ("a\n{{- 1}}", "a1"),
        # pipelines
        ('{{.Id | printf "%s-%s" "x"}}', "x-abc"),
        ("{{.Id | upper | lower}}", "abc"),
        ("{{ .Id\n| upper }}", "ABC"),
        ('{{"x" | len}}', "1"),
        # variables
        ("{{$x := .Id}}{{$x}}", "abc"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{with $x := .Id}}{{$x}}{{end}}", "abc"),
        # if and with
        ("{{if .State.Running}}yes{{else}}no{{end}}", "yes"),
        ("{{if .State.Nothing}}yes{{else}}no{{end}}", "no"),
        ("{{if eq .State.Pid 1}}1{{else if eq .State.Pid 12}}12{{else}}?{{end}}", "12"),
        ("{{with .State}}{{.Pid}}{{end}}{{.Id}}", "12abc"),
        ("{{with .State.Nothing}}x{{else}}none{{end}}", "none"),
        ("{{with .State.Nothing}}a{{else with .Id}}{{.}}{{end}}", "abc"),
        # range
        ("{{range .List}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $e := .List}}{{$e}}{{end}}", "ab"),
        ("{{range $i, $e := .List}}{{if $i}},{{end}}{{$e}}{{end}}", "a,b"),
        ("{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}", "a=<&>;k=v;"),
        ("{{range .State.Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .List}}{{.}}{{break}}{{end}}", "a"),
        ("{{range .List}}{{continue}}{{.}}{{end}}", ""),
        # functions of Docker
        ("{{json .Map.a}}", '"<&>"'),
        ("{{json .List}}{{json nil}}{{json .State.Nothing}}", '["a","b"]nullnull'),
        ('{{join .List ","}}', "a,b"),
        ('{{split "a,b" ","}} {{split "ab" ""}}', "[a b] [a b]"),
        ("{{upper .Text}} {{lower \"ABC\"}}", "HÉÉ WÖRLD abc"),
        ('{{title "hello world foo-bar"}}', "Hello World Foo-Bar"),
        ('{{pad "x" 2 3}}|{{pad "" 2 3}}|', "  x   ||"),
        ('{{truncate "hello" 3}} {{truncate "hi" 30}} {{truncate .Text 3}}', "hel hi hé"),
        # functions of Go
        ("{{len .List}} {{len .Map}} {{len .Text}}", "2 2 12"),
        ('{{index .List 1}} {{index .Map "k"}} {{index .Map "none"}}|', "b v |"),
        ('{{index .Ports "none"}}', "<no value>"),
        ("{{slice .Id 1 2}} {{slice .List 1}}", "b [b]"),
        ("{{and 1 0}} {{and 1 2}} {{or 0 \"x\"}} {{or \"\" 0}}", "0 2 x 0"),
        ("{{or true .Missing}} {{and false .Missing}}", "true false"),
        ("{{not 1}} {{not .State.Nothing}}", "false true"),
        ('{{eq .Id "x" "abc"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt "b" "a"}} {{ge 1 2}}',
         "true true true true true false"),
        ("{{eq nil nil}} {{eq .State.Nothing 1}}", "true false"),
        ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
        ('{{println .Id "x"}}', "abc x\n"),
        ('{{printf "%05d|%-6d|%+d|%x|%X" 42 42 42 "hi" 255}}', "00042|42    |+42|6869|FF"),
        ('{{printf "%6s|%-6s|%.2s|%q" "ab" "ab" "abc" "a\\"b"}}', '    ab|ab    |ab|"a\\"b"'),
        ('{{printf "%5.1f|%g|%t|%v|%T" 1.25 1.25 true .List .Id}}', "  1.2|1.25|true|[a b]|string"),
        ('{{printf "%d %s %d" "x" 5}}', "%!d(string=x) %!s(int=5) %!d(MISSING)"),
        ('{{printf "%s" "a" "b"}}', "a%!(EXTRA string=b)"),
        ('{{printf "100%%%c%U" 65 65}}', "100%AU+0041"),
        ('{{html "<a>\'\\"&"}}', "&lt;a&gt;&#39;&#34;&amp;"),
        ('{{urlquery "a b&c"}}', "a+b%26c"),
    ],
)  # fmt: skip
def test_results(source: str, text: str) -> None:
    assert run(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{", "unclosed action"),
        ("{{.Id", "unclosed action"),
        ("{{/* c }}x", "unclosed comment"),
        ("{{/* c */ }}x", "comment ends before closing delimiter"),
        ('{{"abc}}', "unterminated quoted string"),
        ("{{`a}}", "unterminated raw quoted string"),
        ("{{'a}}", "unterminated character constant"),
        ("{{(}}", "unclosed left paren"),
        ("{{)}}", "unexpected right paren"),
        ("{{}}", "missing value for command"),
        ("{{if}}x{{end}}", "missing value for if"),
        ("{{range}}{{end}}", "missing value for range"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{if .Id}}", "unexpected EOF"),
        ("{{range .List}}x", "unexpected EOF"),
        ("{{if .Id}}a{{else}}b{{else}}c{{end}}", "expected end; found {{else}}"),
        ("{{if .Id}}{{end x}}", 'unexpected "x" in end'),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{foo}}", 'function "foo" not defined'),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{$x, $y := 1}}", "too many declarations in command"),
        ('{{.Id | "x"}}', "non executable command in pipeline stage 2"),
        ("{{.Id:}}", "expected :="),
        ("{{#}}", 'unexpected "#" in command'),
        ("{{..}}", "unexpected <.> in operand"),
        ("{{true.x}}", 'unexpected . after term "true"'),
        ('{{"a".x}}', 'unexpected . after term "\\"a\\""'),
        ("{{-}}", 'illegal number syntax: "-"'),
        ("{{1a}}", 'bad number syntax: "1a"'),
        ("{{99999999999999999999}}", 'integer overflow: "99999999999999999999"'),
        ("{{''}}", "invalid syntax"),
        ('{{"\\q"}}', "invalid syntax"),
        ("{{\x01}}", "unrecognized character in action: U+0001 '\\x01'"),
        ('{{define "a"}}{{end}}', "{{define}} is not supported"),
    ],
)
def test_syntax_errors(source: str, message: str) -> None:
    with pytest.raises(template.SyntaxProblem) as caught:
        template.parse(source)
    assert str(caught.value) == f"template: :1: {message}"


def test_syntax_errors_tell_the_line() -> None:
    with pytest.raises(template.SyntaxProblem, match=r"^template: :3: unclosed action$"):
        template.parse("a\nb\n{{")


@pytest.mark.parametrize(
    ("source", "where", "context", "message"),
    [
        ("{{.Foo}}", "1:2", ".Foo", 'map has no entry for key "Foo"'),
        ("{{.State.Foo}}", "1:8", ".State.Foo", 'map has no entry for key "Foo"'),
        ("{{.x.y.z}}", "1:4", ".x.y.z", 'map has no entry for key "x"'),
        ("{{(.State).No}}", "1:3", ".State", 'map has no entry for key "No"'),
        ("{{.Id}}{{\n.Foo}}", "2:0", ".Foo", 'map has no entry for key "Foo"'),
        ("\n\n {{.Foo}}", "3:3", ".Foo", 'map has no entry for key "Foo"'),
        ("é{{.Foo}}", "1:4", ".Foo", 'map has no entry for key "Foo"'),
        ("{{.Id.x}}", "1:5", ".Id.x", "can't evaluate field x in type interface {}"),
        ("{{.State.Nothing.Y}}", "1:8", ".State.Nothing.Y",
         "nil pointer evaluating interface {}.Y"),
        ("{{index .List 5}}", "1:2", "index .List 5",
         "error calling index: index out of range: 5"),
        ("{{index nil 1}}", "1:2", "index nil 1", "error calling index: index of untyped nil"),
        ('{{index .List "x"}}', "1:2", 'index .List "x"',
         "error calling index: cannot index slice/array with type string"),
        ("{{len 1}}", "1:2", "len 1", "error calling len: len of type int"),
        ("{{len}}", "1:2", "len", "wrong number of args for len: want 1 got 0"),
        ("{{and}}", "1:2", "and", "wrong number of args for and: want at least 1 got 0"),
        ('{{eq 1 "a"}}', "1:2", 'eq 1 "a"',
         "error calling eq: incompatible types for comparison"),
        ("{{eq .List .List}}", "1:2", "eq .List .List",
         "error calling eq: non-comparable type [a b]: []interface {}"),
        ("{{upper 5}}", "1:8", "5", "expected string; found 5"),
        ("{{upper .State.Pid}}", "1:14", ".State.Pid",
         "wrong type for value; expected string; got int"),
        ("{{1 2}}", "1:2", "1", "can't give argument to non-function 1"),
        ("{{nil}}", "1:2", "nil", "nil is not a command"),
        ("{{range .Id}}{{end}}", "1:8", ".Id", "range can't iterate over abc"),
        ('{{slice .Id 1 5 | printf "%s" .Id}}', "1:2", "slice .Id 1 5",
         "error calling slice: index out of range: 5"),
        ("{{.State.ThatIsALongNameOfAField}}", "1:8", ".State.ThatIsALongNa...",
         'map has no entry for key "ThatIsALongNameOfAField"'),
    ],
)  # fmt: skip
def test_execution_errors(source: str, where: str, context: str, message: str) -> None:
    with pytest.raises(template.ExecutionProblem) as caught:
        run(source)
    assert str(caught.value) == f'template: :{where}: executing "" at <{context}>: {message}'


def test_rows_have_fields_and_methods() -> None:
    fields = {"Name": lambda: "web", "_Label": lambda name: f"<{name}>"}
    row = template.Row(fields, "*formatter.X")
    assert run('{{.Name}} {{.Label "a"}} {{json .}}', row) == 'web <a> {"Name":"web"}'
    for source, message in (
        ("{{.Foo}}", "can't evaluate field Foo in type *formatter.X"),
        ("{{.Label}}", "wrong number of args for Label: want 1 got 0"),
        ('{{.Name "x"}}', "can't evaluate field Name in type *formatter.X"),
    ):
        with pytest.raises(template.ExecutionProblem) as caught:
            run(source, row)
        assert str(caught.value).endswith(message)


def test_headers() -> None:
    header = template.Header({"Name": "NAMES"}, "x")
    assert run('{{.Name}} {{.Label "com.example.some-label_x"}}', header) == "NAMES some label x"


@pytest.mark.parametrize(
    "source",
    [
        '{{printf "%999999999d" 1}}',
        '{{pad "x" 10000 1}}',
        '{{printf "%.999999999f" 1.5}}',
    ],
)
def test_templates_cannot_eat_the_memory(source: str) -> None:
    assert len(run(source)) <= 20_001


def test_too_much_is_an_error() -> None:
    with pytest.raises(template.ExecutionProblem, match="more than 10000 spaces"):
        run('{{pad "x" 999999999 1}}')
    with pytest.raises(template.ExecutionProblem, match="MiB of output"):
        run('{{range 1000000}}{{printf "%9999d" 1}}{{end}}')
    with pytest.raises(template.ExecutionProblem, match="range can't iterate"):
        run("{{range 99999999999}}x{{end}}")


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    for source in ("{{" + "(" * 50_000 + "1" + ")" * 50_000 + "}}",
                   "{{if 1}}" * 50_000 + "{{end}}" * 50_000):  # fmt: skip
        with pytest.raises((template.SyntaxProblem, template.ExecutionProblem)):
            run(source)
