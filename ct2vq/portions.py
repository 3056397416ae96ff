"""Cases dealt into portions, for work that is too short to be a job of its own for each."""

from __future__ import annotations

from collections.abc import Sequence

from ct2vq.files import sha256_text


def portions(names: Sequence[str], size: int) -> dict[str, list[str]]:
    """Deal names into portions by a hash, so that another name changes one portion and leaves the others as they are.

    Only when their number passes a power of two times `size` are all dealt anew, into twice as many.

    Args:
        names: each once.
        size: how many a portion has at most on average.

    Returns:
        The names of each portion that has any, in their order; portions are named by numbers from 0.
    """
    number = 1
    while number * size < len(names):
        number *= 2
    found: dict[int, list[str]] = {}
    for name in names:
        found.setdefault(int(sha256_text(name)[:8], 16) % number, []).append(name)
    return {str(portion): found[portion] for portion in sorted(found)}
