"""What tests of training jobs share: judgements with a planted truth, projects that hold them, small policies."""

import json
from pathlib import Path

from server_process import ServerProcess

from heedloop.client import Client
from heedloop_cli.main import main
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer
from heedloop_trainer.nn.scratch import SmallShape, small_policy

POLITE, RUDE = "Thank you, gladly: {} is here.", "No. Go away, {} is not my job."
NOUNS = [
    "the refund",
    "an invoice",
    "your parcel",
    "the password",
    "a ticket",
    "my order",
    "the lamp",
    "a seat",
]


QUICK = (
    "--learning-rate",
    "3e-3",
    "--batch-size",
    "16",
    "--max-prompt-tokens",
    "32",
    "--max-response-tokens",
    "32",
)


def imported(server: ServerProcess, folder: Path, rows: list[dict[str, object]], *, project: str) -> str:
    """Import rows into a project of their own; its key."""
    file = folder / f"{project}.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    key = server.client().create_project(project).key
    assert main(["import", str(file), "--url", server.url, "--api-key", key]) == 0
    return key


def liked_rows() -> list[dict[str, object]]:
    """Polite answers are liked and rude ones disliked; half of the people say that they speak German."""
    made: list[dict[str, object]] = []
    for i in range(120):
        noun = f"{NOUNS[i % 8]} {i}"
        thumbs = [
            {"kind": "thumb", "answer": k, "value": k == 0, "author": f"u{i}", "author_kind": "end_user"}
            for k in (0, 1)
        ]
        answers = [POLITE.format(noun), RUDE.format(noun)]
        language = {"language": "de"} if i % 2 else {}
        made.append(
            {
                "id": f"q{i}",
                "prompt": f"Where is {noun}?",
                "answers": answers,
                "judgements": thumbs,
                "metadata": language,
            }
        )
    return made


def liked_snapshot(server: ServerProcess, folder: Path, project: str) -> tuple[str, str]:
    """A project of its own with demonstrations: its key, and a snapshot of everything in it."""
    key = imported(server, folder, liked_rows(), project=project)
    everything = {"since": "2000-01-01T00:00:00Z"}
    return key, Client(server.url, key).create_snapshot(project, filters=everything).id


def scratch_policy(classifier: Path, folder: Path) -> None:
    """A policy with random weights and the reward model's tokenizer."""
    tokenizer = load_tokenizer(classifier)
    model = small_policy(tokenizer, SmallShape(32, 2, 2, 64))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert load_policy(folder).config.vocab_size == len(tokenizer)
