"""Agreement by guideline, week, pool, round and layer; pools held against each other; coverage by field. By hand."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from review_people import World, call, review_server
from test_review_control_routes import post

from heedloop_server.store.spans import insert_calls

SCALE = {"name": "accuracy", "kind": "scale", "min": 1, "max": 5}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with review_server(tmp_path_factory.mktemp("slices")) as new_world:
        yield new_world()


@pytest.fixture(scope="module")
def queue(world: World) -> str:
    """Eight answers by two models. Ada and Bob (legal) say 5, Cy and Dee (support) 5 on even and 1 on odd ones; later all agree."""
    insert_calls(
        world.project, [call(f"Q{n}", at_s=60 + n, model=["large", "small"][n % 2]) for n in range(8)]
    )
    made = world.queue([SCALE], fill=False, judgements_per_item=4, second_share=0.5, guideline={"text": "v1"})
    path = f"/review/queues/{made}"
    world.admin.ask("POST", f"{path}/items", {"source": "filter", "limit": 6})
    found = world.admin.ask("GET", f"{path}/items")["items"]
    first = [[{"trace_id": t["trace_id"], "span_id": t["span_id"]} for t in i["targets"]] for i in found[:2]]
    world.admin.ask("POST", f"{path}/items", {"source": "targets", "items": first, "calibration": "may"})
    world.admin.ask("PUT", f"{path}/guideline", {"text": "v2"})
    for name, group in (("ada", "legal"), ("bob", "legal"), ("cy", "support"), ("dee", "support")):
        world.admin.ask("PUT", "/review/team", {"author_id": name, "groups": [group], "languages": []})

    def said(n: int, who: str) -> dict[str, Any]:
        value = 1 if who in ("cy", "dee") and n % 2 and n < 4 else 5
        version, day = (1, "2026-05-04") if n < 4 else (2, "2026-05-13")
        at = f"{day}T12:00:00Z"
        return {
            "annotator": who,
            "answers": {"accuracy": value},
            "submitted_at": at,
            "guideline_version": version,
        }

    lines = [
        {"item_id": i["item_id"], "judgements": [said(n, who) for who in ("ada", "bob", "cy", "dee")]}
        for n, i in enumerate(found)
    ]
    done = post(world.admin, f"{path}/import", "\n".join(map(json.dumps, lines)).encode())
    assert (done["stored"], done["rejected"]) == (24, 0), done
    return made


def percent(world: World, queue: str, by: str) -> dict[str, tuple[float | None, int]]:
    [question] = world.admin.ask("GET", f"/review/queues/{queue}/agreement", by=by)["questions"]
    return {
        s["value"]: (
            None if s["percent"] is None else round(s["percent"]["estimate"], 3),
            s["num_judgements"],
        )
        for s in question["slices"]
    }


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        # items 1 and 3 are split two to two: of their six pairs two agree
        ("guideline", {"version 1": (0.667, 16), "version 2": (1.0, 8)}),
        ("week", {"2026-05-04": (0.667, 16), "2026-05-11": (1.0, 8)}),
        ("pool", {"legal": (1.0, 12), "support": (1.0, 12)}),
        ("round", {"may": (0.667, 8), "": (0.833, 16)}),
    ],
)
def test_agreement_by(world: World, queue: str, by: str, expected: dict[str, Any]) -> None:
    assert percent(world, queue, by) == expected


def test_the_second_layer_is_a_slice_of_its_own(world: World, queue: str) -> None:
    found = percent(world, queue, "layer")
    assert set(found) <= {"once", "judged again"}
    assert sum(n for _, n in found.values()) == 24
    world.admin.ask("GET", f"/review/queues/{queue}/agreement", by="nonsense", status=422)


def test_pools_are_held_against_each_other(world: World, queue: str) -> None:
    [question] = world.admin.ask("GET", f"/review/queues/{queue}/pools")["questions"]
    pools = {p["name"]: p for p in question["pools"]}
    assert (pools["legal"]["mean"]["estimate"], pools["legal"]["num_annotators"]) == (1.0, 2)
    assert pools["support"]["mean"]["estimate"] == pytest.approx(8 / 12)
    [pair] = question["pairs"]
    assert (pair["first"], pair["second"]) == ("legal", "support")
    assert (pair["agreement"]["estimate"], pair["agreement"]["n"]) == (pytest.approx(4 / 6), 6)


def test_coverage_by_field(world: World, queue: str) -> None:
    path = f"/review/queues/{queue}/coverage"
    values = world.admin.ask("GET", path, by="model")["values"]
    found = {v["value"]: (v["num"], v["num_queued"], v["num_judged"]) for v in values}
    assert found == {"large": (4, 3, 3), "small": (4, 3, 3)}
    assert values[0]["share"]["estimate"] == 0.75
    only = world.admin.ask("GET", path, by="model", model="small")["values"]
    assert [v["value"] for v in only] == ["small"]
    assert world.admin.ask("GET", path, by="metadata.language")["values"][0]["value"] == ""
    world.admin.ask("GET", path, by="question", status=422)
