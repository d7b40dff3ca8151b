"""TLS settings: the system's authorities, and those in docker's ``certs.d`` directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import InvalidArgument

if TYPE_CHECKING:
    import ssl

# docker's and podman's; containers-certs.d(5).
CERTS_D = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def context(domain: str | None, *, verify: bool = True) -> ssl.SSLContext:
    """A context, TLS 1.2 or later.

    Args:
        domain: ``host[:port]`` of a registry, whose directory below ``certs.d`` may hold further
            authorities (``*.crt``) and client certificates (``NAME.cert`` with ``NAME.key``);
            None for hosts that are none of the user's choosing.
        verify: False takes any certificate.

    Raises:
        InvalidArgument: a file there is unusable.
    """
    import ssl

    result = ssl.create_default_context()
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    for directory in CERTS_D if domain else ():
        path = os.path.join(directory, domain or "")
        try:
            names = sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InvalidArgument(f"open {path}: {(error.strerror or '').lower()}") from None
        for name in names:
            _check_pair(name, names)
            _load(result, os.path.join(path, name))
    if not verify:
        result.check_hostname = False
        result.verify_mode = ssl.CERT_NONE
    return result


def _check_pair(name: str, names: list[str]) -> None:
    """A client certificate is of no use without its key (Docker's texts).

    Raises:
        InvalidArgument: one of them is missing.
    """
    stem, _, kind = name.rpartition(".")
    if kind == "cert" and f"{stem}.key" not in names:
        raise InvalidArgument(
            f"missing key {stem}.key for client certificate {name}."
            " CA certificates must use the extension .crt"
        )
    if kind == "key" and f"{stem}.cert" not in names:
        raise InvalidArgument(f"missing client certificate {stem}.cert for key {name}")


def _load(context: ssl.SSLContext, file: str) -> None:
    try:
        if file.endswith(".crt"):
            context.load_verify_locations(cafile=file)
        elif file.endswith(".cert"):
            context.load_cert_chain(file, file[: -len(".cert")] + ".key")
    except OSError as error:  # ssl.SSLError is one
        raise InvalidArgument(
            f"cannot use the certificate {file}: {error.strerror or error}"
        ) from None
