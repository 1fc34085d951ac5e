"""How a picture is cut for a transformer. Plain data, so that pages and instruments share it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """How the picture is cut: `columns` x `rows` squares of `patch_size` pixels, `count` in all."""

    width: int
    height: int
    patch_size: int

    @property
    def columns(self) -> int:
        """Patches side by side."""
        return self.width // self.patch_size

    @property
    def rows(self) -> int:
        """Patches one below the other."""
        return self.height // self.patch_size

    @property
    def count(self) -> int:
        """Patches in all."""
        return self.columns * self.rows
