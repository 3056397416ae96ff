"""Seeds of everything random in a training."""

from __future__ import annotations

import hashlib
from typing import Any


def seed_of(*parts: Any) -> int:
    """A seed (32 bits) that is a function of its parts alone, such as (study's seed, model, fold) or (seed, epoch)."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")
