"""Search in the store: every script, through the index, also in rows that were there before it."""

import unicodedata
from datetime import datetime, timezone

import pytest
from temporary_stores import temporary_store

from heedloop.words import fold, fold_parameters, search_form
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import folded_column
from heedloop_server.store.migrate import migrate
from heedloop_server.store.spans import list_calls

MONTH = {
    "since": datetime(2026, 10, 1, tzinfo=timezone.utc),
    "until": datetime(2026, 11, 1, tzinfo=timezone.utc),
}
QUESTIONS = [
    "Wie bekomme ich eine Rückerstattung für die Lampe?",
    unicodedata.normalize("NFD", "Tôi muốn hoàn tiền đèn"),
    "我想退掉台灯,请退款给我",
    "iPhoneの返金がまだ届きません",
    unicodedata.normalize("NFD", "램프 환불금이 아직 안 들어왔어요"),
    "ต้องการคืนเงินค่าโคมไฟ",
    "សូមសង\u200bប្រាក់វិញ",
    "मुझे लैंप का रिफंड चाहिए",
    "أريد الاِسْتِرْدَاد",
    "שאלה על הַחְזָר כספי",
    "İADE İSTİYORUM",
    "ΘΕΛΩ ΕΠΙΣΤΡΟΦΗ",
    "Ёлка: возврат",
    "ＦＵＬＬ width 👍🏽",
    "100% of a_b\\c",
    "rahanpalautusta",
]


def put(project: ProjectStore, questions: list[str]) -> None:
    at = datetime(2026, 10, 5, tzinfo=timezone.utc)
    rows = [
        {
            "trace_id": n.to_bytes(16, "big"),
            "span_id": n.to_bytes(8, "big"),
            "start_time": at,
            "is_answer": True,
            "question": question,
            "ingested_at": at,
        }
        for n, question in enumerate(questions, 1)
    ]
    project.insert("spans", rows)


@pytest.fixture(scope="module")
def project():
    """The rows were stored before the columns and indices of the search were made, as by an earlier version."""
    with temporary_store() as store:
        for column in ("question", "answer"):
            store.command(f"ALTER TABLE spans DROP INDEX idx_{column}_search")
            store.command(f"ALTER TABLE spans DROP COLUMN {column}_search")
        store.command("TRUNCATE TABLE schema_migrations")
        put(ProjectStore(store, "p"), QUESTIONS)
        migrate(store)
        yield ProjectStore(store, "p")


def found(project: ProjectStore, text: str) -> list[str]:
    return [
        r["input_preview"] for r in list_calls(project, CallFilters(**MONTH, text=text), limit=50, after=None)
    ]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("lampe rückerstattung", 0), ("ruckerstatt", 0), ("hoàn tiền", 1), ("đèn hoàn", 1), ("退款", 2), ("台灯 退款", 2),
        ("台", 2), ("返金 iphone", 3), ("환불", 4), ("환불 램프", 4), ("คืนเงิน", 5), ("โคมไฟ", 5), ("សងប្រាក់", 6), ("रिफंड लैंप", 7),
        ("استرداد", 8), ("החזר", 9), ("iade", 10), ("επιστροφή", 11), ("елка возврат", 12), ("full", 13), ("👍", 13),
        ("100% a_b", 14), ("%", 14), ("palautus", 15),
    ],
)  # fmt: skip
def test_words_are_found_in_every_script(project: ProjectStore, query: str, place: int) -> None:
    assert found(project, query) == [QUESTIONS[place]]


@pytest.mark.parametrize("query", ["hoản", "退还", "환경", "lampe refund", "' OR 1=1 --", "zz%", "\u0000zz"])
def test_other_words_are_not_found(project: ProjectStore, query: str) -> None:
    assert found(project, query) == []


def test_what_is_stored_stays_as_it_came(project: ProjectStore) -> None:
    rows = project.rows("SELECT question FROM spans WHERE project_id = {project:String} ORDER BY trace_id")
    assert [r["question"] for r in rows] == QUESTIONS


def test_the_store_folds_every_character_as_python_does(project: ProjectStore) -> None:
    """All characters that Python's Unicode knows, 64 in a text; but the iota below, which moves among other marks."""
    points = (*range(0x18000), *range(0x1D000, 0x1D300), *range(0x1F000, 0x1FB00), *range(0x20000, 0x20400))
    unknown = ("Cn", "Cs", "Co")
    known = [chr(p) for p in points if p != 0x345 and unicodedata.category(chr(p)) not in unknown]
    texts = ["".join(known[i : i + 64]) for i in range(0, len(known), 64)]
    other = ProjectStore(project.store, "folding")
    put(other, texts)
    rows = other.rows(
        "SELECT question_search FROM spans WHERE project_id = {project:String} ORDER BY trace_id"
    )
    assert [r["question_search"] for r in rows] == [search_form(t) for t in texts]
    folded = other.rows(
        f"SELECT {folded_column('question')} AS text FROM spans WHERE project_id = {{project:String}} ORDER BY trace_id",
        fold_parameters(),
    )
    assert [r["text"] for r in folded] == [fold(t) for t in texts]
