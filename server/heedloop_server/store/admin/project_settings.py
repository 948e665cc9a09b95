"""What projects chose for themselves: append a row, take the newest."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from heedloop_server.store.connection import ProjectStore, Store


def project_settings(project: ProjectStore) -> dict[str, Any]:
    """The project's own settings; empty where it chose none."""
    row = project.row(
        """
        SELECT record
        FROM project_settings FINAL
        WHERE project_id = {project:String}
        """
    )
    return json.loads(row["record"]) if row else {}


def project_prices(project: ProjectStore) -> dict[str, dict[str, float]]:
    """Model -> US dollars per million tokens (`input`, `output`, `cached_input`), as the project's price table says."""
    return project_settings(project).get("prices") or {}


def feedback_webhook(project: ProjectStore) -> dict[str, Any] | None:
    """Where new feedback is told (`url`, `secret`, `imports`); None where nothing is."""
    return project_settings(project).get("feedback_webhook")


def save_project_settings(project: ProjectStore, settings: dict[str, Any]) -> None:
    """Replace the project's settings."""
    record = json.dumps(settings, ensure_ascii=False)
    project.insert("project_settings", [{"record": record, "version": time.time_ns()}])


def project_created_at(project: ProjectStore) -> datetime | None:
    """When the project was made."""
    row = project.row("SELECT created_at FROM projects FINAL WHERE project_id = {project:String}")
    return row["created_at"] if row else None


def retention_of_projects(store: Store) -> dict[str, int]:
    """Project -> days, of those that chose a number; 0 keeps everything."""
    rows = store.rows("SELECT project_id, record FROM project_settings FINAL")
    chosen = {r["project_id"]: json.loads(r["record"]).get("retention_days") for r in rows}
    return {project: days for project, days in chosen.items() if days is not None}
