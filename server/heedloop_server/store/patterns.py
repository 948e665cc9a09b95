"""Rated answers by their attributes, for the search of failure patterns."""

from __future__ import annotations

from typing import Any

from heedloop_server.quality.patterns import Cell, cells_of
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality import GROUP_FIELDS, View, judged_condition, thumbs_query

__all__ = ["pattern_cells"]

PATTERN_FIELDS = (
    "model",
    "prompt_name",
    "prompt_version",
    "service",
    "environment",
    "status",
    "answer_chars",
)
MAX_METADATA_KEYS = 10
MAX_CELLS = 50_000


def pattern_cells(project: ProjectStore, view: View) -> list[Cell]:
    """Rated answers by every attribute that patterns are looked for in: fields, tags, and the commonest metadata keys."""
    params: dict[str, Any] = {"keys": _metadata_keys(project, view)}
    # names of their own: an alias that is also a column's name would be taken for it in WHERE
    groups = {f"field_{f}": f"toString({GROUP_FIELDS[f][0]})" for f in PATTERN_FIELDS}
    groups |= {"tags": "call_tags", "found": "arrayMap(k -> call_metadata[k], {keys:Array(String)})"}
    thumbs = thumbs_query(view, groups, params)
    names = ", ".join(groups)
    rows = project.rows(
        f"""
        SELECT
            {names},
            count() AS num,
            countIf(NOT up) AS num_bad
        FROM ({thumbs})
        GROUP BY {names}
        ORDER BY num DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**params, "limit": MAX_CELLS},
    )
    keys = params["keys"]
    return cells_of(
        (
            {f: r[f"field_{f}"] for f in PATTERN_FIELDS}
            | {"tag": r["tags"]}
            | {f"metadata.{k}": v for k, v in zip(keys, r["found"], strict=True)},
            int(r["num"]),
            int(r["num_bad"]),
        )
        for r in rows
    )


def _metadata_keys(project: ProjectStore, view: View) -> list[str]:
    """The metadata keys of rated answers that have few enough values to be groups, the commonest first."""
    params: dict[str, Any] = {}
    where = judged_condition(view, params)
    rows = project.rows(
        f"""
        SELECT key
        FROM (
            SELECT arrayJoin(mapKeys(call_metadata)) AS key, call_metadata[key] AS value
            FROM feedback FINAL
            WHERE {where} AND is_thumb
        )
        GROUP BY key
        HAVING uniq(value) <= {{most:UInt32}}
        ORDER BY count() DESC, key
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**params, "limit": MAX_METADATA_KEYS, "most": 100},
    )
    return [r["key"] for r in rows]
