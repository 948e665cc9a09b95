"""Whether examples raise the thumbs-up rate of the demo's base model, without training.

    python benchmarks/examples_demo.py [--documents 8000] [--early 2000] [--fresh 2400] [--k 2] [--seed 0]

The base model is the demo's. Early users ask, rate, flag and correct as in the demo; a real server keeps it. Then held-out questions
of fresh users are answered twice, without and with examples, and each answer is rated by the same user. Printed: both rates, and the
mean difference with its 95% interval.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from fastapi.testclient import TestClient

from heedloop._call_spans import otlp_request
from heedloop.schema import Author, Call, Feedback, Message, Target, to_json, utc_now
from heedloop_server.app import create_app
from heedloop_server.http.auth import PROJECT_SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.migrate import migrate
from heedloop_server.store.open import open_store
from heedloop_trainer.demo import pretrain
from heedloop_trainer.demo.serving import ServedModel
from heedloop_trainer.demo.users import TASTE, SimulatedUser
from heedloop_trainer.demo.world import PROMPTS, Question, find_flaws, questions

SYSTEM = PROMPTS["v1"]


def answers(model: ServedModel, prompts: Sequence[Sequence[Message]]) -> list[str]:
    """An answer to each conversation."""

    async def all_of_them() -> list[str]:
        return [c.text for c in await asyncio.gather(*(model.complete(tuple(p)) for p in prompts))]

    return asyncio.run(all_of_them())


class Shop:
    """A project on a server in this process."""

    def __init__(self, client: TestClient, key: str) -> None:
        self._client = client
        self._auth = {"Authorization": f"Bearer {key}"}

    def collect(self, model: ServedModel, asked: Sequence[Question], rng: random.Random) -> int:
        """Early users ask, and say what they think; how many judgements there were."""
        said: list[Feedback] = []
        calls: list[Call] = []
        texts = answers(model, [plain(q) for q in asked])
        for i, (question, text) in enumerate(zip(asked, texts, strict=True)):
            call = Call(
                trace_id=uuid.UUID(int=rng.getrandbits(128)).hex, span_id=f"{rng.getrandbits(64) or 1:016x}", start_time=utc_now(),
                model_answered=model.name, input_messages=plain(question), output_messages=(Message("assistant", text),),
            )  # fmt: skip
            calls.append(call)
            user = SimulatedUser.named("early", i % 200, rng)
            reaction = user.react(question, text, rng)
            target = Target(trace_id=call.trace_id, span_id=call.span_id)
            author = Author("end_user", user.id)
            if reaction.thumb is not None:
                said.append(Feedback("rating", target, value=int(reaction.thumb), author=author))
            if reaction.correction:
                said.append(Feedback("correction", target, correction=reaction.correction, author=author))
        otlp = {**self._auth, "Content-Type": "application/x-protobuf"}
        assert self._client.post("/v1/traces", content=otlp_request(calls), headers=otlp).is_success
        body = {"feedback": [to_json(f) for f in said]}
        assert self._client.post("/v1/feedback", json=body, headers=self._auth).is_success
        return len(said)

    def examples(self, question: str, k: int) -> list[Message]:
        """Turns of examples, the most alike last."""
        body = {"question": question, "k": k}
        found = self._client.post("/v1/examples", json=body, headers=self._auth).json()["examples"]
        return [
            m
            for e in reversed(found)
            for m in (Message("user", e["question"]), Message("assistant", e["answer"]))
        ]


def plain(question: Question) -> tuple[Message, ...]:
    """A question under the prompt."""
    return (Message("system", SYSTEM), Message("user", question.text))


def thumb(user: SimulatedUser, question: Question, text: str, rng: random.Random) -> float:
    """1 where the user likes an answer."""
    pleased = TASTE.pleasure(find_flaws(text, question.fact)) + user.mood
    return float(rng.random() < 1 / (1 + math.exp(-pleased)))


def main() -> None:
    """Run it and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in (("documents", pretrain.Size().num_documents), ("early", 2_000), ("fresh", 2_400), ("k", 2), ("seed", 0)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"chdb://{folder}/clickhouse")
        migrate(store)
        size = replace(pretrain.Size(), num_documents=args.documents)
        trained = pretrain.pretrain(Path(folder) / "base", size, seed=args.seed, quiet=True)
        print(f"base model: {trained.num_parameters:,} parameters, {args.documents:,} conversations, {trained.num_tokens:,} tokens, {trained.seconds:.0f} s")  # fmt: skip
        model = ServedModel("base", Path(folder) / "base", seed=args.seed)
        with TestClient(create_app(Settings(data=Path(folder) / "server"), store=store)) as client:
            shop = Shop(client, make_key(store, "shop", name="demo", scopes=PROJECT_SCOPES)[0])
            num = shop.collect(model, list(islice(questions(rng, fresh=False), args.early)), rng)
            print(f"early users: {args.early:,} answers, {num:,} judgements")
            compare(model, shop, questions(rng, fresh=True), args.fresh, args.k, rng)


def compare(
    model: ServedModel, shop: Shop, fresh: Iterator[Question], num: int, k: int, rng: random.Random
) -> None:
    """Held-out questions, answered without and with examples."""
    asked = list(islice(fresh, num))
    shown = [shop.examples(q.text, k) for q in asked]
    with_examples = [(plain(q)[0], *e, plain(q)[1]) for q, e in zip(asked, shown, strict=True)]
    users = [SimulatedUser.named("fresh", i, rng) for i in range(num)]
    rates = [
        [thumb(u, q, t, rng) for u, q, t in zip(users, asked, answers(model, prompts), strict=True)]
        for prompts in ([plain(q) for q in asked], with_examples)
    ]
    print(f"examples: for {sum(bool(s) for s in shown):,} of {num:,} questions")
    differences = [after - before for before, after in zip(*rates, strict=True)]
    mean = sum(differences) / num
    spread = 1.96 * math.sqrt(sum((d - mean) ** 2 for d in differences) / (num - 1) / num)
    print(f"thumbs-up rate without: {sum(rates[0]) / num:.3f}, with {k}: {sum(rates[1]) / num:.3f}")
    print(f"difference: {mean:+.3f} ({mean - spread:+.3f} to {mean + spread:+.3f})")


if __name__ == "__main__":
    main()
