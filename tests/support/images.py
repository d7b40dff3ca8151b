"""Real root filesystems for the tests, made from Debian packages.

The archives are kept between runs in a cache directory (``FASTBOX_TEST_CACHE``, else below
``XDG_CACHE_HOME``, else ``/var/cache/fastbox-tests``), under a name that holds the recipe's hash.
In one run, each is imported once into a *template* store; a test's store is a copy of it by hard
links, which takes milliseconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable

VERSION = 3

# Nothing that a test needs is in there, and it is half of the size.
SLIM = [
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/i18n/*",
]

# What the walkthrough installs, fetched once and kept in the image as a repository.
UBUNTU_HOOK = (
    'chroot "$1" sh -ec "'
    "apt-get -q install -y --no-install-recommends --download-only vim-tiny net-tools;"
    "mkdir /srv/apt; mv /var/cache/apt/archives/*.deb /srv/apt; cd /srv/apt;"
    "for deb in *.deb; do dpkg-deb -f \\$deb; echo Filename: ./\\$deb;"
    " echo Size: \\$(stat -c %s \\$deb); echo SHA256: \\$(sha256sum \\$deb | cut -c1-64); echo;"
    " done > Packages; rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /etc/apt/sources.list.d/*;"
    "echo deb [trusted=yes] file:/srv/apt ./ > /etc/apt/sources.list;"
    "echo APT::Get::Assume-Yes 1\\; > /etc/apt/apt.conf.d/90yes;"
    'touch /etc/motd"'
)

# name -> (mmdebstrap arguments, Dockerfile instructions)
DEBIAN: dict[str, tuple[list[str], list[str]]] = {
    "debian": (["--variant=essential", *SLIM], ['CMD ["bash"]']),
    "redis": (
        ["--variant=essential", "--include=redis-server", *SLIM],
        [
            "EXPOSE 6379",
            "VOLUME /data",
            "WORKDIR /data",
            'CMD ["redis-server", "--protected-mode", "no", "--dir", "/data"]',
        ],
    ),
    # What the notes call ubuntu: apt works in it, from a repository in the image.
    "ubuntu": (
        ["--variant=apt", *SLIM, "--skip=cleanup/apt", f"--customize-hook={UBUNTU_HOOK}"],
        ['CMD ["bash"]'],
    ),
    # Debian's docker-registry, without the password that its configuration wants: what the
    # documentation tells people to type (docs/images.md).
    "registry": (
        ["--variant=essential", "--include=docker-registry", *SLIM],
        [
            "ENV REGISTRY_AUTH=none",
            "ENV REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/var/lib/registry",
            "EXPOSE 5000",
            "VOLUME /var/lib/registry",
            'CMD ["docker-registry", "serve", "/etc/docker/registry/config.yml"]',
        ],
    ),
    # A machine of its own: systemd as init, and what a fastbox of the host needs there.
    "systemd": (
        [
            "--variant=minbase",
            "--include=systemd,systemd-sysv,dbus,procps,python3,libisal2,libzstd1,libssl3",
            *SLIM,
        ],
        ['CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3"],
    ),
    # What bench/ unpacks: about 200 MB in 10,000 files.
    "big": (
        ["--variant=minbase", "--include=python3"],
        ['CMD ["bash"]'],
    ),
    # What bench/ splits into layers: about 500 MB in 20,000 files.
    "layered": (
        ["--variant=minbase", "--include=python3,gcc,libc6-dev,git,vim-runtime"],
        ['CMD ["bash"]'],
    ),
}
BUSYBOX_CHANGES = ['CMD ["sh"]', "ENV PATH=/bin:/sbin:/usr/bin:/usr/sbin"]


def cache_directory() -> str:
    """Where archives are kept between runs; made when missing."""
    path = os.environ.get("FASTBOX_TEST_CACHE")
    if not path and os.environ.get("XDG_CACHE_HOME"):
        path = os.path.join(os.environ["XDG_CACHE_HOME"], "fastbox-tests")
    if not path:
        root = os.geteuid() == 0
        path = "/var/cache/fastbox-tests" if root else os.path.expanduser("~/.cache/fastbox-tests")
    os.makedirs(path, exist_ok=True)
    return path


def archive(name: str) -> str:
    """Path of the root filesystem's tar, made now unless it is in the cache."""
    recipe = f"{VERSION} {_recipe(name)}"
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    path = os.path.join(cache_directory(), f"{name}-{key}.tar")
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            temporary = f"{path}.{os.getpid()}.tmp"
            try:
                _make(name, temporary)
                os.rename(temporary, path)
            finally:
                if os.path.exists(temporary):
                    os.unlink(temporary)
    return path


def changes(name: str) -> list[str]:
    """The Dockerfile instructions that go with the archive."""
    return BUSYBOX_CHANGES if name == "busybox" else DEBIAN[name][1]


def _recipe(name: str) -> str:
    if name == "busybox":
        with open(busybox_binary(), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    return " ".join([_suite(), *DEBIAN[name][0]])


def _make(name: str, path: str) -> None:
    if name == "busybox":
        make_busybox(path)
    else:
        mmdebstrap(path, DEBIAN[name][0])


def busybox_binary() -> str:
    """The statically linked busybox of this machine."""
    path = shutil.which("busybox")
    if path is None:
        raise RuntimeError("busybox-static is not installed (make test installs it)")
    return os.path.realpath(path)


def make_busybox(path: str) -> None:
    """A root filesystem of about 2 MB: busybox, its applets, and a few files that programs want."""
    binary = busybox_binary()
    applets = subprocess.run(
        [binary, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
        "app:x:1000:1000::/home/app:/bin/sh\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:1001:app\n",
        "etc/os-release": 'NAME="busybox"\nID=busybox\n',
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for directory in ("bin", "etc", "home", "home/app", "proc", "root", "sys", "tmp", "usr"):
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            if directory == "home/app":
                info.uid = info.gid = 1000
            tar.addfile(info)
        tar.add(binary, "bin/busybox", filter=_as_root)
        for applet in applets:
            if applet != "busybox":
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(info)
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o644
            tar.addfile(info, io.BytesIO(text.encode()))


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o755
    return info


def mmdebstrap(path: str, arguments: Iterable[str]) -> None:
    """Assemble a Debian root filesystem from this machine's own package sources."""
    if shutil.which("mmdebstrap") is None:
        raise RuntimeError("mmdebstrap is not installed (make test installs it)")
    command = ["mmdebstrap", "--quiet", "--format=tar", *arguments, _suite(), path]
    sources = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
    command += [source for source in sources if os.path.exists(source)][:1]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-3000:]}")


def _suite() -> str:
    with open("/etc/os-release", encoding="utf-8") as file:
        values = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    return values.get("VERSION_CODENAME", "stable").strip('"')


class Templates:
    """Stores with imported images, of which tests get copies."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.made: dict[frozenset[str], str] = {}

    def copy(self, names: Iterable[str], root: str) -> None:
        """Make ``root`` a store that holds the named images."""
        wanted = frozenset(names)
        if wanted not in self.made:
            self.made[wanted] = self._build(wanted)
        os.makedirs(root, mode=0o700, exist_ok=True)
        template = self.made[wanted]
        # Hard links: the engine replaces files of the store, it never writes into one.
        parts = [os.path.join(template, part) for part in ("images", "layers")]
        subprocess.run(["cp", "-al", "--", *parts, root], check=True)

    def _build(self, names: frozenset[str]) -> str:
        from fastbox.engine import Engine

        root = os.path.join(self.directory, "template-" + "-".join(sorted(names)))
        engine = Engine(root, os.path.join(self.directory, "template-run"))
        for name in sorted(names):
            engine.import_image(archive(name), name, changes=changes(name))
        return root
