"""The filter language as SQL over `spans`: conditions and their bound parameters, from an allow-list of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heedloop.schema import EVALUATION
from heedloop.words import SearchWord, accents, fold, fold_parameters, search_words
from heedloop_server.filters import CallFilters
from heedloop_server.store.added_tags import has_tag

_EQUAL = (
    "model",
    "prompt_name",
    "prompt_version",
    "service",
    "environment",
    "user_id",
    "session_id",
    "status",
    "model_requested",
    "provider",
)

PRODUCTION = f"NOT startsWith(environment, '{EVALUATION}')"
"""Calls of users, and feedback on them: what an evaluation's answers are never among, unless their environment is named."""
THUMBS = "is_thumb AND name = 'thumb' AND author_kind = 'end_user'"
"""What counts as the thumb of an answer, over `feedback`."""
FLAGGED = "kind = 'flag'"
BY_PEOPLE_FIRST = """(author_kind != 'model' OR name NOT IN (
    SELECT name
    FROM feedback
    WHERE project_id = {project:String} AND kind = 'rating' AND author_kind IN ('end_user', 'annotator')))"""
"""Where no kind of author is named: a model's ratings count only under a name that users and annotators do not use."""

_CHARS = {
    "none": "{chars} = 0",
    "up to 200": "{chars} BETWEEN 1 AND 200",
    "201 to 1,000": "{chars} BETWEEN 201 AND 1000",
    "over 1,000": "{chars} > 1000",
}

# both columns by the time of the call: a filter looks at the judgements of its period only
_OF_PERIOD = "project_id = {project:String} AND call_time >= {since:DateTime64(6,'UTC')} AND call_time < {until:DateTime64(6,'UTC')}"
_JUDGED = f"(trace_id, span_id) {{how}} (SELECT trace_id, span_id FROM feedback FINAL WHERE {_OF_PERIOD} AND {{which}})"  # noqa: S608
# the newest thumb of an answer decides, not any thumb
_NEWEST = (
    f"(trace_id, span_id) IN (SELECT trace_id, span_id FROM feedback FINAL WHERE {_OF_PERIOD} AND {{which}} "  # noqa: S608
    "GROUP BY trace_id, span_id HAVING (argMax(ifNull(score, 0), (version, feedback_id)) > 0.5) = {up})"
)
_THUMB = "is_thumb AND name = 'thumb' AND author_kind = {rated_by:String}"


SHARE = """if(score IS NULL, NULL, (score - JSONExtractFloat(record, 'scale', 'min'))
        / nullIf(JSONExtractFloat(record, 'scale', 'max') - JSONExtractFloat(record, 'scale', 'min'), 0))"""
"""A rating as a share of its own scale, 0 to 1; NULL for a category."""

# an answer's rating under a name is the mean of its ratings, each the newest of its author, or their commonest category
_NAMED = (
    f"(trace_id, span_id) {{how}} (SELECT trace_id, span_id FROM feedback FINAL WHERE {_OF_PERIOD} "  # noqa: S608
    "AND kind = 'rating' AND name = {rating_name:String}{author} GROUP BY trace_id, span_id HAVING {having})"
)
_HAVING = {
    "up": f"avg({SHARE}) >= 0.5",
    "down": f"avg({SHARE}) < 0.5",
    "any": "count() > 0",
    "none": "count() > 0",
}


def _fill(template: str, **holes: str) -> str:
    for name, value in holes.items():
        template = template.replace("{" + name + "}", value)
    return template


_RATING = {
    "up": _fill(_NEWEST, which=_THUMB, up="true"),
    "down": _fill(_NEWEST, which=_THUMB, up="false"),
    "any": _fill(_JUDGED, how="IN", which=_THUMB),
    "none": _fill(_JUDGED, how="NOT IN", which=_THUMB),
}
_HAS = {
    "correction": "kind = 'correction'",
    "flag": FLAGGED,
    "comparison": "kind = 'comparison'",
    "comment": "has_comment",
}
_CLUSTER = """(trace_id, span_id) IN (
    SELECT member.1, member.2
    FROM clusterings FINAL
    ARRAY JOIN arrayZip(trace_ids, span_ids, cluster_ids) AS member
    WHERE project_id = {project:String} AND member.3 = {cluster:String})"""
# word for word the projection `users` of migration 0022: any other expression reads every call
_FIRST_DAYS = """(
    SELECT user_id, min(toDate(start_time, 'UTC'))
    FROM spans
    WHERE project_id = {project:String}
    GROUP BY user_id)"""
USER = (
    "multiIf(user_id = '', '', (user_id, toDate({time}, 'UTC')) IN " + _FIRST_DAYS + ", 'new', 'returning')"
)
"""Whether the user of an answer was `new` on its day; {time} is the column that holds when it was given."""

LANGUAGE_KEYS = ("language", "lang", "locale")
"""Metadata keys in which apps say the language of a question, the first that is there counts."""
LANGUAGE = "multiIf(metadata['language'] != '', metadata['language'], metadata['lang'] != '', metadata['lang'], metadata['locale'])"


_NAMED_TRACES = "trace_id IN (SELECT toFixedString(unhex(arrayJoin({trace_ids:Array(String)})), 16))"


def conditions(filters: CallFilters) -> tuple[str, dict[str, Any]]:
    """The condition (without WHERE, with the project) and its parameters; `project` is bound by the `ProjectStore`."""
    since, until = filters.period()
    parts = [
        "project_id = {project:String}",
        "start_time >= {since:DateTime64(6,'UTC')}",
        "start_time < {until:DateTime64(6,'UTC')}",
    ]
    params: dict[str, Any] = {"since": since, "until": until}
    for name in _EQUAL:
        value = getattr(filters, name)
        if value is not None:
            parts.append(f"{name} = {{{name}:String}}")
            params[name] = value
    if not of_evaluation(filters):
        parts.append(PRODUCTION)
    if filters.answers_only:
        parts.append("is_answer")
    if filters.trace:
        parts.append(_NAMED_TRACES)
        params["trace_ids"] = list(filters.trace)
    _limits(filters, parts, params)
    _judgements(filters, parts, params)
    _tags(filters, parts, params, "tags")
    _labels(filters, parts, params, "{}")
    if filters.answer_chars is not None:
        parts.append(_CHARS[filters.answer_chars].format(chars="lengthUTF8(answer)"))
    if filters.user is not None:
        parts.append(USER.replace("{time}", "start_time") + " = {user:String}")
        params["user"] = filters.user
    if filters.text is not None:
        _text(filters.text, parts, params)
    return "\n AND ".join(parts), params


def of_evaluation(filters: CallFilters) -> bool:
    """True where the filters name the environment of an evaluation."""
    return (filters.environment or "").startswith(EVALUATION)


def _tags(filters: CallFilters, parts: list[str], params: dict[str, Any], column: str) -> None:
    for i, tag in enumerate(filters.tag):
        parts.append(has_tag(column, f"tag_{i}"))
        params[f"tag_{i}"] = tag


def _labels(filters: CallFilters, parts: list[str], params: dict[str, Any], column: str) -> None:
    """Metadata and language; `column` makes a column's name from that of `spans`."""
    for i, (key, value) in enumerate(filters.metadata.items()):
        parts.append(f"{column.format('metadata')}[{{key_{i}:String}}] = {{value_{i}:String}}")
        params |= {f"key_{i}": key, f"value_{i}": value}
    if filters.language is not None:
        parts.append(LANGUAGE.replace("metadata[", column.format("metadata") + "[") + " = {language:String}")
        params["language"] = filters.language


@dataclass(frozen=True, slots=True)
class CellConditions:
    """Filters over the columns of `store.cells`: the condition, the columns and the metadata keys that it needs."""

    sql: str
    columns: frozenset[str]
    keys: frozenset[str]


_CELL_EQUAL = ("model", "prompt_name", "prompt_version", "service", "environment")
_FEEDBACK_EQUAL = (*_CELL_EQUAL, "user_id", "session_id")
_SPANS_ONLY = (
    "model_requested",
    "provider",
    "text",
    "min_duration_ms",
    "max_duration_ms",
    "min_cost",
    "max_cost",
)
_BY_JUDGEMENT = ("rating", "rating_name", "flag", "has", "cluster")
"""Filters over the ids of a call, which `feedback` has as well."""


def cell_conditions(
    filters: CallFilters, params: dict[str, Any], *, feedback: bool = False
) -> CellConditions | None:
    """The filters over cells, or over the columns that `feedback` copies of its call; None where they need `spans` itself."""
    equal = _FEEDBACK_EQUAL if feedback else _CELL_EQUAL
    only = _SPANS_ONLY if feedback else (*_SPANS_ONLY, *_BY_JUDGEMENT, "user_id", "session_id")
    unknown = filters.trace or any(getattr(filters, n) is not None for n in only)
    if unknown or (of_evaluation(filters) and not feedback):
        return None
    column = "call_{}" if feedback else "{}"
    parts = [PRODUCTION] if feedback and not of_evaluation(filters) else ["1"]  # no aggregate holds others
    columns = {n for n in equal if getattr(filters, n) is not None}
    for name in sorted(columns):
        parts.append(f"{name} = {{{name}:String}}")
        params[name] = getattr(filters, name)
    if filters.answers_only:
        columns.add("is_answer")
        parts.append(column.format("is_answer"))
    if filters.status is not None:
        columns.add("status")
        parts.append(column.format("status") + " = {status:String}")
        params["status"] = filters.status
    if filters.answer_chars is not None:
        columns.add("answer_chars")
        parts.append(
            _CHARS[filters.answer_chars].format(chars="call_answer_chars")
            if feedback
            else "answer_chars = {answer_chars:String}"
        )
        params["answer_chars"] = filters.answer_chars
    if feedback:
        _judgements(filters, parts, params)
    if filters.user is not None:
        columns.add("user")
        user = USER.replace("{time}", "call_time") if feedback else "user"
        parts.append(user + " = {user:String}")
        params["user"] = filters.user
    _labels(filters, parts, params, column)
    if feedback:
        _tags(filters, parts, params, "call_tags")
    elif filters.tag:  # those of an aggregate hold what was added
        parts.append("hasAll(tags, {tags:Array(String)})")
        params["tags"] = list(filters.tag)
    columns |= {"tags"} if filters.tag else set()
    keys = {*filters.metadata, *(LANGUAGE_KEYS if filters.language is not None else ())}
    columns |= {"metadata"} if keys else set()
    return CellConditions(" AND ".join(parts), frozenset(columns), frozenset(keys))


def _limits(filters: CallFilters, parts: list[str], params: dict[str, Any]) -> None:
    limits = {
        "min_duration_ms": "duration_ns >= {min_duration_ms:Float64} * 1e6",
        "max_duration_ms": "duration_ns <= {max_duration_ms:Float64} * 1e6",
        "min_cost": "cost >= {min_cost:Float64}",
        "max_cost": "cost <= {max_cost:Float64}",
    }
    for name, sql in limits.items():
        value = getattr(filters, name)
        if value is not None:
            parts.append(sql)
            params[name] = value


def _judgements(filters: CallFilters, parts: list[str], params: dict[str, Any]) -> None:
    if filters.rating_name is not None:
        parts.append(_named(filters, params))
    elif filters.rating is not None:
        parts.append(_RATING[filters.rating])
        params["rated_by"] = filters.author_kind or "end_user"
    if filters.has is not None:
        parts.append(_fill(_JUDGED, how="IN", which=_HAS[filters.has]))
    if filters.flag is not None:
        parts.append(_fill(_JUDGED, how="IN", which=FLAGGED + " AND label = {flag:String}"))
        params["flag"] = filters.flag
    if filters.cluster is not None:
        parts.append(_CLUSTER)
        params["cluster"] = filters.cluster


def folded_column(column: str) -> str:
    """`heedloop.words.fold` of a column as SQL, with the parameters of `heedloop.words.fold_parameters`."""
    return f"translateUTF8(normalizeUTF8NFKCCasefold(toValidUTF8({column})), {{text_from:String}}, {{text_to:String}})"


def _named(filters: CallFilters, params: dict[str, Any]) -> str:
    """The condition on a named rating: its mean, its category, or where it lies on its scale."""
    params["rating_name"] = filters.rating_name
    having = [_HAVING[filters.rating or "any"]]
    if filters.rating_below is not None:
        having.append("avg(score) < {rating_below:Float64}")
        params["rating_below"] = filters.rating_below
    if filters.rating_above is not None:
        having.append("avg(score) > {rating_above:Float64}")
        params["rating_above"] = filters.rating_above
    if filters.rating_value is not None:
        having.append("topK(1)(label)[1] = {rating_value:String}")
        params["rating_value"] = filters.rating_value
    author = f" AND {BY_PEOPLE_FIRST}"
    if filters.author_kind is not None:
        author = " AND author_kind = {rating_by:String}"
        params["rating_by"] = filters.author_kind
    how = "NOT IN" if filters.rating == "none" else "IN"
    return _fill(_NAMED, how=how, author=author, having=" AND ".join(having))


def _text(text: str, parts: list[str], params: dict[str, Any]) -> None:
    """All words of the text in the answer, or all in the question: in any case, order and script, each as a part of it.

    The indices of three characters answer it (migration 0025). A word with accents must stand there with them as well.
    """
    wanted = search_words(text)
    if not wanted:  # punctuation alone
        params["needle"] = text
        parts.append("(position(answer, {needle:String}) > 0 OR position(question, {needle:String}) > 0)")
        return
    params |= {f"text_{i}": f"%{word.form}%" for i, word in enumerate(wanted)}
    accented = list(dict.fromkeys(part for word in wanted for part in word.accented))
    params |= {f"accented_{i}": part for i, part in enumerate(accented)}
    if accented:
        params |= fold_parameters()
    parts.append(f"({_has('answer', wanted, accented)} OR {_has('question', wanted, accented)})")


def has_words(column: str, text: str, params: dict[str, Any]) -> str:
    """The condition that a text without an index holds all words of another, each as a part of it; fills `params`.

    As in `_text`, a word without accents finds those with them as well.
    """
    params |= fold_parameters()
    folded = folded_column(column)
    bare = f"replaceRegexpAll(normalizeUTF8NFD({folded}), '[\u0300-\u036f]', '')"
    found: list[str] = []
    for i, word in enumerate(fold(text).split()):
        params[f"said_{i}"] = word
        plain = word.translate(accents()) == word
        found.append(f"position({bare if plain else folded}, {{said_{i}:String}}) > 0")
    return "(" + " AND ".join(found or ["1"]) + ")"


def _has(column: str, wanted: Sequence[SearchWord], accented: Sequence[str]) -> str:
    found = [f"{column}_search LIKE {{text_{i}:String}}" for i in range(len(wanted))]
    found += [f"position({folded_column(column)}, {{accented_{i}:String}}) > 0" for i in range(len(accented))]
    return "(" + " AND ".join(found) + ")"
