"""A real OCI registry (Debian's docker-registry) on a free loopback port.

``Registry.push`` builds an image from layer archives and uploads it with nothing but urllib, so
that the client under test is never used to prepare its own test.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from typing import Any

from .wait import wait_for

USER = "tester"
PASSWORD = "s3cret-word"
# bcrypt of PASSWORD: the only hash that docker-registry reads.
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe\n"

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(data: bytes) -> str:
    """``sha256:HEX`` of data."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class TLS:
    """Files (PEM) of a registry with TLS.

    Args:
        ca: signs its certificate. clients: signs those of clients, which it then wants.
        client: certificate and key with which the tests themselves ask.
    """

    def __init__(
        self,
        ca: str,
        certificate: str,
        key: str,
        *,
        clients: str = "",
        client: tuple[str, str] | None = None,
    ) -> None:
        self.ca = ca
        self.server = {"certificate": certificate, "key": key}
        if clients:
            self.server["clientcas"] = [clients]  # type: ignore[assignment]
        self.client = client

    def context(self) -> ssl.SSLContext:
        """What the tests themselves connect with."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.client:
            context.load_cert_chain(*self.client)
        return context


class Registry:
    """A running registry.

    Attributes:
        host: ``127.0.0.1:PORT``, as the first part of a reference.
        url: ``http://127.0.0.1:PORT``.
        auth: (user, password) that it wants, or None.
        storage: directory of its files (``docker/registry/v2/blobs/…``).
    """

    def __init__(
        self,
        directory: str,
        *,
        auth: bool = False,
        read_only: bool = False,
        tls: TLS | None = None,
    ) -> None:
        self.directory = directory
        self.read_only = read_only
        self.tls = tls
        self.storage = os.path.join(directory, "storage")
        self.auth = (USER, PASSWORD) if auth else None
        self.process: subprocess.Popen[bytes] | None = None
        os.makedirs(self.storage, exist_ok=True)
        self.start()

    def start(self, attempts: int = 5) -> None:
        """Start it on a free port; again on another one if somebody was quicker."""
        program = shutil.which("docker-registry") or shutil.which("registry")
        if program is None:
            raise RuntimeError("docker-registry is not installed (make test installs it)")
        for attempt in range(attempts):
            self.port = free_port()
            self.host = f"127.0.0.1:{self.port}"
            self.url = f"{'https' if self.tls else 'http'}://{self.host}"
            config = os.path.join(self.directory, "config.yml")
            with open(config, "w", encoding="utf-8") as file:
                file.write(self._config())
            with open(os.path.join(self.directory, "log"), "ab") as log:
                self.process = subprocess.Popen(
                    [program, "serve", config], stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            try:
                wait_for(self._answers, "docker-registry to answer")
            except ChildProcessError:
                if attempt + 1 == attempts:
                    raise
            else:
                return

    def _config(self) -> str:
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": self.storage},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.host},
        }
        if self.read_only:
            config["storage"]["maintenance"] = {"readonly": {"enabled": True}}
        if self.tls:
            config["http"]["tls"] = self.tls.server
        if self.auth:
            path = os.path.join(self.directory, "htpasswd")
            with open(path, "w", encoding="utf-8") as file:
                file.write(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": path}}
        return json.dumps(config)  # JSON is YAML

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            with open(os.path.join(self.directory, "log"), encoding="utf-8") as log:
                raise ChildProcessError(f"docker-registry ended: {log.read()[-2000:]}")
        try:
            status, _, _ = self.request("GET", "/v2/", check=False)
        except OSError:
            return False
        return status == 200

    def stop(self) -> None:
        """End the process; the files stay."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def log(self) -> str:
        """Everything that it logged, access log included."""
        path = os.path.join(self.directory, "log")
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    # ---- uploading ---------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        check: bool = True,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; (status, headers with lower-case names, body)."""
        url = path if path.startswith("http") else self.url + path
        known = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, "*/*"))
        request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
        if method in ("GET", "HEAD") and not request.has_header("Accept"):
            request.add_header("Accept", known)
        if self.auth:
            token = base64.b64encode(":".join(self.auth).encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        handlers: list[Any] = [urllib.request.ProxyHandler({})]
        if self.tls:
            handlers.append(urllib.request.HTTPSHandler(context=self.tls.context()))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(request, timeout=30) as answer:
                return (
                    answer.status,
                    {k.lower(): v for k, v in answer.headers.items()},
                    answer.read(),
                )
        except urllib.error.HTTPError as e:
            with contextlib.closing(e):
                body = e.read()
            if check:
                raise AssertionError(f"{method} {url}: {e.code} {body[:500]!r}") from None
            return e.code, {k.lower(): v for k, v in e.headers.items()}, body

    def put_blob(self, repository: str, data: bytes) -> str:
        """Upload a blob; its digest."""
        digest = digest_of(data)
        _, headers, _ = self.request("POST", f"/v2/{repository}/blobs/uploads/", b"")
        location = headers["location"]
        sep = "&" if "?" in location else "?"
        octets = {"Content-Type": "application/octet-stream"}
        self.request("PUT", f"{location}{sep}digest={digest}", data, octets)
        return digest

    def put_manifest(
        self, repository: str, reference: str, manifest: dict[str, Any] | bytes, media_type: str
    ) -> str:
        """Upload a manifest or index under a tag (or digest); its digest."""
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        path = f"/v2/{repository}/manifests/{reference}"
        self.request("PUT", path, data, {"Content-Type": media_type})
        return digest_of(data)

    def push(
        self,
        name: str,
        layers: list[bytes],
        *,
        config: dict[str, Any] | None = None,
        architecture: str = "amd64",
        docker: bool = False,
        compression: str = "gzip",
        created: str = "2024-05-01T10:00:00Z",
    ) -> dict[str, Any]:
        """Build an image of uncompressed layer tars and upload it.

        Args:
            name: ``repository[:tag]``.
            config: the ``config`` part of the image config (Cmd, Env, …).
            docker: Docker's schema 2 media types instead of OCI's.
            compression: ``"gzip"``, ``"zstd"`` or ``"none"``.

        Returns:
            The manifest's descriptor, with ``config`` (digest) and ``manifest`` (dict) added.
        """
        repository, _, tag = name.partition(":")
        image = {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created_by": f"layer {n}"} for n in range(len(layers))],
        }
        config_data = json.dumps(image).encode()
        suffix = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[compression]
        blobs = [compress(layer, compression) for layer in layers]
        media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config_data, DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [
                descriptor(blob, DOCKER_LAYER if docker else OCI_LAYER + suffix) for blob in blobs
            ],
        }
        for blob in [config_data, *blobs]:
            self.put_blob(repository, blob)
        data = json.dumps(manifest).encode()
        self.put_manifest(repository, tag or "latest", data, media_type)
        return {
            **descriptor(data, media_type),
            "platform": {"architecture": architecture, "os": "linux"},
            "config": digest_of(config_data),
            "manifest": manifest,
        }

    def push_index(self, name: str, images: list[dict[str, Any]]) -> dict[str, Any]:
        """Upload an index over images that ``push`` returned."""
        repository, _, tag = name.partition(":")
        keys = ("mediaType", "digest", "size", "platform")
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{key: image[key] for key in keys} for image in images],
        }
        data = json.dumps(index).encode()
        self.put_manifest(repository, tag or "latest", data, OCI_INDEX)
        return descriptor(data, OCI_INDEX)


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    """An OCI descriptor of data."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def compress(data: bytes, how: str) -> bytes:
    """data as gzip, zstd (by the zstd program) or as it is."""
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return subprocess.run(
            ["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True
        ).stdout
    return data


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
