"""`heedloop review` sets what the pages set: rules, adaptive numbers, groups and languages, on a running server."""

import json
from pathlib import Path

import pytest
from test_datasets_import import client, served

from heedloop.client import Client
from heedloop_cli.main import main

__all__ = ["client", "served"]  # fixtures


def test_a_queue_is_made_staffed_and_changed_by_the_command(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions, rules = tmp_path / "questions.json", tmp_path / "rules.json"
    questions.write_text(json.dumps([{"name": "thumb", "kind": "thumb"}]), encoding="utf-8")
    rules.write_text(json.dumps([{"source": "share", "share": 0.05, "priority": 3}]), encoding="utf-8")
    create = ["review", "create", "refunds", "--questions", str(questions), "--rules", str(rules)]
    create += ["--judgements", "2", "--until", "agreement", "--max-judgements", "3", "--order", "newest"]
    create += ["--by-language", "--annotator", "group:legal", "--second-share", "0.1", "--stuck-hours", "24"]
    assert main(create) == 0
    [queue] = client.review_queues()
    assert (queue.judgements_per_item, queue.until, queue.max_judgements) == (2, "agreement", 3)
    assert (queue.order, queue.by_language, queue.annotators) == ("newest", True, ["group:legal"])
    assert (queue.second_share, queue.stuck_hours) == (0.1, 24)
    assert [{k: r[k] for k in ("source", "share", "priority")} for r in queue.rules or []] == [
        {"source": "share", "share": 0.05, "priority": 3}
    ]
    assert main(["review", "change", "refunds", "--no-by-language", "--status", "paused"]) == 0
    changed = client.review_queue(queue.queue_id)
    assert (changed.by_language, changed.status, changed.max_judgements) == (False, "paused", 3)
    assert main(["review", "member", "ada", "--group", "legal", "--language", "de", "--language", "fr"]) == 0
    [ada] = client.review_team()
    assert (ada.author_id, ada.groups, ada.languages) == ("ada", ["legal"], ["de", "fr"])
    capsys.readouterr()


def test_what_is_wrong_is_said_before_anything_is_changed(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_review_queue("refunds", [{"name": "thumb", "kind": "thumb"}])
    assert main(["review", "change", "refunds"]) == 2
    assert "nothing to change" in capsys.readouterr().err
    rules = tmp_path / "rules.json"
    rules.write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["review", "change", "refunds", "--rules", str(rules)])
    assert "is no JSON" in capsys.readouterr().err
