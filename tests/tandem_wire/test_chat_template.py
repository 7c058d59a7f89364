"""Chat templates render as Hugging Face renders them, and fail with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models
from transformers.utils.chat_template_utils import render_jinja_template

from tandem_wire.chat_template import ChatTemplate, ChatTemplateError, load_chat_template
from tandem_worker.errors import CheckpointError
from tandem_worker.tokenizer import load_tokenizer

LLAMA = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ["system", "user", "assistant"] %}
        {{- raise_exception("no role " ~ message.role) }}
    {%- endif %}
    {{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}
"""
LOOP = """{% for message in messages %}
  {% if message.role == 'system' %}{% continue %}{% endif %}
  {% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}
  {% else %}
{{ message | tojson }}
  {% endif %}
{% endfor %}"""
MESSAGES = [
    {"role": "system", "content": "be <brief> & kind"},
    {"role": "user", "content": " café?\n"},
    {"role": "assistant", "content": "yes"},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("source", [LLAMA, LOOP])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_renders_like_transformers(source: str, add_generation_prompt: bool) -> None:
    ours = ChatTemplate(source, TOKENS).render(MESSAGES, add_generation_prompt=add_generation_prompt)
    theirs = render_jinja_template(
        conversations=[MESSAGES],
        chat_template=source,
        add_generation_prompt=add_generation_prompt,
        **TOKENS,  # type: ignore[arg-type]  # its annotations leave out the special tokens
    )
    assert [ours] == list(theirs[0])


def test_options_reach_the_template_and_messages_cannot_be_replaced_by_them() -> None:
    template = ChatTemplate("{{ enable_thinking }}{{ messages[0].content }}", {})
    assert template.render([{"content": "a"}], {"enable_thinking": False, "messages": []}) == "Falsea"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (LLAMA, "no role tool"),
        ("{{ messages[0].content + 1 }}", "refuses"),
        ("{{ messages[0].__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
    ],
)
def test_a_refusal_says_why(source: str, why: str) -> None:
    with pytest.raises(ChatTemplateError, match=why):
        ChatTemplate(source, TOKENS).render([{"role": "tool", "content": "x"}])


def test_the_year_is_there() -> None:
    assert int(ChatTemplate("{{ strftime_now('%Y') }}", {}).render([])) >= 2024


@pytest.mark.parametrize(
    ("config", "rendered"),
    [
        ({"chat_template": "{{ bos_token }}one", "bos_token": "<s>"}, "<s>one"),
        ({"chat_template": "{{ bos_token }}one", "bos_token": {"content": "<b>"}}, "<b>one"),
        ({"chat_template": "{{ bos_token }}one", "bos_token": None}, "one"),
        ({"chat_template": [{"name": "x", "template": "t"}, {"name": "default", "template": "d"}]}, "d"),
    ],
)
def test_the_config_holds_the_template(tmp_path: Path, config: dict[str, Any], rendered: str) -> None:
    template = load_chat_template(tmp_path, config)
    assert template is not None
    assert template.render([]) == rendered


def test_the_jinja_file_wins(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("file")
    template = load_chat_template(tmp_path, {"chat_template": "config"})
    assert template is not None
    assert template.render([]) == "file"


def test_no_template_is_no_error(tmp_path: Path) -> None:
    assert load_chat_template(tmp_path, {}) is None


def test_broken_tokenizer_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        load_tokenizer(tmp_path)
    Backend(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="does not hold an object"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{% if %}"}))
    with pytest.raises(CheckpointError, match="chat template is broken"):
        load_tokenizer(tmp_path)
