"""`heedloop.examples`: liked and corrected answers to similar questions, for the prompt of the next answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedloop import attributes as names
from heedloop._current import current_call
from heedloop._example_cache import ExampleCache, Examples
from heedloop._guard import guarded
from heedloop._runtime import state
from heedloop.schema import AuthorKind

TIMEOUT_S = 1.0


def examples(
    question: str,
    k: int = 3,
    *,
    prompt_name: str | None = None,
    language: str | None = None,
    authors: Sequence[AuthorKind] = ("end_user", "annotator"),
    min_score: float = 0.2,
    min_likes: int = 1,
    timeout_s: float = TIMEOUT_S,
) -> Examples:
    """Up to `k` liked or corrected answers to questions like this one, the most alike first. Never raises for the server.

    Nobody's judgements alone fill them: examples that different people liked come first, and one person's are at most half. Where the
    server is away, or knows nothing alike, there are none. The key needs the scope `read`. Inside of a decorated call their ids are
    set on the call, and the metadata `few_shot` (`yes` or `no`), by which quality can be compared.

    Args:
        k: 1 to 20.
        prompt_name: of answers with this prompt alone; `language` likewise, by the calls' metadata `language`.
        authors: whose judgements count: `end_user`, `annotator`, `model`, `code`.
        min_score: least similarity of the questions, 0 to 1.
        min_likes: how many must have liked an answer; a correction counts as it is.
        timeout_s: the longest wait for the server.

    Raises:
        ValueError: an argument is wrong.
    """
    if k not in range(1, 21):
        raise ValueError(f"k: {k!r} is not 1 to 20")
    wanted = {
        "question": question,
        "k": k,
        "prompt_name": prompt_name,
        "language": language,
        "authors": list(authors),
        "min_score": min_score,
        "min_likes": min_likes,
    }
    found = _find(wanted, timeout_s)
    _note(found)
    return found


@guarded("finding examples", Examples())
def _find(wanted: Mapping[str, Any], timeout_s: float) -> Examples:
    runtime = state.runtime
    if runtime is None or not str(wanted["question"]).strip():
        return Examples()
    clean = runtime.options.redact
    if clean is not None:
        wanted = {**wanted, "question": clean(str(wanted["question"]))}
    if runtime.examples is None:
        runtime.examples = ExampleCache()
    return runtime.examples.find(runtime.transport, wanted, timeout_s)


@guarded("noting examples", None)
def _note(found: Examples) -> None:
    call = current_call()
    if call is not None:
        for one in {call, call.answer}:
            one.set_attribute(names.EXAMPLES, [i for e in found for i in e.feedback_ids[:1]])
            one.set_attribute(names.METADATA_PREFIX + "few_shot", "yes" if found else "no")
