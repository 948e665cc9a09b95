"""A local checkpoint as what `heedloop review generate` asks."""

from pathlib import Path

from heedloop.schema import Message
from heedloop_trainer.generation.checkpoint import answerer
from heedloop_trainer.nn.checkpoints import save_model


def test_a_saved_checkpoint_gives_different_answers_within_the_limit(
    policy, tokenizer, tmp_path: Path
) -> None:
    save_model(policy, tokenizer, tmp_path)
    answer = answerer(tmp_path, temperature=1.0, max_tokens=6)
    prompt = [Message("user", "w1 w2 w3")]
    texts = [t for _ in range(3) for t in answer(prompt, 4)]
    assert len(texts) == 12
    assert len(set(texts)) > 3
    assert all(len(t.split()) <= 6 for t in texts)
    greedy = answerer(tmp_path, temperature=0.0, max_tokens=6)
    assert len(set(greedy(prompt, 3))) == 1
