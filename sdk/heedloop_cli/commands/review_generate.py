"""Several answers to one prompt, so that there is something to rank: from an OpenAI-compatible endpoint or a local checkpoint.

The prompts are those of stored calls. Every generated answer is sent as a call of its own (tag `generated`, no answer to a user: it
counts in no rate) that names the call whose prompt it answers, and becomes an item of the queue together with the original answer.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from heedloop.client import Client
from heedloop.schema import Call, Message, utc_now
from heedloop_cli.commands.progress import Progress
from heedloop_cli.judges.backends import BackendError, ChatApi

GROUP = "heedloop.answerers"
"""Entry points that make an `Answerer` from a folder: the trainer contributes `checkpoint`."""
SERVICE = "heedloop.review"
FOR = "heedloop.metadata.generated_for"

Answerer = Callable[[Sequence[Message], int], list[str]]
"""(prompt, how many) -> that many answers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `heedloop review generate`, filters aside."""
    parser.add_argument("queue", help="a queue's id, the beginning of one, or its name")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--endpoint", help="base address of an OpenAI-compatible API, such as http://127.0.0.1:8000/v1"
    )
    where.add_argument(
        "--checkpoint", type=Path, help="folder of a transformers checkpoint (needs the extra trainer)"
    )
    parser.add_argument(
        "--model",
        help="the model to ask the endpoint for; with --checkpoint what the answers are filed under",
    )
    parser.add_argument(
        "--key-env",
        default="OPENAI_API_KEY",
        help="environment variable with the endpoint's key (OPENAI_API_KEY)",
    )
    parser.add_argument("--answers", type=int, default=2, help="answers to generate per prompt (2)")
    parser.add_argument(
        "--without-original", action="store_true", help="leave the stored answer out of the item"
    )
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--limit", type=int, default=50, help="prompts (50)")


def run(args: argparse.Namespace, client: Client, queue_id: str, filters: Mapping[str, Any]) -> int:
    """Generate, send, and add to the queue prompt by prompt, so that nothing paid for is lost by stopping."""
    if args.answers < 1 or (args.answers < 2 and args.without_original):
        raise ValueError("--answers must give at least two answers to compare, the original counted")
    model, answer = _answerer(args)
    num = added = 0
    with Progress("generating for", args.limit, "prompts") as shown:
        for original in _prompts(client, filters, args.limit):
            calls = generated_calls(original, model, answer(original.input_messages, args.answers))
            num += 1
            shown.show(num)
            if len(calls) + (not args.without_original) > 1:
                client.send_calls(calls)
                client.wait_until_stored()
                added += _add(client, queue_id, calls if args.without_original else [original, *calls])
    print(f"{num:,} prompts, {added:,} items with new answers")
    return 0


def generated_calls(original: Call, model: str, texts: Sequence[str]) -> list[Call]:
    """The different ones of `texts` as calls of `model` to the prompt of `original`; one that equals its answer is left out."""
    calls: list[Call] = []
    for text in dict.fromkeys(t.strip() for t in texts):
        if not text or text == original.output_text.strip():
            continue
        digest = hashlib.sha256("\x1f".join((original.traceparent, model, text)).encode()).hexdigest()
        calls.append(
            replace(
                original,
                trace_id=digest[:32],
                span_id=digest[32:48],
                parent_span_id=None,
                start_time=utc_now(),
                duration_ns=0,
                name="generated answer",
                service=SERVICE,
                is_answer=False,
                model_requested=model,
                model_answered=model,
                output_messages=(Message("assistant", text),),
                user_id=None,
                session_id=None,
                tags=("generated",),
                attributes={FOR: original.traceparent},
            )
        )
    return calls


def _prompts(client: Client, filters: Mapping[str, Any], limit: int) -> Iterator[Call]:
    """Stored answers with a prompt, newest first."""
    num = 0
    for summary in client.iter_calls(**filters):
        if num >= limit:
            return
        for call in client.trace(summary.trace_id).spans:
            if call.span_id == summary.span_id and any(m.text for m in call.input_messages):
                num += 1
                yield call


def _add(client: Client, queue_id: str, answers: Sequence[Call]) -> int:
    item = [{"trace_id": c.trace_id, "span_id": c.span_id} for c in answers]
    return client.fill_review_queue(queue_id, "targets", items=[item]).added


# ----------------------------------------------------------------------------------------------------- where from


def _answerer(args: argparse.Namespace) -> tuple[str, Answerer]:
    """The name of the model, and what answers."""
    if args.endpoint:
        if not args.model:
            raise ValueError("--endpoint needs --model, the model to ask for")
        api = ChatApi(args.endpoint.rstrip("/"), os.environ.get(args.key_env, ""), timeout_s=300)
        return args.model, _Endpoint(api, args.model, args.temperature, args.max_tokens)
    if not args.checkpoint.is_dir():
        raise ValueError(f"{args.checkpoint} is no folder")
    entries = list(entry_points(group=GROUP, name="checkpoint"))
    if not entries:
        raise ValueError("a checkpoint needs the 'trainer' extra: pip install 'heedloop[trainer]'")
    make = cast(Callable[..., Answerer], entries[0].load())
    generator = make(args.checkpoint, temperature=args.temperature, max_tokens=args.max_tokens)
    return args.model or args.checkpoint.name, generator


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An OpenAI-compatible chat API; raises `ValueError` with what it said where it refuses."""

    api: ChatApi
    model: str
    temperature: float
    max_tokens: int

    def __call__(self, prompt: Sequence[Message], num: int) -> list[str]:
        texts: list[str] = []
        while len(texts) < num:  # many servers give one answer whatever n says
            texts += self._ask(prompt, num - len(texts))
        return texts

    def _ask(self, prompt: Sequence[Message], num: int) -> list[str]:
        body = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.text} for m in prompt],
            "n": num,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        try:
            return [str(c["message"]["content"] or "") for c in self.api.complete(body)["choices"]]
        except BackendError as err:
            raise ValueError(str(err)) from None
        except (KeyError, TypeError):
            raise ValueError(str(self.api.garbage())) from None
