"""``--disable-content-trust`` and ``DOCKER_CONTENT_TRUST``: signatures of Docker's Notary service.

fastbox has none of it. What does not ask for signatures is accepted as Docker accepts it; what asks
for them is refused, because images without any would come.
"""

from __future__ import annotations

import os

from ..errors import Unsupported
from . import gotext
from .flags import Flag, Switch, Values

VARIABLE = "DOCKER_CONTENT_TRUST"
_NAME = "--disable-content-trust"
FLAG = Flag(_NAME, Switch(), "Skip image verification", default=True)
PUSH_FLAG = Flag(_NAME, Switch(), "Skip image signing", default=True)


def check(values: Values) -> None:
    """See that nobody asks for signatures.

    Raises:
        Unsupported: somebody does.
    """
    if "disable_content_trust" in values.given:
        if values.disable_content_trust:
            return
        asked = "--disable-content-trust=false"
    elif _wanted(os.environ.get(VARIABLE, "")):
        asked = f"{VARIABLE}={os.environ[VARIABLE]}"
    else:
        return
    raise Unsupported(
        f"{asked}: content trust (signatures of Docker's Notary) is not supported",
        hint="pull by digest (NAME@sha256:…) to get what you know; cosign signs what was pushed",
    )


def _wanted(text: str) -> bool:
    """Docker's reading of the variable: what is no boolean means yes."""
    try:
        return bool(text) and gotext.parse_bool(text)
    except ValueError:
        return True
