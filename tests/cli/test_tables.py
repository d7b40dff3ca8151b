"""Columns, and the forms of --format."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from fastbox.cli.tables import align
from tests.cli.conftest import Fastbox
from tests.cli.fake import FakeEngine, volume


def test_columns_are_ten_wide_at_least_with_three_spaces_between() -> None:
    assert align(["A\tB\tC", "1\tlonger than ten\t3"]) == (
        "A         B                 C\n1         longer than ten   3\n"
    )


def test_the_last_cell_is_not_padded_but_an_empty_one_has_its_column() -> None:
    assert align(["A\tB\tC", "1\t\t3", "1\t2\t"]) == (
        "A         B         C\n1                   3\n1         2         \n"
    )


def test_characters_count_not_bytes() -> None:
    assert align(["é…日abcdefghi\tx", "a\tb"]) == "é…日abcdefghi   x\na              b\n"


def test_a_column_ends_where_lines_have_no_cell_there() -> None:
    """As in Go's tabwriter: widths are those of neighbouring lines."""
    assert align(["long long long\tx", "no tab", "a\tb"]) == (
        "long long long   x\nno tab\na         b\n"
    )


def test_nothing() -> None:
    assert align([]) == ""
    assert align([""]) == "\n"


@pytest.fixture
def two(fake: FakeEngine) -> None:
    fake.kept = [volume("data", labels={"a.b": "<1>"}), volume("db")]


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("table", "DRIVER    VOLUME NAME\nlocal     data\nlocal     db\n"),
        ("{{.Name}}", "data\ndb\n"),
        ("{{.Name}}\\t{{.Driver}}", "data\tlocal\ndb\tlocal\n"),
        (
            "table {{.Name}}\\t{{.Driver}}",
            "VOLUME NAME   DRIVER\ndata          local\ndb            local\n",
        ),
        (
            'table {{.Label "a.b"}}\t{{.Name}}',
            "b         VOLUME NAME\n<1>       data\n          db\n",
        ),
        ("plain", "plain\nplain\n"),
        (
            "json",
            '{"Availability":"N/A","Driver":"local","Group":"N/A","Labels":"a.b=\\u003c1\\u003e",'
            '"Links":"N/A","Mountpoint":"/store/volumes/data/_data","Name":"data","Scope":"local",'
            '"Size":"N/A","Status":"N/A"}\n'
            '{"Availability":"N/A","Driver":"local","Group":"N/A","Labels":"","Links":"N/A",'
            '"Mountpoint":"/store/volumes/db/_data","Name":"db","Scope":"local","Size":"N/A",'
            '"Status":"N/A"}\n',
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("two")
def test_formats(fastbox: Fastbox, format: str, text: str) -> None:
    result = fastbox("volume", "ls", "--format", format)
    assert (result.code, result.err) == (0, "")
    assert result.out == text


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("{{", "template parsing error: template: :1: unclosed action"),
        (
            "{{.Foo}}",
            'template parsing error: template: :1:2: executing "" at <.Foo>: can\'t evaluate field '
            "Foo in type *formatter.volumeContext",
        ),
    ],
)
@pytest.mark.usefixtures("two")
def test_bad_formats(fastbox: Fastbox, format: str, message: str) -> None:
    result = fastbox("volume", "ls", "--format", format)
    assert (result.code, result.out, result.err) == (1, "", f"{message}\n")


@given(
    strategies.integers(1, 4).flatmap(
        lambda cells: strategies.lists(
            strategies.lists(strategies.text("aé日 ", max_size=15), min_size=cells, max_size=cells),
            min_size=1,
            max_size=4,
        )
    )
)
def test_align_a_whole_table(rows: list[list[str]]) -> None:
    """Lines of as many cells each go another way, to the same end."""
    lines = ["\t".join(row) for row in rows]
    # A line with fewer cells behind the others: the columns before it stay what they are.
    assert align([*lines, ""]) == align(lines) + "\n"
