"""The assignments of one queue, in memory: what each annotator holds and has judged, and may get next. Pure: the time is an argument.

An item is *open* while it wants more judgements than it has. A lease takes one of the places that are left until it ends by itself;
servers other than the one that gave it leave it a while longer, because their clocks may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from heedloop.responses import Progress, QueueCounts
from heedloop_server.review.gold import GoldPlan
from heedloop_server.review.queue import Queue
from heedloop_server.store.review.assignments import REMOVED, Assignment, ReviewItem

GRACE = timedelta(seconds=10)
"""How much longer than its lease an item is kept from others; more than the servers' clocks may differ."""
MAX_HELD = 10
"""Items that one annotator may hold in a queue at once."""


class Work:
    """Items and assignments of a queue. `take_items` and `take` keep it up to date; everything else asks."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.items: dict[str, ReviewItem] = {}
        self._ordered: list[ReviewItem] = []
        self._by_item: dict[str, dict[str, Assignment]] = {}
        self._by_annotator: dict[str, dict[str, Assignment]] = {}
        self._by_id: dict[str, Assignment] = {}
        self._open: set[str] = set()
        self._gold: dict[str, ReviewItem] = {}
        self._training: dict[str, ReviewItem] = {}

    # ------------------------------------------------------------------------------------------------ keeping up to date

    def set_queue(self, queue: Queue) -> None:
        """Use changed settings."""
        again = (queue.judgements_per_item, queue.judged_from) != (
            self.queue.judgements_per_item,
            self.queue.judged_from,
        )
        self.queue = queue
        if again:
            for item_id in self.items:
                self._update_open(item_id)

    def take_items(self, items: Iterable[ReviewItem]) -> None:
        """New or changed items."""
        for item in items:
            if item.gold == REMOVED:
                self.drop_items([item.item_id])
                continue
            self.items[item.item_id] = item
            self._gold.pop(item.item_id, None)
            self._training.pop(item.item_id, None)
            if item.gold:
                (self._training if item.gold == "training" else self._gold)[item.item_id] = item
            self._update_open(item.item_id)
        self._ordered = sorted(
            (i for i in self.items.values() if not i.gold), key=lambda i: (i.position, i.item_id)
        )

    def drop_items(self, item_ids: Iterable[str]) -> None:
        """Forget items whose answers are not there any more."""
        dropped = set(item_ids)
        for item_id in dropped:
            for known in (self.items, self._gold, self._training):
                known.pop(item_id, None)
            self._open.discard(item_id)
        self._ordered = [i for i in self._ordered if i.item_id not in dropped]

    def take(self, assignments: Iterable[Assignment]) -> None:
        """Assignments as they stand now; an older state than the known one changes nothing."""
        for a in assignments:
            known = self._by_id.get(a.assignment_id)
            if known is not None and known.version and a.version and a.version < known.version:
                continue
            self._by_id[a.assignment_id] = a
            self._by_item.setdefault(a.item_id, {})[a.annotator] = a
            self._by_annotator.setdefault(a.annotator, {})[a.item_id] = a
            if a.item_id in self.items:
                self._update_open(a.item_id)

    def _update_open(self, item_id: str) -> None:
        item = self.items[item_id]
        if not item.gold and self.num_done(item_id) < self.queue.judgements_per_item:
            self._open.add(item_id)
        else:
            self._open.discard(item_id)

    # -------------------------------------------------------------------------------------------------------------- asking

    def assignment(self, assignment_id: str) -> Assignment | None:
        """The assignment of this id."""
        return self._by_id.get(assignment_id)

    def of(self, item_id: str, annotator: str) -> Assignment | None:
        """An annotator's assignment of an item."""
        return self._by_item.get(item_id, {}).get(annotator)

    def of_item(self, item_id: str) -> list[Assignment]:
        """All annotators' assignments of an item."""
        return list(self._by_item.get(item_id, {}).values())

    def counts(self, a: Assignment) -> bool:
        """True for a judgement that still counts: done, and not sent back by a newer guideline."""
        return a.state == "done" and a.guideline >= self.queue.judged_from

    def was_judged(self) -> bool:
        """True where anything was ever judged in the queue."""
        return any(a.revision for a in self._by_id.values())

    def num_done(self, item_id: str) -> int:
        """Judgements of an item that count."""
        return sum(self.counts(a) for a in self._by_item.get(item_id, {}).values())

    def wanted(self, item_id: str, annotator: str, now: datetime) -> bool:
        """True where one more annotator, this one, may have the item besides those who judged or hold it. Gold is for all."""
        if self.items[item_id].gold:
            return True
        return len(self.occupied_places(item_id, annotator, now)) < self.queue.judgements_per_item

    def occupied_places(self, item_id: str, annotator: str, now: datetime) -> list[Assignment]:
        """What takes a place of the item: judgements that count, leases that run, claims that are undecided."""
        return [
            a
            for a in self._by_item.get(item_id, {}).values()
            if a.annotator != annotator
            and (self.counts(a) or (a.state in ("leased", "claimed") and a.expires_at + GRACE > now))
        ]

    def held(self, annotator: str, now: datetime) -> list[Assignment]:
        """What the annotator holds, the oldest first."""
        mine = self._by_annotator.get(annotator, {}).values()
        return sorted(
            (a for a in mine if a.state == "leased" and a.expires_at > now and a.item_id in self.items),
            key=lambda a: (a.leased_at, a.item_id),
        )

    def next_items(self, annotator: str, now: datetime, num: int) -> list[str]:
        """Ids of up to `num` items to lease to the annotator now, in order."""
        result: list[str] = []
        for item_id in self._eligible(annotator, now):
            if len(result) >= num:
                break
            result.append(item_id)
        return result

    def _eligible(self, annotator: str, now: datetime) -> Iterator[str]:
        mine = self._by_annotator.get(annotator, {})
        yield from (i for i in self._training if self._fresh(mine.get(i)))
        yield from (i for i, a in mine.items() if self._again(a, now))
        plan = GoldPlan(self.queue.gold_share, self.queue.seed, annotator)
        gold = iter(
            sorted((i for i in self._gold if self._fresh(mine.get(i))), key=plan.order) if self._gold else ()
        )
        place = self._place(mine)
        for item_id in self._ordinary(annotator, mine, now):
            while plan.is_gold(place):
                chosen = next(gold, None)
                if chosen is None:
                    break
                yield chosen
                place += 1
            yield item_id
            place += 1

    def _ordinary(self, annotator: str, mine: dict[str, Assignment], now: datetime) -> Iterator[str]:
        """Open items that the annotator never had; last those that others were asked to judge again."""
        later: list[str] = []
        for item in self._ordered:
            item_id = item.item_id
            if item_id not in self._open or not self._fresh(mine.get(item_id)):
                continue
            if not self.wanted(item_id, annotator, now):
                continue
            if any(a.state == "done" and not self.counts(a) for a in self._by_item.get(item_id, {}).values()):
                later.append(item_id)
            else:
                yield item_id
        yield from later

    def _fresh(self, mine: Assignment | None) -> bool:
        return mine is None or mine.state == "withdrawn"

    def _again(self, a: Assignment, now: datetime) -> bool:
        """True where the annotator should have an item once more.

        Their lease ended (or a claim whose server ended before it was decided), or their judgement was sent back.
        """
        item = self.items.get(a.item_id)
        if item is None:
            return False
        ended = a.state in ("leased", "claimed") and a.expires_at <= now
        sent_back = a.state == "done" and not self.counts(a) and item.gold != "training"
        return (ended or sent_back) and self.wanted(a.item_id, a.annotator, now)

    def _place(self, mine: dict[str, Assignment]) -> int:
        return sum(1 for i, a in mine.items() if i not in self._training and a.state != "withdrawn")

    def progress(self, annotator: str, now: datetime) -> Progress:
        """The annotator's own progress; gold items count like all others, so that nothing tells them."""
        mine = self._by_annotator.get(annotator, {})
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        done = [a for a in mine.values() if self.counts(a)]
        begun = sum(1 for a in mine.values() if self._unfinished(a))
        ordinary = len(self._open) - sum(1 for i, a in mine.items() if i in self._open and not self._fresh(a))
        plan = GoldPlan(self.queue.gold_share, self.queue.seed, annotator)
        gold = sum(1 for i in self._gold if self._fresh(mine.get(i)))
        training = sum(1 for i in self._training if self._fresh(mine.get(i)))
        return Progress(
            done=len(done),
            done_today=sum(1 for a in done if a.judged_at >= today),
            skipped=sum(1 for a in mine.values() if a.state == "skipped"),
            remaining=begun + training + plan.num_until(self._place(mine), ordinary, gold),
        )

    def _unfinished(self, a: Assignment) -> bool:
        item = self.items.get(a.item_id)
        if item is None or not (item.gold or a.item_id in self._open):
            return False
        sent_back = a.state == "done" and not self.counts(a) and item.gold != "training"
        return a.state in ("leased", "claimed") or sent_back

    def totals(self, now: datetime) -> QueueCounts:
        """Everybody's work on its ordinary items."""
        asked = [a for i in self._ordered for a in self._by_item.get(i.item_id, {}).values()]
        return QueueCounts(
            items=len(self._ordered),
            done=sum(i.item_id not in self._open for i in self._ordered),
            judgements=sum(self.counts(a) for a in asked),
            leased=sum(a.state == "leased" and a.expires_at > now for a in asked),
            skipped=sum(a.state == "skipped" for a in asked),
            gold=len(self._gold) + len(self._training),
        )

    def of_annotator(self, annotator: str) -> list[Assignment]:
        """What the annotator has done or skipped, the newest first."""
        mine = self._by_annotator.get(annotator, {}).values()
        return sorted(
            (a for a in mine if a.state in ("done", "skipped")),
            key=lambda a: (a.judged_at, a.item_id),
            reverse=True,
        )
