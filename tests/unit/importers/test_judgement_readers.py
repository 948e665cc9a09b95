"""Readers of judgement files: what each form becomes, and what is wrong with what is wrong."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import datetime, timezone

import pytest

from heedloop.schema import Message
from heedloop_cli.importers import BadLine, Line, detect, num_rows, read


def write(path, *rows, raw: bytes = b""):
    text = b"".join(json.dumps(r).encode() + b"\n" for r in rows) + raw
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


def lines(path, **options) -> list[Line]:
    found = list(read(path, now=NOW, **options))
    assert not [x for x in found if isinstance(x, BadLine)], found
    return found


def bad(path, **options) -> list[BadLine]:
    return [x for x in read(path, **options) if isinstance(x, BadLine)]


TULU = {
    "id": 7,
    "prompt": "Say hi",
    "completion_a": "Hi!",
    "completion_b": "No.",
    "model_a": "m1",
    "model_b": "m2",
    "thumb_a": True,
    "thumb_b": False,
    "preference": "a-is-slightly-better",
    "annotator": "e02",
    "t": "2023-05-19 13:11:45",
}
HH = {
    "id": "x",
    "prompt": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Bye\n\nAssistant:",
    "chosen": "Bye!",
    "rejected": "",
}
UKP_ARGS = [
    {
        "topic": "t",
        "arg": "1",
        "question": "Ban it?",
        "stance": "Yes",
        "text": "It is bad.",
        "up": 2,
        "down": 1,
        "rank": 0.5,
    },
    {
        "topic": "t",
        "arg": "2",
        "question": "Ban it?",
        "stance": "Yes",
        "text": "Why not.",
        "up": -3,
        "down": 0,
        "rank": 0.1,
    },
]
UKP_PAIR = {
    "topic": "t",
    "pair": "1_2",
    "a1": "1",
    "a2": "2",
    "gold": "a1",
    "strict": None,
    "judgments": [
        {"w": "w1", "v": "a1", "t": "2016-01-31 16:59:52", "c": 0.27, "s": "none", "r": "A1 says why"},
        {"w": "w2", "v": "equal", "t": "2016-02-01 00:00:00", "c": 0.5, "s": "", "r": ""},
    ],
}
OASST = [
    {"id": "p", "parent": None, "role": "prompter", "text": "Q?", "rank": None, "emojis": {"+1": 3}},
    {
        "id": "a",
        "parent": "p",
        "role": "assistant",
        "text": "A1",
        "rank": 1,
        "emojis": {"+1": 1, "-1": 2, "_skip_reply": 4},
    },
    {"id": "b", "parent": "p", "role": "assistant", "text": "A2", "rank": 0, "emojis": None},
    {"id": "c", "parent": "p", "role": "assistant", "text": "A3", "rank": 2, "emojis": {}},
    {"id": "q", "parent": "b", "role": "prompter", "text": "And?", "rank": None, "emojis": None},
    {"id": "d", "parent": "q", "role": "assistant", "text": "So.", "rank": 0, "emojis": None},
]
OURS = {
    "id": "q17",
    "prompt": "How long is delivery?",
    "created_at": "2026-03-01T09:00:00Z",
    "session": "s1",
    "user": "u9",
    "tags": ["shop"],
    "metadata": {"topic": "delivery"},
    "answers": ["Two days.", {"text": "Soon.", "model": "m2", "id": "b"}],
    "judgements": [
        {"kind": "comparison", "ranks": [1, 2], "strength": 0.5, "author": "w1", "shown_order": [1, 0]},
        {"kind": "rating", "answer": 0, "value": 4, "scale": [1, 5], "name": "helpfulness", "author": "w1"},
        {
            "kind": "rating",
            "answer": 0,
            "value": "good",
            "scale": ["bad", "good"],
            "name": "tone",
            "author": "w1",
        },
        {"kind": "thumb", "answer": 1, "value": False, "author": "u9", "author_kind": "end_user"},
        {"kind": "correction", "answer": 1, "correction": "Two days.", "author": "w2"},
        {"kind": "flag", "answer": 1, "category": "incomplete", "severity": "low", "author": "w2"},
        {"kind": "comment", "answer": 0, "comment": "Fine.", "author": "w1"},
    ],
}


def test_two_answers_with_thumbs_and_a_preference(tmp_path):
    (line,) = lines(write(tmp_path / "f.jsonl", TULU))
    assert [c.model for c in line.calls] == ["m1", "m2"]
    assert [c.output_text for c in line.calls] == ["Hi!", "No."]
    thumbs = [f for f in line.feedback if f.kind == "rating"]
    assert [t.value for t in thumbs] == [1.0, 0.0]
    (comparison,) = [f for f in line.feedback if f.kind == "comparison"]
    assert (comparison.ranking.ranks, comparison.ranking.strength) == ((1, 2), 0.5)
    assert comparison.author.id == "e02"
    assert comparison.created_at == datetime(2023, 5, 19, 13, 11, 45, tzinfo=timezone.utc)
    assert line.calls[0].start_time <= comparison.created_at
    assert comparison.solicited is True


def test_a_dialogue_becomes_messages_and_an_empty_answer_stays(tmp_path):
    (line,) = lines(write(tmp_path / "f.jsonl.gz", HH))
    assert line.calls[0].input_messages == (
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
        Message("user", "Bye"),
    )
    assert [c.output_text for c in line.calls] == ["Bye!", ""]
    assert [len(c.output_messages) for c in line.calls] == [1, 1]


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away."},
        {
            "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
            "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go away."}],
        },
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away."},
        {
            "prompt": [{"role": "user", "content": "Hi"}],
            "chosen": [{"role": "assistant", "content": "Hello!"}],
            "rejected": [{"role": "assistant", "content": "Go away."}],
        },
    ],
)
def test_the_pair_forms_that_trainers_read(tmp_path, row):
    (line,) = lines(write(tmp_path / "f.jsonl", row))
    assert line.calls[0].input_messages == (Message("user", "Hi"),)
    assert [c.output_text for c in line.calls] == ["Hello!", "Go away."]
    assert line.feedback[0].ranking.ranks == (1, 2)


def test_arguments_bring_their_visitors_votes(tmp_path):
    first, second = lines(write(tmp_path / "args.jsonl", *UKP_ARGS))
    assert Counter(f.value for f in first.feedback) == {1.0: 2, 0.0: 1}
    assert Counter(f.value for f in second.feedback) == {0.0: 3}
    assert all(f.author.id is None and f.solicited is False for f in first.feedback)
    assert first.calls[0].attributes["heedloop.metadata.rank"] == "0.5"
    assert first.calls[0].tags == ("topic:t",)


def test_pairs_find_their_arguments_and_keep_every_worker(tmp_path):
    write(tmp_path / "my_args.jsonl", *UKP_ARGS)
    (line,) = lines(write(tmp_path / "my_pairs.jsonl", UKP_PAIR))
    assert [f.ranking.ranks for f in line.feedback] == [(1, 2), (1, 1)]
    assert [f.author.id for f in line.feedback] == ["w1", "w2"]
    assert [f.comment for f in line.feedback] == ["A1 says why", None]
    assert line.feedback[0].metadata["gold"] == "a1"
    known = [x.calls[0] for x in lines(tmp_path / "my_args.jsonl")]
    assert list(line.calls) == known


def test_pairs_without_their_arguments_say_where_they_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match="--answers"):
        list(read(write(tmp_path / "pairs.jsonl", UKP_PAIR)))
    other = write(tmp_path / "texts.jsonl", *UKP_ARGS)
    assert len(lines(tmp_path / "pairs.jsonl", answers=other)) == 1


def test_trees_become_answers_with_their_conversation(tmp_path):
    found = lines(write(tmp_path / "f.jsonl", *OASST))
    by_number = {x.number: x for x in found}
    assert sorted(by_number) == [1, 2, 3, 4, 5, 6]
    assert by_number[6].calls[0].input_messages == (
        Message("user", "Q?"),
        Message("assistant", "A2"),
        Message("user", "And?"),
    )
    assert Counter(f.value for f in by_number[2].feedback) == {1.0: 1, 0.0: 2}
    (ranking,) = [f for x in found for f in x.feedback if f.kind == "comparison"]
    assert ranking.ranking.ranks == (2, 1, 3)
    assert by_number[1].left_out == {"thumbs on a person's own message": 3}
    assert {c.session_id for x in found for c in x.calls} == {"p"}


def test_a_published_tree_in_one_line(tmp_path):
    def node(m):
        kids = [node(k) for k in OASST if k["parent"] == m["id"]]
        emojis = m["emojis"] or {}
        return {
            "message_id": m["id"],
            "role": m["role"],
            "text": m["text"],
            "rank": m["rank"],
            "emojis": emojis,
            "replies": kids,
        }

    (line,) = lines(write(tmp_path / "f.jsonl", {"message_tree_id": "p", "prompt": node(OASST[0])}))
    assert len(line.calls) == 4
    assert Counter(f.kind for f in line.feedback) == {"rating": 3, "comparison": 1}


def test_our_own_form_has_every_kind(tmp_path):
    (line,) = lines(write(tmp_path / "f.jsonl", OURS))
    assert Counter(f.kind for f in line.feedback) == {
        "rating": 3,
        "comparison": 1,
        "correction": 1,
        "flag": 1,
        "comment": 1,
    }
    comparison = line.feedback[0]
    assert comparison.ranking.shown_order == (1, 0)
    helpful, tone, thumb = (f for f in line.feedback if f.kind == "rating")
    assert (helpful.value, helpful.scale.max) == (4.0, 5)
    assert tone.scale.categories == ("bad", "good")
    assert thumb.is_thumb
    assert thumb.author.kind == "end_user"
    assert thumb.solicited is False
    assert line.calls[1].model == "m2"
    assert line.calls[0].session_id == "s1"
    assert line.calls[0].attributes["heedloop.metadata.topic"] == "delivery"


def test_liked_or_not_and_battles(tmp_path):
    rows = [
        {"prompt": "Hi", "completion": "Hello!", "label": True},
        {
            "prompt": [{"role": "user", "content": "Hi"}],
            "completion": [{"role": "assistant", "content": "No"}],
            "label": False,
        },
    ]
    found = lines(write(tmp_path / "kto.jsonl", *rows))
    assert [(x.calls[0].output_text, x.feedback[0].value) for x in found] == [("Hello!", 1.0), ("No", 0.0)]
    turns = [{"role": "user", "content": "Hi"}]
    battle = {
        "question_id": "b1",
        "model_a": "x",
        "model_b": "y",
        "winner": "tie (bothbad)",
        "judge": "j1",
        "tstamp": 1682351591.5,
        "conversation_a": [*turns, {"role": "assistant", "content": "A"}],
        "conversation_b": [*turns, {"role": "assistant", "content": "B"}],
    }
    (line,) = lines(write(tmp_path / "arena.jsonl", battle))
    assert line.feedback[0].ranking.all_bad
    assert line.feedback[0].created_at.year == 2023
    assert [c.model for c in line.calls] == ["x", "y"]


@pytest.mark.parametrize("rows", [[TULU], [HH], UKP_ARGS, OASST, [OURS]])
def test_reading_twice_gives_the_same_ids_and_no_two_alike(tmp_path, rows):
    path = write(tmp_path / "f.jsonl", *rows)
    first, second = lines(path), lines(path)
    assert first == second
    ids = [f.id for x in first for f in x.feedback]
    identities = [f.identity("p") for x in first for f in x.feedback]
    assert len(set(ids)) == len(ids)
    assert len(set(identities)) == len(identities)


def without(row, *names, **changes):
    return {k: v for k, v in row.items() if k not in names} | changes


@pytest.mark.parametrize(
    ("rows", "number", "field"),
    [
        ([TULU, without(TULU, "preference"), TULU], 2, "preference"),
        ([TULU, without(TULU, preference="maybe")], 2, "preference"),
        ([TULU, without(TULU, thumb_a="yes")], 2, "thumb_a"),
        ([TULU, without(TULU, t="soon")], 2, "t"),
        ([TULU, without(TULU, prompt="")], 2, "prompt"),
        ([HH, without(HH, "rejected")], 2, "rejected"),
        ([HH, without(HH, tie="no")], 2, "tie"),
        (
            [
                HH,
                without(
                    HH,
                    "prompt",
                    chosen="\n\nHuman: a\n\nAssistant: b",
                    rejected="\n\nHuman: c\n\nAssistant: d",
                ),
            ],
            2,
            "prompt",
        ),
        ([UKP_ARGS[0], without(UKP_ARGS[1], up="many")], 2, "up"),
        ([UKP_ARGS[0], without(UKP_ARGS[1], up=1e12)], 2, "up"),
        ([*OASST, without(OASST[1], id="e", parent="nobody")], 7, "parent"),
        ([*OASST, without(OASST[1], id="e", parent=None)], 7, "parent"),
        ([*OASST, OASST[1]], 7, "id"),
        ([*OASST, without(OASST[1], id="e", role="bot")], 7, "role"),
        ([*OASST, without(OASST[1], id="e", emojis={"+1": -4})], 7, "emojis"),
        ([OURS, without(OURS, answers=[])], 2, "answers"),
        ([OURS, without(OURS, answers=["a", 3])], 2, "answers[1]"),
        ([OURS, without(OURS, judgements=[{"kind": "vote"}])], 2, "judgements[0].kind"),
        (
            [OURS, without(OURS, judgements=[{"kind": "comparison", "ranks": [1]}])],
            2,
            "judgements[0].ranking.ranks",
        ),
        (
            [OURS, without(OURS, judgements=[{"kind": "rating", "answer": 0, "value": 9, "scale": [1, 5]}])],
            2,
            "judgements[0].value",
        ),
        (
            [OURS, without(OURS, judgements=[{"kind": "thumb", "answer": 5, "value": True}])],
            2,
            "judgements[0].answer",
        ),
        ([OURS, without(OURS, judgements=[{"kind": "thumb", "value": True}])], 2, "judgements[0].answer"),
        ([OURS, without(OURS, created_at="yesterday")], 2, "created_at"),
        ([OURS, without(OURS, tags="shop")], 2, "tags"),
    ],
)
def test_a_wrong_line_is_named_and_the_others_are_read(tmp_path, rows, number, field):
    found = list(read(write(tmp_path / "f.jsonl", *rows)))
    wrong = [x for x in found if isinstance(x, BadLine)]
    assert [(x.number, x.field) for x in wrong] == [(number, field)]
    assert len(found) == len(rows)


def test_broken_lines_are_named(tmp_path):
    good = json.dumps(HH).encode() + b"\n"
    path = write(
        tmp_path / "f.jsonl",
        HH,
        raw=b'{"prompt": \n' + b"\n" + b"\xff\xfe\n" + b"[1, 2]\n" + good.replace(b'"x"', b'"y"'),
    )
    assert [(x.number, x.reason.split(":")[0]) for x in bad(path)] == [
        (2, "is no JSON"),
        (4, "is no UTF-8"),
        (5, "is no JSON object but list"),
    ]
    assert sum(isinstance(x, Line) for x in read(path)) == 2
    assert num_rows(path) == 5


def test_a_cut_off_gzip_gives_what_it_holds(tmp_path):
    path = tmp_path / "f.jsonl.gz"
    whole = gzip.compress(
        b"".join(json.dumps({**HH, "id": n, "chosen": str(n * 7919)}).encode() + b"\n" for n in range(3000))
    )
    path.write_bytes(whole[: len(whole) // 2])
    found = list(read(path))
    assert sum(isinstance(x, Line) for x in found) > 100
    assert isinstance(found[-1], BadLine)
    assert "cut off" in found[-1].reason


def test_limit_reads_so_many_rows(tmp_path):
    path = write(tmp_path / "f.jsonl", TULU, {**TULU, "id": 8}, {**TULU, "id": 9})
    assert len(lines(path, limit=2)) == 2
    assert num_rows(path, 2) == 2


def test_an_unknown_form_says_its_fields(tmp_path):
    with pytest.raises(ValueError, match="colour, size"):
        detect(write(tmp_path / "f.jsonl", {"size": 1, "colour": 2}))
    with pytest.raises(ValueError, match="no JSON object"):
        detect(write(tmp_path / "empty.jsonl"))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "num_lines", "num_calls", "kinds"),
    [
        ("ukpconvarg1_args", 1052, 1052, {"rating": 2349}),
        ("tulu1_human_eval", 1150, 2300, {"rating": 2300, "comparison": 1150}),
        ("hh_harmless_pairs", 2312, 4624, {"comparison": 2312}),
        ("oasst_sample", 1167, 687, {"rating": 1226, "comparison": 212}),
    ],
)
def test_every_real_judgement_is_read(shared, name, num_lines, num_calls, kinds):
    found = lines(shared / "data" / f"{name}.jsonl.gz")
    assert len(found) == num_lines
    assert len({c.trace_id for x in found for c in x.calls}) == num_calls
    feedback = [f for x in found for f in x.feedback]
    assert Counter(f.kind for f in feedback) == kinds
    assert len({f.identity("p") for f in feedback}) == len(feedback)


@pytest.mark.shared
def test_real_pairs_keep_every_worker(shared):
    found = lines(shared / "data" / "ukpconvarg1_pairs.jsonl.gz", limit=500)
    with gzip.open(shared / "data" / "ukpconvarg1_pairs.jsonl.gz") as file:
        rows = [json.loads(next(file)) for _ in range(500)]
    assert [len(x.feedback) for x in found] == [len(r["judgments"]) for r in rows]
