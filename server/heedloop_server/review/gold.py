"""When an annotator gets a gold item: at places that only the server can know, and that are the same after a restart.

With a share `s`, the `j`-th gold item of an annotator is at a random place among their items `j/s` to `(j+1)/s`, so that the
share is kept over every stretch and the number of places before any point is known without walking there.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoldPlan:
    """The places of gold among the items of one annotator in one queue.

    Attributes:
        share: of gold among the items, 0 up to 0.5.
        seed: the queue's secret.
    """

    share: float
    seed: str
    annotator: str

    def num_before(self, place: int) -> int:
        """How many of the first `place` items are gold."""
        if self.share <= 0 or place <= 0:
            return 0
        certain = math.floor(place * self.share)
        while certain > 0 and self._place(certain - 1) >= place:  # only where rounding moves the boundary
            certain -= 1
        while self._place(certain) < place:
            certain += 1
        return certain

    def is_gold(self, place: int) -> bool:
        """True where the item at this place (from 0) is gold."""
        return self.num_before(place + 1) > self.num_before(place)

    def num_until(self, place: int, num_ordinary: int, num_gold: int) -> int:
        """How many items come from `place` on until `num_ordinary` ordinary ones are done, with at most `num_gold` gold."""
        before = self.num_before(place)
        total = num_ordinary
        while True:
            with_gold = num_ordinary + min(num_gold, self.num_before(place + total) - before)
            if with_gold == total:
                return total
            total = with_gold

    def order(self, item_id: str) -> bytes:
        """What gold items are sorted by, so that annotators meet them in different orders."""
        return self._hash(item_id)

    def _place(self, j: int) -> int:
        """The place of the `j`-th gold item: one of the whole numbers from j/share to (j+1)/share, which no other one has."""
        first, end = math.ceil(j / self.share), math.ceil((j + 1) / self.share)
        drawn = int.from_bytes(self._hash(f"\x00{j}")[:6], "big") / 2**48
        return first + math.floor(drawn * (end - first))

    def _hash(self, what: str) -> bytes:
        text = "\x1f".join((self.seed, self.annotator, what))
        return hashlib.blake2b(text.encode(), digest_size=16).digest()
