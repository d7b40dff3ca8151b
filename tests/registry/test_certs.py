"""Docker's ``certs.d``: private authorities and client certificates, with a real registry."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from fastbox.errors import InvalidArgument, RegistryError
from fastbox.image.store import ImageStore
from fastbox.registry import tls
from tests.support.registry import TLS, Registry

from .conftest import Puller, layer
from .world import Authority


@pytest.fixture
def server_certificate(authority: Authority) -> str:
    """Path, without ending, of a certificate for 127.0.0.1."""
    authority.context("IP:127.0.0.1")
    return os.path.join(authority.directory, "IP-127.0.0.1-20")


@pytest.fixture
def certs_d(base: str, monkeypatch: pytest.MonkeyPatch) -> str:
    path = os.path.join(base, "certs.d")
    monkeypatch.setattr(tls, "CERTS_D", (os.path.join(base, "none"), path))
    return path


@pytest.fixture
def secure(base: str, server_certificate: str, authority: Authority) -> Iterator[Registry]:
    """A registry with TLS that has ``app``."""
    yield from _registry(base, server_certificate, authority, mutual=False)


@pytest.fixture
def mutual(base: str, server_certificate: str, authority: Authority) -> Iterator[Registry]:
    """One that wants a client certificate."""
    yield from _registry(base, server_certificate, authority, mutual=True)


def _registry(base: str, stem: str, authority: Authority, *, mutual: bool) -> Iterator[Registry]:
    pair = (f"{stem}.crt", f"{stem}.key")
    clients = {"clients": authority.ca, "client": pair} if mutual else {}
    files = TLS(authority.ca, *pair, **clients)  # type: ignore[arg-type]
    server = Registry(os.path.join(base, "registry"), tls=files)
    server.push("app", [layer("a")])
    yield server
    server.stop()


def put(certs_d: str, host: str, **files: str) -> str:
    """Copy files into the host's directory; its path."""
    directory = os.path.join(certs_d, host)
    os.makedirs(directory, exist_ok=True)
    for name, source in files.items():
        shutil.copy(source, os.path.join(directory, name.replace("_", ".")))
    return directory


def test_a_private_authority(
    secure: Registry, certs_d: str, authority: Authority, store: ImageStore
) -> None:
    pull = Puller(store, secure.host)
    with pytest.raises(RegistryError, match="certificate verification failed"):
        pull("app")
    put(certs_d, "127.0.0.1", ca_crt=authority.ca)  # without the port it is another registry
    with pytest.raises(RegistryError, match="certificate verification failed"):
        pull("app")
    put(certs_d, secure.host, ca_crt=authority.ca)
    assert pull("app").status == "downloaded"


def test_a_client_certificate(
    mutual: Registry,
    certs_d: str,
    authority: Authority,
    store: ImageStore,
    server_certificate: str,
) -> None:
    pull = Puller(store, mutual.host)
    put(certs_d, mutual.host, ca_crt=authority.ca)
    with pytest.raises(RegistryError) as caught:
        pull("app")
    assert "\n" not in str(caught.value)
    assert mutual.host in str(caught.value)
    put(
        certs_d,
        mutual.host,
        client_cert=server_certificate + ".crt",
        client_key=server_certificate + ".key",
    )
    assert pull("app").status == "downloaded"


HOST = "registry.example:5000"


def test_half_a_pair(certs_d: str, server_certificate: str) -> None:
    directory = put(certs_d, HOST, client_cert=server_certificate + ".crt")
    with pytest.raises(InvalidArgument) as caught:
        tls.context(HOST)
    assert str(caught.value) == (
        "missing key client.key for client certificate client.cert."
        " CA certificates must use the extension .crt"
    )
    os.rename(f"{directory}/client.cert", f"{directory}/client.key")
    with pytest.raises(InvalidArgument) as caught:
        tls.context(HOST)
    assert str(caught.value) == "missing client certificate client.cert for key client.key"
    tls.context("other.example:5000")


@pytest.mark.parametrize("name", ["ca.crt", "client.cert"])
def test_files_that_are_no_certificates(certs_d: str, server_certificate: str, name: str) -> None:
    directory = put(certs_d, HOST, client_key=server_certificate + ".key")
    if name == "ca.crt":
        os.remove(f"{directory}/client.key")
    with open(f"{directory}/{name}", "w") as file:
        file.write("no certificate")
    with pytest.raises(InvalidArgument) as caught:
        tls.context(HOST)
    assert str(caught.value).startswith(f"cannot use the certificate {directory}/{name}: ")
    assert "\n" not in str(caught.value)


def test_the_key_of_another_certificate(certs_d: str, server_certificate: str, base: str) -> None:
    key = os.path.join(base, "other.key")
    subprocess.run(
        ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", key],
        check=True,
        capture_output=True,
    )
    put(certs_d, HOST, client_cert=server_certificate + ".crt", client_key=key)
    with pytest.raises(InvalidArgument, match="cannot use the certificate"):
        tls.context(HOST)


def test_a_directory_that_cannot_be_read(certs_d: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(InvalidArgument, match=r"^open .*/registry.example:5000: permission denied"):
        tls.context(HOST)
