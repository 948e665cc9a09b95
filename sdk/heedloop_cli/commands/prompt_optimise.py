"""`heedloop prompt optimise`: better words for a prompt from corrections and failures, by the library gepa (extra `optimise`).

gepa (Agrawal et al. 2025, arXiv 2507.19457) lets a model read where answers failed and propose other instructions, and keeps those that
score better. Its data are a case set, or a snapshot's training and validation prompts; its score is what the cases are held to and,
where one is named, a judge. The winner becomes a version only if it beats the old one on prompts that neither it nor gepa saw,
by what users and annotators said of them: never by the judge that it was chosen by.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from statistics import fmean, stdev
from typing import Any

from heedloop.client import Client
from heedloop.schema import Case, Message, Prompt
from heedloop.schema._prompt import HOLE
from heedloop.scores import failed_checks, reference_scores
from heedloop_cli.commands.names import find_judge
from heedloop_cli.evaluate.sources import case_set_source, snapshot_source
from heedloop_cli.evaluate.targets import Target, target_of
from heedloop_cli.judges.backends import BackendError, backend_of
from heedloop_cli.judges.items import example_texts, item_of
from heedloop_cli.judges.parsers import parse, prompt_of

HELP = "better words from corrections and failures, kept only if held-out people's judgements confirm them"
MIN_HELD_OUT = 10
"""Fewer held-out prompts decide nothing."""
_PARTS = ("train", "validation", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("name", help="the prompt")
    parser.add_argument("--label", default="production", help="the version to begin with (production)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="SNAPSHOT", help="a snapshot; its test split is the exam")
    source.add_argument("--cases", metavar="NAME[@VERSION]", help="a case set; a fifth of it is the exam")
    parser.add_argument("--endpoint", required=True, help="address of the OpenAI-compatible API that answers")
    parser.add_argument("--model", required=True, help="the model that answers")
    parser.add_argument("--reflection-model", help="the model that proposes; the answering one if not given")
    parser.add_argument("--key-env", default="OPENAI_API_KEY", help="variable with the endpoint's key")
    parser.add_argument(
        "--judge", metavar="ID", help="a pointwise judge of the endpoint, for the search alone"
    )
    parser.add_argument("--calls", type=int, default=300, help="answers that the search may ask for (300)")
    parser.add_argument("--concurrency", type=int, default=8, help="answers at once (8)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer (60)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another search")


def run_with(client: Client, args: argparse.Namespace, before: Prompt) -> int:
    """0 where a version better than `before` was stored as `candidate`, 1 where none was."""
    gepa: Any = import_module("gepa")  # of an extra; its absence is told by the command
    cases = _parts(client, args)
    if len({c.group or c.id for c in cases["test"]}) < MIN_HELD_OUT:
        raise ValueError(
            f"only {len(cases['test'])} held-out prompts have a correction or check; {MIN_HELD_OUT} are needed"
        )
    adapter = Adapter(before, _target(args, args.model), args.concurrency, _judge(client, args))
    found = gepa.optimize(
        seed_candidate={PART: _words(before)},
        trainset=cases["train"],
        valset=cases["validation"] or cases["train"],
        adapter=adapter,
        reflection_lm=_reflection(_target(args, args.reflection_model or args.model)),
        max_metric_calls=args.calls,
        seed=args.seed,
        raise_on_exception=False,
    )
    words = found.best_candidate[PART]
    after = _with_words(before, words)
    gain = held_out_gain(before, after, cases["test"], replace(adapter, judge=None))
    print(f"held-out prompts: {gain.sentence}")
    if after == before or gain.low <= 0:
        print(f"nothing stored: no better version than {args.name} {before.version} was confirmed")
        return 1
    made = client.create_prompt(
        replace(after, version=0), note=f"optimised from {before.version}: {gain.sentence}"
    )
    client.label_prompt(args.name, "candidate", made.prompt.version)
    print(f"{args.name} {made.prompt.version} candidate; `heedloop prompt diff {args.name} {before.version}`")
    return 0


# ------------------------------------------------------------------------------------------------------------- cases


def _parts(client: Client, args: argparse.Namespace) -> dict[str, list[Case]]:
    """The cases that can be scored, by what they are for; near-copies are never on two sides."""
    parts: dict[str, list[Case]] = {part: [] for part in _PARTS}
    if args.cases:
        for case in case_set_source(client, args.cases).cases:
            lot = int(hashlib.sha256((case.group or case.id).encode()).hexdigest()[:8], 16) % 10
            parts["test" if lot < 2 else "validation" if lot < 4 else "train"].append(case)
    else:
        for part in _PARTS:
            try:
                parts[part] = snapshot_source(client, args.dataset, part).cases  # type: ignore[arg-type]
            except ValueError:
                if part == "train":
                    raise
    return {part: [c for c in of_part if _is_scored(c)] for part, of_part in parts.items()}


def _is_scored(case: Case) -> bool:
    return bool(reference_scores(case, ""))


# ------------------------------------------------------------------------------------------------------- the search

PART = "instructions"
"""What gepa calls the one text that it changes."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """Answers cases with a candidate's words and scores the answers, as gepa's `GEPAAdapter` asks.

    Attributes:
        judge: rates an answer 0 to 1; its rating counts as much as the case's own scores.
    """

    prompt: Prompt
    target: Target
    concurrency: int = 8
    judge: Callable[[Case, str], float | None] | None = None
    propose_new_texts: None = field(default=None)

    def evaluate(
        self, batch: Sequence[Case], candidate: Mapping[str, str], capture_traces: bool = False
    ) -> Any:
        """An `EvaluationBatch`; a case that has no answer scores 0."""
        answers = self.answers(_with_words(self.prompt, candidate[PART]), batch)
        scores = [self.score(c, a) for c, a in zip(batch, answers, strict=True)]
        traces = list(zip(batch, answers, strict=True)) if capture_traces else None
        return import_module("gepa.core.adapter").EvaluationBatch(
            outputs=answers, scores=scores, trajectories=traces
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, str]]]:
        """What was asked, answered and wrong with it, for the model that proposes."""
        del candidate, components_to_update
        return {
            PART: [
                {"Inputs": c.question, "Generated Outputs": a, "Feedback": _feedback(c, a, score)}
                for (c, a), score in zip(eval_batch.trajectories, eval_batch.scores, strict=True)
            ]
        }

    def answers(self, prompt: Prompt, cases: Sequence[Case]) -> list[str]:
        """The answers to the cases, in their order; empty where there is none."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(lambda c: self._answer(prompt, c), cases))

    def _answer(self, prompt: Prompt, case: Case) -> str:
        try:
            return self.target.ask(case, conversation(prompt, case)).text
        except BackendError as err:
            if err.fatal:
                raise ValueError(str(err)) from None
            return ""

    def score(self, case: Case, answer: str) -> float:
        """0 to 1: checks passed, else nearness to the correction; with the judge's rating the mean of both."""
        own = reference_scores(case, answer)
        value = own.get("checks", own.get("token_f1", own.get("tool_calls", 0.0)))
        judged = self.judge(case, answer) if self.judge else None
        return value if judged is None else (value + judged) / 2


def _feedback(case: Case, answer: str, score: float) -> str:
    said = [*failed_checks(case, answer), *(f.text for f in case.feedback if f.text)]
    if case.reference:
        said.append(f"It should have said: {case.reference}")
    return f"Score {score:.2f} of 1. " + " ".join(said)


def conversation(prompt: Prompt, case: Case) -> list[Message]:
    """The case's conversation under a prompt: its question in the hole named like one, else after the prompt's messages."""
    variables = {name: case.question if name in QUESTION_HOLES else "" for name in prompt.variables}
    written = [Message(m["role"], m["content"]) for m in prompt.as_messages(**variables)]
    if QUESTION_HOLES.isdisjoint(prompt.variables):
        return [*written, *(m for m in case.prompt if not m.is_instruction)]
    return written if prompt.messages else [Message("user", written[0].text)]


QUESTION_HOLES = frozenset({"question", "query", "input", "message", "user_input"})


def _words(prompt: Prompt) -> str:
    """The text that is changed: the whole text, or the first message's."""
    return prompt.text or prompt.messages[0].text


def _with_words(prompt: Prompt, words: str) -> Prompt:
    """The prompt with other words; holes that the words lost are put back at their end."""
    lost = [n for n in HOLE.findall(_words(prompt)) if n not in HOLE.findall(words)]
    words = "\n".join([words.strip(), *(f"{{{{{name}}}}}" for name in dict.fromkeys(lost))])
    if prompt.text:
        return replace(prompt, text=words)
    first, *rest = prompt.messages
    return replace(prompt, messages=(replace(first, text=words), *rest))


# --------------------------------------------------------------------------------------------------------- the exam


@dataclass(frozen=True, slots=True)
class Gain:
    """The mean difference of scores, 0 to 1, and two standard errors below it; over groups of near-copies."""

    mean: float
    low: float
    num_groups: int

    @property
    def sentence(self) -> str:
        """In words."""
        return f"{self.mean:+.3f} (at least {self.low:+.3f}) over {self.num_groups} prompts"


def held_out_gain(before: Prompt, after: Prompt, cases: Sequence[Case], adapter: Adapter) -> Gain:
    """How much better the answers under `after` are than those under `before`, by the cases' own scores."""
    groups: dict[str, list[float]] = defaultdict(list)
    answers = zip(cases, adapter.answers(before, cases), adapter.answers(after, cases), strict=True)
    for case, old, new in answers:
        groups[case.group or case.id].append(adapter.score(case, new) - adapter.score(case, old))
    means = [fmean(of_group) for of_group in groups.values()]
    spread = stdev(means) / len(means) ** 0.5 if len(means) > 1 else float("inf")
    return Gain(fmean(means), fmean(means) - 2 * spread, len(means))


# -------------------------------------------------------------------------------------------------------- the models


def _target(args: argparse.Namespace, model: str) -> Target:
    return target_of(args.endpoint, model=model, key_env=args.key_env, parameters={}, timeout_s=args.timeout)


def _reflection(target: Target) -> Callable[[Any], str]:
    def ask(prompt: Any) -> str:
        text = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
        messages = (Message("user", text),)
        return target.ask(Case(id="0" * 32, prompt=messages), messages).text

    return ask


def _judge(client: Client, args: argparse.Namespace) -> Callable[[Case, str], float | None] | None:
    """A pointwise judge's rating of an answer, 0 to 1; None where it cannot be read, as of `heedloop judge run`."""
    if not args.judge:
        return None
    spec = find_judge(client, args.judge)
    if spec.form != "pointwise":
        raise ValueError(f"--judge {args.judge!r} is no pointwise judge")
    backend = backend_of(spec, url=args.endpoint, key_env=args.key_env, folder=None, timeout_s=args.timeout)
    examples = example_texts(client, spec)

    def rate(case: Case, answer: str) -> float | None:
        item = item_of(case, answer)
        try:
            found = parse(spec, backend.ask(item, prompt_of(spec, item, examples), swapped=False))
        except BackendError:
            return None
        return None if found is None else spec.share(found[spec.question])

    return rate
