"""Pushes to Debian's docker-registry, read back by skopeo and umoci; the commands around them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastbox.errors import AuthError, RegistryError
from fastbox.image.pull import pull
from fastbox.image.push import push
from fastbox.image.store import ImageStore
from fastbox.registry import tls
from tests.image.build import put
from tests.support.command import Command
from tests.support.registry import TLS, Registry, digest_of
from tests.support.wait import wait_for

from .conftest import QUICK, Secrets, layer
from .cutting import cutting
from .test_real_registry import Layout, skopeo
from .world import Authority


@pytest.fixture
def layout(base: str) -> Layout:
    return Layout(os.path.join(base, "layout"))


def test_skopeo_and_umoci_read_what_was_pushed(
    registry: Registry, store: ImageStore, base: str
) -> None:
    registry.push("push/source:1", [layer("etc/one"), layer("etc/two", seed=1)])
    pull(store, f"{registry.host}/push/source:1")
    name = f"{registry.host}/push/target:2"
    store.tag(f"{registry.host}/push/source:1", name)
    (result,) = push(store, name)
    assert "mount=" in registry.log()
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert digest_of(raw.encode()) == result.digest
    copy = os.path.join(base, "copy")
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{copy}:x")
    bundle = os.path.join(base, "bundle")
    subprocess.run(
        ["umoci", "unpack", "--image", f"{copy}:x", bundle], check=True, capture_output=True
    )
    assert sorted(os.listdir(os.path.join(bundle, "rootfs", "etc"))) == ["one", "two"]


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_pulled_images_are_pushed_byte_for_byte(
    registry: Registry, layout: Layout, store: ImageStore, form: str
) -> None:
    entry = layout.image([(layer("a"), "gzip"), (layer("b"), "none")])
    source = f"{registry.host}/push/{form}:1"
    skopeo("copy", "--dest-tls-verify=false", f"--format={form}", layout.name(entry, "x"),
           f"docker://{source}")  # fmt: skip
    pulled = pull(store, source)
    target = f"{registry.host}/push/{form}-copy:1"
    store.tag(source, target)
    (result,) = push(store, target)
    assert result.digest == pulled.digest


def test_an_index_that_skopeo_wrote_into_the_store(
    registry: Registry, layout: Layout, store: ImageStore
) -> None:
    images = [layout.image([(layer(machine), "gzip")], machine) for machine in ("amd64", "arm64")]
    index = layout.index(images)
    store.prepare()
    name = f"{registry.host}/push/multi:1"
    skopeo("copy", "--all", layout.name(index, "m"), f"oci:{store.directory}:{name}")
    (result,) = push(store, name)
    assert result.digest == index["digest"]
    for machine in ("amd64", "arm64"):
        config = skopeo("inspect", "--config", "--tls-verify=false",
                        f"--override-arch={machine}", f"docker://{name}")  # fmt: skip
        assert json.loads(config)["architecture"] == machine


def test_all_platforms_pulled_and_pushed(registry: Registry, store: ImageStore) -> None:
    images = [
        registry.push(f"push/all:{machine}", [layer(machine)], architecture=machine)
        for machine in ("amd64", "arm64")
    ]
    index = registry.push_index("push/all:1", images)
    source, target = (f"{registry.host}/push/{name}:1" for name in ("all", "all-copy"))
    pull(store, source, all_platforms=True)
    store.tag(source, target)
    (result,) = push(store, target)
    assert result.digest == index["digest"]
    assert pull(store, target).status == "up-to-date"
    (one,) = push(store, target, platform="linux/arm64")
    assert one.digest == images[1]["digest"]


def test_a_bad_line(registry: Registry, store: ImageStore) -> None:
    large = os.urandom(12_000_000)
    with cutting(registry.port, [200, 2_000_000, 5_000_000]) as proxy:
        name = f"{proxy.host}/push/cut:1"
        put(store, name, [large, b"small"])
        (result,) = push(store, name, policy=QUICK)
        assert proxy.left == 0
    _, _, data = registry.request("GET", f"/v2/push/cut/blobs/{digest_of(large)}")
    assert data == large
    status, headers, _ = registry.request("HEAD", "/v2/push/cut/manifests/1")
    assert (status, headers["docker-content-digest"]) == (200, result.digest)


def test_credentials(auth_registry: Registry, store: ImageStore, secrets: Secrets) -> None:
    assert auth_registry.auth is not None
    user, password = auth_registry.auth
    name = f"{auth_registry.host}/push/private:1"
    put(store, name, [b"layer"])
    with pytest.raises(AuthError, match="no basic auth credentials"):
        push(store, name)
    secrets.login(auth_registry.host, user, "wrong")
    with pytest.raises(AuthError, match=r"push access denied, .*authentication required"):
        push(store, name)
    secrets.login(auth_registry.host, user, password)
    push(store, name)
    assert auth_registry.request("HEAD", "/v2/push/private/manifests/1")[0] == 200


@pytest.fixture
def read_only(base: str) -> Iterator[Registry]:
    server = Registry(os.path.join(base, "read-only"), read_only=True)
    yield server
    server.stop()


def test_a_read_only_registry(read_only: Registry, store: ImageStore) -> None:
    name = f"{read_only.host}/push/app:1"
    put(store, name, [b"layer"])
    with pytest.raises(RegistryError) as caught:
        push(store, name)
    assert str(caught.value) == (
        f"cannot push to {read_only.host}/push/app: {read_only.host} takes no uploads"
        " (HTTP status 405)"
    )


@pytest.fixture
def secure(base: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry whose CA nobody knows yet, and which wants clients' certificates."""
    certificate, key = authority.files("IP:127.0.0.1")
    client = authority.files("client.example")
    files = TLS(authority.ca, certificate, key, clients=authority.ca, client=client)
    monkeypatch.setattr(tls, "CERTS_D", (os.path.join(base, "certs.d"),))
    server = Registry(os.path.join(base, "secure"), tls=files)
    yield server
    server.stop()


def test_a_private_authority_and_a_client_certificate(
    secure: Registry, store: ImageStore, base: str
) -> None:
    name = f"{secure.host}/push/app:1"
    put(store, name, [os.urandom(300_000), os.urandom(20_000_000)])
    with pytest.raises(RegistryError, match="certificate verification failed"):
        push(store, name, policy=QUICK)
    directory = os.path.join(base, "certs.d", secure.host)
    os.makedirs(directory)
    assert secure.tls is not None and secure.tls.client is not None
    os.symlink(secure.tls.ca, os.path.join(directory, "ca.crt"))
    with pytest.raises(RegistryError):
        push(store, name, policy=QUICK)
    for source, link in zip(secure.tls.client, ("client.cert", "client.key"), strict=True):
        os.symlink(source, os.path.join(directory, link))
    (result,) = push(store, name, policy=QUICK)
    _, headers, _ = secure.request("HEAD", "/v2/push/app/manifests/1")
    assert headers["docker-content-digest"] == result.digest


# ---- the commands --------------------------------------------------------------------------------


def test_the_command_prints_dockers_lines(registry: Registry, cli: Command, root: str) -> None:
    layers = [os.urandom(1000), os.urandom(1000)]
    name = f"{registry.host}/push/cli:1.2"
    put(ImageStore(root), name, layers)
    lines = cli.ok("push", name).splitlines()
    assert lines[0] == f"The push refers to repository [{registry.host}/push/cli]"
    ids = [digest_of(data)[7:19] for data in layers]
    assert lines[1:3] == [f"{blob_id}: Preparing" for blob_id in reversed(ids)]
    assert sorted(lines[3:5]) == sorted(f"{blob_id}: Pushed" for blob_id in ids)
    _, headers, data = registry.request("GET", "/v2/push/cli/manifests/1.2")
    digest = headers["docker-content-digest"]
    assert lines[5:] == [f"1.2: digest: {digest} size: {len(data)}"]
    again = cli.ok("push", name).splitlines()
    assert [line for line in again if line.endswith("Layer already exists")]
    assert cli.ok("push", "-q", name) == name
    assert cli.ok("events", "--since", "1h", "--until", "0s", "--filter", "event=push",
                  "--format", "{{.Actor.ID}}").splitlines() == [name] * 3  # fmt: skip


def test_a_committed_container(
    registry: Registry, cli: Command, busybox_image: str, new_root: Callable[[str], str]
) -> None:
    name = f"{registry.host}/push/committed:1"
    cli.ok("run", "--name", "box", busybox_image, "sh", "-c", "echo hi > /new; rm /etc/group")
    image_id = cli.ok("commit", "box", name)
    cli.ok("push", name)
    assert cli.ok("images", "-q", "--no-trunc", name) == image_id
    assert f"Status: Image is up to date for {name}" in cli.ok("pull", name)
    other = ImageStore(new_root("other"))
    image = pull(other, name).image
    top = other.layer_dir(image.layers[-1])
    assert top is not None
    assert sorted(os.listdir(top)) == ["etc", "new"]
    cli.ok("rm", "box")


def test_all_tags(registry: Registry, cli: Command, root: str) -> None:
    store = ImageStore(root)
    for tag in ("1", "2"):
        put(store, f"{registry.host}/push/tags:{tag}", [b"layer " + tag.encode()])
    name = f"{registry.host}/push/tags"
    lines = cli.ok("push", "--all-tags", name).splitlines()
    assert lines[0] == f"The push refers to repository [{name}]"
    assert [line.partition(":")[0] for line in lines if ": digest: " in line] == ["1", "2"]
    assert cli.ok("push", "-aq", name) == name
    assert "tag can't be used with --all-tags/-a" in cli.fails(1, "push", "-a", f"{name}:1")
    _, _, body = registry.request("GET", "/v2/push/tags/tags/list")
    assert sorted(json.loads(body)["tags"]) == ["1", "2"]


def test_the_command_fails_with_one_line(registry: Registry, cli: Command, root: str) -> None:
    name = f"{registry.host}/push/absent"
    err = cli.fails(1, "push", name)
    assert err.splitlines()[0] == (f"Error: An image does not exist locally with the tag: {name}")
    assert "invalid reference format" in cli.fails(1, "push", "a\uff1ab")
    assert "content trust" in cli.fails(1, "push", "--disable-content-trust=false", name)
    put(ImageStore(root), f"{name}:1", [b"x"])
    assert cli.fails(1, "push", f"{name}:2").startswith(f"Error: tag does not exist: {name}:2\n")


def test_killed_in_the_middle(registry: Registry, cli: Command, root: str) -> None:
    layers = [os.urandom(2000), os.urandom(20_000_000)]
    with cutting(registry.port, []) as proxy:
        name = f"{proxy.host}/push/killed:1"
        put(ImageStore(root), name, layers)
        process = cli.popen("push", name)
        assert process.stdout is not None
        small = digest_of(layers[0])[7:19]
        for line in process.stdout:
            if line.decode().startswith(f"{small}: Pushed"):
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        again = cli.ok("push", name)
    assert f"{small}: Layer already exists" in again
    _, _, data = registry.request("GET", f"/v2/push/killed/blobs/{digest_of(layers[1])}")
    assert data == layers[1]
    store = ImageStore(root)
    for digest in store.resolve(name).layer_blobs:
        store.blobs.verify(digest)


def test_interrupted(registry: Registry, cli: Command, root: str) -> None:
    name = f"{registry.host}/push/interrupted:1"
    put(ImageStore(root), name, [os.urandom(1000), os.urandom(40_000_000)])
    process = cli.popen("push", name)
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith(b": Preparing\n"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    # The push may have been quicker.
    assert (process.returncode, err) in ((130, b""), (0, b""))
    cli.ok("push", "-q", name)


def test_manifest_inspect(registry: Registry, cli: Command) -> None:
    images = [
        registry.push(f"push/inspect:{machine}", [layer(machine)], architecture=machine)
        for machine in ("amd64", "arm64")
    ]
    registry.push_index("push/inspect:all", images)
    name = f"{registry.host}/push/inspect"
    index = cli.ok("manifest", "inspect", f"{name}:all")
    assert index.startswith('{\n\t"schemaVersion": 2,\n')
    assert [m["digest"] for m in json.loads(index)["manifests"]] == [i["digest"] for i in images]
    one = json.loads(cli.ok("manifest", "inspect", f"{name}:arm64"))
    assert one == images[1]["manifest"]
    verbose = json.loads(cli.ok("manifest", "inspect", "-v", f"{name}:arm64"))
    assert verbose["Ref"] == f"{name}:arm64"
    assert verbose["Descriptor"]["platform"] == {"architecture": "arm64", "os": "linux"}
    assert verbose["OCIManifest"] == one
    both = json.loads(cli.ok("manifest", "inspect", "--verbose", f"{name}:all"))
    assert [part["Ref"] for part in both] == [f"{name}:all@{i['digest']}" for i in images]
    err = cli.fails(1, "manifest", "inspect", f"{name}:nope")
    assert err.startswith(f"Error: no such manifest: {name}:nope\n")
    err = cli.fails(1, "manifest", "create", "--amend", "x", "y")
    assert err.startswith("Error: fastbox manifest create is not supported\nhint: ")


# ---- login ---------------------------------------------------------------------------------------


class Config:
    """``~/.docker/config.json`` of the commands."""

    def __init__(self, home: str) -> None:
        self.path = os.path.join(home, ".docker", "config.json")

    def write(self, content: dict[str, Any]) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "w") as file:
            json.dump(content, file)

    def read(self) -> dict[str, Any]:
        with open(self.path) as file:
            content: dict[str, Any] = json.load(file)
        return content


@pytest.fixture
def config(home: str) -> Config:
    return Config(home)


def test_login_push_logout(
    auth_registry: Registry, cli: Command, root: str, config: Config
) -> None:
    assert auth_registry.auth is not None
    user, password = auth_registry.auth
    host = auth_registry.host
    put(ImageStore(root), f"{host}/push/session:1", [b"layer"])
    assert "no basic auth credentials" in cli.fails(1, "push", f"{host}/push/session:1")
    result = cli("login", "-u", user, "--password-stdin", host, input=password + "\n")
    assert (result.code, result.out) == (0, "Login Succeeded\n")
    assert result.err == (
        f"\nWARNING! Your credentials are stored unencrypted in '{config.path}'.\n"
        "Configure a credential helper to remove this warning. See\n"
        "https://docs.docker.com/go/credential-store/\n\n"
    )
    assert os.stat(config.path).st_mode & 0o777 == 0o600
    assert list(config.read()["auths"]) == [host]
    cli.ok("push", f"{host}/push/session:1")
    # skopeo reads the same file.
    skopeo_list = ["skopeo", "list-tags", "--tls-verify=false", "--authfile", config.path]
    done = subprocess.run([*skopeo_list, f"docker://{host}/push/session"], capture_output=True)
    assert json.loads(done.stdout)["Tags"] == ["1"]
    again = cli.ok("login", host)
    assert again.splitlines() == [
        f"Authenticating with existing credentials... [Username: {user}]",
        "Login Succeeded",
    ]
    assert cli.ok("logout", host) == f"Removing login credentials for {host}"
    assert config.read() == {"auths": {}}
    assert cli.ok("logout", f"https://{host}/v2/") == f"Not logged in to {host}"
    assert "no basic auth credentials" in cli.fails(1, "push", f"{host}/push/session:1")


def test_a_wrong_password(auth_registry: Registry, cli: Command, config: Config) -> None:
    result = cli("login", "-u", "ann", "-p", "canary", auth_registry.host)
    assert (result.code, result.out) == (1, "")
    lines = result.err.splitlines()
    assert lines[0] == "WARNING! Using --password via the CLI is insecure. Use --password-stdin."
    assert lines[1] == (
        f'Error: Get "http://{auth_registry.host}/v2/": unauthorized: authentication required'
    )
    assert "canary" not in result.err
    assert not os.path.exists(config.path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-u", "a", "-p", "b", "--password-stdin"],
         "conflicting options: cannot specify both --password and --password-stdin"),
        (["--password-stdin"], "the --password-stdin option requires --username to be set"),
        (["-u", "a"], "error: cannot perform an interactive login from a non-TTY device"),
        ([], "error: cannot perform an interactive login from a non-TTY device"),
        (["-u", "", "-p", "b"], "username is empty"),
        (["-u", "a", "-p", ""], "password is empty"),
        (["-u", "a", "--password-stdin"], "password is empty"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_login(cli: Command, arguments: list[str], text: str) -> None:
    lines = cli.fails(1, "login", *arguments, "127.0.0.1:1").splitlines()
    assert text in next(line for line in lines if not line.startswith("WARNING!"))


def test_an_address_that_is_none(cli: Command) -> None:
    err = cli.fails(1, "login", "-u", "a", "-p", "b", "https://u:canary@host/")
    assert "is no registry's address: it carries a user name" in err
    assert "canary" not in err


def test_nobody_listens_at_login(cli: Command) -> None:
    err = cli.fails(1, "login", "-u", "a", "-p", "b", "127.0.0.1:1")
    assert "cannot reach registry 127.0.0.1:1: connection refused" in err


def test_a_prompt_on_a_terminal(auth_registry: Registry, cli: Command, config: Config) -> None:
    import pty
    import termios

    assert auth_registry.auth is not None
    user, password = auth_registry.auth
    ours, theirs = pty.openpty()
    with open(theirs, "r+b", buffering=0) as terminal, open(ours, "r+b", buffering=0) as keyboard:
        process = cli.popen("login", auth_registry.host, stdin=terminal, stdout=terminal)
        seen = b""
        for question, answer in ((b"Username: ", user), (b"Password: ", password)):
            while not seen.endswith(question):
                seen += keyboard.read(1)
            if answer == password:
                # As after Ctrl-Z, when the shell had the terminal.
                shown = termios.tcgetattr(theirs)
                shown[3] |= termios.ECHO
                termios.tcsetattr(theirs, termios.TCSANOW, shown)
                process.send_signal(signal.SIGCONT)
                wait_for(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO, "no echo")
            keyboard.write(answer.encode() + b"\n")
        while b"Login Succeeded" not in seen:
            seen += keyboard.read(100)
        process.communicate()
        assert process.returncode == 0
    assert user.encode() in seen
    assert password.encode() not in seen
