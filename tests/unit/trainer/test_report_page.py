"""The report of a run: everything in it is escaped, and it needs nothing from anywhere."""

import re
from html.parser import HTMLParser

from heedloop_trainer.runs.folder import RunFolder
from heedloop_trainer.runs.report_page import report_page, write_report

NASTY = '<script>alert(1)</script><img src=x onerror=alert(2)> & "quotes" \''


class Tags(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def run_with_everything(tmp_path) -> RunFolder:
    run = RunFolder.create(tmp_path / "run", "ppo", name=NASTY, model_name=NASTY)
    for step in range(500):
        more = {"objective/held_out_score": -0.01 * step} if step % 2 else {}
        run.log(
            step,
            **{
                "objective/score": 0.1 * step,
                "objective/raw_score": step,
                "objective/kl": step / 9,
                "loss": float("nan"),
            },
            **more,
        )
    interval = {"estimate": 0.6, "low": 0.5, "high": 0.7, "n": 30}
    evaluation = {
        "accuracy": {"chance": {"estimate": 0.5}, NASTY: interval},
        "num_comparisons": 30,
        "num_judges": 3,
        "agreement_ceiling": 0.82,
        "calibration_error": 0.03,
        "log_loss": 0.6,
        "reliability": [{"confidence": 0.6, "accuracy": 0.58, "n": 15}, {"confidence": 0.9, "accuracy": 0.8, "n": 15}],
        "slices": {NASTY: interval},
        "win_rate": {
            "win_rate": interval, "length_controlled": interval, "gain": interval, "length_ratio": 1.1, "num_prompts": 30,
            "judge": NASTY, "slices": {NASTY: interval},
        },
        "best_of": {"n": 8, "kl_bound": 1.2, "win_rate": interval},
        "people": interval,
        "gate": {"promote": False, "reasons": [NASTY]},
        "samples": [{"prompt": NASTY, "new": NASTY, "parent": NASTY, "gain": 1.0}],
    }  # fmt: skip
    run.finish(metrics={"objective/score": 0.5}, evaluation=evaluation, status="stopped", error=NASTY)
    return run


def test_untrusted_text_is_only_text(tmp_path):
    page = report_page(run_with_everything(tmp_path))
    seen = Tags()
    seen.feed(page)
    assert "script" not in seen.tags
    assert "img" not in seen.tags
    assert not [n for n, _ in seen.attributes if n.startswith("on") or n in ("src", "href")]
    assert seen.text.count("<script>alert(1)</script>") >= 8


def test_it_holds_curves_calibration_slices_lineage_and_answers(tmp_path):
    run = run_with_everything(tmp_path)
    write_report(run)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    for part in (
        "Where it comes from",
        "Gate",
        "Calibration",
        "Slices",
        "Curves",
        "Reward and KL",
        "Answers to read",
        "ceiling",
    ):
        assert part in page, part
    assert run.id in page
    assert "http" not in re.sub(r"http-equiv", "", page), "nothing is loaded from anywhere"
    assert "nan" not in re.findall(r"points='([^']*)'", page)[0]
    assert max(len(p.split()) for p in re.findall(r"points='([^']*)'", page)) <= 301


def test_an_empty_run_has_a_report(tmp_path):
    run = RunFolder.create(tmp_path / "run", "sft")
    run.finish()
    assert "finished" in report_page(run)
