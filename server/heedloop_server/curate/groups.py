"""Prompt groups: near-copies of one prompt, one conversation's turns, one user's questions; and their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from heedloop.schema import Message, Split, canonical_json
from heedloop_server.curate.judged_calls import Answer, compared, question_text
from heedloop_server.curate.near_copies import DisjointSets, near_duplicate_groups
from heedloop_server.curate.rules import Rules

RANKED_BELOW = 100
"""So many groups or fewer are split by their rank: by chance alone a tenth of twenty is none at all in one case of eight."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an answer's rows go.

    Attributes:
        group: name of what the split must not tear apart: near-copies of the prompt, and what conversation or user join.
    """

    group: str
    split: Split


def place(
    answers: Sequence[Answer],
    rules: Rules,
    *,
    judged: Collection[str] = (),
    reserved: Iterable[str] = (),
) -> dict[str, Placement]:
    """Group and split of every answer, by its key.

    Where the split is by time, an answer is left out that is newer than the split of its group's oldest.

    Args:
        answers: oldest first; a group is named after its oldest prompt, so that later near-copies join the side
            that it is on.
        judged: keys of answers that were judged: where groups are few, those with one and those without are split apart,
            so that each split has its share of both.
        reserved: keys of answers whose groups must be in the test split.
    """
    roots = _roots(answers, rules)
    members: dict[int, list[Answer]] = {}
    for answer, root in zip(answers, roots, strict=True):
        members.setdefault(root, []).append(answer)
    names = {r: _name(answers[r], rules) for r in members}
    ends: dict[int, datetime] = {}
    if rules.split_by == "hash":
        splits = _by_hash(members, names, rules, frozenset(judged))
    else:
        splits, ends = _by_time(members, rules)
    held = set(reserved)
    for root, of_group in members.items():
        if not held.isdisjoint(a.key for a in of_group):
            splits[root] = "test"
            ends.pop(root, None)
    return {
        a.key: Placement(names[r], splits[r])
        for a, r in zip(answers, roots, strict=True)
        if r not in ends or a.call.start_time < ends[r]
    }


def split_of(group: str, rules: Rules) -> Split:
    """The split of a group by its name and the rules' seed alone."""
    u = _lot(group, rules)
    if u < rules.test_fraction:
        return "test"
    return "validation" if u < rules.test_fraction + rules.validation_fraction else "train"


def _lot(group: str, rules: Rules) -> float:
    digest = hashlib.sha256(f"{rules.seed}|{group}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


# --------------------------------------------------------------------------------------------------------- groups


def _roots(answers: Sequence[Answer], rules: Rules) -> list[int]:
    """For each answer the index of the first answer of its group."""
    sets = DisjointSets(len(answers))
    wording = list(range(len(answers)))
    if "prompt" in rules.group_by:
        wording = _prompt_groups(answers, rules.near_duplicate)
        for i, first in enumerate(wording):
            sets.join(i, first)
    if "session" in rules.group_by:
        _join_equal([a.call.session_id for a in answers], wording, sets)
        _join_continued(answers, wording, sets)
    if "user" in rules.group_by:
        _join_equal([a.call.user_id for a in answers], wording, sets)
    return [sets.find(i) for i in range(len(answers))]


def _prompt_groups(answers: Sequence[Answer], threshold: float) -> list[int]:
    """For each answer the index of the first answer whose prompt is a near-copy of its own."""
    firsts: dict[str, int] = {}
    for i, answer in enumerate(answers):
        firsts.setdefault(answer.question, i)
    where = list(firsts.values())
    groups = near_duplicate_groups([question_text(answers[i].prompt) for i in where], threshold)
    group_of = {q: where[g] for q, g in zip(firsts, groups, strict=True)}
    return [group_of[a.question] for a in answers]


def _join_equal(values: Sequence[str | None], wording: Sequence[int], sets: DisjointSets) -> None:
    """Join the answers of one conversation (or user), but not by a prompt that others have too.

    An opening that many share, such as "hi", would make one group of all their conversations.
    """
    asking: dict[int, set[str]] = {}
    for value, prompt in zip(values, wording, strict=True):
        if value:
            asking.setdefault(prompt, set()).add(value)
    first: dict[str, int] = {}
    for i, (value, prompt) in enumerate(zip(values, wording, strict=True)):
        if value and len(asking[prompt]) == 1:
            sets.join(i, first.setdefault(value, i))


def _join_continued(answers: Sequence[Answer], wording: Sequence[int], sets: DisjointSets) -> None:
    """Join the turns of conversations without a session: a prompt that begins with another one goes on from it.

    Not where a prompt goes on in several ways: an opening that many share ties none of them.
    """
    chains = {i: _chain(a.prompt) for i, a in enumerate(answers) if not a.call.session_id}
    asked: dict[int, int] = {}
    for i, chain in chains.items():
        asked.setdefault(chain[-1], i)
    following: dict[int, dict[int, list[int]]] = {}
    for i, chain in chains.items():
        for k in range(len(chain) - 2):
            first = asked.get(chain[k])
            if first is not None:
                following.setdefault(wording[first], {}).setdefault(chain[k + 2], []).append(i)
    for first, turns in following.items():
        if len(turns) == 1:
            for i in next(iter(turns.values())):
                sets.join(i, first)


def _chain(prompt: Sequence[Message]) -> list[int]:
    """A number for the conversation up to each message, instructions aside; equal ones for equal beginnings."""
    chain = [0]
    for message in prompt:
        if not message.is_instruction:
            chain.append(hash((chain[-1], canonical_json(compared(message)))))
    return chain[1:] or chain


def _name(answer: Answer, rules: Rules) -> str:
    named = answer.question
    if "prompt" not in rules.group_by:
        ids = {"user": answer.call.user_id, "session": answer.call.session_id}
        named = next((i for by in ("user", "session") if by in rules.group_by and (i := ids[by])), answer.key)
    return hashlib.sha256(named.encode("utf-8", "replace")).hexdigest()[:16]


# --------------------------------------------------------------------------------------------------------- splits


def _by_hash(
    members: Mapping[int, Sequence[Answer]], names: Mapping[int, str], rules: Rules, judged: Set[str]
) -> dict[int, Split]:
    splits: dict[int, Split] = {}
    known = {r for r, of_group in members.items() if not judged.isdisjoint(a.key for a in of_group)}
    for roots in (known, members.keys() - known):
        if len(roots) > RANKED_BELOW:
            splits.update({r: split_of(names[r], rules) for r in roots})
        else:
            ordered = sorted(roots, key=lambda r: (-_lot(names[r], rules), r))
            splits.update(zip(ordered, _shares(len(ordered), rules), strict=True))
    return splits


def _shares(n: int, rules: Rules) -> list[Split]:
    """The splits of n groups in order, training first: what was asked for of each, at least one where there are enough."""
    num_test = _share(n, rules.test_fraction)
    num_validation = _share(n, rules.validation_fraction)
    if num_test + num_validation >= n:  # training comes first, then the test
        num_test, num_validation = min(num_test, max(0, n - 1)), 0
    num_train = n - num_test - num_validation
    sizes: dict[Split, int] = {"train": num_train, "validation": num_validation, "test": num_test}
    return [split for split, size in sizes.items() for _ in range(size)]


def _share(n: int, fraction: float) -> int:
    return max(1, round(n * fraction)) if fraction else 0


def _by_time(
    members: Mapping[int, Sequence[Answer]], rules: Rules
) -> tuple[dict[int, Split], dict[int, datetime]]:
    """Splits by the age of each group's oldest answer, and the time from which a group's answers are left out.

    Groups of one age are on one side, the newer one.
    """
    started = {r: of_group[0].call.start_time for r, of_group in members.items()}
    ordered = sorted(members, key=lambda r: (started[r], r))
    splits: dict[int, Split] = {}
    ends: dict[int, datetime] = {}
    for root, split in zip(ordered, _shares(len(ordered), rules), strict=True):
        splits[root] = split
    newest: dict[datetime, Split] = {started[r]: splits[r] for r in ordered}
    if newest and "train" not in newest.values():  # too many of one age
        newest[started[ordered[0]]] = "train"
    splits = {r: newest[started[r]] for r in ordered}
    begins: dict[Split, datetime] = {}
    for root in ordered:
        begins.setdefault(splits[root], started[root])
    for root, split in splits.items():
        later = [begins[s] for s in _LATER[split] if s in begins]
        if later:
            ends[root] = min(later)
    return splits, ends


_LATER: dict[Split, tuple[Split, ...]] = {
    "train": ("validation", "test"),
    "validation": ("test",),
    "test": (),
}
