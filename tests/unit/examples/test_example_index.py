"""The index of examples: what it finds, in one segment or two, by words or by vectors; and who is chosen."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from heedloop.schema import AnswerExample
from heedloop_server.examples.candidates import Candidate, Opinion, Supported, as_example
from heedloop_server.examples.choosing import choose
from heedloop_server.examples.index import FEW, ExampleIndex, Wanted, term_counts
from heedloop_server.statistics.similar import most_similar


def candidate(i: int, question: str, **more: str) -> Candidate:
    return Candidate(f"{i:032x}", f"{i:016x}", question, f"Answer {i}", **more)


def words(rng: random.Random) -> str:
    return " ".join(f"w{int(rng.paretovariate(0.7)) % 500}" for _ in range(8))


def filled(num: int) -> tuple[ExampleIndex, list[Candidate]]:
    rng = random.Random(0)
    made = [candidate(i, words(rng)) for i in range(num)]
    index = ExampleIndex()
    index.change({c.key: c for c in made})
    return index, made


def test_it_ranks_as_the_reference_does() -> None:
    """The same words and pairs as `statistics.similar`; the first five of twenty questions agree but for near ties."""
    index, made = filled(300)
    rng = random.Random(1)
    agreed = 0
    for _ in range(20):
        asked = words(rng)
        own = [c.question for c, _ in index.similar(Wanted(asked, 0.01), limit=5)]
        reference = [made[i].question for i, _ in most_similar(asked, [c.question for c in made], limit=5)]
        agreed += len(set(own) & set(reference))
    assert agreed >= 80


def plain_scores(asked: str, questions: list[str], counted: list[str]) -> list[float]:
    """Cosines of TF-IDF by the words' own sums; the documents' frequencies are those of `counted`."""
    frequency = Counter(t for text in counted for t in term_counts(text))

    def vector(text: str) -> dict[int, float]:
        idf = {t: math.log((1 + len(counted)) / (1 + frequency[t])) + 0.5 for t in term_counts(text)}
        made = {t: (1 + math.log(n)) * idf[t] for t, n in term_counts(text).items()}
        length = math.sqrt(sum(w * w for w in made.values()))
        return {t: w / length for t, w in made.items()}

    own = vector(asked)
    return [sum(own[t] * w for t, w in vector(text).items() if t in own) for text in questions]


@pytest.mark.parametrize("language", [None, "de"])
def test_it_finds_what_the_plain_computation_finds(language: str | None) -> None:
    """The same candidates with the same scores, in both segments; every question has words of most texts and of few."""
    rng = random.Random(2)
    frequent = ("how", "do", "i", "return", "my")

    def made(i: int) -> Candidate:
        asked = " ".join(w for w in frequent if rng.random() < 0.8)
        return candidate(i, f"{asked} {words(rng)}", language=rng.choice(("de", "en")))

    first = [made(i) for i in range(FEW + 200)]
    late = [made(i) for i in range(FEW + 150, FEW + 250)]
    index = ExampleIndex()
    index.change({c.key: c for c in first})
    index.change({c.key: c for c in late} | {first[0].key: None})
    left = [*first[1 : FEW + 150], *late]
    for _ in range(12):
        asked = f"{' '.join(frequent)} {words(rng)}"
        scores = plain_scores(asked, [c.question for c in left], [c.question for c in first])
        allowed = [
            (s, c) for s, c in zip(scores, left, strict=True) if s >= 0.1 and language in (None, c.language)
        ]
        expected = sorted(allowed, key=lambda found: -found[0])[:40]
        found = index.similar(Wanted(asked, 0.1, language=language), limit=40)
        assert [s for _, s in found] == pytest.approx([s for s, _ in expected], abs=1e-5)
        own = {c.key: s for s, c in allowed}
        assert [s for _, s in found] == pytest.approx([own[c.key] for c, _ in found], abs=1e-5)


@pytest.mark.parametrize("num", [50, FEW + 500])
def test_changes_count_at_once_in_either_segment(num: int) -> None:
    index, made = filled(num)
    first = made[7]
    assert index.similar(Wanted(first.question), limit=1)[0][0] == first
    other = candidate(7, "something else entirely zebra")
    index.change({first.key: other})
    assert index.similar(Wanted("entirely zebra"), limit=1)[0][0] == other
    assert first not in [c for c, _ in index.similar(Wanted(first.question, 0.01), limit=num)]
    index.change({first.key: None})
    assert index.similar(Wanted("entirely zebra"), limit=5) == []
    assert len(index.candidates()) == num - 1


def test_filters_come_before_the_limit() -> None:
    """The one German answer is found among a thousand that are more alike."""
    index = ExampleIndex()
    index.change({c.key: c for c in (candidate(i, "how to return a lamp") for i in range(1_000))})
    rare = candidate(5_000, "how to return one", language="de")
    index.change({rare.key: rare})
    found = index.similar(Wanted("how to return a lamp", 0.05, language="de"), limit=10)
    assert [c for c, _ in found] == [rare]


def test_vectors_are_made_once() -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(texts)
        flat = np.array([[t.count("a"), t.count("b"), 0.1] for t in texts], np.float32)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    index = ExampleIndex(embed)
    index.change({c.key: c for c in (candidate(0, "aaaa"), candidate(1, "bbbb"))})
    new = candidate(2, "abab")
    index.change({new.key: new})
    assert sorted(asked) == ["aaaa", "abab", "bbbb"]
    assert index.similar(Wanted("a", 0.5), limit=1)[0][0].question == "aaaa"


def test_a_local_sentence_model(tmp_path: Path) -> None:
    """A two-layer model of the trainer's extra, read from its folder: equal texts are alike, padding changes nothing."""
    pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from heedloop_server.examples.embeddings import embedder

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "how", "do", "i", "return", "lamp"])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        tmp_path
    )
    shape = BertConfig(vocab_size=7, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)  # fmt: skip
    BertModel(shape).save_pretrained(tmp_path)
    embed = embedder(str(tmp_path))
    alone = embed(["return lamp"])[0]
    padded = embed(["return lamp", "how do i return how do i return lamp"])
    assert np.allclose(alone, padded[0], atol=1e-5)
    assert np.allclose(np.linalg.norm(padded, axis=1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="no folder"):
        embedder(str(tmp_path / "none"))


# ---------------------------------------------------------------------------------------------------------- choosing


def supported(i: int, score: float, *by: str, question: str = "") -> Supported:
    example = AnswerExample(
        question or f"q{i}", f"a{i}", "liked", score, f"{i:032x}", f"{i:016x}", (f"f{i}",)
    )
    return Supported(example, frozenset(by))


def test_different_people_first_and_nobody_more_than_half() -> None:
    many = [supported(i, 0.9 - i / 100, "mallory") for i in range(20)]
    others = [supported(50, 0.3, "ada"), supported(51, 0.25, "bob")]
    chosen = [e.answer for e in choose([*many, *others], 4)]
    assert chosen == ["a0", "a1", "a50", "a51"]
    assert [e.answer for e in choose(many, 4)] == ["a0", "a1"], "alone at most half"
    assert len(choose(many, 1)) == 1
    shared = [supported(i, 0.9 - i / 100, "mallory", f"user {i}") for i in range(6)]
    assert len(choose(shared, 4)) == 4, "what others like too is theirs as well"


def test_one_example_for_each_question() -> None:
    twice = [supported(0, 0.9, "ada", question="Why?"), supported(1, 0.9, "bob", question=" why? ")]
    assert len(choose(twice, 3)) == 1


def test_whose_word_counts() -> None:
    by = {kind: Opinion(kind, kind, kind) for kind in ("end_user", "annotator", "model")}
    one = Candidate(
        "1", "1", "q", "liked", likes=(by["end_user"],), correction="better", corrected_by=by["annotator"]
    )
    kinds = {("end_user",): "liked", ("annotator",): "better", ("end_user", "annotator"): "better"}
    for authors, answer in kinds.items():
        made = as_example(one, 0.5, authors=authors, min_likes=1)
        assert made is not None and made.example.answer == answer
    assert as_example(one, 0.5, authors=("model",), min_likes=1) is None
    assert as_example(one, 0.5, authors=("end_user",), min_likes=2) is None
