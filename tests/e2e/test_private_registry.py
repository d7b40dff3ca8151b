"""A private registry in a container, as people are taught it: run it, push to it, look at its
catalog, remove the image here, pull and run it."""

from __future__ import annotations

import json
import os
import re
import shlex

from tests.support.command import Command
from tests.support.images import DEBIAN
from tests.support.site import Site
from tests.support.wait import wait_for

IMAGES = ["busybox", "registry"]
PORT = 5000
HOST = f"localhost:{PORT}"
DOCUMENT = os.path.join(os.path.dirname(__file__), "../../docs/images.md")


def catalog(site: Site) -> list[str]:
    """What curl on the host gets."""
    curl = Command([*site.entering("host"), "curl", "-sf", "--noproxy", "*"], site.cli.home)
    answer = wait_for(lambda: curl(f"http://{HOST}/v2/_catalog").out, "the registry to answer")
    found: list[str] = json.loads(answer)["repositories"]
    return found


def test_a_private_registry_in_a_container(site: Site, base: str) -> None:
    kept = os.path.join(base, "kept")
    options = (f"{PORT}:5000", "-v", f"{kept}:/var/lib/registry", "--privileged=true")
    cli = site.cli
    cli.ok("run", "-d", "--name", "one", "-p", *options, "registry")
    assert catalog(site) == []

    skopeo = Command([*site.entering("host"), "skopeo"], cli.home)
    name = f"{HOST}/me/busybox:1.2"
    cli.ok("tag", "busybox", name)
    skopeo.ok(
        "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
        f"oci:{site.root}/images:{name}", f"docker://{name}",
    )  # fmt: skip
    assert catalog(site) == ["me/busybox"]

    # The last name: nothing of it may be left here.
    assert cli.ok("rmi", name) == f"Untagged: {name}"
    removed = cli.ok("rmi", "busybox").splitlines()
    assert [line.split()[0] for line in removed] == ["Untagged:", "Deleted:"]
    assert [line.split()[0] for line in cli.ok("images").splitlines()[1:]] == ["registry"]
    assert f"Status: Downloaded newer image for {name}" in cli.ok("pull", name)
    assert cli.ok("run", "--rm", name, "echo", "hello") == "hello"

    # What is in the directory outlives the container.
    cli.ok("rm", "-f", "one")
    cli.ok("run", "-d", "--name", "two", "-p", *options, "registry")
    assert catalog(site) == ["me/busybox"]
    cli.ok("rmi", name)
    assert cli.ok("run", "--rm", name, "echo", "again") == "again"


def test_the_image_is_the_one_that_is_documented() -> None:
    with open(DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    found = re.search(r"# fastbox (bootstrap .* -t registry(?:.*\\\n)*.*)\n", text)
    assert found is not None
    words = shlex.split(found[1].replace("\\\n", " "))
    given = [words[place + 1] for place, word in enumerate(words) if word == "-c"]
    arguments, changes = DEBIAN["registry"]
    assert given == changes
    assert f"--include={words[words.index('--include') + 1]}" in arguments
    assert f"--variant={words[words.index('--variant') + 1]}" in arguments
