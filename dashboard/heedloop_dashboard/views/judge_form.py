"""The form that makes a judge: of answers or pairs, by an endpoint, a local checkpoint, a trained reward model or a function."""

from __future__ import annotations

import re
from collections.abc import Mapping

import streamlit as st

from heedloop.client import Client
from heedloop.schema import JudgeBackend, JudgeForm, JudgeSpec, Run, SchemaError
from heedloop_dashboard import panels, words
from heedloop_dashboard.fetch import ask, read, write
from heedloop_dashboard.navigation import Open, go

FORMS: Mapping[JudgeForm, str] = {"pointwise": "Single answers", "pairwise": "Two answers to one prompt"}
BACKENDS: Mapping[JudgeBackend, str] = {
    "endpoint": "A model at an endpoint",
    "checkpoint": "A local checkpoint",
    "reward": "A trained reward model",
    "function": "A Python function",
}
NAMES = {"pointwise": ("helpfulness", "thumb"), "pairwise": ("preference", "preference")}
ASKED = {
    "pointwise": "Does the answer do what its user asked for, correctly and completely?",
    "pairwise": "Which answer serves its user better? Length by itself is no merit.",
}
LABELS = {"pointwise": "What is a good answer?", "pairwise": "Which answer is better?"}
VERDICTS = {"pointwise": {"YES": 1.0, "NO": 0.0}, "pairwise": {"A": 1.0, "B": 0.0, "TIE": 0.5}}
SHOWN = {
    "pointwise": "{examples}# Question\n{question}\n\n# Answer\n{answer}",
    "pairwise": "# Question\n{question}\n\n# Answer A\n{answer_a}\n\n# Answer B\n{answer_b}",
}
ABOUT_FUNCTION = {
    "pointwise": "It is given question, answer and context by name, and returns 0 (bad) to 1 (good), or None",
    "pairwise": "It is given question, answer_a and answer_b by name, and returns 1 where A is better, 0 where B is, or 0.5",
}
_FUNCTION = re.compile(r"[\w.]+:\w+")


def new_spec(
    form: JudgeForm, backend: JudgeBackend, fields: Mapping[str, str], *, by_probability: bool = False
) -> JudgeSpec:
    """The judge that the form's `name`, `question`, `model` and `asked` describe.

    Args:
        by_probability: its verdict is the next token's probability, not a word that it writes.

    Raises:
        SchemaError: a field holds what no judge can have.
    """
    if backend == "function" and not _FUNCTION.fullmatch(fields["model"]):
        raise SchemaError("model", "must be module:function")
    prompt, verdicts = "", {}
    if backend in ("endpoint", "checkpoint"):
        verdicts = VERDICTS[form]
        prompt = f"{fields['asked'].replace('{', '(').replace('}', ')')}\n\n{SHOWN[form]}\n\n" + (
            f"Verdict ({' or '.join(verdicts)}):" if by_probability else _end(list(verdicts))
        )
    return JudgeSpec(
        fields["name"], form, backend, fields["model"], fields["question"], prompt,
        "token_probability" if by_probability else "verdict", verdicts,
    )  # fmt: skip


def _end(verdicts: list[str]) -> str:
    *first, last = (f"VERDICT: {v}" for v in verdicts)
    return f"Think it over in one or two sentences. Then write one last line: {', '.join(first)} or {last}."


def show() -> None:
    """Draw the form; what it makes is opened."""
    with panels.panel("new_judge"):
        panels.header("New judge", "A judge never changes: another model or prompt is another judge")
        left, right = st.columns(2)
        form = left.selectbox("Judges", list(FORMS), format_func=lambda f: FORMS[f])
        backend = right.selectbox("Who judges", list(BACKENDS), format_func=lambda b: BACKENDS[b])
        runs = _reward_runs() if backend == "reward" else {}
        if runs is None:
            return
        with st.form("new_judge", border=False):
            fields, by_probability = _fields(form, backend, runs)
            if not st.form_submit_button("Create judge", type="primary"):
                return
        try:
            spec = new_spec(form, backend, fields, by_probability=by_probability)
        except SchemaError as err:
            st.text(str(err))
            return
        made = write(Client.create_judge, spec)
        if made.error is not None:
            panels.problem(made.error)
        else:
            go(Open("judges", {"judge_id": made.value.id}))


def _reward_runs() -> dict[str, Run] | None:
    """Finished reward models by id, newest first; None where there are none, which is drawn."""
    answer = read(runs=ask(Client.runs))["runs"]
    if panels.failed(answer):
        return None
    found = {
        r.id: r for r in answer.value if r.method in ("reward", "reward_linear") and r.status == "finished"
    }
    if not found:
        panels.empty("No reward model has been trained yet. Train one with: heedloop train reward")
    return found or None


def _fields(form: JudgeForm, backend: JudgeBackend, runs: Mapping[str, Run]) -> tuple[dict[str, str], bool]:
    """What was entered, and whether the verdict is a probability."""
    left, right = st.columns(2)
    name, question = NAMES[form]
    fields = {
        "name": left.text_input("Name", value=name, max_chars=64),
        "question": right.text_input("Question that annotators are asked", value=question, max_chars=256),
    }
    by_probability = False
    if backend == "reward":
        fields["model"] = str(
            st.selectbox("Run", list(runs), format_func=lambda i: _label(runs[i]), key="judge_run")
        )
    elif backend == "function":
        fields["model"] = st.text_input("Function", placeholder="my_judges:is_polite", max_chars=256)
        st.caption(ABOUT_FUNCTION[form])
    elif backend == "checkpoint":
        fields["model"] = st.text_input("Folder of the checkpoint, on the worker's machine", max_chars=1024)
    else:
        fields["model"] = st.text_input("Model, as its endpoint knows it", max_chars=256)
    if backend in ("endpoint", "checkpoint"):
        fields["asked"] = st.text_area(LABELS[form], value=ASKED[form], height=110)
    if backend == "checkpoint":
        by_probability = st.checkbox(
            "Read the probability of each verdict as the next token", value=True,
            help="For small models, which often do not write a verdict that can be read.",
        )  # fmt: skip
    return {k: v.strip() for k, v in fields.items()}, by_probability


def _label(run: Run) -> str:
    return f"{run.name or run.id} ({run.method}, {words.clock(run.finished_at or run.started_at)})"
