"""The supervisor brings back the packet filter's rules when somebody has flushed them."""

from __future__ import annotations

import subprocess

from fastbox.container.config import RestartPolicy
from fastbox.engine import Engine
from fastbox.network import firewall
from fastbox.network.types import Publish
from tests.support.boxes import start
from tests.support.wait import wait_for


def rules(table: str) -> str:
    listing = subprocess.run(
        ["nft", "list", "table", "inet", table], capture_output=True, text=True
    )
    return listing.stdout


def test_flushed_rules_come_back(engine: Engine, busybox_image: str) -> None:
    table = firewall.table_name(engine.root)
    start(
        engine,
        busybox_image,
        network="bridge",
        restart=RestartPolicy(name="always"),
        publish=[Publish(container=80, host=0)],
    )
    before = rules(table)
    assert "tcp . " in before
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    wait_for(lambda: rules(table) == before, "its rules")
    subprocess.run(["nft", "flush", "table", "inet", table], check=True)
    wait_for(lambda: rules(table) == before, "its rules")
