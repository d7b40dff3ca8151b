"""Dockerfile instructions on a config: Docker's forms and Docker's complaints."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.errors import InvalidArgument
from fastbox.image.changes import apply
from fastbox.image.words import expand, split_words
from fastbox.oci.image import Defaults

SHELL = ["/bin/sh", "-c"]


def changed(*changes: str, config: Defaults | None = None) -> object:
    return msgspec.to_builtins(apply(config, changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["CMD echo $HOME"], {"Cmd": [*SHELL, "echo $HOME"]}),
        (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
        (["CMD []"], {"Cmd": []}),
        (['CMD ["a" "b"]'], {"Cmd": [*SHELL, '["a" "b"]']}),
        (["cmd a"], {"Cmd": [*SHELL, "a"]}),
        (['ENTRYPOINT ["/e"]'], {"Entrypoint": ["/e"]}),
        (["ENTRYPOINT /e x"], {"Entrypoint": [*SHELL, "/e x"]}),
        (["CMD a", "ENTRYPOINT []"], {"Cmd": [*SHELL, "a"]}),
        (["ENV A=1"], {"Env": ["A=1"]}),
        (["ENV A=1 B=2"], {"Env": ["A=1", "B=2"]}),
        (["ENV A one two"], {"Env": ["A=one two"]}),
        (['ENV A="x y" B=x\\ y C=\'$A\''], {"Env": ["A=x y", "B=x y", "C=$A"]}),
        (["ENV A=1", "ENV B=$A-${A}-${N:-d}-${A:+p}"], {"Env": ["A=1", "B=1-1-d-p"]}),
        (["ENV A=1", "ENV A=2 B=$A"], {"Env": ["A=2", "B=1"]}),
        (["ENV A="], {"Env": ["A="]}),
        (["ENV A=b=c"], {"Env": ["A=b=c"]}),
        (["EXPOSE 80"], {"ExposedPorts": {"80/tcp": {}}}),
        (["EXPOSE 53/UDP 80/tcp"], {"ExposedPorts": {"53/udp": {}, "80/tcp": {}}}),
        (["EXPOSE 1-3"], {"ExposedPorts": {"1/tcp": {}, "2/tcp": {}, "3/tcp": {}}}),
        (["ENV P=9", "EXPOSE $P"], {"Env": ["P=9"], "ExposedPorts": {"9/tcp": {}}}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (["HEALTHCHECK CMD x || y"], {"Healthcheck": {"Test": ["CMD-SHELL", "x || y"]}}),
        (
            ['HEALTHCHECK --interval=1m30s --timeout=5s --retries=2 CMD ["x"]'],
            {"Healthcheck": {"Test": ["CMD", "x"], "Interval": 90 * 10**9, "Timeout": 5 * 10**9,
                             "Retries": 2}},
        ),
        (["LABEL a=b", 'LABEL "c d"="e f" g=h'], {"Labels": {"a": "b", "c d": "e f", "g": "h"}}),
        (["ONBUILD RUN x", "ONBUILD COPY . ."], {"OnBuild": ["RUN x", "COPY . ."]}),
        (["STOPSIGNAL SIGQUIT"], {"StopSignal": "SIGQUIT"}),
        (["STOPSIGNAL 9"], {"StopSignal": "9"}),
        (["STOPSIGNAL RTMIN+3"], {"StopSignal": "RTMIN+3"}),
        (["USER 1000:1000"], {"User": "1000:1000"}),
        (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["WORKDIR /a", "WORKDIR b/../c"], {"WorkingDir": "/a/c"}),
        (["WORKDIR x"], {"WorkingDir": "/x"}),
        (["WORKDIR /a/../.."], {"WorkingDir": "/"}),
        (["# nothing", "", "CMD a \\\n  b"], {"Cmd": [*SHELL, "a   b"]}),
        (["ENV A=1\nENV B=2"], {"Env": ["A=1", "B=2"]}),
    ],
)  # fmt: skip
def test_instructions(changes: list[str], expected: object) -> None:
    assert changed(*changes) == expected


def test_a_config_is_extended_and_not_changed() -> None:
    config = Defaults(cmd=["old"], env=["A=1"], labels={"x": "y"}, shell=["/bin/bash", "-c"])
    assert changed("ENV A=2", "LABEL z=1", "CMD hi", config=config) == {
        "Env": ["A=2"], "Labels": {"x": "y", "z": "1"}, "Cmd": ["/bin/bash", "-c", "hi"],
        "Shell": ["/bin/bash", "-c"],
    }  # fmt: skip
    # An entrypoint takes the inherited command away, but not one that came with it.
    assert changed("ENTRYPOINT e", config=Defaults(cmd=["old"])) == {"Entrypoint": [*SHELL, "e"]}
    assert config.env == ["A=1"] and config.labels == {"x": "y"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("FROM x", "FROM is not a valid change command"),
        ("RUN x", "RUN is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ('CMD ["a", 1]', "When using JSON array syntax, arrays must be comprised of strings only."),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV =1", "ENV names can not be blank"),
        ("ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
        ("ENV A=${B", "syntax error: missing '}'"),
        ("LABEL a", "LABEL must have two arguments"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("EXPOSE 9-8", "invalid containerPort: 9-8"),
        ("EXPOSE 80/xyz", "invalid proto: xyz"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK foo", 'Unknown type "foo" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --interval=x CMD x", 'time: invalid duration "x"'),
        ("HEALTHCHECK --nope=1 CMD x", "unknown flag: --nope"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("STOPSIGNAL SIGNOPE", "Invalid signal: SIGNOPE"),
        ("STOPSIGNAL 65", "Invalid signal: 65"),
        ("USER", "USER requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
    ],
)
def test_complaints(change: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        apply(None, [change])
    assert str(caught.value) == message


@given(st.text(max_size=60))
def test_any_text_is_an_instruction_or_an_error(text: str) -> None:
    for name in ("ENV ", "LABEL ", "CMD ", "EXPOSE ", "HEALTHCHECK ", "VOLUME ", ""):
        try:
            result = apply(None, [name + text])
        except InvalidArgument:
            continue
        for entry in result.env or []:
            assert entry.partition("=")[0]


@given(st.text(alphabet="a ${}:-+?\\\"'B_9", max_size=40))
def test_expansion_ends(text: str) -> None:
    try:
        expand(text, {"a": "1", "B": "$a"})
    except InvalidArgument:
        pass


def test_nested_variables_have_a_limit() -> None:
    assert expand("${A:-${B:-${C:-x}}}", {}) == "x"
    with pytest.raises(InvalidArgument, match=r"nested too deep"):
        expand("${A:-" * 1000 + "}" * 1000, {})


def test_words_keep_their_quotes() -> None:
    assert split_words('a \'b c\' "d\\" e" f\\ g') == ["a", "'b c'", '"d\\" e"', "f\\ g"]


def test_one_instruction_is_a_list_of_it() -> None:
    assert apply(None, 'CMD ["a", "b"]').cmd == ["a", "b"]
