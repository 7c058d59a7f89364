"""A tiny model that any test can serve, and workers that serve it inside the test's own process."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from tandem_worker.config import EngineConfig
from tandem_worker.process import Running, serve
from tandem_worker.settings import Role, WorkerSettings
from tandem_worker.tokenizer import Tokenizer, load_tokenizer
from tandem_worker.worker import Worker

SPECIAL_TOKENS = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers without weights (serve it with random ones), byte tokens, a chat template."""
    folder = tmp_path_factory.mktemp("tiny")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    backend.save(str(folder / "tokenizer.json"))
    tokenizer_config = {"chat_template": CHAT_TEMPLATE, "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 260,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return load_tokenizer(tiny_checkpoint)


@dataclass
class WorkerClient:
    """A running worker, seen from its HTTP port."""

    running: Running
    session: aiohttp.ClientSession
    defaults: dict[str, Any] = field(default_factory=lambda: {"model": "tiny", "temperature": 0})

    @property
    def worker(self) -> Worker:
        return self.running.worker

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.http_port}"

    @property
    def kv_address(self) -> str:
        return f"127.0.0.1:{self.running.kv_port}"

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        """Status and body; `model` and greedy sampling unless said otherwise."""
        async with self.session.post(self.url + path, json=self.defaults | body) as response:
            return response.status, await response.json()

    async def complete(self, **body: Any) -> Any:
        status, answer = await self.post("/v1/completions", **body)
        assert status == 200, answer
        return answer

    async def chat(self, content: str, **body: Any) -> Any:
        messages = [{"role": "user", "content": content}]
        status, answer = await self.post("/v1/chat/completions", messages=messages, **body)
        assert status == 200, answer
        return answer

    async def events(self, path: str, **body: Any) -> list[Any]:
        """The bodies of a streamed answer; the last one is the text `[DONE]`."""
        async with self.session.post(
            self.url + path, json=self.defaults | body | {"stream": True}
        ) as response:
            assert response.status == 200, await response.text()
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            text = await response.text()
        assert text.endswith("\n\n")
        lines = [event.removeprefix("data: ") for event in text.removesuffix("\n\n").split("\n\n")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    async def metric(self, name: str, **labels: str) -> float:
        """The sum over the series that have these labels."""
        async with self.session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(want in line for want in wanted))

    async def until(self, condition: Callable[[Worker], bool]) -> None:
        """Waits until it holds of the worker, by the worker's own news of change."""
        while not condition(self.worker):
            await self.worker.changed.ticket().wait()


StartWorker = Callable[..., Awaitable[WorkerClient]]


@pytest.fixture
async def start_worker(tiny_checkpoint: Path) -> AsyncIterator[StartWorker]:
    """start_worker(role="mixed", engine={...}, **settings): on free ports, stopped after the test."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def start(
            role: str = "mixed", engine: dict[str, Any] | None = None, **changes: Any
        ) -> WorkerClient:
            config: dict[str, Any] = {
                "model": tiny_checkpoint,
                "device": "cpu",
                "dtype": "float32",
                "block_size": 8,
                "num_blocks": 64,
                "max_model_len": 256,
                "max_num_seqs": 8,
                "max_batched_tokens": 64,
                "random_weights": True,
            }
            settings: dict[str, Any] = {"model_name": "tiny", "port": 0, "kv_port": 0, "threads": 1}
            engine_config = EngineConfig(**{**config, **(engine or {})})
            worker_settings = WorkerSettings(engine=engine_config, role=Role(role), **{**settings, **changes})
            return WorkerClient(await stack.enter_async_context(serve(worker_settings)), session)

        yield start
