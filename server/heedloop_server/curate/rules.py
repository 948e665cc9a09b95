"""The rules by which calls and feedback become dataset rows: one frozen record, checked, stored with every snapshot."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from heedloop.schema import AUTHOR_KINDS, DATASET_FORMS, AuthorKind, DatasetForm, Feedback, SchemaError

Consensus = Literal["votes", "majority"]
GroupBy = Literal["prompt", "session", "user"]
SplitBy = Literal["hash", "time"]
ContextRule = Literal["same", "similar", "any"]

_JUDGE = re.compile(r"[a-z][a-z0-9_-]*@[0-9a-f]{12}")
ALL_CATEGORIES = "*"
"""In a list of flag categories: every category."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How feedback becomes rows. Every default is what most projects want; each field is a key of `rules` in the API.

    Attributes:
        forms: the row forms to make.
        author_kinds: whose judgements count. Models and rules in code are left out unless named.
        judges: id of each AI judge (`heedloop.schema.JudgeSpec`) whose judgements count -> the weight of its rows, 0 to 1, by its
            measured agreement with annotators. A judge that is not named never counts, whatever `author_kinds` says.
        solicited: True takes only judgements that were asked for, False only those given unasked, None both.
        like_names: names of the ratings that mean "good answer" or "bad answer"; all ratings go to `rated` rows.
        like_from, dislike_to: a rating rescaled to 0..1 is a like from the first up, a dislike from the second down.
        exclude_flags: an answer with a flag of these categories is in no row of any form.
        reject_flags: an answer with a flag of these categories counts as disliked and is never a demonstration.
        consensus: `votes` makes a row per judgement, `majority` one row per answer or pair, weighted by agreement.
        reliability: weight judges by how well they agree with the others (Dawid and Skene 1979, one parameter
            per judge). Off: on real judgements it did not help (docs/datasets-design.md).
        propensity: weight rated answers by the inverse of their probability to be rated at all.
        propensity_clip: smallest and largest such weight.
        max_author_share: the largest share of a form's weight that one author may have.
        margin_scale: margin of a clear preference, on the reward's scale; a slight one has its share of it.
        max_pairs_per_prompt: the most comparisons that thumbs on one prompt's answers may make.
        context: which answers to one question are compared: those whose system messages and tools were the `same` (but for the
            date and time of the call), also those whose system messages are `similar` (`near_duplicate`) and of one
            user, or `any`.
        near_duplicate: prompts whose 5-gram Jaccard similarity reaches this are one group, 0 < x <= 1.
        group_by: what must not be torn apart by the split.
            A prompt that several conversations (or users) have is a group of its own and ties none of them together.
        split_by: `hash` puts a group on a side by a hash of its earliest prompt, by the rank of that hash where groups are
            few; `time` puts the newest in test, and leaves out answers that are newer than the split of their group.
        reserve_random: groups with judgements on randomly chosen answers (a sampling probability is known) go to
            the test split: the only ones that need no assumption about who rates.
        seed: another seed, another split.
    """

    forms: tuple[DatasetForm, ...] = DATASET_FORMS
    author_kinds: tuple[AuthorKind, ...] = ("end_user", "annotator")
    judges: Mapping[str, float] = field(default_factory=dict)
    solicited: bool | None = None
    like_names: tuple[str, ...] = ("thumb",)
    like_from: float = 0.75
    dislike_to: float = 0.25
    exclude_flags: tuple[str, ...] = ("privacy", "personal_data", "spam", "test")
    reject_flags: tuple[str, ...] = (ALL_CATEGORIES,)
    consensus: Consensus = "votes"
    reliability: bool = False
    propensity: bool = False
    propensity_clip: tuple[float, float] = (0.1, 10.0)
    max_author_share: float = 0.2
    margin_scale: float = 1.0
    max_pairs_per_prompt: int = 50
    context: ContextRule = "same"
    near_duplicate: float = 0.8
    group_by: tuple[GroupBy, ...] = ("prompt", "session")
    split_by: SplitBy = "hash"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    reserve_random: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check_subset(self.forms, DATASET_FORMS, "forms")
        _check_subset(self.author_kinds, AUTHOR_KINDS, "author_kinds")
        _check_subset(self.group_by, get_args(GroupBy), "group_by")
        _check_subset((self.consensus,), get_args(Consensus), "consensus")
        _check_subset((self.split_by,), get_args(SplitBy), "split_by")
        _check_subset((self.context,), get_args(ContextRule), "context")
        for name in ("like_names", "exclude_flags", "reject_flags"):
            _check_texts(getattr(self, name), name)
        for name in ("like_from", "dislike_to"):
            _check_between(getattr(self, name), name, 0, 1)
        if self.dislike_to >= self.like_from:
            raise SchemaError(
                "rules.dislike_to", f"{self.dislike_to} must be below like_from, {self.like_from}"
            )
        self._check_numbers()
        self._check_switches()

    def _check_numbers(self) -> None:
        for judge, weight in self.judges.items():
            _check_between(weight, f"judges.{judge}", 0, 1)
        for name in ("max_author_share", "near_duplicate"):
            if _check_between(getattr(self, name), name, 0, 1) == 0:
                raise SchemaError(f"rules.{name}", "must be above 0")
        for name in ("validation_fraction", "test_fraction"):
            _check_between(getattr(self, name), name, 0, 1)
        if self.validation_fraction + self.test_fraction >= 1:
            raise SchemaError("rules.test_fraction", "validation and test together leave nothing to train on")
        _check_between(self.margin_scale, "margin_scale", 0, 1000)
        _check_between(self.max_pairs_per_prompt, "max_pairs_per_prompt", 1, 10_000)
        if len(self.propensity_clip) != 2:
            raise SchemaError("rules.propensity_clip", "must be the smallest and the largest weight")
        low, high = (_check_between(c, "propensity_clip", 1e-6, 1e6) for c in self.propensity_clip)
        if low > high:
            raise SchemaError("rules.propensity_clip", f"{low:g} is above {high:g}")
        for name in ("seed", "max_pairs_per_prompt"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise SchemaError(f"rules.{name}", f"{value!r} is not a whole number")

    def _check_switches(self) -> None:
        for name in ("reliability", "propensity", "reserve_random"):
            if not isinstance(getattr(self, name), bool):
                raise SchemaError(f"rules.{name}", f"{getattr(self, name)!r} is not true or false")
        if self.solicited is not None and not isinstance(self.solicited, bool):
            raise SchemaError("rules.solicited", f"{self.solicited!r} is not true, false or null")

    def takes(self, feedback: Feedback) -> bool:
        """True where this judgement's author and its asking are among those that count."""
        author = feedback.author
        if author.kind == "model" and _JUDGE.fullmatch(author.id or ""):
            known = author.id in self.judges
        else:
            known = author.kind in self.author_kinds
        if feedback.retracted or not known:
            return False
        return self.solicited is None or feedback.solicited is self.solicited

    def excludes(self, category: str) -> bool:
        """True where a flag of this category keeps its answer out of every row."""
        return category in self.exclude_flags or ALL_CATEGORIES in self.exclude_flags

    def rejects(self, category: str) -> bool:
        """True where a flag of this category counts as a dislike of its answer."""
        return category in self.reject_flags or ALL_CATEGORIES in self.reject_flags


def _check_subset(values: object, choices: tuple[str, ...], name: str) -> None:
    if not isinstance(values, tuple) or not values:
        raise SchemaError(f"rules.{name}", f"must be a list of {', '.join(choices)}")
    for value in values:
        if value not in choices:
            raise SchemaError(f"rules.{name}", f"{value!r} is not one of {', '.join(choices)}")


def _check_texts(values: object, name: str) -> None:
    if not isinstance(values, tuple) or not all(isinstance(v, str) and v for v in values):
        raise SchemaError(f"rules.{name}", f"{values!r} is not a list of names")


def _check_between(value: object, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SchemaError(f"rules.{name}", f"{value!r} is not a number")
    if not low <= value <= high:
        raise SchemaError(f"rules.{name}", f"{value:g} is not between {low:g} and {high:g}")
    return float(value)
