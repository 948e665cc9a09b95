"""Chat templates in the shapes of published models, each with a tokenizer that has their control tokens."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from heedloop_trainer.nn.scratch import train_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim"
    " + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if tools %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'tool' %}{{ '[TOOL_RESULTS]' + m['content'] + '[/TOOL_RESULTS]' }}"
    "{% elif m['role'] == 'assistant' and m['tool_calls'] is defined %}{% for c in m['tool_calls'] %}{% if c['id'] | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    "{{ '[TOOL_CALLS]' + c['function'] | tojson + c['id'] }}{% endfor %}{{ eos_token }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
QWEN = (
    "{% if tools %}{{ '<|im_start|>system\n<tools>' }}{% for t in tools %}{{ t | tojson }}{% endfor %}{{ '</tools><|im_end|>\n' }}{% endif %}"
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m['content'] + '\n</tool_response><|im_end|>\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or m['reasoning_content']) %}{{ '<think>\n' + (m['reasoning_content'] or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] }}{% for c in m['tool_calls'] or [] %}{{ '\n<tool_call>\n' if m['content'] or not loop.first else '<tool_call>\n' }}"
    "{{ {'name': c['function']['name'], 'arguments': c['function']['arguments']} | tojson + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
PHI4 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{% set content = m['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|Assistant|>' + content + '<|end_of_sentence|>' }}"
    "{% else %}{{ '<|User|>' + m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
COMMAND = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|><|' + m['role'] | upper + '_TOKEN|>' }}"
    "{{ '<|START_RESPONSE|>' + m['content'] + '<|END_RESPONSE|>' if m['role'] == 'assistant' else m['content'] }}{{ '<|END_OF_TURN_TOKEN|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|ASSISTANT_TOKEN|>' }}{% endif %}"
)
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Published:
    """A template, the end of its turns, and the end of text that its tokenizer calls `eos_token`."""

    template: str
    end: str
    tokens: tuple[str, ...]
    plain: tuple[str, ...] = ()
    eos: str = "<|endoftext|>"


FAMILIES = {
    "chatml": Published(CHATML, "<|im_end|>", ("<|im_start|>", "<|im_end|>")),
    "llama3": Published(LLAMA3, "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "gemma": Published(GEMMA, "<end_of_turn>", ("<start_of_turn>", "<end_of_turn>"), ("\n",)),
    "mistral": Published(
        MISTRAL,
        "</s>",
        ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        eos="</s>",
    ),
    "qwen": Published(
        QWEN, "<|im_end|>", ("<|im_start|>", "<|im_end|>"),
        ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    ),
    "phi4": Published(PHI4, "<|end|>", ("<|user|>", "<|system|>", "<|assistant|>", "<|end|>")),
    "r1": Published(
        R1, "<|end_of_sentence|>", ("<|User|>", "<|Assistant|>", "<|end_of_sentence|>"), ("<think>", "</think>"),
        eos="<|end_of_sentence|>",
    ),
    "command": Published(
        COMMAND, "<|END_OF_TURN_TOKEN|>",
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|ASSISTANT_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    "parts": Published(PARTS, "<|im_end|>", ("<|im_start|>", "<|im_end|>")),
}  # fmt: skip


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer with a family's control tokens and template; its end of text ends no turn."""
    family = FAMILIES[name]
    tokenizer = train_tokenizer(
        ["hello world how are you please sorry no idea the library opens at nine"] * 3, vocab_size=330
    )
    tokenizer.add_special_tokens({"eos_token": family.eos, "bos_token": "<s>"})
    tokenizer.add_special_tokens({"additional_special_tokens": list(family.tokens)})
    tokenizer.add_tokens(list(family.plain))
    tokenizer.chat_template = family.template
    return tokenizer
