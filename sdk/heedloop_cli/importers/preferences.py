"""Public preference forms, turned into our own (`jsonl`): pairs, rankings, scored and liked answers, as data cards publish them.

A prompt may be a dialogue in one text (`Human:` and `Assistant:` turns, as in Anthropic's HH), a plain text, or a list of messages.
Where there is none, the two answers are whole dialogues, and what they share up to the last answer is the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from heedloop.schema import Message
from heedloop_cli.importers.documents import mapping, parsed
from heedloop_cli.importers.messages import messages
from heedloop_cli.importers.record import Wrong, number, sequence_of, text_of

Row = Mapping[str, Any]
Form = Callable[[Row], dict[str, Any]]

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_j", "response_k"),
    ("preferred_output", "non_preferred_output"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
)
"""Columns of the better and of the worse answer."""
_PROMPTS = ("prompt", "question", "instruction", "query", "conversations", "context", "history", "messages")
_WINNERS: dict[object, tuple[tuple[int, int], bool]] = {
    "model_a": ((1, 2), False),
    "model_b": ((2, 1), False),
    "tie": ((1, 1), False),
    "tie (bothbad)": ((1, 1), True),
    "both_bad": ((1, 1), True),
}
_COMPLETIONS = ("completion", "response", "answer")
_LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "-1": False}
_HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_KEPT = ("id", "created_at", "tags", "metadata", "session", "user")
_METADATA = (
    "split_in_source", "source", "category", "topic", "dataset", "domain", "language", "prompt_id", "score_chosen",
    "score_rejected", "chosen_rating", "rejected_rating", "batch", "split", "is_response_0_safe", "is_response_1_safe",
    "safer_response_id", "turn", "post_id",
)  # fmt: skip


def form_of(row: Row) -> Form | None:
    """What turns an object into our form; None where it is none of these."""
    if {"prompt", "answers"} <= row.keys():
        answers = parsed(row["answers"])
        entries = cast(list[Any], answers) if isinstance(answers, list) else []
        return _ranked if any("rank" in mapping(e) for e in entries) else None
    return next((form for needed, form in _FORMS if needed <= row.keys()), None)


def dialogue(text: str) -> tuple[Message, ...]:
    """A text of `Human:` and `Assistant:` turns as messages; without turns, one user message."""
    pieces = _TURN.split(text)
    if len(pieces) == 1:
        return (Message("user", text),)
    turns = [Message(_ROLES[pieces[i]], pieces[i + 1].strip()) for i in range(1, len(pieces), 2)]
    head = [Message("system", pieces[0].strip())] if pieces[0].strip() else []
    if turns[-1].role == "assistant" and not turns[-1].text:
        turns.pop()  # the open turn that the answers fill
    return (*head, *turns)


def _ours(
    row: Row, prompt: object, answers: Sequence[Row], *judgements: Row, **changes: Any
) -> dict[str, Any]:
    metadata = {k: row[k] for k in _METADATA if row.get(k) is not None}
    kept = {k: row[k] for k in _KEPT if row.get(k) is not None}
    own = mapping(row.get("metadata"))
    return {
        **kept,
        "metadata": {**own, **metadata},
        "prompt": prompt,
        "answers": answers,
        "judgements": judgements,
        **changes,
    }


def _judge(row: Row) -> dict[str, Any]:
    """Who judged; a judge with a model's name is a model."""
    names = ("annotator", "author", "judge", "worker", "judge_hash", "user_id")
    judge = next((row[n] for n in names if row.get(n)), None)
    name = None if judge is None else str(cast(list[Any], judge)[0] if isinstance(judge, list) else judge)
    is_model = name is not None and name.lower().startswith(("gpt-", "claude", "llama", "gemini"))
    return {"author": name, "author_kind": "model" if is_model else "annotator"}


def _prompt(row: Row) -> tuple[Message, ...]:
    """The prompt with its system message; empty where the row has none."""
    outer = mapping(row.get("input"))
    value: Any = next((row[n] for n in _PROMPTS if row.get(n) is not None), outer.get("messages"))
    if value is None:
        return ()
    if isinstance(value, str) and not value.strip():
        raise Wrong("prompt", "is empty")
    found = _turns(value)
    if not found:
        raise Wrong("prompt", f"must be text or a list of messages, not {value!r:.60}")
    extra = row.get("input")
    if isinstance(extra, str) and extra.strip() and "instruction" in row:
        found = (*found[:-1], Message("user", f"{found[-1].text}\n\n{extra}"))
    system = row.get("system") or row.get("system_prompt")
    has_system = isinstance(system, str) and bool(system.strip()) and found[0].role != "system"
    return (Message("system", str(system)), *found) if has_system else found


def _turns(value: object) -> tuple[Message, ...]:
    """A dialogue as text or messages; a list of texts are turns, the user's first."""
    if isinstance(value, Mapping) and isinstance(cast(Row, value).get("full_text"), str):
        value = cast(Row, value)["full_text"]
    inner = parsed(value)
    if isinstance(inner, list) and inner and all(isinstance(t, str) for t in cast(list[Any], inner)):
        texts = cast(list[str], inner)
        return tuple(Message("assistant" if i % 2 else "user", t) for i, t in enumerate(texts))
    return dialogue(value) if isinstance(value, str) and inner is value else messages(value)


def _last(row: Row, name: str) -> tuple[tuple[Message, ...], str]:
    """(turns before the answer, where they are given; the answer's text)."""
    value = parsed(row.get(name))
    if isinstance(value, list) and value:
        turns = messages(cast(list[Any], value), "assistant")
        if not turns:
            raise Wrong(name, f"must hold an answer, not {row.get(name)!r:.60}")
        return turns[:-1], turns[-1].text
    if isinstance(value, Mapping):
        return (), messages(cast(Row, value), "assistant")[-1].text
    return (), text_of(row, name, empty=True)


def _pair(row: Row) -> dict[str, Any]:
    better, worse = next(p for p in _PAIRS if p[0] in row)
    tie = row.get("tie", False)
    if not isinstance(tie, bool):
        raise Wrong("tie", f"must be true or false, not {tie!r:.60}")
    prompt = _prompt(row)
    if prompt:
        (above, chosen), (above_worse, rejected) = _last(row, better), _last(row, worse)
        # answers that carry their whole dialogue may have a system message that the prompt's text lacks
        if len(above) >= len(prompt) and above == above_worse:
            prompt = above
    else:
        prompt, chosen, rejected = _split(row, better, worse)
    answers = [
        {"text": text, "model": row.get(f"{side}_model"), "id": side}
        for side, text in (("chosen", chosen), ("rejected", rejected))
    ]
    judgement = {"kind": "comparison", "ranks": [1, 1] if tie else [1, 2], **_judge(row)}
    tools = mapping(row.get("input")).get("tools") or row.get("tools")
    return _ours(row, prompt, answers, judgement, tools=tools)


def _split(row: Row, better: str, worse: str) -> tuple[tuple[Message, ...], str, str]:
    sides: list[tuple[Message, ...]] = []
    for name in (better, worse):
        value = row.get(name)
        if not isinstance(value, (str, list)):
            raise Wrong(
                name, "is missing" if name not in row else f"must be text or messages, not {value!r:.60}"
            )
        whole = _turns(value)
        # An empty last answer was dropped as an open turn; it is the answer here.
        sides.append(whole if whole and whole[-1].role == "assistant" else (*whole, Message("assistant", "")))
    chosen, rejected = sides
    if len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
        raise Wrong(
            "prompt", "is missing, and chosen and rejected do not share all turns before their last answers"
        )
    return chosen[:-1], chosen[-1].text, rejected[-1].text


def _liked(row: Row) -> dict[str, Any]:
    """A prompt, one completion and whether it was liked."""
    name = next((n for n in _COMPLETIONS if n in row), "completion")
    label = row["label"]
    known = _LABELS.get(str(label).strip().lower())
    if known is None:
        raise Wrong("label", f"must be true or false, not {label!r:.60}")
    if row.get(name) is None:
        raise Wrong(name, "is missing")
    _, completion = _last(row, name)
    judgement = {"kind": "thumb", "value": known, **_judge(row)}
    return _ours(row, _prompt(row), [{"text": completion, "model": row.get("model")}], judgement)


def _battle(row: Row) -> dict[str, Any]:
    """Two conversations that one judge compared; where their histories differ, each answer keeps its own."""
    a, b = (messages(row.get(n)) for n in ("conversation_a", "conversation_b"))
    if str(row.get("turn")) == "1" and len(a) > 2 < len(b):
        a, b = a[:2], b[:2]
    for name, turns in (("conversation_a", a), ("conversation_b", b)):
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise Wrong(name, "must be a conversation that ends with an answer")
    return _two(row, a[:-1], (a[-1].text, b[-1].text), b[:-1])


def _texts(row: Row) -> dict[str, Any]:
    """Prompts and answers as JSON lists of texts (one per turn), or as texts."""
    prompts, a, b = (
        cast(list[Any], v) if isinstance(v := parsed(row.get(n)), list) else [v]
        for n in ("prompt", "response_a", "response_b")
    )
    histories: list[tuple[Message, ...]] = []
    for answers in (a, b):
        turns = [m for p, r in zip(prompts, answers, strict=False) for m in (("user", p), ("assistant", r))]
        histories.append(tuple(Message(role, "" if text is None else str(text)) for role, text in turns[:-1]))
    return _two(row, histories[0], (str(a[-1] or ""), str(b[-1] or "")), histories[1])


def _two(
    row: Row, prompt: tuple[Message, ...], texts: tuple[str, str], other: tuple[Message, ...]
) -> dict[str, Any]:
    winner = row.get("winner")
    if winner is None:
        flags = (("model_a", "winner_model_a"), ("model_b", "winner_model_b"), ("tie", "winner_tie"))
        winner = next((w for w, n in flags if str(row.get(n)).lower() in ("1", "true", "1.0")), None)
    if winner not in _WINNERS:
        raise Wrong("winner", f"{winner!r} is not one of {', '.join(map(str, _WINNERS))}")
    ranks, all_bad = _WINNERS[winner]
    answers: list[dict[str, Any]] = [
        {"text": texts[0], "model": row.get("model_a"), "id": "a"},
        {"text": texts[1], "model": row.get("model_b"), "id": "b"},
    ]
    if other != prompt:
        answers[1]["prompt"] = list(other)
    judgement = {"kind": "comparison", "ranks": list(ranks), "all_bad": all_bad, "shown_order": [0, 1]}
    time = row.get("tstamp") or row.get("timestamp") or row.get("created_at")
    session = row.get("evaluation_session_id")
    identity = row.get("question_id") or row.get("id")
    named = {**judgement, **_judge(row)}
    return _ours(row, prompt, answers, named, id=identity, created_at=time, session=session and str(session))


def _compared(
    row: Row, prompt: object, texts: Sequence[str], ranks: Sequence[int], **more: Any
) -> dict[str, Any]:
    names = [{"text": text, "id": str(i)} for i, text in enumerate(texts)]
    return _ours(row, prompt, names, {"kind": "comparison", "ranks": list(ranks), **_judge(row), **more})


def _better(first: Any, second: Any) -> list[int]:
    try:
        first, second = float(first), float(second)
    except (TypeError, ValueError):
        raise Wrong("score", f"must be two numbers, not {first!r:.40} and {second!r:.40}") from None
    return [1, 1] if first == second else [1, 2] if first > second else [2, 1]


def _shp(row: Row) -> dict[str, Any]:
    texts = [text_of(row, "human_ref_A"), text_of(row, "human_ref_B")]
    times = [row[n] for n in ("created_at_utc_A", "created_at_utc_B") if row.get(n)]
    made = _compared(row, _prompt(row), texts, [1, 2] if int(row["labels"]) == 1 else [2, 1])
    return {**made, "created_at": max(times, default=None)}


def _summarize(row: Row) -> dict[str, Any]:
    about = mapping(row["info"])
    texts = [text_of(s, "text") for s in sequence_of(row, "summaries")]
    choice = int(row["choice"])
    post = about.get("post") or about.get("article")
    made = _compared(
        row, f"Summarize:\n\n{post}", texts, [1 if i == choice else 2 for i in range(len(texts))]
    )
    for answer, summary in zip(made["answers"], row["summaries"], strict=True):
        answer["model"] = summary.get("policy")
    return {**made, "id": about.get("id")}


def _ranked(row: Row) -> dict[str, Any]:
    """Answers with ranks (Nectar), or with the votes of a site's visitors (Stack Exchange)."""
    entries = cast(Sequence[Row], sequence_of(row, "answers"))
    by_rank = all("rank" in e for e in entries)
    scores = [-float(e["rank"]) if by_rank else float(e.get("pm_score") or 0) for e in entries]
    order = sorted(set(scores), reverse=True)
    answers = [
        {"text": str(e.get("answer") or e.get("text") or ""), "model": e.get("model"), "id": str(i)}
        for i, e in enumerate(entries)
    ]
    judgement = {"kind": "comparison", "ranks": [order.index(s) + 1 for s in scores], **_judge(row)}
    made = _ours(row, _prompt(row), answers, judgement)
    return {**made, "id": row.get("qid") or row.get("id"), "created_at": row.get("date")}


def _helpsteer(row: Row) -> dict[str, Any]:
    ratings = [
        {"kind": "rating", "value": float(row[n]), "scale": [0, 4], "name": n, **_judge(row)}
        for n in _HELPSTEER
        if row.get(n) is not None
    ]
    return _ours(row, _prompt(row), [{"text": text_of(row, "response")}], *ratings)


def _helpsteer3(row: Row) -> dict[str, Any]:
    texts = [text_of(row, "response1", empty=True), text_of(row, "response2", empty=True)]
    entries = row.get("individual_preference") or [{"score": row["overall_preference"]}]
    made = _ours(row, _prompt(row), [{"text": t, "id": str(i)} for i, t in enumerate(texts)])
    made["judgements"] = [
        {
            "kind": "comparison",
            "ranks": _better(-e["score"], 0),
            "strength": min(1.0, abs(e["score"]) / 3) or None,
            "comment": e.get("reasoning") or None,
            "metadata": {"annotator": i},
        }
        for i, e in enumerate(entries)
        if isinstance(e.get("score"), (int, float))
    ]
    return made


def _ultrafeedback(row: Row) -> dict[str, Any]:
    """Completions that a model rated: each aspect from 1 to 5, and overall from 1 to 10."""
    ratings: list[dict[str, Any]] = []
    entries = cast(Sequence[Row], sequence_of(row, "completions"))
    for i, entry in enumerate(entries):
        named = [(n, a) for n, a in mapping(entry.get("annotations")).items() if isinstance(a, Mapping)]
        scored = [(n, a.get("Rating"), [1, 5], a.get("Rationale")) for n, a in named]
        scored += [("overall", entry.get("overall_score"), [1, 10], entry.get("critique"))]
        for name, value, scale, why in scored:
            rated = number(value)
            if rated is None:
                continue  # "N/A"
            rating = {"kind": "rating", "answer": i, "value": rated, "scale": scale, "name": name}
            ratings.append({**rating, "comment": why or None, "author_kind": "model"})
    answers = [
        {"text": text_of(e, "response"), "model": e.get("model"), "id": str(i)} for i, e in enumerate(entries)
    ]
    return _ours(row, _prompt(row), answers, *ratings)


def _safe(row: Row) -> dict[str, Any]:
    texts = [text_of(row, "response_0", empty=True), text_of(row, "response_1", empty=True)]
    return _compared(row, _prompt(row), texts, [1, 2] if int(row["better_response_id"]) == 0 else [2, 1])


def _webgpt(row: Row) -> dict[str, Any]:
    def text(value: Any) -> str:
        return str(mapping(value).get("answer", "")) if isinstance(value, Mapping) else str(value)

    ranks = _better(row["score_0"], row["score_1"])
    return _compared(row, _prompt(row), [text(row["answer_0"]), text(row["answer_1"])], ranks)


def _alpaca(row: Row) -> dict[str, Any]:
    ranks = {1: [1, 2], 2: [2, 1], 0: [1, 1]}.get(int(row["preference"]))
    if ranks is None:
        raise Wrong("preference", f"must be 1 or 2, not {row['preference']!r:.40}")
    return _compared(row, _prompt(row), [text_of(row, "output_1"), text_of(row, "output_2")], ranks)


def _scored(row: Row) -> dict[str, Any]:
    """A prompt, one completion and a number whose scale the user knows."""
    name = next(n for n in _COMPLETIONS if n in row)
    scored = next(n for n in ("score", "rating") if n in row)
    judgement = {
        "kind": "rating",
        "name": scored,
        "value": float(row[scored]),
        "scale": "user",
        **_judge(row),
    }
    return _ours(row, _prompt(row), [{"text": _last(row, name)[1], "model": row.get("model")}], judgement)


_FORMS: tuple[tuple[set[str], Form], ...] = (
    ({"conversation_a", "conversation_b"}, _battle),
    ({"response_a", "response_b", "model_a", "model_b"}, _texts),
    *((set(pair), _pair) for pair in _PAIRS),
    ({"human_ref_A", "human_ref_B", "labels"}, _shp),
    ({"summaries", "choice", "info"}, _summarize),
    ({"individual_preference", "response1", "response2"}, _helpsteer3),
    ({"overall_preference", "response1", "response2"}, _helpsteer3),
    ({"completions", "instruction"}, _ultrafeedback),
    ({"response_0", "response_1", "better_response_id"}, _safe),
    ({"answer_0", "answer_1", "score_0", "score_1"}, _webgpt),
    ({"output_1", "output_2", "preference"}, _alpaca),
    ({"question", "answers"}, _ranked),
    ({"prompt", "response", "helpfulness"}, _helpsteer),
    *(({prompt, name, "label"}, _liked) for prompt in ("prompt", "question") for name in _COMPLETIONS),
    ({"chosen"}, _pair),
    *(({"prompt", n, s}, _scored) for n in _COMPLETIONS for s in ("score", "rating")),
)
"""The fields that show a form, and what turns it into ours; the first that fits is taken."""
