"""The judges that the page's form describes, and the commands that let them judge."""

import pytest

from heedloop.schema import JudgeSpec, Run, SchemaError
from heedloop_cli.judges.parsers import HOLE
from heedloop_cli.judges.templates import TEMPLATES
from heedloop_dashboard.views.judge_form import ASKED, BACKENDS, FORMS, new_spec
from heedloop_dashboard.views.judges import worker_command

FIELDS = {"name": "n", "question": "q", "model": "my_judges:best", "asked": "Which {one}?"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_form_by_every_backend_is_a_judge(form, backend) -> None:
    spec = new_spec(form, backend, FIELDS)
    assert (spec.form, spec.backend, spec.model, spec.question) == (form, backend, "my_judges:best", "q")
    shown = {
        "pointwise": ["examples", "question", "answer"],
        "pairwise": ["question", "answer_a", "answer_b"],
    }
    assert HOLE.findall(spec.prompt) == (shown[form] if backend in ("endpoint", "checkpoint") else [])
    command = worker_command(spec, None)
    assert command.startswith(f"heedloop judge run {spec.id}")
    assert ("--endpoint" in command, "--folder" in command) == (
        backend == "endpoint",
        backend in ("checkpoint", "reward"),
    )


@pytest.mark.parametrize(("form", "template"), [("pointwise", "helpfulness"), ("pairwise", "preference")])
def test_the_form_as_it_is_gives_the_template(form, template) -> None:
    """The page and the command make one and the same judge."""
    wanted = {"form": "pointwise", "parser": "verdict", **TEMPLATES[template]}
    fields = {"name": "n", "question": wanted["question"], "model": "m", "asked": ASKED[form]}
    assert new_spec(form, "endpoint", fields) == JudgeSpec(name="n", backend="endpoint", model="m", **wanted)


def test_a_probability_is_asked_for_a_word_alone() -> None:
    spec = new_spec("pairwise", "checkpoint", FIELDS, by_probability=True)
    assert spec.parser == "token_probability"
    assert spec.prompt.endswith("Verdict (A or B or TIE):")


@pytest.mark.parametrize("model", ["", "my_judges", ":best", "my judges:best", "a.py:b()"])
def test_what_is_no_function_is_refused(model) -> None:
    with pytest.raises(SchemaError, match="module:function"):
        new_spec("pointwise", "function", {**FIELDS, "model": model})


def test_a_reward_model_is_where_its_run_left_it() -> None:
    spec = new_spec("pairwise", "reward", {**FIELDS, "model": "run-1"})
    run = Run("run-1", "reward", checkpoint="/runs/my reward/checkpoint")
    assert "--folder '/runs/my reward/checkpoint'" in worker_command(spec, run)
