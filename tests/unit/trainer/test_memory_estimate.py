"""Memory: what is estimated is about what is taken, and more is asked for by what needs more."""

import resource
import subprocess
import sys

import pytest
import torch
from families import tiny_policy

from heedloop_trainer.jobs.run_job import is_out_of_memory
from heedloop_trainer.nn.memory import available_bytes, estimate_memory, what_to_change
from heedloop_trainer.nn.models import checkpoint_activations
from heedloop_trainer.nn.scratch import SmallShape, small_policy
from heedloop_trainer.ppo.train import PPOConfig


def test_weights_gradients_and_states_are_counted_exactly(policy):
    size = 4 * sum(p.numel() for p in policy.parameters())
    found = estimate_memory(policy, max_tokens=64, num_trained=2, num_frozen=1, num_whole=1).parts
    assert (found["weights"], found["gradients"], found["Adam"]) == (4 * size, 2 * size, 4 * size)
    spread = estimate_memory(
        policy, max_tokens=64, num_trained=2, num_frozen=1, num_whole=1, world_size=2
    ).parts
    assert spread["weights"] == 2.5 * size


def test_fewer_tokens_checkpoints_and_bfloat16_make_it_smaller(policy):
    plain = estimate_memory(policy, max_tokens=8192).parts["activations"]
    assert estimate_memory(policy, max_tokens=4096).parts["activations"] == plain / 2
    assert estimate_memory(policy, max_tokens=8192, bfloat16=True).parts["activations"] == plain / 2
    assert estimate_memory(checkpoint_activations(policy), max_tokens=8192).parts["activations"] < plain


PROGRAM = """
import re, torch
from pathlib import Path
from heedloop.schema import Demonstration, Message
from heedloop_trainer.nn.scratch import SmallShape, small_policy, train_tokenizer
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.methods.sft import SFTConfig, train_sft
torch.set_num_threads(1)


def peak():
    # of this program alone: ru_maxrss begins with that of the process that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])


tokenizer = train_tokenizer(["one two three"], vocab_size=300)
model = small_policy(tokenizer, SmallShape(192, 6, 4, 512))
before = peak()
rows = [Demonstration((Message("user", "one"),), "one two three " * 120)] * 16
train_sft(SFTConfig(epochs=1, batch_size=16, max_tokens=8192), rows, model, tokenizer)
taken = (peak() - before) * 1024
[one] = Encoder(tokenizer).sequences([rows[0].prompt], [rows[0].completion])
print(taken, 16 * len(one))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_estimate_is_near_what_is_taken(tokenizer):
    """Peak memory of a real training step in a process of its own, within a factor of 1.6 of the estimate."""
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    taken, tokens = map(int, out.split())
    model = small_policy(tokenizer, SmallShape(192, 6, 4, 512))
    found = estimate_memory(model, max_tokens=tokens)
    told = found.total - found.parts["weights"]
    assert told / 1.6 < taken < told * 1.6, (tokens, taken, found.text)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_free_memory_is_known():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert (available_bytes("cpu") or 0) > used / 100


def test_the_advice_names_what_is_not_yet_done():
    text = what_to_change(PPOConfig(max_tokens=8192), checkpointed=False, lora=False, device="cuda")
    for part in (
        "--max-tokens (now 8,192",
        "--gradient-checkpointing",
        "--bfloat16",
        "critic_body",
        "--lora",
    ):
        assert part in text
    less = what_to_change(
        PPOConfig(max_tokens=512, critic_body="shared"), checkpointed=True, lora=True, device="cpu"
    )
    for part in ("--max-tokens", "checkpointing", "critic_body", "--lora", "bfloat16"):
        assert part not in less


def test_running_out_of_memory_is_known_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))


@pytest.mark.parametrize(
    "kind",
    ["mamba", "mamba2", "gemma3n_text", "gemma4_text", "nemotron_h", "falcon_h1", "lfm2", "deepseek_v3"],
)
def test_an_estimate_of_every_family(kind):
    """Also where there are no attention heads, or a size for each layer."""
    found = estimate_memory(tiny_policy(kind), max_tokens=64, decoded_tokens=64)
    assert found.total > 0
