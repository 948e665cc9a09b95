"""The REST API's routes of judges, evaluations, cases and experiments; `heedloop.client.Client` has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heedloop import responses
from heedloop._rest import Rest, drop_none
from heedloop.schema import Case, CaseSet, ExperimentSpec, JudgeSpec, Target, from_json, to_json


class EvaluationClient(Rest):
    """What says whether a change is better, before a release and after; docs/judges.md, docs/evaluate.md, docs/experiments.md."""

    # -------------------------------------------------------------------------------------------------- judges

    def create_judge(self, spec: JudgeSpec) -> responses.Judge:
        """Store a judge; the same again changes nothing."""
        return self._write(responses.Judge, "POST", "/v1/judges", to_json(spec))

    def judges(self) -> list[responses.Judge]:
        """All judges with what their runs came to, newest first."""
        return self._read(responses.JudgeList, "/v1/judges").judges

    def judge(self, judge_id: str) -> responses.Judge:
        """One judge, by its `name@hash`."""
        return self._read(responses.Judge, f"/v1/judges/{judge_id}")

    def judge_card(self, judge_id: str, **chosen: Any) -> responses.JudgeCard:
        """How far a judge is to be believed; `chosen`: name, half_width, max_error, and the filters of docs/api.md."""
        return self._read(responses.JudgeCard, f"/v1/judges/{judge_id}/card", **chosen)

    def judge_disagreements(self, judge_id: str, **chosen: Any) -> responses.Disagreements:
        """Audited answers that the judge got wrong and may be shown; `chosen`: name, limit, filters."""
        return self._read(responses.Disagreements, f"/v1/judges/{judge_id}/disagreements", **chosen)

    def compare_judges(self, judge_id: str, other: str, **chosen: Any) -> responses.JudgeComparison:
        """Whether the other judge is right more often, by held-out audits; `chosen`: name, filters."""
        return self._read(responses.JudgeComparison, f"/v1/judges/{judge_id}/compare", other=other, **chosen)

    def examine_judge(
        self, judge_id: str, verdicts: Mapping[Target, float | None]
    ) -> responses.JudgeComparison:
        """The judge next to a version that is not stored, by what that says of the exam: None where it is not to be read."""
        rows = [{"target": to_json(t), "value": v} for t, v in verdicts.items()]
        path = f"/v1/judges/{judge_id}/exam"
        return self._write(responses.JudgeComparison, "POST", path, {"verdicts": rows})

    def unjudged(self, judge_id: str, items: Sequence[str]) -> list[str]:
        """Those of up to 1,000 items that the judge has not judged yet; failed ones are among them."""
        body = {"items": list(items)}
        return self._write(responses.UnjudgedItems, "POST", f"/v1/judges/{judge_id}/unjudged", body).items

    def add_judge_calls(self, judge_id: str, calls: Sequence[Mapping[str, Any]]) -> int:
        """Store what became of up to 1,000 items; the fields are those of `NewCall` in `/openapi.json`."""
        body = {"calls": [dict(c) for c in calls]}
        return self._write(responses.StoredCalls, "POST", f"/v1/judges/{judge_id}/calls", body).stored

    # ------------------------------------------------------------------------------------- evaluations and cases

    def save_evaluation(self, one: responses.Evaluation) -> responses.Evaluation:
        """Store an evaluation, or its newest state."""
        return self._write(responses.Evaluation, "POST", "/v1/evaluations", to_json(one))

    def evaluations(self) -> list[responses.Evaluation]:
        """All evaluations, the newest first."""
        return self._read(responses.EvaluationList, "/v1/evaluations").evaluations

    def evaluation(self, name: str, *, against: str = "") -> responses.EvaluationResult:
        """An evaluation next to production's answers, or next to those of the evaluation `against`."""
        return self._read(responses.EvaluationResult, f"/v1/evaluations/{name}", against=against)

    def evaluation_rows(self, name: str) -> list[responses.EvaluationRow]:
        """The rows of an evaluation, by case."""
        return self._read(responses.EvaluationRows, f"/v1/evaluations/{name}/rows").rows

    def add_evaluation_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store up to 1,000 rows (`EvaluationRow` as JSON); the newest of a case counts."""
        body = {"rows": [dict(r) for r in rows]}
        return self._write(responses.StoredCalls, "POST", f"/v1/evaluations/{name}/rows", body).stored

    def evaluated_pairs(self, name: str, **chosen: Any) -> responses.EvaluatedPairs:
        """Cases side by side; `chosen`: against, metric, order (`worst`, `best`, `doubtful`), limit."""
        return self._read(responses.EvaluatedPairs, f"/v1/evaluations/{name}/pairs", **chosen)

    def make_cases(self, name: str, **query: Any) -> CaseSet:
        """Make a version of a case set; `query`: filters, least_f1, judge. The newest one where nothing has changed."""
        return self._write(CaseSet, "POST", "/v1/cases", {"name": name, **query})

    def case_sets(self) -> list[CaseSet]:
        """All versions of all case sets, the newest first."""
        return self._read(responses.CaseSetList, "/v1/cases").case_sets

    def iter_cases(self, name: str, *, version: int | None = None) -> Iterator[Case]:
        """The cases of a set, of its newest version where none is named."""
        path, params = f"/v1/cases/{name}", drop_none({"version": version})
        with self._request("GET", path, params=params, stream=True) as response:
            for line in response.iter_lines():
                if line:
                    yield from_json(Case, json.loads(line))

    # --------------------------------------------------------------------------------------------- experiments

    def define_experiment(self, spec: ExperimentSpec) -> responses.NewExperiment:
        """Define an experiment as a draft: the next round of its name where that was decided."""
        return self._write(responses.NewExperiment, "POST", "/v1/experiments", to_json(spec))

    def experiments(self) -> list[responses.Experiment]:
        """All experiments in their newest round, newest first."""
        return self._read(responses.ExperimentList, "/v1/experiments").experiments

    def experiment(self, name: str, round: int | None = None) -> responses.Experiment:
        """One experiment, in its newest round unless another is named."""
        return self._read(responses.Experiment, f"/v1/experiments/{name}", round=round)

    def experiment_results(self, name: str, round: int | None = None) -> responses.ExperimentResults:
        """What was found up to now; looking often changes nothing."""
        return self._read(responses.ExperimentResults, f"/v1/experiments/{name}/results", round=round)

    def change_experiment(self, name: str, action: str, **more: Any) -> responses.Experiment:
        """`start` (or go on), `pause`, `ramp` (`share`), `promote` (`arm`) or `roll_back`, each with a `reason`."""
        return self._write(
            responses.Experiment, "POST", f"/v1/experiments/{name}", {"action": action, **more}
        )
