"""`heedloop train` against a real server: rows over REST, run folders, registration, evaluation, checkpoints that load."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked_server import ForkedServer
from safetensors.torch import load_file
from server_process import ServerProcess
from training_world import NOUNS, POLITE, QUICK, RUDE, imported, liked_snapshot, scratch_policy
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from heedloop.client import Client
from heedloop.schema import Message, PromptRow, format_time
from heedloop_cli.main import main
from heedloop_trainer.evaluation.human_judgements import human_win_rate, put_to_review
from heedloop_trainer.evaluation.judges import load_judge
from heedloop_trainer.evaluation.slices import FIRST, read_attributes
from heedloop_trainer.jobs.job import run_id_of
from heedloop_trainer.methods.reward_ensemble import RewardEnsemble
from heedloop_trainer.methods.reward_linear import LinearReward
from heedloop_trainer.nn.checkpoints import load_policy, load_reward_model, load_tokenizer
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.ppo.rollout import Response


def rows() -> list[dict[str, object]]:
    """Real judgements in form, planted in content: the polite answer is preferred and thumbed up; some are corrected."""
    rng = random.Random(0)
    made: list[dict[str, object]] = []
    for i in range(80):
        noun = f"{rng.choice(NOUNS)} {i}"
        polite, rude = POLITE.format(noun), RUDE.format(noun)
        made.append(
            {
                "prompt": f"Where is {noun}?",
                "chosen": polite,
                "rejected": rude,
                "annotator": f"judge{i % 7}",
            }
        )
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    server = ForkedServer(folder).start()
    file = folder / "judgements.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows()))
    assert main(["import", str(file), "--url", server.url, "--api-key", server.key]) == 0
    yield server
    server.kill()


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def train(server: ServerProcess, *args: object) -> int:
    return main(["train", *map(str, args), "--url", server.url, "--api-key", server.key])


def test_a_linear_reward_model_from_a_project(server, runs_folder, capsys):
    out = runs_folder / "linear"
    assert train(server, "reward-linear", "--out", out, "--project", "default", "--cross-validate") == 0
    printed = capsys.readouterr().out
    assert "every prompt group held out once" in printed
    for name in ("chance", "longer answer wins", "bag of words", "linear reward model"):
        assert f"| {name} |" in printed
    manifest = json.loads((out / "run.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["evaluation"]["accuracy"]["linear reward model"]["estimate"] > 0.9
    model = LinearReward.load(out / "checkpoint")
    polite, rude = model.score([POLITE.format("the cat"), RUDE.format("the cat")])
    assert polite > rude + 1
    client = server.client()
    known = client.run(manifest["id"])
    assert known.snapshot_id == manifest["snapshot_id"]
    assert client.run_history(manifest["id"])[0]["num_features"] > 10
    # From the checkpoint back to every feedback behind it, and from one of them forward to this run.
    trained_on = client.snapshot_rows(manifest["snapshot_id"], "comparisons", "train")
    feedback_ids = {f for row in trained_on for f in row.feedback_ids}
    assert len(feedback_ids) == int(manifest["metrics"]["num_rows"])
    forward = client.feedback_one(feedback_ids.pop()).runs
    assert manifest["id"] in [r.id for r in forward]
    assert "bag of words" in (out / "checkpoint" / "README.md").read_text()


def test_a_reward_model_from_scratch_then_rloo_then_an_evaluation(server, runs_folder, capsys):
    """The whole road on one snapshot: reward model, a policy from DPO, RLOO against the reward, held-out win rate."""
    client = server.client()
    snapshot = client.create_snapshot("road")
    reward, start, better = (runs_folder / n for n in ("reward", "start", "better"))
    args = ("--snapshot", snapshot.id)  # the same rows under another name are the same snapshot
    assert (
        train(server, "reward", *args, "--from-scratch", "tiny", "--out", reward, "--epochs", 2, *QUICK) == 0
    )
    assert (
        json.loads((reward / "run.json").read_text())["evaluation"]["accuracy"]["reward model"]["estimate"]
        > 0.9
    )
    scratch_policy(reward / "checkpoint", start)
    assert (
        train(server, "dpo", *args, "--model", start, "--out", runs_folder / "dpo", "--epochs", 1, *QUICK)
        == 0
    )
    preferred = json.loads((runs_folder / "dpo" / "run.json").read_text())["evaluation"]["accuracy"]
    assert preferred["policy (implicit reward)"]["estimate"] > 0.9
    assert "longer answer wins" in preferred
    rollouts = ("--rollouts", 2, "--batch-size", 8, "--minibatches", 2)
    rloo = (*rollouts, "--max-response-tokens", 8, "--learning-rate", "1e-3")
    dpo = runs_folder / "dpo" / "checkpoint"
    given = (
        "--model",
        dpo,
        "--reward-model",
        reward / "checkpoint",
        "--out",
        better,
        "--model-name",
        "support-2",
    )
    assert train(server, "rloo", *args, *given, *rloo) == 0
    manifest = json.loads((better / "run.json").read_text())
    parent = json.loads((runs_folder / "dpo" / "run.json").read_text())
    assert manifest["parent"] == parent["id"]
    assert manifest["snapshot_id"] == parent["snapshot_id"] == snapshot.id
    reward_run = json.loads((reward / "run.json").read_text())["id"]
    assert client.run(manifest["id"]).config["reward_models"] == [reward_run], "lineage goes by it"
    assert len(client.run_history(manifest["id"])) == 2
    assert client.run(manifest["id"]).model_name == "support-2"
    AutoModelForCausalLM.from_pretrained(better / "checkpoint")
    AutoModelForSequenceClassification.from_pretrained(reward / "checkpoint")
    assert load_reward_model(reward / "checkpoint").gain != 1.0
    compared = (
        "--model",
        better / "checkpoint",
        "--reference",
        dpo,
        "--held-out-reward",
        reward / "checkpoint",
    )
    more = ("--best-of", 2, "--max-response-tokens", 8)
    assert train(server, "evaluate", *args, *compared, *more, "--out", runs_folder / "evaluation") == 0
    found = json.loads((runs_folder / "evaluation" / "evaluation.json").read_text())
    rate = found["win_rate"]["win_rate"]
    assert 0 <= rate["low"] <= rate["estimate"] <= rate["high"] <= 1
    assert found["best_of"]["kl_bound"] == pytest.approx(0.193, abs=1e-3)
    assert found["best_of"]["gain"]["high"] > 0  # other draws: on few prompts chance decides
    assert found["samples"]
    assert "length_controlled" in capsys.readouterr().out
    for run in (reward, better, runs_folder / "evaluation"):
        assert "Where it comes from" in (run / "report.html").read_text()
    promoted = ("--evaluation", runs_folder / "evaluation", "--to", runs_folder / "production")
    assert train(server, "promote", *promoted) == 1
    refused = capsys.readouterr().out
    assert "held-out prompts; 50 are needed" in refused
    assert "the judge is the reward model that it was trained for" in refused
    assert not (runs_folder / "production").exists()


def rated_rows() -> list[dict[str, object]]:
    """Thumbs and two ratings by name, which go apart: polite answers have the tone, those with a number the accuracy."""
    made: list[dict[str, object]] = []
    for i in range(60):
        noun = f"{NOUNS[i % 8]} {i}"
        polite, exact = i % 2 == 0, i % 4 < 2
        text = (POLITE if polite else RUDE).format(noun) + (" It takes 3 days." if exact else "")
        judgements = [
            {
                "kind": "rating",
                "answer": 0,
                "value": 5 if polite else 1,
                "scale": [1, 5],
                "name": "tone",
                "author": f"w{i % 5}",
            },
            {
                "kind": "rating",
                "answer": 0,
                "value": 5 if exact else 1,
                "scale": [1, 5],
                "name": "accuracy",
                "author": f"w{i % 5}",
            },
            {"kind": "thumb", "answer": 0, "value": polite, "author": f"u{i}", "author_kind": "end_user"},
        ]
        made.append(
            {"id": f"q{i}", "prompt": f"Where is {noun}?", "answers": [text], "judgements": judgements}
        )
    return made


def test_thumbs_alone_and_names_of_their_own_make_an_ensemble(server, tmp_path):
    key = imported(server, tmp_path, rated_rows(), project="rated")
    out = tmp_path / "reward"
    given = (
        "--from-scratch",
        "tiny",
        "--thumbs",
        "--dimensions",
        "tone,accuracy",
        "--ensemble",
        "2",
        "--epochs",
        "8",
        "--out",
        out,
    )
    command = ["train", "reward", *map(str, (*given, *QUICK)), "--url", server.url, "--api-key", key]
    assert main(command) == 0
    judge = load_judge(out / "checkpoint")
    assert isinstance(judge, RewardEnsemble)
    assert judge.dimensions == ("reward", "tone", "accuracy")
    said = [POLITE.format("the cat"), RUDE.format("the cat") + " It takes 3 days."]
    sequences = Encoder(judge.tokenizer).sequences([(Message("user", "Where is the cat?"),)] * 2, said)
    [reward, tone, accuracy] = judge.each_member()[0].outputs(sequences).T
    assert reward[0] > reward[1]
    assert tone[0] > tone[1]
    assert accuracy[0] < accuracy[1]
    assert "ensemble" not in (out / "checkpoint" / "member-0" / "config.json").read_text()
    names = {k for row in (out / "metrics.jsonl").read_text().splitlines() for k in json.loads(row)}
    assert {"member-0/loss", "member-1/loss"} <= names


def test_sft_and_kto_say_how_much_better_they_know_what_was_held_out(server, tmp_path, capsys):
    key, snapshot = liked_snapshot(server, tmp_path, "liked")
    client = Client(server.url, key)

    def run(method: str, *args: object) -> dict[str, dict]:
        given = ("--snapshot", snapshot, "--out", tmp_path / method, *args, *QUICK)
        assert main(["train", method, *map(str, given), "--url", server.url, "--api-key", key]) == 0
        return json.loads((tmp_path / method / "run.json").read_text())

    learned = run("sft", "--from-scratch", "tiny", "--epochs", 4)["metrics"]
    assert learned["held_out_loss"] < 0.7 * learned["held_out_loss_before"]
    assert "held_out_loss" in capsys.readouterr().out
    found = run("kto", "--model", tmp_path / "sft" / "checkpoint", "--epochs", 4)["evaluation"]
    assert found["accuracy"]["policy (implicit reward)"]["estimate"] > 0.9
    assert "| policy (implicit reward) |" in (tmp_path / "kto" / "checkpoint" / "README.md").read_text()
    rows = list(client.snapshot_rows(snapshot, "comparisons"))
    asked: list[dict[str, object]] = []

    class Noting(Client):
        def iter_calls(self, **filters: object):
            asked.append(filters)
            return super().iter_calls(**filters)

    slices = read_attributes(Noting(server.url, key), [t for r in rows for t in r.trace_ids])
    oldest = min(c.start_time for c in client.iter_calls(since=FIRST) if c.trace_id in slices)
    assert [f["since"] for f in asked] == [FIRST] + [format_time(oldest)] * (len(asked) - 1), (
        "read more than it must"
    )
    assert read_attributes(client, ["ee" * 16]) == read_attributes(client, []) == {}
    german = {t for t, names in slices.items() if "language=de" in names}
    assert german == {
        t for r in rows for t in r.trace_ids if int(r.prompt[0].text.rstrip("?").split()[-1]) % 2
    }


def test_people_judge_the_pairs_that_an_evaluation_puts_to_review(server):
    """The new answer wins one pair and loses none; nothing is counted before anybody has judged."""
    client = server.client()
    questions = [{"name": "better", "kind": "comparison", "title": "Which answer is better?"}]
    made = client.review("POST", "queues", {"name": "new against parent", "questions": questions})
    queue = made["queue_id"]
    prompts = [PromptRow((Message("user", f"Where is lamp {i}?"),)) for i in range(3)]
    new = [
        Response(p, t, [1], True) for p, t in zip(prompts, ("In the shop.", "Gone.", "Same."), strict=True)
    ]
    old = [
        Response(p, t, [1], True) for p, t in zip(prompts, ("No idea.", "Sold out.", "Same."), strict=True)
    ]
    put = put_to_review(client, queue, new, old, "run-1")
    assert (put["added"], put["num_equal"], len(put["pairs"])) == (2, 1, 2)
    assert put_to_review(client, queue, new, old, "run-1")["added"] == 0, "sent again, nothing is there twice"
    assert human_win_rate(client, put["pairs"]) is None
    [assignment] = client.review("POST", f"queues/{queue}/next", {"count": 1})["assignments"]
    shown = [a["text"] for a in assignment["answers"]]
    preferred = next(i for i, text in enumerate(shown) if text in ("In the shop.", "Gone."))
    answer = {"answers": {"better": {"preferred": preferred}}, "duration_ms": 10, "next": 0}
    client.review("POST", f"assignments/{assignment['assignment_id']}/submit", answer)
    found = human_win_rate(client, put["pairs"])
    assert found is not None
    assert (found["estimate"], found["n"]) == (1.0, 1)


@pytest.mark.slow
def test_torchrun_trains_what_one_process_trains(server, tmp_path):
    """The command itself over two processes: the same checkpoint within 1e-5, one run registered, one folder."""
    snapshot = server.client().create_snapshot("two processes", rules={"like_from": 0.5}).id
    command = [
        "train", "reward", "--snapshot", snapshot, "--from-scratch", "tiny", "--epochs", "1",
        *QUICK, "--url", server.url, "--api-key", server.key, "--device", "cpu", "--out",
    ]  # fmt: skip
    assert main([*command, str(tmp_path / "one")]) == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "heedloop_cli.main", *command, str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(tmp_path / n / "checkpoint" / "model.safetensors") for n in ("one", "two"))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert (value - second[name]).abs().max() < 1e-5, name
    manifests = [json.loads((tmp_path / n / "run.json").read_text()) for n in ("one", "two")]
    assert manifests[0]["evaluation"]["accuracy"] == manifests[1]["evaluation"]["accuracy"]
    assert len(server.client().run_history(manifests[1]["id"])) == len(
        server.client().run_history(manifests[0]["id"])
    )


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("reward-linear", "--project", "elsewhere"), "belongs to project 'default', not 'elsewhere'"),
        (("reward", "--project", "default"), "--from-scratch tiny"),
        (("reward-linear", "--snapshot-name", "nope"), "no snapshot named 'nope'"),
        (("reward-linear", "--snapshot", "0" * 32), "no snapshot"),
        (("kto", "--model", "x"), "no unpaired to train on"),
        (("ppo", "--model", "/nowhere"), "/nowhere"),
        (("reward", "--from-scratch", "tiny", "--batch-size", "0"), "batch_size"),
        (("evaluate",), "give --reward-model"),
        (
            ("reward", "--from-scratch", "tiny", "--max-tokens", "90000000", "--batch-size", "100000"),
            "lower --max-tokens (now 90,000,000",
        ),
        (("reward", "--from-scratch", "tiny", "--dimensions", "tone"), "no rated to train on"),
        (("promote", "--evaluation", "/nowhere", "--to", "/tmp/x"), "cannot read /nowhere"),
    ],
)
def test_what_cannot_be_done_says_why(server, tmp_path, capsys, args, sentence):
    out = () if args[0] == "promote" else ("--out", tmp_path / "run")
    assert train(server, *args, *out) == 2
    assert sentence in capsys.readouterr().err


def test_a_budget_beyond_what_a_minibatch_can_hold_refuses_nothing(server, tmp_path):
    """Sixteen pairs of at most 64 tokens fit, whatever a micro-batch might hold."""
    args = ("--from-scratch", "tiny", "--max-tokens", "90000000", "--max-steps", "1", *QUICK)
    assert train(server, "reward", "--out", tmp_path / "run", *args) == 0


def test_a_run_folder_is_no_model_but_says_where_its_model_is(server, tmp_path, capsys):
    inside = tmp_path / "run" / "checkpoint"
    inside.mkdir(parents=True)
    (inside / "config.json").write_text("{}")
    args = ("reward", "--model", tmp_path / "run", "--out", tmp_path / "out", "--no-memory-check")
    assert train(server, *args) == 2
    assert f"the run's model is in {inside}" in capsys.readouterr().err


def test_a_promoted_model_is_still_its_runs_model(tmp_path):
    (tmp_path / "promoted.json").write_text(json.dumps({"run": "abc"}))
    assert run_id_of(tmp_path) == "abc"


def test_a_wrong_key_and_a_missing_server_say_so(server, tmp_path, capsys):
    command = ["train", "reward-linear", "--out", str(tmp_path / "run")]
    assert main([*command, "--url", server.url, "--api-key", "hl_wrong"]) == 2
    assert "key" in capsys.readouterr().err
    assert main([*command, "--url", "http://127.0.0.1:9", "--api-key", "x"]) == 2
    assert "Is the server running?" in capsys.readouterr().err


def test_help_does_not_load_torch():
    code = "import sys; from heedloop_cli.main import main; main(['--help']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "train" in out
    assert out.splitlines()[-1] == "False"


def test_metrics_wait_for_a_server_that_is_away(tmp_path):
    """Training goes on; the manifest says how many rows never arrived."""
    from heedloop_trainer.runs.folder import RunFolder

    run = RunFolder.create(tmp_path, "sft", client=Client("http://127.0.0.1:9", "x", timeout_s=1))
    run.log(0, loss=1.0)
    run.finish(metrics={"loss": 1.0})
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["num_metric_rows_unsent"] == 1


def test_a_terminated_run_is_stopped_and_goes_on(server, tmp_path):
    """SIGTERM (a cluster that wants its machine back) leaves a run that is stopped, with a resume point."""
    key, snapshot = liked_snapshot(server, tmp_path, "terminated")
    out = tmp_path / "terminated"
    args = [
        "train",
        "sft",
        "--from-scratch",
        "tiny",
        "--out",
        str(out),
        "--save-every",
        "1",
        *QUICK,
        "--epochs",
    ]
    place = ["--url", server.url, "--api-key", key, "--snapshot", snapshot, "--limit", "40"]
    command = [sys.executable, "-m", "heedloop_cli.main", *args]
    process = subprocess.Popen([*command, "5000", *place], stdout=subprocess.DEVNULL)
    while not (out / "resume").exists():
        assert process.poll() is None, "it ended before its first resume point"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 1
    manifest = json.loads((out / "run.json").read_text())
    assert manifest["status"] == "stopped"
    assert "SIGTERM" in manifest["error"]
    assert Client(server.url, key).run(manifest["id"]).status == "stopped"
    assert (out / "resume").exists()


def test_a_template_file_limits_and_the_turns_end_reach_the_checkpoint(server, tmp_path):
    key, snapshot = liked_snapshot(server, tmp_path, "template")
    place = ("--snapshot", snapshot, "--url", server.url, "--api-key", key, *QUICK)
    template = tmp_path / "chatml.jinja"
    template.write_text(
        "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|user|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
    )
    base, out = tmp_path / "base", tmp_path / "with-template"

    def sft(*args: object) -> int:
        return main(["train", "sft", *map(str, (*args, *place))])

    assert sft("--from-scratch", "tiny", "--out", base, "--max-steps", "1") == 0
    more = (
        "--chat-template",
        template,
        "--limit",
        "8",
        "--max-steps",
        "2",
        "--epochs",
        "9",
        "--batch-size",
        "4",
    )
    assert sft("--model", base / "checkpoint", "--out", out, *more) == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert json.loads((out / "run.json").read_text())["metrics"]["num_rows"] == 8
    tokenizer = load_tokenizer(out / "checkpoint")
    end = tokenizer.convert_tokens_to_ids("<|user|>")
    assert tokenizer.chat_template == template.read_text()
    assert Encoder(tokenizer).end_id == end
    assert end in load_policy(out / "checkpoint").generation_config.eos_token_id
