"""One provider call that arrives as several spans, in one trace or in two, counts once.

Two instrumentations side by side each export their own span; some clients export two by themselves. The provider's
response id is the only thing they share. Nothing else is ever taken for a duplicate: two equal questions are two calls,
and so are two answers of decorated functions that were given one provider response, as apps with a cache do.
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from heedloop.schema import Call, Message, Usage
from heedloop_server.normalise.detect import REMOTE_AGENT
from heedloop_server.normalise.heedloop_sdk import ANSWER, is_own

_MERGED = (
    "provider",
    "model_requested",
    "model_answered",
    "cost",
    "error_message",
    "http_status",
    "response_id",
    "prompt_name",
    "prompt_version",
    "session_id",
    "user_id",
)
_OF_FAILURES = ("error_message", "http_status")
_KNOWN = attrgetter(*_MERGED)
_MERGED_LISTS = (
    "input_messages",
    "output_messages",
    "tool_definitions",
    "finish_reasons",
    "embedding_inputs",
    "tags",
)
_MAX_CALLS_OF_ID = 8
"""Calls with one response id that others are compared with: an id that more have says nothing, and costs their square."""
_MAX_BETWEEN = 8
_TRANSPORT = frozenset(
    {"http.request.method", "http.method", "http.url", "url.full", "rpc.system", "rpc.system.name"}
)
"""Attributes of the spans of HTTP and RPC that may stand between a client's call and the server's span of it."""
Key = tuple[str, str]
"""A span: its trace id and span id, in hex."""
_NO_KEY = ("", "")
DUPLICATE_OF = "heedloop.duplicate_of"
"""Attribute of a span whose provider call another span stands for: `<trace id>:<span id>` of that span."""


def fold(calls: list[Call]) -> list[Call]:
    """The same spans, where of each provider call only the best span stays a call.

    The others become spans that are no call: their tokens and messages, which the best span holds, are left out, their
    raw attributes stay, and `heedloop.duplicate_of` among them names the best span.
    """
    calls = without_wrappers(calls)
    groups = [g for g in _groups(calls) if len(g) > 1]
    if not groups:
        return calls
    folded: dict[int, Call] = {}
    for group in groups:
        merged = _merged(group)
        for call in group:
            best = call.span_id == merged.span_id and call.trace_id == merged.trace_id
            folded[id(call)] = merged if best else _folded(call, merged)
    return [folded.get(id(c), c) for c in calls]


def _bare(call: Call) -> Call:
    """The span as one that is no call: its raw attributes stay."""
    return replace(
        call,
        operation="",
        is_answer=False,
        input_messages=(),
        output_messages=(),
        tool_definitions=(),
        usage=Usage(),
        cost=None,
    )


def _folded(call: Call, best: Call) -> Call:
    return replace(
        _bare(call),
        attributes={**call.attributes, DUPLICATE_OF: f"{best.trace_id}:{best.span_id}"},
    )


def _groups(calls: list[Call]) -> list[list[Call]]:
    """The spans of each provider call, in the order of their first ones.

    Two spans are one call where they carry the same response id and do not belong to two answers (`_by_answer`), or where both
    are a client's, one is the other's child, also behind spans of HTTP, and their response ids do not contradict: a call inside
    a call is a client's own span under an instrumentation's, or the server's.
    """
    if _all_apart(calls):
        return [[c] for c in calls]
    group_of = list(range(len(calls)))
    responses: dict[str, list[int]] = {}
    for i, call in enumerate(calls):
        if call.operation and call.response_id:
            responses.setdefault(call.response_id, []).append(i)
    for same in responses.values():
        for part in _by_answer(calls, same):
            _join_same(calls, part, group_of)
    for parent, inner in _children(calls).items():
        # a call around several responses is none of them
        if _num_answers(calls, inner) < 2:
            for i in inner:
                _join(group_of, i, parent)
    groups: dict[int, list[Call]] = {}
    for i, call in enumerate(calls):
        groups.setdefault(_root(group_of, i), []).append(call)
    return list(groups.values())


def _all_apart(calls: list[Call]) -> bool:
    """True where no two spans can be one call, as in most requests: quick to see."""
    responses = [c.response_id for c in calls if c.operation and c.response_id]
    foreign_calls = [c for c in calls if c.operation and not is_own(c.attributes)]
    if len(set(responses)) != len(responses) or any(c.operation == REMOTE_AGENT for c in foreign_calls):
        return False
    spans = {c.span_id for c in foreign_calls} | {
        c.span_id for c in calls if not c.operation and (DUPLICATE_OF in c.attributes or _is_transport(c))
    }
    return not any(c.parent_span_id in spans for c in foreign_calls)


def _children(calls: list[Call]) -> dict[int, list[int]]:
    """Of each call the calls right inside it that may be it; between them may be spans of HTTP and RPC, and folded ones."""
    index = {(c.trace_id, c.span_id): i for i, c in enumerate(calls)}
    children: dict[int, list[int]] = {}
    for i, call in enumerate(calls):
        if not call.operation:
            continue
        parent, num_between = index.get((call.trace_id, call.parent_span_id or "")), 0
        while parent is not None and not calls[parent].operation and num_between < _MAX_BETWEEN:
            target = index.get(duplicate_target(calls[parent]) or _NO_KEY)
            if target is not None and target != i and not _is_inside(calls, index, target, parent):
                parent, num_between = target, num_between + 1
                break
            if target is None and not _is_transport(calls[parent]):
                break
            parent, num_between = (
                index.get((call.trace_id, calls[parent].parent_span_id or "")),
                num_between + 1,
            )
        if parent is None or parent == i or not calls[parent].operation:
            continue
        if _same_call(call, calls[parent]) and not (num_between and _counts_differ(call, calls[parent])):
            children.setdefault(parent, []).append(i)
    return children


def _is_inside(calls: list[Call], index: dict[Key, int], inner: int, outer: int) -> bool:
    """True where one span lies in another, not too deep: then the outer one was folded into it."""
    at: int | None = inner
    for _ in range(_MAX_BETWEEN):
        at = index.get((calls[at].trace_id, calls[at].parent_span_id or "")) if at is not None else None
        if at is None or at == outer:
            return at == outer
    return False


def duplicate_target(call: Call) -> Key | None:
    """The span that stands for this one since it was folded as a duplicate; None where it stands for itself."""
    trace_id, _, span_id = call.attributes.get(DUPLICATE_OF, "").partition(":")
    return (trace_id, span_id) if span_id else None


def _is_transport(span: Call) -> bool:
    return not _TRANSPORT.isdisjoint(span.attributes)


def _num_answers(calls: list[Call], inner: list[int]) -> int:
    """How many provider calls some spans are: those with an answer, of one response id one."""
    ids = {calls[i].response_id for i in inner} - {None}
    unnamed = [calls[i] for i in inner if not calls[i].response_id]
    return len(ids) + sum(bool(c.output_messages or c.usage.output or c.usage.input) for c in unnamed)


def without_wrappers(calls: list[Call]) -> list[Call]:
    """The spans, where one around several calls, or an agent's around any, is no call: what it says of them would count twice."""
    if _all_apart(calls):
        return calls
    wrappers = {
        parent
        for parent, inner in _children(calls).items()
        if not calls[parent].response_id and _num_answers(calls, inner) > 1
    }
    if any(c.operation == REMOTE_AGENT for c in calls):
        wrappers |= _agents_with_calls(calls)
    return [_bare(c) if i in wrappers else c for i, c in enumerate(calls)]


def _agents_with_calls(calls: list[Call]) -> set[int]:
    index = {(c.trace_id, c.span_id): i for i, c in enumerate(calls)}
    found: set[int] = set()
    passed: set[int] = set()
    for call in calls:
        place = (call.trace_id, call.parent_span_id or "") if call.operation else None
        while place is not None and (i := index.get(place)) is not None and i not in passed:
            passed.add(i)
            if calls[i].operation == REMOTE_AGENT:
                found.add(i)
            place = (call.trace_id, calls[i].parent_span_id or "")
    return found


def _by_answer(calls: list[Call], same: list[int]) -> list[list[int]]:
    """The spans of one response id, apart by the answers that decorated functions made of it, as apps with a cache do.

    A client's span goes with the answer of its own trace, else with the earliest one, whose call filled the cache.
    """
    answers = sorted(
        (i for i in same if calls[i].attributes.get(ANSWER) == "true"),
        key=lambda i: (calls[i].start_time, calls[i].trace_id, calls[i].span_id),
    )
    if len(answers) < 2:
        return [same]
    parts = {i: [i] for i in answers}
    of_trace = {calls[i].trace_id: i for i in reversed(answers)}
    for i in same:
        if i not in parts:
            parts[of_trace.get(calls[i].trace_id, answers[0])].append(i)
    return list(parts.values())


def _join_same(calls: list[Call], same: list[int], group_of: list[int]) -> None:
    """Joins the spans of one response id, those with an answer first, so that their order decides nothing."""
    if len(same) < 2:
        return
    known = next(
        (calls[i] for i in same if calls[i].output_messages and calls[i].usage.input), calls[same[0]]
    )
    if not any(_contradict(known, calls[i]) for i in same):  # as good as always
        for i in same:
            group_of[i] = same[0]
        return
    same.sort(key=lambda i: (not calls[i].output_messages, calls[i].trace_id, calls[i].span_id))
    leaders: list[int] = []
    for i in same:
        leader = next((j for j in leaders if not _contradict(calls[i], calls[j])), None)
        if leader is not None:
            _join(group_of, i, leader)
        elif len(leaders) < _MAX_CALLS_OF_ID:
            leaders.append(i)


def _contradict(a: Call, b: Call) -> bool:
    """True where two spans with one response id are two calls: some servers give few ids (Ollama has 1,000) or one.

    Two clients may count or cut one answer differently; they do not differ in its text and in both counts.
    """
    differ = bool(a.output_text and b.output_text) and a.output_text != b.output_text
    return differ and _counts_differ(a, b)


def _counts_differ(a: Call, b: Call) -> bool:
    """True where both counts are known of both and neither is the same."""
    one, other = a.usage, b.usage
    if one.input == other.input or one.output == other.output:
        return False
    return None not in (one.input, one.output, other.input, other.output)


def _same_call(child: Call, parent: Call) -> bool:
    if is_own(parent.attributes) or is_own(child.attributes):
        return False  # a decorated function is no provider call, even where it encloses one
    return _ids_agree(child.response_id, parent.response_id) and (child.operation == "embeddings") == (
        parent.operation == "embeddings"
    )


def _ids_agree(a: str | None, b: str | None) -> bool:
    """True where two response ids may be one: an inference server may write a number behind it."""
    return not (a and b) or a == b or a.startswith(f"{b}-") or b.startswith(f"{a}-")


def _root(group_of: list[int], i: int) -> int:
    while group_of[i] != i:
        i = group_of[i]
    return i


def _join(group_of: list[int], a: int, b: int) -> None:
    a, b = _root(group_of, a), _root(group_of, b)
    group_of[max(a, b)] = min(a, b)


def duplicate_key(call: Call) -> str | None:
    """What the spans of one provider call share across requests; None where only this span can be the call."""
    return call.response_id if call.operation and call.response_id else None


def richness(call: Call) -> tuple[bool, bool, int, int, str, str]:
    """Sorts the spans of one provider call: the best one is the greatest.

    An answer that the app marked comes first, then a span with an answer's text, then the one with more in it; the ids
    decide the rest, so that every reader picks the same.
    """
    size = _size(call.input_messages) + _size(call.output_messages)
    known = len(_MERGED) - _KNOWN(call).count(None) + len(call.params)
    marked = call.attributes.get(ANSWER) == "true"
    return marked, bool(call.output_messages), size, known, call.trace_id, call.span_id


def _size(messages: tuple[Message, ...]) -> int:
    return sum(len(m.text) + len(m.reasoning or "") + 10 * len(m.tool_calls) for m in messages)


def _merged(group: list[Call]) -> Call:
    if len(group) == 1:
        return group[0]
    best = max(group, key=richness)
    others = sorted((c for c in group if c is not best), key=richness, reverse=True)
    changed: dict[str, object] = {}
    for name in _MERGED:
        if getattr(best, name) is None:
            # what went wrong in an attempt is no word on the one that succeeded
            alike = (c for c in others if name not in _OF_FAILURES or c.status == best.status)
            changed[name] = next((v for c in alike if (v := getattr(c, name)) is not None), None)
    for name in _MERGED_LISTS:
        if not getattr(best, name):
            changed[name] = next((v for c in others if (v := getattr(c, name))), ())
    if best.model_answered == best.model_requested:  # one name for both may hide the model that answered
        other_models = (
            c.model_answered for c in others if c.model_answered and c.model_answered != best.model_requested
        )
        changed["model_answered"] = next(other_models, best.model_answered)
    if best.error_message and " " not in best.error_message:  # a type alone, where another has a sentence
        messages = (c.error_message for c in others if c.error_message and " " in c.error_message)
        changed["error_message"] = next(messages, best.error_message)
    changed["params"] = {**{k: v for c in reversed(others) for k, v in c.params.items()}, **best.params}
    if best.usage.input is None and best.usage.output is None:
        changed["usage"] = next((c.usage for c in others if c.usage.input is not None), best.usage)
    changed["stream"] = best.stream or any(c.stream for c in others)
    return replace(best, **changed)  # type: ignore[arg-type]
