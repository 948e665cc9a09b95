"""What lies in the log's folder of another time: feedback of a store that was embedded then, and files that were kept aside."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from temporary_stores import temporary_store

from heedloop.schema import Author, Feedback, Target, format_time, to_json, utc_now
from heedloop_server.errors import Unavailable
from heedloop_server.ingest.intake import Intake
from heedloop_server.ingest.log import RequestLog, Segment
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.settings import Settings
from heedloop_server.store.connection import Store
from heedloop_server.store.feedback import list_feedback


def _leave(folder: Path, feedback: Feedback, at: datetime) -> None:
    """A log with this feedback, as a server leaves it that was killed before it could be stored."""

    def away(_: Segment) -> None:
        raise Unavailable("away")

    left = RequestLog(folder, away)
    left.start()
    record = {"project": "p", "key_id": "", "at": format_time(at), "feedback": [to_json(feedback)]}
    left.submit(json.dumps(record).encode()).result(30)
    left.stop(drain_s=0.1)


@pytest.mark.parametrize("embedded", [True, False])
def test_feedback_of_a_log_is_stored_whatever_the_store_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: bool
) -> None:
    monkeypatch.setattr(Store, "is_embedded", embedded)
    settings = Settings(data=tmp_path)
    one = Feedback(
        kind="rating", target=Target(trace_id="ab" * 16), value=1, author=Author("end_user", "ada")
    )
    _leave(settings.log_folder / "feedback", one, utc_now())
    with temporary_store() as store:
        intake = Intake(store, settings)
        intake.start()
        try:
            assert intake.wait_until_loaded(30)
            found = list_feedback(store.project("p"), {}, limit=10, after=None)
            assert [f.feedback.id for f in found] == [one.id]
        finally:
            intake.stop()


@pytest.mark.parametrize("user", ["ada", 'the "real" ada', "DOMAIN\\ada", "Ädä\t1"])
def test_an_erasure_finds_a_word_in_json_too(tmp_path: Path, user: str) -> None:
    folder = tmp_path / "feedback" / "refused"
    folder.mkdir(parents=True)
    (folder / "hers.json").write_text(json.dumps({"user_id": user}, ensure_ascii=False), encoding="utf-8")
    (folder / "other.json").write_text(json.dumps({"user_id": "bob"}), encoding="utf-8")
    assert Quarantine(tmp_path).purge([user]) == 1
    assert [p.name for p in folder.iterdir()] == ["other.json"]
