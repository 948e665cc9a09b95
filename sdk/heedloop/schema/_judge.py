"""What a judge is: everything that its judgements depend on, named by the hash of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heedloop.schema._checks import (
    SchemaError,
    check_choice,
    check_number,
    check_object,
    check_pattern,
    check_record,
    check_text,
    check_tuple,
)
from heedloop.schema._feedback import THUMB, Scale, Target
from heedloop.schema._json import canonical_json, to_json
from heedloop.schema._kinds import (
    JUDGE_BACKENDS,
    JUDGE_FORMS,
    JUDGE_PARSERS,
    MAX_TEXT_CHARS,
    JudgeBackend,
    JudgeForm,
    JudgeParser,
)

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
MAX_EXAMPLES = 32


@dataclass(frozen=True, slots=True)
class JudgeExample:
    """An answer that is shown to a judge with the right verdict; named rather than copied, so that an erasure reaches it."""

    target: Target
    verdict: str

    def __post_init__(self) -> None:
        check_record(self.target, Target, "examples.target")
        if self.target.span_id is None:
            raise SchemaError("examples.target", "must be an answer: trace_id and span_id")
        check_text(self.verdict, "examples.verdict", limit=MAX_TEXT_CHARS)


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """A judge; it never changes, another prompt or model is another judge.

    Attributes:
        name: what people call it; `id` is `name@hash`.
        form: `pointwise` rates an answer, `pairwise` compares two in both orders (where these disagree it is a tie), `rubric`
            rates an answer in each of `dimensions`, `session` rates a conversation.
        backend: who answers: an OpenAI-compatible `endpoint`, a local `checkpoint`, a trained `reward` model, a Python `function`.
        model: the endpoint's model, the folder or run of the checkpoint or reward model, or `module:function`.
        question: the name of the feedback that it gives; people's feedback of this name is what it is measured by. A rubric's
            feedback is named by its dimensions.
        prompt: the instructions with the holes `{question}`, `{answer}`, `{answer_a}`, `{answer_b}`, `{context}`, `{conversation}`,
            `{reference}`, `{examples}`; a reward model needs none.
        parser: how its words become a verdict: one of the `verdicts` (`verdict`), the last number (`number`), an object with
            a number per dimension (`json`), or the probability of each verdict as the next token (`token_probability`).
        verdicts: word -> value on `scale`; of a pairwise judge 1 is the first answer, 0 the second, 0.5 a tie.
        scale: of its ratings. A reward model's are on 0 to 1: the logistic of the reward.
        parameters: what goes to the model, such as temperature and max_tokens; for files also their `sha256`.
        guideline: `queue/version` of the annotators' guideline that it follows; empty where there is none.
        examples: what it is shown; never its exam.
    """

    name: str
    form: JudgeForm
    backend: JudgeBackend
    model: str
    question: str = "thumb"
    prompt: str = ""
    parser: JudgeParser = "verdict"
    verdicts: Mapping[str, float] = field(default_factory=dict)
    scale: Scale = THUMB
    dimensions: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    guideline: str = ""
    examples: tuple[JudgeExample, ...] = ()

    def __post_init__(self) -> None:
        check_pattern(self.name, _NAME, "name", "a name: a to z, then a to z, 0 to 9, _ and -, at most 64")
        check_choice(self.form, JUDGE_FORMS, "form")
        check_choice(self.backend, JUDGE_BACKENDS, "backend")
        check_choice(self.parser, JUDGE_PARSERS, "parser")
        check_text(self.model, "model", limit=4096)
        check_text(self.question, "question")
        check_text(self.prompt, "prompt", limit=MAX_TEXT_CHARS, empty=True)
        check_text(self.guideline, "guideline", empty=True)
        check_record(self.scale, Scale, "scale")
        check_object(self.parameters, "parameters")
        self._check_answers()

    def _check_answers(self) -> None:
        check_object(self.verdicts, "verdicts")
        for word, value in self.verdicts.items():
            check_text(word, "verdicts")
            if not 0 <= self.share(check_number(value, f"verdicts.{word}")) <= 1:
                raise SchemaError(f"verdicts.{word}", f"{value:g} is outside the scale")
        for name in ("dimensions", "examples"):
            check_tuple(getattr(self, name), name)
        for dimension in self.dimensions:
            check_text(dimension, "dimensions")
        if (self.form == "rubric") != bool(self.dimensions):
            raise SchemaError("dimensions", "a rubric has at least one, and no other judge has any")
        if len(self.examples) > MAX_EXAMPLES:
            raise SchemaError("examples", f"are {len(self.examples)}; at most {MAX_EXAMPLES} are shown")
        words = self.backend in ("endpoint", "checkpoint")
        if words and not self.prompt:
            raise SchemaError("prompt", f"is empty, but a judge at a {self.backend} is asked by it")
        if words and self.parser in ("verdict", "token_probability") and len(self.verdicts) < 2:
            raise SchemaError(
                "verdicts", f"the parser {self.parser} needs at least two words with their values"
            )
        if (self.form == "rubric") != (self.parser == "json"):
            raise SchemaError("parser", "a rubric is read as json, and no other judge is")

    def share(self, value: float) -> float:
        """A value of the scale as 0 (worst) to 1 (best); raises `SchemaError` where the scale has categories."""
        if self.scale.min is None or self.scale.max is None:
            raise SchemaError("scale", "of a judge must be numbers, from min to max")
        return (value - self.scale.min) / (self.scale.max - self.scale.min)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the feedback that it gives."""
        return self.dimensions or (self.question,)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of everything that its judgements depend on, the name aside."""
        rest = {k: v for k, v in to_json(self).items() if k != "name"}
        return hashlib.sha256(canonical_json(rest).encode()).hexdigest()[:12]

    @property
    def id(self) -> str:
        """The author id of its feedback: `name@hash`."""
        return f"{self.name}@{self.hash}"
