"""The other generators: a static cache says what the growing one says; batching and vLLM keep the protocol."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.generation.continuous import ContinuousGenerator
from heedloop_trainer.generation.static import StaticGenerator
from heedloop_trainer.generation.vllm import VLLMGenerator
from heedloop_trainer.nn.models import Policy
from heedloop_trainer.nn.sequences import TokenSequence, collate

PROMPTS = [[2, 3, 4, 5, 6], [7], [8, 9], [2, 2, 2]] * 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_static_cache_says_what_the_growing_one_says(policy, temperature, attention):
    policy.set_attn_implementation(attention)
    config = SamplingConfig(20, temperature=temperature, batch_size=5)
    static = StaticGenerator(policy, frozenset({1}))
    for step in (0, 1):  # the second rollout uses the buffers of the first
        ours = static(PROMPTS, config, step=step)
        theirs = CachedGenerator(policy, frozenset({1}))(PROMPTS, config, step=step)
        assert [g.response_ids for g in ours] == [g.response_ids for g in theirs]
        assert [g.ended for g in ours] == [g.ended for g in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.log_probs == pytest.approx(b.log_probs, abs=1e-4)


def test_a_static_copy_in_bfloat16_follows_the_policy(policy):
    static = StaticGenerator(policy, frozenset({1}), bfloat16=True)
    config = SamplingConfig(12, batch_size=8)
    before = static(PROMPTS, config)
    with torch.no_grad():
        policy.get_output_embeddings().weight.mul_(-3)
    after = static(PROMPTS, config)
    assert [g.response_ids for g in before] != [g.response_ids for g in after]
    sequences = [TokenSequence(p, g.response_ids, g.ended) for p, g in zip(PROMPTS, after, strict=True)]
    with torch.no_grad():
        trained = Policy(policy)(collate(sequences)).log_probs
    sampled = torch.tensor([x for g in after for x in g.log_probs])
    assert (trained - sampled).abs().mean() < 3e-2


def test_windows_that_slide_are_refused():
    config = Gemma2Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, sliding_window=4, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="use the cached generator"):
        StaticGenerator(Gemma2ForCausalLM(config), frozenset({1}))


@pytest.mark.slow
def test_continuous_batching_answers_every_prompt_in_order(policy):
    found = ContinuousGenerator(policy, frozenset({1}))(PROMPTS, SamplingConfig(12))
    sequences = [TokenSequence(p, g.response_ids, g.ended) for p, g in zip(PROMPTS, found, strict=True)]
    with torch.no_grad():
        trained = Policy(policy)(collate(sequences)).log_probs
    sampled = torch.tensor([x for g in found for x in g.log_probs])
    assert (trained - sampled).abs().mean() < 1e-3, "each response belongs to its prompt"
    for g in found:
        assert g.ended == (g.response_ids[-1] == 1)
        assert 1 not in g.response_ids[:-1]


class VLLM(BaseHTTPRequestHandler):
    """Answers as vLLM does: each prompt's ids come back plus one, then the end; in reverse order."""

    seen: list[tuple[str, dict]] = []  # noqa: RUF012
    status = 200

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, body))
        choices = [
            {
                "index": i,
                "token_ids": [k + 1 for k in p] + [1],
                "logprobs": {"token_logprobs": [-0.5] * (len(p) + 1)},
            }
            for i, p in enumerate(body.get("prompt", ()))
        ]
        answer = json.dumps({"choices": choices[::-1]}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def vllm():
    server = HTTPServer(("127.0.0.1", 0), VLLM)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    VLLM.seen, VLLM.status = [], 200
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_vllm_gets_token_ids_and_full_support_and_the_newest_weights(policy, vllm, tmp_path):
    generate = VLLMGenerator(vllm, "shop", frozenset({1}), policy=policy, folder=tmp_path)
    found = generate([[2, 3], [4]], SamplingConfig(8, temperature=0.7, seed=5), step=2, rows=[6, 7])
    assert [g.response_ids for g in found] == [[3, 4, 1], [5, 1]]
    assert all(g.ended for g in found)
    (reload, _), (path, body) = VLLM.seen
    assert (reload, path) == ("/collective_rpc", "/v1/completions")
    assert (tmp_path / "model.safetensors").exists()
    assert (body["prompt"], body["top_p"], body["top_k"]) == ([[2, 3], [4]], 1.0, 0)
    assert body["temperature"] == 0.7
    generate([[2, 3]], SamplingConfig(8, seed=5), step=3)
    assert VLLM.seen[-1][1]["seed"] != body["seed"]


def test_a_vllm_server_that_refuses_or_is_away_says_so(vllm):
    VLLM.status = 500
    with pytest.raises(RuntimeError, match="answered 500"):
        VLLMGenerator(vllm, "shop", frozenset({1}))([[2]], SamplingConfig(8))
    with pytest.raises(RuntimeError, match="does not answer"):
        VLLMGenerator("http://127.0.0.1:9", "shop", frozenset({1}))([[2]], SamplingConfig(8))
    with pytest.raises(ValueError, match="both the policy and the folder"):
        VLLMGenerator(vllm, "shop", frozenset({1}), folder=vllm)
