"""Groups that hold together what must, and no more; splits at any size; templates told from near-copies."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from curate_cases import START, call, thumb

from heedloop.schema import Call, Message, ToolCall
from heedloop_server.curate import Rules, curate
from heedloop_server.curate.near_copies import near_duplicate_groups
from heedloop_server.curate.report import describe

TEMPLATES = {
    "en": "You help our support team. Classify the sentiment of the review as positive, negative or neutral, in one word. Review of order {}: {}",
    "de": "Du hilfst unserem Kundendienst. Bewerte die Stimmung der Rezension als positiv, negativ oder neutral, in einem Wort. Bestellung {}: {}",
    "zh": "你是我们客服团队的助手。请将下面的评论分类为正面、负面或中性，只回答一个词，不要解释，也不要重复评论内容。订单{}的评论：{}",
    "ja": "あなたはサポート担当です。次のレビューの感情を肯定的、否定的、中立のいずれかに分類し、一語だけで答えてください。注文{}のレビュー：{}",
    "slot last": "Translate the following word into French, answer with the translation alone, without any explanation, please: {1} {0}",
}  # fmt: skip
WORDS = ["great", "awful", "fine", "broken", "superb", "lousy", "decent", "terrible", "lovely", "dreadful"]
QUESTIONS = [
    "invoice",
    "parcel",
    "refund",
    "password",
    "address",
    "delivery",
    "shipping",
    "colour",
    "size",
    "return",
    "login",
    "account",
    "coupon",
    "warranty",
    "gift",
]


@pytest.mark.parametrize("language", TEMPLATES)
@pytest.mark.parametrize("num", [4, 20, 49, 51, 400])
def test_fillings_of_a_template_are_as_many_groups_and_prompts_as_there_are(language, num):
    template = TEMPLATES[language]
    texts = [template.format(1000 + 37 * i, WORDS[i % 10]) for i in range(num)]
    made = curate(
        [call(n, t) for n, t in enumerate(texts, 1)], [thumb(n, True, f"u{n}") for n in range(1, num + 1)]
    )
    assert len({r.group for r in made.rows["unpaired"]}) == num
    assert len(made.rows["prompts"]) == num


def test_fillings_with_a_copy_of_each_are_told_apart():
    texts = [
        TEMPLATES["en"].format(1000 + 37 * i, f"{WORDS[i % 10]} {QUESTIONS[i % 15]} item{i * 7}")
        for i in range(500)
    ]
    copies = [t.replace(" of ", "  of ").upper() + "!" for t in texts]
    groups = near_duplicate_groups(texts + copies, 0.8)
    assert groups[:500] == list(range(500))
    assert sum(a == b for a, b in zip(groups[:500], groups[500:], strict=True)) > 490


@pytest.mark.parametrize("num", [3, 8, 60])
def test_one_question_in_many_copies_is_one_group(num):
    rng = random.Random(num)
    question = (
        "Could you tell me how I can change the delivery address of an order that I placed yesterday evening?"
    )
    copies = [question]
    while len(copies) < num:
        i = rng.randrange(8, len(question) - 8)
        copies.append(
            question[:i] + question[i + 1] + question[i] + question[i + 2 :]
            if len(copies) % 2
            else question + "?" * len(copies)
        )
    assert set(near_duplicate_groups(copies, 0.8)) == {0}


def test_a_popular_question_among_others_stays_one_group():
    rng = random.Random(5)
    popular = "What do I have to do in order to get my money back for the parcel that never arrived?"
    copies = [popular + end for end in ("", "!", " ", "?", "??", ".", " :)")]
    others = [" ".join(rng.choice(QUESTIONS) + str(rng.randrange(99)) for _ in range(12)) for _ in range(60)]
    groups = near_duplicate_groups(copies + others, 0.8)
    assert set(groups[:7]) == {0}
    assert len(set(groups[7:])) == 60


@pytest.mark.parametrize("opening", ["hi", "Guten Tag!", "你好", "こんにちは", "مرحبا", "नमस्ते"])
@pytest.mark.parametrize("num", [12, 200])
def test_a_shared_opening_does_not_tie_conversations_together(opening, num):
    rng = random.Random(1)
    calls, judged = [], []
    for i in range(1, num + 1):
        first = Message("user", opening)
        hello = Message("assistant", "Hello! How can I help?")
        calls.append(call(i, opening, hello.text, session_id=f"s{i}"))
        ask = Message("user", f"{i * 7919} ".join(rng.sample(QUESTIONS, 6)) + "?")
        calls.append(call(i + 1000, messages=(first, hello, ask), answer=f"Answer {i}", session_id=f"s{i}"))
        judged.append(thumb(i + 1000, i % 3 > 0, f"u{i}"))
    rows = curate(calls, judged).rows["unpaired"]
    assert len({r.group for r in rows}) == num
    sizes = Counter(r.split for r in rows)
    assert 0.6 * num < sizes["train"] < 0.95 * num
    assert min(sizes["validation"], sizes["test"]) > 0


def test_later_turns_that_conversations_share_tie_nothing_either():
    menu = (Message("user", "hi"), Message("assistant", "1 orders, 2 returns"), Message("user", "1"))
    calls = [call(i, messages=menu, answer="Which order?", session_id=f"s{i}") for i in range(1, 31)]
    calls += [
        call(i + 100, " ".join(random.Random(i).sample(QUESTIONS, 9)), session_id=f"s{i}")
        for i in range(1, 31)
    ]
    rows = curate(calls, []).rows["prompts"]
    assert len({r.group for r in rows}) == 31


def going_on(kind: str, i: int) -> list[Call]:
    """A conversation without a session: an agent's two steps in one trace, or three turns that come as calls of their own."""
    rng = random.Random(i)
    ask = Message("user", f"{i * 7919} ".join(rng.sample(QUESTIONS, 6)) + "?")
    long = " ".join(rng.choices(QUESTIONS, k=80))
    if kind == "agent":
        find = Message("assistant", "", tool_calls=(ToolCall("find", f'{{"id": {i}}}', f"c{i}"),))
        found = Message("tool", long, tool_call_id=f"c{i}")
        steps = [((ask,), find), ((ask, replace(find, text=""), found), Message("assistant", f"Done {i}"))]
    else:
        turns = (
            ask,
            Message("assistant", long),
            Message("user", f"And then {i}?"),
            Message("assistant", long[::-1]),
        )
        steps = [
            (turns[:k], Message("assistant", f"Answer {i} {k}")) for k in (1, 3)
        ] + [((*turns, Message("user", f"Then {i}?")), Message("assistant", "Bye."))]  # fmt: skip
    number = 1000 if kind == "turns" else 0
    return [
        call(i + number * k, messages=prompt, output_messages=(answer,)) for k, (prompt, answer) in enumerate(steps)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["agent", "turns"])
@pytest.mark.parametrize("num", [12, 150])
def test_conversations_without_a_session_stay_together(kind, num):
    conversations = [going_on(kind, i) for i in range(1, num + 1)]
    for conversation in conversations if kind == "agent" else []:
        conversation[1] = replace(conversation[1], span_id=conversation[1].span_id.replace("0", "f"))
    rows = curate([c for of_one in conversations for c in of_one], []).rows["prompts"]
    sides: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        sides.setdefault(row.prompt[0].text, set()).add((row.group, row.split))
    assert [len(s) for s in sides.values()] == [1] * num
    assert len({r.group for r in rows}) == num


@pytest.mark.parametrize("answers", ["one", "many"])
def test_an_opening_that_goes_on_in_several_ways_ties_nothing(answers):
    calls = []
    for i in range(1, 41):
        hello = Message("assistant", "Hello!" if answers == "one" else f"Hello {i}!")
        ask = Message("user", f"{i * 7919} ".join(random.Random(i).sample(QUESTIONS, 6)) + "?")
        calls.append(call(i, "hi", hello.text))
        calls.append(call(i + 1000, messages=(Message("user", "hi"), hello, ask)))
    assert len({r.group for r in curate(calls, []).rows["prompts"]}) == 41


@pytest.mark.parametrize(
    ("num", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (10, (8, 1, 1)), (25, (21, 2, 2))]
)
def test_tiny_sets_are_split_by_rank(num, sizes):
    calls = [call(n, f"{QUESTIONS[n % 15]} {WORDS[n % 10]} {n * 97}") for n in range(1, num + 1)]
    for seed in range(5):
        rows = curate(calls, [thumb(n, True, f"u{n}") for n in range(1, num + 1)], Rules(seed=seed)).rows[
            "unpaired"
        ]
        found = Counter(r.split for r in rows)
        assert tuple(found[s] for s in ("train", "validation", "test")) == sizes


def test_few_judged_answers_among_many_are_in_every_split():
    calls = [call(n, f"{QUESTIONS[n % 15]} {WORDS[n % 10]} {n * 97}") for n in range(1, 401)]
    rows = curate(calls, [thumb(n, True, f"u{n}") for n in range(1, 401, 20)]).rows["unpaired"]
    assert Counter(r.split for r in rows) == {"train": 16, "validation": 2, "test": 2}


@pytest.mark.parametrize("num_times", [1, 2, 7, 200])
def test_time_never_leaves_newer_answers_in_train_than_in_test(num_times):
    """Prompts that come again and again, conversations over days, and many answers of one moment."""
    rng = random.Random(num_times)
    calls = []
    for n in range(1, 301):
        at = START + timedelta(hours=rng.randrange(num_times))
        text = f"{rng.choice(QUESTIONS)} {rng.choice(QUESTIONS)} {rng.choice(WORDS)}"
        calls.append(call(n, text, session_id=f"s{rng.randrange(150)}", start_time=at))
    times = {c.trace_id: c.start_time for c in calls}
    made = curate(calls, [thumb(n, True, f"u{n}") for n in range(1, 301)], Rules(split_by="time"))
    of_split: dict[str, list] = {"train": [], "validation": [], "test": []}
    sides: dict[str, set] = {}
    for row in made.rows["unpaired"]:
        of_split[row.split].append(times[row.trace_ids[0]])
        sides.setdefault(row.group, set()).add(row.split)
    assert all(len(s) == 1 for s in sides.values())
    assert of_split["train"]
    later = [min(times) for s, times in of_split.items() if s != "train" and times]
    assert all(max(of_split["train"]) < t for t in later)
    assert made.dropped.get("answer_newer_than_its_split", 0) == 300 - len(made.rows["unpaired"])


def test_a_group_that_is_most_of_a_snapshot_is_warned_about():
    calls = [call(n, answer=f"answer {n}") for n in range(1, 8)] + [call(8, "Another question altogether?")]
    made = curate(calls, [thumb(n, True, f"u{n}") for n in range(1, 9)])
    found = [w for w in describe(made)["warnings"] if w["form"] == "unpaired"]
    assert [(w["kind"], w["refuses"]) for w in found if w["kind"] == "largest_group"] == [
        ("largest_group", True)
    ]
    assert "7 of 8 unpaired" in found[0]["message"]


def test_empty_splits_are_warned_about_where_they_were_wanted():
    calls = [call(n, f"{QUESTIONS[n]} {WORDS[n]}?") for n in range(1, 3)]
    judged = [thumb(n, True, f"u{n}") for n in range(1, 3)]
    kinds = {(w["kind"], w["refuses"]) for w in describe(curate(calls, judged))["warnings"]}
    assert ("empty_split", False) in kinds
    none_wanted = Rules(validation_fraction=0, test_fraction=0)
    assert not [
        w for w in describe(curate(calls, judged, none_wanted))["warnings"] if w["kind"] == "empty_split"
    ]
    one = describe(curate(calls[:1], judged[:1]))["warnings"]
    assert any(w["kind"] == "empty_split" and w["refuses"] for w in one)


def test_prompts_lose_no_distinct_question():
    texts = [
        "What is 5 + 3?",
        "What is 5 - 3?",
        "What is 52?",
        "What is 5²?",
        "what is  52?",
        "Qu'est-ce que 52 ?",
    ]
    rows = curate([call(n, t) for n, t in enumerate(texts, 1)], []).rows["prompts"]
    assert [r.weight for r in rows] == [1, 1, 2, 1, 1]
