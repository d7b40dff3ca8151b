"""References: Docker's grammar, completion and error texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.errors import InvalidArgument
from fastbox.oci import reference as references

D = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest", "familiar"),
    [
        ("redis", "docker.io", "library/redis", None, None, "redis:latest"),
        ("redis:7.2-alpine", "docker.io", "library/redis", "7.2-alpine", None, "redis:7.2-alpine"),
        (f"redis@{D}", "docker.io", "library/redis", None, D, f"redis@{D}"),
        (f"redis:7@{D}", "docker.io", "library/redis", "7", D, f"redis:7@{D}"),
        ("user/app", "docker.io", "user/app", None, None, "user/app:latest"),
        ("docker.io/redis", "docker.io", "library/redis", None, None, "redis:latest"),
        ("index.docker.io/a/b", "docker.io", "a/b", None, None, "a/b:latest"),
        ("localhost/x", "localhost", "x", None, None, "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000", "x", "1", None, "localhost:5000/x:1"),
        ("ghcr.io/a/b/c", "ghcr.io", "a/b/c", None, None, "ghcr.io/a/b/c:latest"),
        ("[::1]:5000/x", "[::1]:5000", "x", None, None, "[::1]:5000/x:latest"),
        ("Foo/bar", "Foo", "bar", None, None, "Foo/bar:latest"),
        ("a__b/c-d---e.f", "docker.io", "a__b/c-d---e.f", None, None, "a__b/c-d---e.f:latest"),
        ("x:" + "t" * 128, "docker.io", "library/x", "t" * 128, None, "x:" + "t" * 128),
        ("library/redis", "docker.io", "library/redis", None, None, "redis:latest"),
        ("docker.io/library/a/b", "docker.io", "library/a/b", None, None, "library/a/b:latest"),
    ],
)
def test_parse(
    text: str, domain: str, path: str, tag: str | None, digest: str | None, familiar: str
) -> None:
    found = references.parse(text)
    assert (found.domain, found.path, found.tag, found.digest) == (domain, path, tag, digest)
    assert found.familiar == familiar
    assert references.parse(found.canonical).canonical == found.canonical
    assert references.parse(found.familiar).canonical == found.canonical
    assert found.canonical.startswith(f"{domain}/{path}")


INVALID = "invalid reference format"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", INVALID),
        (":latest", INVALID),
        ("a:", INVALID),
        ("a:b:c", INVALID),
        ("a b", INVALID),
        ("a\n", INVALID),
        ("a\0", INVALID),
        ("name\uff1atag", INVALID),
        ("../x", INVALID),
        ("a/../b", INVALID),
        ("a//b", INVALID),
        ("/a", INVALID),
        ("a/", INVALID),
        ("-a", INVALID),
        ("a_-b", INVALID),
        ("http://a/b", INVALID),
        ("x:" + "t" * 129, INVALID),
        ("x:.t", INVALID),
        ("a@sha256:abc", INVALID),
        ("a@md5:" + "0" * 32, INVALID + ": unsupported digest algorithm"),
        ("a@sha256:" + "0" * 65, INVALID + ": invalid checksum digest length"),
        ("a@sha256:" + "A" * 64, INVALID + ": invalid checksum digest format"),
        ("Redis", INVALID + ": repository name (library/Redis) must be lowercase"),
        ("library/Foo", INVALID + ": repository name (library/Foo) must be lowercase"),
        ("x.io/A:1", INVALID + ": repository name (A) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal"
         " strings"),
        ("x" * 300, "repository name must not be more than 255 characters"),
        ("%2e%2e/x", INVALID),
    ],
)  # fmt: skip
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        references.parse(text)
    assert str(caught.value) == message


def test_default_tag_is_only_added_where_it_belongs() -> None:
    assert references.parse("a").tagged().tag == "latest"
    assert references.parse("a:1").tagged().tag == "1"
    assert references.parse(f"a@{D}").tagged().tag is None
    assert references.parse("a").canonical == "docker.io/library/a:latest"
    assert references.parse(f"a@{D}").canonical == f"docker.io/library/a@{D}"


@given(st.text(alphabet="aZ0.:/@-_[]\n% \uff1a", max_size=40))
def test_what_parses_is_safe_and_stable(text: str) -> None:
    try:
        found = references.parse(text)
    except InvalidArgument:
        return
    assert ".." not in f"/{found.path}/".split("/")
    assert found.canonical.isascii() and found.canonical.isprintable()
    assert references.parse(found.canonical) == found.tagged()
