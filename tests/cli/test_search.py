"""``search``, and what ``pull``, ``run`` and ``create`` say of tags, platforms and trust."""

from __future__ import annotations

import json

import pytest

from fastbox.registry.search import SearchResult

from .conftest import Fastbox
from .fake import DIGEST, FakeEngine


@pytest.fixture
def found(fake: FakeEngine) -> list[SearchResult]:
    long = "An in-memory database that persists on the disk"
    fake.found = [
        SearchResult(name="redis", description=long, star_count=12000, is_official=True),
        SearchResult(name="me/redis", star_count=1, is_automated=True),
    ]
    return fake.found


def test_a_table(fastbox: Fastbox, fake: FakeEngine, found: list[SearchResult]) -> None:
    assert fastbox("search", "redis").out == (
        "NAME       DESCRIPTION                                     STARS     OFFICIAL\n"
        "redis      An in-memory database that persists on the d…   12000     [OK]\n"
        "me/redis                                                   1         \n"
    )
    assert fake.calls[-1] == ("search", ("redis",), {"limit": 0, "filters": {}})
    assert "persists on the disk   " in fastbox("search", "--no-trunc", "redis").out


def test_formats(fastbox: Fastbox, found: list[SearchResult]) -> None:
    text = "{{.Name}}: {{.StarCount}} {{.IsOfficial}}{{.IsAutomated}}"
    assert fastbox("search", "--format", text, "redis").out == (
        "redis: 12000 [OK]\nme/redis: 1 [OK]\n"
    )
    head = fastbox("search", "--format", "table {{.Name}}\t{{.IsAutomated}}", "x").out
    assert head.startswith("NAME       AUTOMATED\n")
    assert '"StarCount":"12000"' in fastbox("search", "--format", "json", "x").out
    line = fastbox("search", "--format", "{{json .}}", "x").out.splitlines()[0]
    assert list(json.loads(line)) == sorted(json.loads(line))


def test_flags(fastbox: Fastbox, fake: FakeEngine, found: list[SearchResult]) -> None:
    words = ("--limit", "5", "-f", "stars=3", "--filter", "is-official=true", "redis")
    assert fastbox("search", *words).code == 0
    wanted = {"limit": 5, "filters": {"stars": ["3"], "is-official": ["true"]}}
    assert fake.calls[-1][2] == wanted
    result = fastbox("search", "-f", "is-automated=true", "redis")
    assert result.code == 0
    assert result.err == (
        'WARNING: the "is-automated" filter is deprecated, and searching for'
        ' "is-automated=true" will not yield any results in future.\n'
    )


def test_bad_flags(fastbox: Fastbox) -> None:
    assert "requires 1 argument" in fastbox("search").err
    result = fastbox("search", "-limit=5", "redis")
    assert result.code == 125
    assert result.err.startswith("unknown shorthand flag: 'l' in -limit=5\n")
    assert fastbox("search", "--limit", "many", "redis").code == 125


# ---- pull ----------------------------------------------------------------------------------------


def test_all_tags(fastbox: Fastbox, fake: FakeEngine) -> None:
    assert fastbox("pull", "-a", "redis").out == (
        "6: Pulling from library/redis\n"
        "aaa: Pull complete\n"
        f"Digest: {DIGEST}\n"
        "7: Pulling from library/redis\n"
        "aaa: Pull complete\n"
        f"Digest: {DIGEST}\n"
        "Status: Downloaded newer image for redis\n"
        "docker.io/library/redis\n"
    )
    assert fastbox("pull", "-aq", "redis").out == "docker.io/library/redis\n"
    for name in ("redis:6", f"redis@{DIGEST}"):
        result = fastbox("pull", "-a", name)
        assert (result.code, result.err) == (1, "tag can't be used with --all-tags/-a\n")


def test_platforms(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    fastbox("pull", "--platform", "linux/arm64", "redis")
    assert fake.calls[-1][2]["platform"] == "linux/arm64"
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/s390x")
    fastbox("pull", "redis")
    assert fake.calls[-1][2]["platform"] == "linux/s390x"
    fastbox("pull", "--all-platforms", "redis")
    assert fake.calls[-1][2]["platform"] is None
    assert fake.calls[-1][2]["all_platforms"] is True


# ---- content trust -------------------------------------------------------------------------------

COMMANDS = (["pull", "redis"], ["create", "redis"], ["run", "redis"])


@pytest.mark.parametrize("words", COMMANDS, ids=["pull", "create", "run"])
@pytest.mark.parametrize(
    ("variable", "flag", "refused"),
    [
        ("", "", False),
        ("0", "", False),
        ("false", "", False),
        ("", "--disable-content-trust", False),
        ("1", "--disable-content-trust=true", False),
        ("1", "", True),
        ("yes", "", True),
        ("", "--disable-content-trust=false", True),
    ],
)
def test_content_trust(
    fastbox: Fastbox,
    fake: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    variable: str,
    flag: str,
    refused: bool,
) -> None:
    monkeypatch.setenv("DOCKER_CONTENT_TRUST", variable)
    result = fastbox(words[0], *([flag] if flag else []), *words[1:])
    if not refused:
        assert result.code == 0, result.err
        return
    asked = flag or f"DOCKER_CONTENT_TRUST={variable}"
    assert f"{asked}: content trust (signatures of Docker's Notary) is not supported" in result.err
    assert result.code == (1 if words[0] == "pull" else 125 if words[0] == "run" else 1)
    assert fake.calls == []


# ---- info ----------------------------------------------------------------------------------------


def test_registries_in_info(
    fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = fake.info()
    facts["ConfigurationFiles"] = ["/etc/fastbox/config.toml"]
    facts["RegistryConfig"] = {
        "IndexConfigs": {"docker.io": {"Secure": True}, "reg.example:5000": {"Secure": False}},
        "InsecureRegistryCIDRs": ["10.0.0.0/8", "::1/128", "127.0.0.0/8"],
        "Mirrors": ["https://mirror.example/"],
    }
    monkeypatch.setattr(fake, "info", lambda: facts)
    assert fastbox("info").out.endswith(
        " Insecure Registries:\n  reg.example:5000\n  10.0.0.0/8\n  ::1/128\n  127.0.0.0/8\n"
        " Registry Mirrors:\n  https://mirror.example/\n"
        " Configuration Files:\n  /etc/fastbox/config.toml\n"
    )
