"""Tokens: one per byte, three special ones, and the chat template that puts a dialogue into them."""

from collections.abc import Iterator

from tandem_recall.dialogue import Dialogue, Form

MESSAGE_START, MESSAGE_END, PAD = 256, 257, 258
SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|pad|>")
VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

Encoded = tuple[list[int], list[int]]


def encode_prompt(dialogue: Dialogue) -> list[int]:
    """The tokens up to the first answer: what a client's request becomes."""
    prompt, _ = next(_exchanges(dialogue))
    return prompt


def encode_answer(dialogue: Dialogue) -> list[int]:
    """The first answer and the end token."""
    _, answer = next(_exchanges(dialogue))
    return answer


def encode(dialogue: Dialogue, limit: int) -> tuple[list[int], list[bool]]:
    """The tokens of the leading turns that fit into `limit`, and which of them the model has to say.

    Both lists are empty if not even the first turn fits.
    """
    tokens: list[int] = []
    spoken: list[bool] = []
    for prompt, answer in _exchanges(dialogue):
        if len(tokens) + len(prompt) + len(answer) > limit:
            break
        tokens += prompt + answer
        spoken += [False] * len(prompt) + [True] * len(answer)
    return tokens, spoken


def _exchanges(dialogue: Dialogue) -> Iterator[Encoded]:
    """Per turn: the tokens before the answer, and the answer's with the end token."""
    for index, turn in enumerate(dialogue.turns):
        if dialogue.form is Form.PLAIN:
            text = f"{dialogue.context if index == 0 else ''}\n{turn.question}"
            yield _bytes(text), [*_bytes(f" {turn.answer}"), MESSAGE_END]
            continue
        lead = _opening(dialogue) if index == 0 else [*_bytes("\n"), *_message("user", turn.question)]
        yield [*lead, MESSAGE_START, *_bytes("assistant\n")], [*_bytes(turn.answer), MESSAGE_END]


def first_messages(dialogue: Dialogue) -> list[dict[str, str]]:
    """The messages of a chat request that asks the first question."""
    question = dialogue.turns[0].question
    if dialogue.form is Form.SYSTEM:
        return [{"role": "system", "content": dialogue.context}, {"role": "user", "content": question}]
    system = [{"role": "system", "content": dialogue.preamble}] if dialogue.preamble else []
    return [*system, {"role": "user", "content": f"{dialogue.context}\n{question}"}]


def _opening(dialogue: Dialogue) -> list[int]:
    return [
        token
        for message in first_messages(dialogue)
        for token in _message(message["role"], message["content"])
    ]


def _message(role: str, content: str) -> list[int]:
    return [MESSAGE_START, *_bytes(f"{role}\n{content}"), MESSAGE_END, *_bytes("\n")]


def _bytes(text: str) -> list[int]:
    return list(text.encode())
