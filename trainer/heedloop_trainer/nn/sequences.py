"""From messages to token ids, and from token ids to batches.

Every length in the trainer comes from here. A sequence is a prompt followed by a response; batches are padded on the
right, so that a causal model needs no attention mask (no real token ever sees a pad) and positions count from 0 by
themselves. Masks are made from the lengths, never by comparing ids with the pad token: a tokenizer whose pad is its end
token then still trains the end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

PAD_ID = 0
"""The id that fills the right end of a batch. Any id would do: nothing reads it."""
MAX_PADDING = 0.1
"""Share of a forward that may be padding, once it is large enough to keep a device busy."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and a response as token ids.

    Attributes:
        ended: True where the last response id is a stop token; False where the response was cut off.
        written: per response token, True where the model wrote it (only those carry loss); None where it wrote all.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    ended: bool = True
    written: list[bool] | None = None

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)

    @property
    def mask(self) -> list[bool]:
        """Per response token, True where it carries loss."""
        return [True] * len(self.response_ids) if self.written is None else self.written

    @property
    def num_trained(self) -> int:
        """Response tokens that carry loss."""
        return sum(self.mask)

    def followed_by(self, turn: TokenSequence) -> TokenSequence | None:
        """This sequence with a later turn of the same conversation, or None where that does not begin with this one."""
        whole = self.prompt_ids + self.response_ids
        if turn.prompt_ids[: len(whole)] != whole:
            return None
        between = turn.prompt_ids[len(whole) :]
        mask = self.mask + [False] * len(between) + turn.mask
        return TokenSequence(
            self.prompt_ids, self.response_ids + between + turn.response_ids, turn.ended, mask
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right.

    Attributes:
        ids: int64 [B, L].
        prompt_lengths: int64 [B], 1 or more.
        response_lengths: int64 [B], 1 or more.
        rows: row of every response token that carries loss (all, unless a sequence says otherwise), int64 [N].
        columns: position of the token that *predicts* each response token (one to its left), int64 [N].
        offsets: index of each of these tokens among those of its response, 0 for the first, int64 [N].
    """

    ids: torch.Tensor
    prompt_lengths: torch.Tensor
    response_lengths: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    offsets: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """Whole lengths, int64 [B]."""
        return self.prompt_lengths + self.response_lengths

    @property
    def targets(self) -> torch.Tensor:
        """The response tokens, flat, int64 [N]."""
        return self.ids[self.rows, self.columns + 1]

    def unflatten(self, flat: torch.Tensor, width: int | None = None) -> torch.Tensor:
        """Values per response token, [N], as [B, width] with zeros after each response's end."""
        width = int(self.response_lengths.max()) if width is None else width
        out = flat.new_zeros(len(self.ids), width)
        out[self.rows, self.offsets] = flat
        return out

    def flatten(self, padded: torch.Tensor) -> torch.Tensor:
        """[B, width] values per response token as [N]: the reverse of `unflatten`."""
        return padded[self.rows, self.offsets]


def collate(sequences: Sequence[TokenSequence], device: torch.device | str = "cpu") -> Batch:
    """Pad sequences on the right into one batch.

    Raises:
        ValueError: no sequences, or one without a prompt or a response (nothing would predict its first token).
    """
    if not sequences:
        raise ValueError("cannot make a batch of no sequences")
    width = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), width), PAD_ID, dtype=torch.long)
    for row, s in enumerate(sequences):
        if not s.prompt_ids or not s.response_ids:
            raise ValueError(
                f"sequence {row} has {len(s.prompt_ids)} prompt and {len(s.response_ids)} response tokens; "
                "both need at least one"
            )
        ids[row, : len(s)] = torch.tensor(s.prompt_ids + s.response_ids)
    prompts = torch.tensor([len(s.prompt_ids) for s in sequences])
    responses = torch.tensor([len(s.response_ids) for s in sequences])
    rows = torch.repeat_interleave(torch.arange(len(sequences)), responses)
    first = torch.cumsum(responses, 0) - responses
    offsets = torch.arange(int(responses.sum())) - first[rows]
    columns = prompts[rows] - 1 + offsets
    if any(s.written is not None for s in sequences):
        carries_loss = torch.tensor([v for s in sequences for v in s.mask])
        rows, columns = rows[carries_loss], columns[carries_loss]
        counts = torch.tensor([s.num_trained for s in sequences])
        offsets = torch.arange(len(rows)) - (torch.cumsum(counts, 0) - counts)[rows]
    parts = (ids, prompts, responses, rows, columns, offsets)
    return Batch(*(p.to(device, non_blocking=True) for p in parts))


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of sequences grouped by similar length, each group within a token budget counted with its padding.

    A group is also closed where one more sequence would make more than `MAX_PADDING` of it padding, unless it still holds
    less than an eighth of the budget: a device should be busy with it.

    Args:
        lengths: whole length of each sequence.
        max_tokens: budget per group; a sequence longer than the budget gets a group of its own.

    Returns:
        groups of indices, the longest sequences first (so that the largest allocation comes first); empty groups never.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    real = longest = 0
    for i in order:
        padded = (len(groups[-1]) + 1) * longest if groups else 0
        full = padded > max_tokens
        wasteful = padded - longest >= max_tokens // 8 and real + lengths[i] < (1 - MAX_PADDING) * padded
        if groups and not full and not wasteful:
            groups[-1].append(i)
            real += lengths[i]
        else:
            groups.append([i])
            real = longest = lengths[i]
    return groups
