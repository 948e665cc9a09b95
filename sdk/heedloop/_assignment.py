"""`heedloop.assign`: which arm of an experiment a unit gets, without a network call on the caller's thread."""

from __future__ import annotations

import time
from asyncio import _get_running_loop  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
from bisect import bisect_right
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from heedloop import attributes as names
from heedloop._around import Around, around, begin
from heedloop._current import current_call
from heedloop._guard import dropped, report
from heedloop._prompts import PATH as PROMPTS
from heedloop._prompts import note_prompt
from heedloop._runtime import state
from heedloop._values import as_text
from heedloop.schema import from_json
from heedloop.schema._prompt import Prompt

PLANS = "/v1/assignments"
"""The document that holds every plan."""


class Assignment(NamedTuple):
    """What a unit gets.

    Attributes:
        arm: name of the variant; empty where the experiment is not known (yet), so that `parameters` are the defaults.
        parameters: the defaults, and over them the arm's own.
        probability: with which such a unit gets this arm; None where the unit is not in the experiment, and not counted.
        prompt: the version of the registry that the arm names; None where it names none. Its words are also the parameter
            `prompt`, its settings are parameters.
    """

    experiment: str
    arm: str
    parameters: dict[str, Any]
    probability: float | None
    prompt: Prompt | None = None


class _Segment(NamedTuple):
    """One arm's places in one step: what is given, and what is written on calls behind the unit's hash."""

    arm: str
    parameters: dict[str, Any]
    prompt: Prompt | None
    probability: float | None = None
    suffix: str = ""


class _Plan:
    """One experiment, read for speed; its fields are those of `heedloop.responses.AssignmentPlan`."""

    __slots__ = ("arm_key", "ends", "salt", "segments", "serving", "unit_key")

    def __init__(self, sent: Mapping[str, Any]) -> None:
        name, parameters = str(sent["name"]), sent["parameters"]
        served = [
            _Segment(str(arm), {**parameters[i]}, _prompt_of(sent, i)) for i, arm in enumerate(sent["arms"])
        ]
        self.salt = blake2b(f"{sent['salt']}\0".encode(), digest_size=8)
        self.ends: list[int] = [int(end) for end in sent["ends"]]
        self.segments = [
            served[arm]._replace(probability=float(p), suffix=f" {p!r} {sent['round']}")
            for arm, p in zip(sent["segments"], sent["probabilities"], strict=True)
        ]
        self.serving = served[sent["serving"]]
        if len(self.ends) != len(self.segments):
            raise ValueError(f"{len(self.ends)} places for {len(self.segments)} segments")
        self.arm_key = names.EXPERIMENT_ARM_PREFIX + name
        self.unit_key = names.EXPERIMENT_UNIT_PREFIX + name


def _prompt_of(sent: Mapping[str, Any], arm: int) -> Prompt | None:
    """The prompt of one arm of a plan; a server before this version sends none."""
    prompts = sent.get("prompts") or [None] * (arm + 1)
    return None if prompts[arm] is None else from_json(Prompt, prompts[arm], strict=False)


_read: tuple[Any, dict[str, _Plan]] = (None, {})
"""The newest document and the plans in it."""


def assign(experiment: str, *, unit: Any, default: Mapping[str, Any] | None = None) -> Assignment:
    """The arm of an experiment that a unit gets, and its parameters. Takes microseconds and never waits.

    The same unit gets the same arm in every process, on every server, for as long as the experiment runs. The assignment is
    written on the call that is going on here and on those that follow in this context: until the call, the block of
    `heedloop.context()` or the asyncio task around it ends. In a thread outside of all three it is written on the next answer
    alone, because whom the thread serves after that is not known.

    Args:
        experiment: its name on the server.
        unit: who or what keeps its arm, such as the id of the user or the session.
        default: parameters where nothing is known of the experiment yet; an arm's own go over them.
    """
    runtime = state.runtime
    fallback = {**default} if default else {}
    if runtime is None:
        return Assignment(experiment, "", fallback, None)
    document = runtime.settings.document(PLANS)
    known, plans = _read
    if document is not known:
        plans = _plans_of(document)
    plan = plans.get(experiment)
    if plan is None:
        return Assignment(experiment, "", fallback, None)
    if type(unit) is not str:
        unit = as_text("unit", unit)
    return _assigned(experiment, plan, unit, fallback)


def fetch_settings(timeout_s: float = 10.0) -> bool:
    """Fetch experiments and prompts now and wait for them: for scripts, which are over before a service would fetch again.

    Returns:
        Whether this process knows them: fetched now, or kept from before where the server is away.
    """
    runtime = state.runtime
    if runtime is None:
        return False
    runtime.settings.refresh()
    until = time.monotonic() + timeout_s
    documents = [runtime.settings.wait(path, until - time.monotonic()) for path in (PLANS, PROMPTS)]
    return all(d is not None for d in documents)


def _assigned(experiment: str, plan: _Plan, unit: str, fallback: dict[str, Any]) -> Assignment:
    segment = plan.serving
    if unit:
        hashed = plan.salt.copy()
        hashed.update(unit.encode("utf-8", "replace"))
        digest = hashed.digest()
        index = bisect_right(plan.ends, int.from_bytes(digest[:4], "big"))
        if index == len(plan.ends):
            _forget(plan)
        else:
            segment = plan.segments[index]
            _note({plan.arm_key: segment.arm, plan.unit_key: digest.hex() + segment.suffix}, plan.unit_key)
    else:
        dropped("unit", "is empty: it is in no experiment, and gets what those outside get")
        _forget(plan)
    if segment.prompt is not None:
        note_prompt(segment.prompt)
    parameters = {**fallback, **segment.parameters}
    return Assignment(experiment, segment.arm, parameters, segment.probability, segment.prompt)


def _plans_of(document: Any) -> dict[str, _Plan]:
    """The plans of a document that was not read yet; one that cannot be read is left out with a warning."""
    global _read
    plans: dict[str, _Plan] = {}
    sent: Any = document.get("plans") if isinstance(document, dict) else None
    for plan in sent if isinstance(sent, list) else ():
        try:
            plans[str(plan["name"])] = _Plan(plan)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            report(error, "reading an experiment")
    _read = (document, plans)
    return plans


def _note(attributes: dict[str, str], unit_key: str) -> None:
    """Write an assignment on the call that is going on, the answer around it, and the calls that follow."""
    call, blocks = current_call(), around()
    if call is not None:
        call.attributes.update(attributes)
        call.answer.attributes.update(attributes)
        call.answer.assigned = {**(call.answer.assigned or {}), **attributes}
    elif blocks.values or blocks.external or blocks.collected or _get_running_loop() is not None:
        if blocks.values.get(unit_key) != attributes[unit_key]:
            begin(blocks._replace(values={**blocks.values, **attributes}))
    elif blocks.once is not None:
        blocks.once.update(attributes)
    else:
        # A thread without a block: the user after this one would inherit what lasts.
        begin(Around(once=attributes))


def _forget(plan: _Plan) -> None:
    """Take back what an earlier unit was assigned here."""
    blocks = around()
    if blocks.once:
        blocks.once.pop(plan.unit_key, None)
        blocks.once.pop(plan.arm_key, None)
    if plan.unit_key in blocks.values:
        kept = {k: v for k, v in blocks.values.items() if k not in (plan.unit_key, plan.arm_key)}
        begin(blocks._replace(values=kept))
