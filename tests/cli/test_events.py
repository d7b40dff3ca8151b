"""``fastbox events``: its flags, formats and errors, over an engine with prepared events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from fastbox.errors import InvalidArgument
from fastbox.events.event import Event
from tests.cli.conftest import Fastbox
from tests.cli.fake import ID, IMAGE_ID, FakeEngine

START = Event(
    type="container",
    action="start",
    id=ID,
    attributes={"name": "web", "image": "redis", "b.c": "<x> & y", "a": ""},
    time_ns=1_483_547_758_859_401_177,
)
TAG = Event(type="image", action="tag", id=IMAGE_ID, attributes={"name": "x:1"}, time_ns=5)
BARE = Event(type="volume", action="destroy", id="data", time_ns=1_000_000_000)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("UTC0", "2017-01-04T16:35:58.859401177Z"),
        ("CST-8", "2017-01-05T00:35:58.859401177+08:00"),
        ("NST3:30", "2017-01-04T13:05:58.859401177-03:30"),
    ],
)
def test_the_default_line(
    fastbox: Fastbox, fake: FakeEngine, zone: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    zone.setenv("TZ", name)
    time.tzset()
    fake.happened = [START]
    attributes = "(a=, b.c=<x> & y, image=redis, name=web)"
    assert fastbox("events").out == f"{shown} container start {ID} {attributes}\n"


def test_an_event_without_attributes(
    fastbox: Fastbox, fake: FakeEngine, zone: pytest.MonkeyPatch
) -> None:
    zone.setenv("TZ", "UTC0")
    time.tzset()
    fake.happened = [BARE]
    assert fastbox("events").out == "1970-01-01T00:00:01.000000000Z volume destroy data\n"


def test_a_label_does_not_drive_the_terminal(fastbox: Fastbox, fake: FakeEngine) -> None:
    hostile = {"name": "web", "x": "\x1b[2J\n2017 container die\r\t\x9b\x7fé"}
    fake.happened = [Event(type="container", action="start", id=ID, attributes=hostile)]
    out = fastbox("events").out
    assert out.endswith("(name=web, x=\\x1b[2J\\n2017 container die\\r\\t\\x9b\\x7fé)\n")
    assert out.count("\n") == 1


def test_json(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.happened = [START, TAG, BARE]
    lines = fastbox("events", "--format", "json").out.splitlines()
    assert lines[0] == (
        '{"status":"start","id":"ID","from":"redis","Type":"container","Action":"start",'
        '"Actor":{"ID":"ID","Attributes":{"a":"","b.c":"<x> & y","image":"redis","name":"web"}},'
        '"scope":"local","time":1483547758,"timeNano":1483547758859401177}'
    ).replace(':"ID"', f':"{ID}"')
    assert list(json.loads(lines[1])) == [
        "status", "id", "Type", "Action", "Actor", "scope", "time", "timeNano",
    ]  # fmt: skip
    assert lines[2] == (
        '{"Type":"volume","Action":"destroy","Actor":{"ID":"data","Attributes":{}},'
        '"scope":"local","time":1,"timeNano":1000000000}'
    )
    assert fastbox("events", "--format", "{{json .}}").out.splitlines() == lines


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Type}}/{{.Action}} {{.Scope}} {{.Time}} {{.TimeNano}}",
         "container/start local 1483547758 1483547758859401177"),
        ("{{.Status}} {{.ID}} {{.From}}", f"start {ID} redis"),
        ("{{.Actor.ID}} {{.Actor.Attributes.name}}", f"{ID} web"),
        ("{{.Actor.Attributes.nothing}}", "<no value>"),
        ('{{index .Actor.Attributes "b.c"}}', "<x> & y"),
        ("{{if .Actor.Attributes.nothing}}yes{{else}}no{{end}}", "no"),
        ("{{range $k, $v := .Actor.Attributes}}{{$k}}:{{$v}},{{end}}",
         "a:,b.c:<x> & y,image:redis,name:web,"),
        ("{{json .Actor.Attributes}}",
         '{"a":"","b.c":"<x> & y","image":"redis","name":"web"}'),
        ("plain", "plain"),
    ],
)  # fmt: skip
def test_templates(fastbox: Fastbox, fake: FakeEngine, template: str, text: str) -> None:
    fake.happened = [START]
    assert fastbox("events", "--format", template).out == text + "\n"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{", "Error parsing format: template: :1: unclosed action"),
        (
            "{{.Foo}}",
            'Error parsing format: template: :1:2: executing "" at <.Foo>: can\'t evaluate field '
            "Foo in type *events.Message",
        ),
    ],
)
def test_a_bad_template_is_told_before_anything_is_asked(
    fastbox: Fastbox, fake: FakeEngine, template: str, text: str
) -> None:
    done = fastbox("events", "--format", template)
    assert (done.code, done.err, fake.calls) == (64, text + "\n", [])


def test_what_is_asked(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("events")
    assert fake.asked("events") == ((None, None, {}), {})
    fake.calls.clear()
    fastbox(
        "system", "events", "--since", "10m", "--until", "2026-01-02", "-f", "type=image",
        "--filter", "event=tag", "-f", "event=untag",
    )  # fmt: skip
    filters = {"type": ["image"], "event": ["tag", "untag"]}
    assert fake.asked("events") == (("10m", "2026-01-02", filters), {})


def test_errors(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["events"] = InvalidArgument("invalid filter 'foo'")
    done = fastbox("events", "--filter", "foo=bar")
    assert (done.code, done.err) == (1, "Error: invalid filter 'foo'\n")
    done = fastbox("events", "redis")
    assert done.code == 1
    assert "'fastbox events' accepts no arguments" in done.err
