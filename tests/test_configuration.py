"""The configuration files: what they mean, and what is said of bad ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from fastbox import configuration
from fastbox.errors import FastboxError, InvalidArgument

Write = Callable[[str], str]


@pytest.fixture
def toml(base: str, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write config.toml; its path."""
    path = os.path.join(base, "config.toml")
    monkeypatch.setenv("FASTBOX_CONFIG", path)

    def write(text: str) -> str:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    return write


@pytest.fixture
def daemon_json(base: str, toml: Write) -> Write:
    """Write daemon.json, and a config.toml that names it; its path."""
    path = os.path.join(base, "daemon.json")

    def write(text: str) -> str:
        toml(f'daemon-json = "{path}"\n')
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    return write


def error() -> str:
    with pytest.raises(FastboxError) as caught:
        configuration.load()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_nothing_is_configured(toml: Write) -> None:
    path = toml('daemon-json = ""')
    assert configuration.load() == configuration.Configuration(files=[path])


def test_every_key(toml: Write) -> None:
    path = toml(
        'registry-mirrors = ["https://one.example", "http://two.example:5000/a/"]\n'
        'insecure-registries = ["Reg.example:5000", "http://plain.example/", "10.1.2.3/8", "::1"]\n'
        "max-concurrent-downloads = 8\nmax-concurrent-uploads = 1\n"
        'layer-compression = "zstd"\nstorage-driver = "copy"\ndaemon-json = ""\n'
        "command-server = false\n"
    )
    assert configuration.load() == configuration.Configuration(
        registry_mirrors=["https://one.example/", "http://two.example:5000/a/"],
        insecure_registries=["reg.example:5000", "plain.example", "10.0.0.0/8", "[::1]"],
        max_concurrent_downloads=8,
        max_concurrent_uploads=1,
        layer_compression="zstd",
        storage_driver="copy",
        command_server=False,
        files=[path],
    )


def test_dockers_file_gives_what_ours_does_not(daemon_json: Write, toml: Write) -> None:
    docker = {
        "registry-mirrors": ["https://docker.example"],
        "insecure-registries": ["docker.example:5000"],
        "log-driver": "json-file",
        "max-concurrent-downloads": 9,
    }
    path = daemon_json("\ufeff" + json.dumps(docker))
    found = configuration.load()
    assert found.registry_mirrors == ["https://docker.example/"]
    assert found.insecure_registries == ["docker.example:5000"]
    assert found.max_concurrent_downloads == 3
    ours = toml(f'daemon-json = "{path}"\nregistry-mirrors = []\n')
    found = configuration.load()
    assert found.registry_mirrors == []
    assert found.insecure_registries == ["docker.example:5000"]
    assert found.files == [ours, path]


def test_an_empty_daemon_json_is_one(daemon_json: Write) -> None:
    path = daemon_json(" \n")
    assert configuration.load().files[1:] == [path]


def test_a_broken_daemon_json_that_nobody_needs(daemon_json: Write, toml: Write) -> None:
    path = daemon_json("{")
    toml(f'daemon-json = "{path}"\nregistry-mirrors = []\ninsecure-registries = []\n')
    assert len(configuration.load().files) == 1


def test_the_users_file_goes_over_the_systems(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.path.join(base, "system.toml")
    user = os.path.join(base, "xdg", "fastbox", "config.toml")
    os.makedirs(os.path.dirname(user))
    monkeypatch.delenv("FASTBOX_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", os.path.join(base, "xdg"))
    monkeypatch.setattr(configuration, "SYSTEM_FILE", system)
    monkeypatch.setattr(configuration, "DAEMON_JSON", os.path.join(base, "none.json"))
    assert configuration.load() == configuration.Configuration()
    for path, lines in (
        (system, "max-concurrent-downloads = 7\nmax-concurrent-uploads = 7"),
        (user, "max-concurrent-uploads = 2"),
    ):
        with open(path, "w") as file:
            file.write(lines)
    found = configuration.load()
    assert (found.max_concurrent_downloads, found.max_concurrent_uploads) == (7, 2)
    assert found.files == [system, user]


def test_read_again_only_after_a_change(toml: Write) -> None:
    toml('daemon-json = ""')
    first = configuration.load()
    assert configuration.load() is first
    toml('daemon-json = ""\nmax-concurrent-uploads = 2')
    assert configuration.load().max_concurrent_uploads == 2


def test_docker_s_file_may_come_later(base: str, daemon_json: Write, toml: Write) -> None:
    """A file that was missing is looked for again: Docker's default place needs none."""
    monkey = os.path.join(base, "later.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configuration, "DAEMON_JSON", monkey)
        toml("")
        assert configuration.load().registry_mirrors == []
        with open(monkey, "w") as file:
            file.write('{"registry-mirrors": ["https://late.example"]}')
        assert configuration.load().registry_mirrors == ["https://late.example/"]


MUST = "must use either 'https://' or 'http://'"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = \n", 1, "invalid TOML: "),
        ("\n\nx = [1,", 3, "invalid TOML: "),
        ("x = " + "1" * 5000, 1, "invalid TOML: "),
        ("x = 1\nx = 2\n", 2, "invalid TOML: "),
        ("# 1\nregistry-mirorrs = []", 2, "registry-mirorrs: unknown key"),
        ("\n[proxies]\nhttp = 1", 2, "proxies: unknown key"),
        ("registry.mirrors = 1", 1, "registry: unknown key"),
        ('\n "registry-mirrors" = "x"', 2, "registry-mirrors: it has to be a list of strings"),
        ("insecure-registries = [1]", 1, "insecure-registries: it has to be a list of strings"),
        (
            '\n\nregistry-mirrors = [\n"mirror.example"]',
            3,
            f'registry-mirrors: invalid mirror: no scheme specified for "mirror.example": {MUST}',
        ),
        (
            'registry-mirrors = ["ftp://m.example"]',
            1,
            'registry-mirrors: invalid mirror: unsupported scheme "ftp" in "ftp://m.example":'
            f" {MUST}",
        ),
        (
            'registry-mirrors = ["https://m.example?a=b"]',
            1,
            "registry-mirrors: invalid mirror: query or fragment at end of the URI"
            ' "https://m.example?a=b"',
        ),
        (
            'registry-mirrors = ["https://me:secret@m.example"]',
            1,
            "registry-mirrors: invalid mirror: username/password not allowed in URI"
            ' "https://me:xxxxx@m.example"',
        ),
        (
            'registry-mirrors = ["https://m.example:port"]',
            1,
            'registry-mirrors: invalid mirror: "https://m.example:port" is not a valid URI',
        ),
        (
            'registry-mirrors = ["https://"]',
            1,
            'registry-mirrors: invalid mirror: "https://" is not a valid URI',
        ),
        (
            'insecure-registries = ["ftp://a"]',
            1,
            "insecure-registries: insecure registry ftp://a should not contain '://'",
        ),
        (
            'insecure-registries = ["a:99999"]',
            1,
            'insecure-registries: insecure registry a:99999 is not valid: invalid port "99999"',
        ),
        (
            'insecure-registries = ["10.0.0.0/33"]',
            1,
            "insecure-registries: insecure registry 10.0.0.0/33 is not valid: invalid host"
            ' "10.0.0.0/33"',
        ),
        (
            'insecure-registries = ["-a"]',
            1,
            "insecure-registries: invalid index name (-a). Cannot begin or end with a hyphen",
        ),
        (
            "max-concurrent-downloads = 0",
            1,
            "max-concurrent-downloads: it has to be a number from 1 to 100",
        ),
        (
            "max-concurrent-uploads = true",
            1,
            "max-concurrent-uploads: it has to be a number from 1 to 100",
        ),
        ('layer-compression = "xz"', 1, 'layer-compression: it has to be "gzip" or "zstd"'),
        ("storage-driver = []", 1, 'storage-driver: it has to be "overlay" or "copy"'),
        ("command-server = 1", 1, "command-server: it has to be true or false"),
        ('daemon-json = "x"', 1, 'daemon-json: it has to be an absolute path, or "" for none'),
    ],
)
def test_bad_config_toml(toml: Write, text: str, line: int, message: str) -> None:
    path = toml(text)
    found = error()
    assert found.startswith(f"{path}:{line}: {message}")
    assert "secret" not in found


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{", 1, "invalid JSON: "),
        ('{\n"a": 1,\n}', 3, "invalid JSON: "),
        ("[]", 1, "not a JSON object"),
        ("[" * 100000, 1, "invalid JSON: "),
        ('{\n"x": 1, "insecure-registries":\n "a"}', 2, "insecure-registries: it has to be a list"),
        ('{"registry-mirrors": ["x"]}', 1, "registry-mirrors: invalid mirror: no scheme"),
    ],
)
def test_bad_daemon_json(daemon_json: Write, text: str, line: int, message: str) -> None:
    path = daemon_json(text)
    assert error().startswith(f"{path}:{line}: {message}")


def test_a_typo_has_a_hint(toml: Write) -> None:
    toml("registry-mirorrs = []")
    with pytest.raises(InvalidArgument) as caught:
        configuration.load()
    assert caught.value.hint == "did you mean registry-mirrors?"


def test_no_text(toml: Write) -> None:
    path = toml("")
    with open(path, "wb") as file:
        file.write(b"# a\n\xff\n")
    assert error() == f"{path}:2: not UTF-8"


def test_named_files_have_to_be_there(toml: Write, base: str) -> None:
    assert error() == f"{base}/config.toml: no such configuration file"
    toml(f'daemon-json = "{base}/daemon.json"')
    assert error() == f"{base}/daemon.json: no such configuration file"


def test_files_that_are_none(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = os.path.join(base, "fifo")
    os.mkfifo(fifo)
    for path in (fifo, base):
        monkeypatch.setenv("FASTBOX_CONFIG", path)
        assert error() == f"{path}: not a regular file"
    monkeypatch.setenv("FASTBOX_CONFIG", os.devnull)
    assert configuration.load().files[:1] == [os.devnull]


def test_a_file_that_others_may_write_is_refused(toml: Write) -> None:
    path = toml('daemon-json = ""')
    os.chmod(path, 0o646)
    assert error().startswith(f"{path}: writable by others")
    os.chmod(path, 0o664)
    os.chown(path, 0, 100)
    assert error().startswith(f"{path}: writable by others")
    os.chown(path, 0, 0)
    configuration.load()


def test_a_file_of_somebody_else_is_refused(toml: Write) -> None:
    path = toml('daemon-json = ""')
    os.chown(path, 1000, 0)
    assert error().startswith(f"{path}: owned by user 1000")


def test_pools(toml: Write) -> None:
    toml(
        'daemon-json = ""\n[[pool]]\nimage = "redis"\nsize = 4\n'
        '[[pool]]\nimage = "python"\nsize = 1\nmax-memory = "64m"\n'
        'network = "none"\nmemory = "256MB"\ncpus = 0.5\npids-limit = 100\n'
        'user = "1000"\nworkdir = "/w"\nread-only = true\ninit = true\ncap-drop = ["ALL"]\n'
    )
    first, second = configuration.load().pool
    assert (first.image, first.size, first.max_memory, first.options) == ("redis", 4, None, {})
    assert second.max_memory == 64 << 20
    assert second.options == {
        "network": "none",
        "memory": 256 << 20,
        "nano_cpus": 500_000_000,
        "pids_limit": 100,
        "user": "1000",
        "workdir": "/w",
        "read_only": True,
        "init": True,
        "cap_drop": ["ALL"],
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("pool = 1", "1: pool: it has to be tables: [[pool]]"),
        ('[[pool]]\nimage = "a"', "1: pool: a pool needs size"),
        ('[[pool]]\nimage = "a"\nsize = 1\n\n[[pool]]\nsize = 0', "6: pool.size: it has to be a"),
        ('[[pool]]\nimage = "a"\nsize = "2"', "3: pool.size: it has to be a number from 1"),
        ("[[pool]]\nimage = 7", "2: pool.image: it has to be a text"),
        ('[[pool]]\nmemory = "much"', "2: pool.memory: it has to be a number of bytes"),
        ("[[pool]]\ninit = 1", "2: pool.init: it has to be true or false"),
        ("[[pool]]\ncpus = 0", "2: pool.cpus: it has to be a number of processors"),
        ("[[pool]]\nimgae = 1", "2: pool.imgae: unknown key"),
    ],
)
def test_bad_pools_are_named(toml: Write, text: str, what: str) -> None:
    path = toml(text)
    assert error().startswith(f"{path}:{what}")
