"""Decoding by a vLLM server: over HTTP, with token ids both ways.

Start it with `VLLM_SERVER_DEV_MODE=1 vllm serve FOLDER --logprobs-mode processed_logprobs` on a folder that the trainer may
write: before each rollout the policy's weights are saved there and the server reads them anew. Its log-probabilities come from
other kernels than ours, so they serve as the drift alarm only, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from torch import nn

from heedloop_trainer.generation.cached import Generation, SamplingConfig
from heedloop_trainer.nn.checkpoints import save_model

SEED_STEP = 1_000_003
"""Apart by more than any rollout has rows, so that two rollouts share no seed."""


class VLLMGenerator:
    """A `Generator` over `/v1/completions`.

    Args:
        url: the server's address, such as `http://127.0.0.1:8000`.
        model_name: the name the server serves the model under.
        policy: the model whose weights are sent before every rollout; None where the server's own are meant.
        folder: the folder the server has loaded, where the weights are written.
        timeout_s: for a whole batch of answers.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        stops: frozenset[int],
        *,
        policy: nn.Module | None = None,
        folder: Path | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        if (policy is None) != (folder is None):
            raise ValueError(
                "give both the policy and the folder the server reads its weights from, or neither"
            )
        self.url, self.model_name, self.stops = url.rstrip("/"), model_name, stops
        self.policy, self.folder, self.timeout_s = policy, folder, timeout_s

    def __call__(
        self,
        prompts: Sequence[list[int]],
        config: SamplingConfig,
        *,
        step: int = 0,
        rows: Sequence[int] | None = None,
    ) -> list[Generation]:
        """One response per prompt, in the prompts' order.

        Raises:
            RuntimeError: the server refused, or answered in a form that holds no token ids (older than vLLM 0.10.2).
        """
        if self.policy is not None and self.folder is not None:
            save_model(self.policy, None, self.folder)
            self._post("/collective_rpc", {"method": "reload_weights"})
        first = 0 if rows is None or not rows else rows[0]
        body = {
            "model": self.model_name,
            "prompt": [list(p) for p in prompts],
            "max_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "seed": config.seed + SEED_STEP * step + first,
            "logprobs": 0,
            "return_token_ids": True,
            "stop_token_ids": sorted(self.stops),
        }
        choices = sorted(self._post("/v1/completions", body).get("choices", ()), key=lambda c: c["index"])
        if len(choices) != len(prompts) or any(not c.get("token_ids") for c in choices):
            raise RuntimeError(
                f"{self.url} gave token ids for {sum(bool(c.get('token_ids')) for c in choices)} of {len(prompts)} prompts; it "
                "must be vLLM 0.10.2 or newer"
            )
        return [self._generation(c) for c in choices]

    def _generation(self, choice: dict[str, Any]) -> Generation:
        ids = [int(i) for i in choice["token_ids"]]
        return Generation(
            ids, [float(x) for x in choice["logprobs"]["token_logprobs"]], ids[-1] in self.stops
        )

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = requests.post(self.url + path, json=body, timeout=self.timeout_s)
        except requests.RequestException as err:
            raise RuntimeError(f"the vLLM server at {self.url} does not answer: {err}") from err
        if not answer.ok:
            raise RuntimeError(f"{self.url}{path} answered {answer.status_code}: {answer.text[:300]}")
        return answer.json() if answer.content else {}
