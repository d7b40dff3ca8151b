"""Container names and ids: what may be one, and where an unnamed container gets its name."""

from __future__ import annotations

import os

from ..errors import InvalidArgument

_ADJECTIVES = (
    "able agile amber ample apt ardent blithe bold brave bright brisk calm candid civil clear"
    " clever cosy crisp curious daring deft eager early earnest fair fast fine firm fleet fond"
    " frank free gentle glad golden grand happy hardy honest humble jolly jovial keen kind lively"
    " lucid lucky mellow merry mild modest neat nimble noble patient placid plucky polite proud"
    " quick quiet rapid ready serene sharp sincere sleek snug sober spry steady stoic sunny swift"
    " tidy trusty upbeat vivid warm wise witty zesty"
)
_SURNAMES = (
    "abel ampere archimedes babbage bell bohr boole bose cantor cerf cori curie darwin dijkstra"
    " dirac edison einstein elion engelbart euclid euler faraday fermat fermi feynman franklin"
    " galileo galois gauss germain goldberg goodall haibt hamilton hawking heisenberg hertz hilbert"
    " hopper hypatia joliot kalam kapitsa kepler khorana kirch knuth kowalevski lamarr lamport"
    " leakey leavitt liskov lovelace lumiere maxwell mayer mccarthy mcclintock meitner mendel"
    " mendeleev morse newton nobel noether pare pascal pasteur perlman planck poincare ptolemy"
    " raman ramanujan ride ritchie rosalind rubin sammet shannon shirley sinoussi tesla"
    " thompson torvalds turing vaughan volhard wiles wilson wozniak wright yalow yonath"
)

_LEFT, _RIGHT = _ADJECTIVES.split(), _SURNAMES.split()
_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_HEX = frozenset("0123456789abcdef")


def new_id() -> str:
    """64 random hex digits whose first 12 are not all decimal (they would be a number as a
    hostname)."""
    while True:
        candidate = os.urandom(32).hex()
        if not candidate[:12].isdigit():
            return candidate


def is_id(text: str) -> bool:
    """Whether this is a full container id."""
    return len(text) == 64 and _HEX.issuperset(text)


def random_name(attempt: int) -> str:
    """``adjective_surname``, with a digit behind it from the seventh attempt on."""
    number = int.from_bytes(os.urandom(8), "little")
    name = f"{_LEFT[number % len(_LEFT)]}_{_RIGHT[number // len(_LEFT) % len(_RIGHT)]}"
    return name if attempt < 6 else f"{name}{number % 1000}"


def check(name: str) -> None:
    """Raise InvalidArgument unless ``name`` fits ``[a-zA-Z0-9][a-zA-Z0-9_.-]+`` (Docker's rule)."""
    bare = name.removeprefix("/")
    allowed = _ALPHANUMERIC | {"_", ".", "-"}
    if len(bare) < 2 or bare[0] not in _ALPHANUMERIC or not allowed.issuperset(bare):
        raise InvalidArgument(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    if len(bare) > 255:
        raise InvalidArgument(f"Invalid container name ({bare[:20]}…): longer than 255 characters")
