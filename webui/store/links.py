"""Addresses of pictures: whoever was shown one can look at it, and nobody can guess another.

A browser's <img> carries no login of ours, and a path in an address would tell where files lie. So an address holds
the picture's id and a signature that only this process can make.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "picture"


@dataclass(frozen=True, slots=True)
class PictureLinks:
    """Signs with a key that lasts as long as the process."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def address(self, kind: str, table: str, picture: str) -> str:
        """A relative address; `kind` is "thumbnail" or "full", `table` where `picture` is an id."""
        return f"{PREFIX}/{kind}/{table}/{picture}/{self._signature(kind, table, picture)}"

    def is_ours(self, kind: str, table: str, picture: str, signature: str) -> bool:
        """Whether `address` has made it."""
        return hmac.compare_digest(self._signature(kind, table, picture).encode(), signature.encode("utf-8", "replace"))

    def _signature(self, kind: str, table: str, picture: str) -> str:
        return hmac.new(self.key, "\0".join((kind, table, picture)).encode(), hashlib.sha256).hexdigest()[:32]
