"""Liked and corrected answers to questions like one, for the prompt of the next answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses.examples import AnswerExamples
from heedloop.schema import AuthorKind
from heedloop_server.examples.index import Wanted
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.responses import Router
from heedloop_server.http.services import Examples

router = Router()

Reader = Annotated[Principal, Depends(require("read"))]
Name = Annotated[str, Field(max_length=256)]


class ExampleQuestion(BaseModel):
    """A question and what its examples must be; see docs/examples.md."""

    model_config = ConfigDict(extra="forbid")
    question: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    k: Annotated[int, Field(ge=1, le=20, strict=True)] = 3
    prompt_name: Name | None = None
    language: Name | None = None
    authors: Annotated[list[AuthorKind], Field(min_length=1, max_length=4)] = ["end_user", "annotator"]
    min_score: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.2
    min_likes: Annotated[int, Field(ge=1, le=1_000, strict=True)] = 1


@router.post("/v1/examples")
def post_examples(service: Examples, who: Reader, body: ExampleQuestion) -> AnswerExamples:
    """Up to `k` examples from different people, the most alike first. A POST, so that no log of addresses holds the question."""
    wanted = Wanted(body.question, body.min_score, body.prompt_name, body.language)
    found, num = service.find(who.project, wanted, body.k, authors=body.authors, min_likes=body.min_likes)
    return AnswerExamples(examples=found, num_candidates=num)
