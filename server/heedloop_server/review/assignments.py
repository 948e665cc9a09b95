"""The assignments of one queue, in memory: what each annotator holds and has judged, and may get next. Pure: the time is an argument.

An item is *open* while it wants more judgements than it has. A lease takes one of the places that are left until it ends by itself;
servers other than the one that gave it leave it a while longer, because their clocks may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from heedloop.responses import Progress, QueueCounts
from heedloop_server.review.adaptive import Votes, accuracies, num_wanted, votes_of
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.gold import GoldPlan
from heedloop_server.review.queue import Queue
from heedloop_server.store.review.assignments import REMOVED, Assignment, ReviewItem
from heedloop_server.store.review.team import GROUP, Member

GRACE = timedelta(seconds=10)
"""How much longer than its lease an item is kept from others; more than the servers' clocks may differ."""
MAX_HELD = 10
"""Items that one annotator may hold in a queue at once."""


class Work:
    """Items and assignments of a queue. `take_items` and `take` keep it up to date; everything else asks."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.members: Mapping[str, Member] = {}
        self.items: dict[str, ReviewItem] = {}
        self._ordered: list[ReviewItem] = []
        self._by_item: dict[str, dict[str, Assignment]] = {}
        self._by_annotator: dict[str, dict[str, Assignment]] = {}
        self._by_id: dict[str, Assignment] = {}
        self._open: set[str] = set()
        self._gold: dict[str, ReviewItem] = {}
        self._training: dict[str, ReviewItem] = {}
        self._votes: dict[tuple[str, str], Votes] = {}
        self._accuracy: Mapping[str, float] = {}
        self._measured_at = 0
        self._is_restricted = False
        self._second: set[str] = set()

    # ------------------------------------------------------------------------------------------------ keeping up to date

    def set_queue(self, queue: Queue) -> None:
        """Use changed settings."""
        before, self.queue = self.queue, queue
        if before.second_share != queue.second_share:
            self._second = {i for i in self.items if queue.has_second(i)}
        if any(getattr(before, n) != getattr(queue, n) for n in _DECIDE):
            self._update_all()
        if before.order != queue.order:
            self._order()

    def _update_all(self) -> None:
        for item_id in self.items:
            self._update_open(item_id)

    def take_items(self, items: Iterable[ReviewItem]) -> None:
        """New or changed items."""
        for item in items:
            if item.gold == REMOVED:
                self.drop_items([item.item_id])
                continue
            self.items[item.item_id] = item
            if self.queue.has_second(item.item_id):
                self._second.add(item.item_id)
            self._gold.pop(item.item_id, None)
            self._training.pop(item.item_id, None)
            if item.gold:
                (self._gold if item.gold == "gold" else self._training)[item.item_id] = item
            self._update_open(item.item_id)
        self._order()

    def _order(self) -> None:
        key = _ORDERS[self.queue.order]
        ordinary = (i for i in self.items.values() if not i.gold)
        self._ordered = sorted(ordinary, key=lambda i: (-i.priority, key(self.queue, i), i.item_id))
        self._is_restricted = any(i.assigned for i in self._ordered)

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

    def take_votes(self, judgements: Iterable[Assignment]) -> None:
        """What judgements say, where that decides how many are wanted; before `take`, which knows no words."""
        if self.queue.until == "number":
            return
        for a in judgements:
            one = Judged(a.item_id, a.annotator, a.answers or {}, a.judged_at, shown_order=a.shown_order)
            self._votes[a.item_id, a.annotator] = votes_of(self.queue.questions, one)
            if a.item_id in self.items:
                self._update_open(a.item_id)
        if len(self._votes) > 1.2 * self._measured_at + 20:
            self._measured_at = len(self._votes)
            self._accuracy = accuracies(self.queue.questions, map(self._votes_of, list(self._by_item)))
            self._update_all()

    def _votes_of(self, item_id: str) -> list[Votes]:
        done = (a for a in self._by_item.get(item_id, {}).values() if self.counts(a))
        return [
            v
            for a in sorted(done, key=attrgetter("judged_at"))
            if (v := self._votes.get((item_id, a.annotator))) is not None
        ]

    def num_wanted(self, item_id: str) -> int:
        """How many judgements an item should have, as far as can be said now."""
        num = self.queue.judgements_per_item
        if self.queue.until != "number":
            num = num_wanted(self.queue, self._votes_of(item_id), self._accuracy)
        return num + (item_id in self._second)

    def _update_open(self, item_id: str) -> None:
        item = self.items[item_id]
        if not item.gold and self.num_done(item_id) < self.num_wanted(item_id):
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
        """True for a judgement that still counts: done, not sent back by a newer guideline, its annotator not replaced."""
        return (
            a.state == "done"
            and a.guideline >= self.queue.judged_from
            and a.annotator not in self.queue.uncounted
        )

    def member(self, annotator: str) -> Member:
        """What is known of an annotator."""
        return self.members.get(annotator) or Member(annotator)

    def admits(self, annotator: str) -> bool:
        """True where this annotator may work in the queue."""
        return self.member(annotator).is_among(self.queue.annotators)

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
        num = len(self.occupied_places(item_id, annotator, now))
        return num < self.num_wanted(item_id) and self._may_have(item_id, annotator, num)

    def _may_have(self, item_id: str, annotator: str, num: int) -> bool:
        """True where an item that has `num` judgements may be offered to this annotator."""
        item, member = self.items[item_id], self.member(annotator)
        if not member.is_among(item.assigned) or (self.queue.by_language and not member.reads(item.language)):
            return False
        is_second = item_id in self._second and num >= self.num_wanted(item_id) - 1
        return not is_second or member.is_among(self.queue.second_by)

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
        if self.is_suspended(annotator):
            return
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

    def is_suspended(self, annotator: str) -> bool:
        """True for an annotator who gets nothing more."""
        return annotator in self.queue.suspended or annotator in self.queue.uncounted

    def _place(self, mine: dict[str, Assignment]) -> int:
        return sum(1 for i, a in mine.items() if i not in self._training and a.state != "withdrawn")

    def progress(self, annotator: str, now: datetime) -> Progress:
        """The annotator's own progress; gold items count like all others, so that nothing tells them."""
        mine = self._by_annotator.get(annotator, {})
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        done = [a for a in mine.values() if self.counts(a)]
        begun = sum(1 for a in mine.values() if self._unfinished(a))
        ordinary = self._num_ordinary(annotator, mine)
        plan = GoldPlan(self.queue.gold_share, self.queue.seed, annotator)
        gold = sum(1 for i in self._gold if self._fresh(mine.get(i)))
        training = sum(1 for i in self._training if self._fresh(mine.get(i)))
        return Progress(
            done=len(done),
            done_today=sum(1 for a in done if a.judged_at >= today),
            skipped=sum(1 for a in mine.values() if a.state == "skipped"),
            is_paused=self.is_suspended(annotator),
            remaining=begun + training + plan.num_until(self._place(mine), ordinary, gold),
        )

    def _num_ordinary(self, annotator: str, mine: dict[str, Assignment]) -> int:
        """Open items that the annotator never had and may have."""
        if not (self._is_restricted or self.queue.by_language or self.queue.second_by):
            return len(self._open) - sum(i in self._open and not self._fresh(a) for i, a in mine.items())
        member, queue = self.member(annotator), self.queue
        may_be_second = member.is_among(queue.second_by)
        return sum(
            (not (item := self.items[i]).assigned or member.is_among(item.assigned))
            and (not queue.by_language or member.reads(item.language))
            and (may_be_second or i not in self._second or self.num_done(i) < self.num_wanted(i) - 1)
            for i in self._open
            if self._fresh(mine.get(i))
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

    def done_since(self, at: datetime) -> list[tuple[datetime, str]]:
        """(when, item id) of the ordinary items that got their last judgement after a moment, in that order."""
        last = {
            i.item_id: max((a.judged_at for a in self.of_item(i.item_id) if self.counts(a)), default=at)
            for i in self._ordered
            if i.item_id not in self._open
        }
        return sorted((when, i) for i, when in last.items() if when > at)

    def last_activity(self) -> datetime | None:
        """When anything was last judged, skipped or leased; None where nothing was."""
        return max((max(a.judged_at, a.leased_at) for a in self._by_id.values()), default=None)

    def skipped_by_all(self) -> list[str]:
        """Open items that every annotator whom the queue names (else everybody who works in it) has skipped or judged."""
        named = {a for a in self.queue.annotators if not a.startswith(GROUP)}
        everybody = {p for p in {*named, *self._by_annotator} if self.admits(p) and not self.is_suspended(p)}
        return [
            i
            for i in sorted(self._open)
            if any(a.state == "skipped" for a in self.of_item(i))
            and everybody <= {a.annotator for a in self.of_item(i) if a.state in ("skipped", "done")}
        ]


_DECIDE = (
    "judgements_per_item", "judged_from", "uncounted", "until", "max_judgements", "confidence", "second_share",
)  # fmt: skip
"""Settings by which it is decided whether an item has enough judgements."""
_ORDERS: dict[str, Callable[[Queue, ReviewItem], Any]] = {
    "added": lambda _, item: item.position,
    "newest": lambda _, item: -item.call_times[0].timestamp(),
    "random": lambda queue, item: GoldPlan(1, queue.seed, "").order(item.item_id),
}
