"""``import``: sources, compressions, configs; and archives that are none."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import lzma
import os
import re
import subprocess
import threading
from collections.abc import Iterator

import pytest

from fastbox.errors import (
    ArchiveError,
    FastboxError,
    InvalidArgument,
    RegistryError,
    StoreError,
)
from fastbox.image.importer import import_image
from fastbox.image.store import ImageStore
from fastbox.oci import digest as digests
from tests.image.build import leftovers, tar

CONTENT = b"content " * 100_000
ARCHIVE = tar({"file": CONTENT})


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


FORMS = {
    "plain": ARCHIVE,
    "gzip": gzip.compress(ARCHIVE),
    "zstd": zstd(ARCHIVE),
    "xz": lzma.compress(ARCHIVE),
    "xz-two-streams": lzma.compress(ARCHIVE[:5000]) + bytes(8) + lzma.compress(ARCHIVE[5000:]),
    "bzip2": bz2.compress(ARCHIVE),
    "bzip2-two-streams": bz2.compress(ARCHIVE[:5000]) + bz2.compress(ARCHIVE[5000:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_compression_gives_the_same_layer(store: ImageStore, form: str) -> None:
    image = import_image(store, io.BytesIO(FORMS[form]), "a/b:1")
    assert image.layers == [digests.of(ARCHIVE)]
    assert image.names == ["docker.io/a/b:1"]
    assert image.size == len(CONTENT)
    directory = store.layer_dir(image.layers[0])
    assert directory is not None
    with open(os.path.join(directory, "file"), "rb") as file:
        assert file.read() == CONTENT
    kept = FORMS[form] if form in ("plain", "gzip", "zstd") else ARCHIVE
    assert image.layer_blobs == [digests.of(kept)]
    manifest = store.load(store.entries()[0]).manifest
    suffix = {"gzip": "+gzip", "zstd": "+zstd"}.get(form, "")
    assert manifest.layers[0].media_type == f"application/vnd.oci.image.layer.v1.tar{suffix}"
    assert manifest.layers[0].size == len(kept)


def test_path_with_changes_message_and_platform(store: ImageStore, base: str) -> None:
    path = os.path.join(base, "root fs.tar")
    with open(path, "wb") as file:
        file.write(ARCHIVE)
    image = import_image(
        store, path, changes=['CMD ["x"]', "ENV A=1"], message="made by hand",
        platform="linux/arm/v6",
    )  # fmt: skip
    assert image.names == []
    assert (image.os, image.architecture, image.variant) == ("linux", "arm", "v6")
    assert image.config["config"] == {"Cmd": ["x"], "Env": ["A=1"]}
    assert image.config["comment"] == "made by hand"
    assert image.config["history"] == [{"created": image.created, "comment": "made by hand"}]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", image.created)
    assert import_image(store, path).config["comment"] == f"Imported from {path}"


def test_standard_input_may_be_a_pipe(store: ImageStore) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(writer)
            os.dup2(reader, 0)
            import_image(store, "-", "piped")
            status = 0
        finally:
            os._exit(status)
    os.close(reader)
    with open(writer, "wb") as file:
        file.write(ARCHIVE)
    assert os.waitpid(pid, 0)[1] == 0
    image = store.resolve("piped")
    assert image.layers == [digests.of(ARCHIVE)]
    assert image.config["comment"] == "Imported from -"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
        elif path in ("/file", "/short"):
            body = FORMS["gzip"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if path == "/file" else body[:-100])
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_url(store: ImageStore, server: str) -> None:
    for path in ("/file", "/moved"):
        image = import_image(store, server + path, "u")
        assert image.layers == [digests.of(ARCHIVE)]


@pytest.mark.parametrize(
    ("path", "message"),
    [("/none?token=secret", "HTTP status 404"), ("/short?token=secret", "IncompleteRead")],
)
def test_url_that_gives_no_archive(
    root: str, store: ImageStore, server: str, path: str, message: str
) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        import_image(store, server + path, "u")
    assert "secret" not in str(caught.value)
    assert store.images() == [] and leftovers(root) == []


def test_url_where_nobody_answers(store: ImageStore) -> None:
    with pytest.raises(RegistryError, match=r"http://127.0.0.1:1/x: connection refused$"):
        import_image(store, "http://127.0.0.1:1/x", "u")


BAD = {
    "empty": (b"", "the archive is empty"),
    "text": (b"this is no archive\n" * 1000, "cannot unpack"),
    "truncated": (ARCHIVE[:-30_000], "cannot unpack"),
    "truncated gzip": (FORMS["gzip"][:-20], "cannot unpack"),
    "truncated zstd": (FORMS["zstd"][:-20], "cannot unpack"),
    "truncated xz": (FORMS["xz"][:-20], "the xz archive is truncated"),
    "truncated bzip2": (FORMS["bzip2"][:-20], "the bzip2 archive is truncated"),
    "garbage xz": (b"\xfd7zXZ\x00" + bytes(1000), "the xz archive is malformed"),
    "garbage bzip2": (b"BZh9" + bytes(1000), "the bzip2 archive is malformed"),
    "garbage after xz": (FORMS["xz"] + b"garbage " * 10, "the xz archive is malformed"),
    "compressed nothing": (gzip.compress(b"not a tar" * 1000), "cannot unpack"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_archives_leave_nothing(root: str, store: ImageStore, name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(ArchiveError, match=message) as caught:
        import_image(store, io.BytesIO(data), "bad")
    assert "\n" not in str(caught.value)
    assert store.images() == [] and store.layers.names() == [] and store.blobs.digests() == []
    assert leftovers(root) == []


class Failing(io.RawIOBase):
    """Gives half an archive, then fails."""

    def __init__(self, error: BaseException) -> None:
        self.data = io.BytesIO(ARCHIVE[: len(ARCHIVE) // 2])
        self.error = error

    def read(self, size: int = -1) -> bytes:
        data = self.data.read(min(size, 65536))
        if not data:
            raise self.error
        return data


@pytest.mark.parametrize(
    ("error", "expected"),
    [(OSError(5, "Input/output error"), StoreError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_source_that_fails_leaves_nothing(
    root: str, store: ImageStore, error: BaseException, expected: type[BaseException]
) -> None:
    with pytest.raises(expected):
        import_image(store, Failing(error), "bad")  # type: ignore[arg-type]
    assert store.images() == [] and store.layers.names() == [] and leftovers(root) == []


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("/nonexistent/x.tar", {}, "open /nonexistent/x.tar: no such file or directory"),
        ("nul\0", {}, "open nul"),
        ("{base}", {}, "is a directory"),
        ("{base}/a", {"reference": "A"}, "must be lowercase"),
        ("{base}/a", {"reference": "a@sha256:" + "1" * 64}, "cannot import digest reference"),
        ("{base}/a", {"changes": ["RUN x"]}, "RUN is not a valid change command"),
        ("{base}/a", {"platform": "a/b/c/d"}, "unknown operating system or architecture"),
    ],
)
def test_bad_arguments(
    root: str, store: ImageStore, base: str, source: str, options: dict[str, object], message: str
) -> None:
    with open(os.path.join(base, "a"), "wb") as file:
        file.write(ARCHIVE)
    with pytest.raises(FastboxError, match=re.escape(message)) as caught:
        import_image(store, source.format(base=base), **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, InvalidArgument | StoreError)
    assert store.images() == [] and leftovers(root) == []


def test_a_file_object_must_give_bytes(store: ImageStore) -> None:
    with pytest.raises(InvalidArgument, match=r"give bytes"):
        import_image(store, io.StringIO("text"))  # type: ignore[arg-type]


def test_bytes_that_are_not_text(store: ImageStore, base: str) -> None:
    path = f"{base}/a\udcffb.tar"
    with open(path, "wb") as file:
        file.write(tar({"file": b"x"}))
    with pytest.raises(InvalidArgument, match=r"^the commit message is not UTF-8 text$"):
        import_image(store, path, message="a\udcffb")
    assert leftovers(store.root) == [] and store.images() == []
    assert import_image(store, path).config["comment"] == f"Imported from {base}/a\ufffdb.tar"
