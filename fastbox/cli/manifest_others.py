"""``fastbox manifest create``, ``annotate``, ``push`` and ``rm``, which there are not."""

from __future__ import annotations

import click

from ..errors import Unsupported
from .command import App, FlagCommand
from .flags import Values


class _Refused(FlagCommand):
    """Takes whatever Docker's takes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--help" in args:
            return super().parse_args(ctx, ["--help"])
        ctx.params = {"values": Values(())}
        typed = ctx.parent.args if ctx.parent is not None else []
        ctx.args = typed[:1]
        return ctx.args


def refuse(app: App, values: Values, words: list[str]) -> int:
    """Say what to use instead."""
    raise Unsupported(
        f"fastbox manifest {words[0]} is not supported",
        hint="an image for several platforms is pulled and pushed whole; to assemble one, use"
        " skopeo or regctl",
    )


COMMAND = _Refused("manifest_others", refuse)
