"""The training loop."""

import logging
import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from tandem_recall.batches import Batch, Batches
from tandem_recall.settings import MODEL, Settings

logger = logging.getLogger(__name__)


def new_model(seed: int) -> LlamaForCausalLM:
    """A model with random weights, in float32 on the CPU."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**MODEL))


def train(
    model: LlamaForCausalLM, settings: Settings, device: torch.device, num_loaders: int, log_every: int
) -> None:
    """Trains `model` in place, in bfloat16 autocast on CUDA; it ends on `device`."""
    on_cuda = device.type == "cuda"
    module: torch.nn.Module = model
    module.to(device).train()
    if on_cuda:
        for layer in model.model.layers:
            layer.compile(dynamic=False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=on_cuda
    )
    started, num_tokens = time.perf_counter(), 0
    for step, batch in enumerate(_batches(settings, num_loaders, on_cuda)):
        tokens, spoken = (part.to(device, non_blocking=True) for part in batch)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=on_cuda):
            answer_loss, loss = losses(model, tokens.long(), spoken, settings.context_weight)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        num_tokens += tokens.numel()
        if (step + 1) % log_every == 0:
            rate = num_tokens / (time.perf_counter() - started)
            logger.info(
                "step %d length %d answer loss %.4f, %.0f k tokens/s",
                step + 1,
                tokens.shape[1],
                answer_loss.item(),
                rate / 1e3,
            )


def losses(
    model: LlamaForCausalLM, tokens: torch.Tensor, spoken: torch.Tensor, context_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss of the answers' tokens, and the weighted mean over all tokens that training lowers.

    `tokens` int64 and `spoken` bool, both [rows, length]. Padding counts as context: it is cheap to predict.
    """
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    each = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    answers = spoken[:, 1:].flatten().float()
    weights = answers + context_weight * (1 - answers)
    return (each * answers).sum() / answers.sum(), (each * weights).sum() / weights.sum()


def _batches(settings: Settings, num_loaders: int, pin: bool) -> Iterator[Batch]:
    loader = DataLoader(
        Batches(settings),
        batch_size=None,
        num_workers=num_loaders,
        pin_memory=pin,
        prefetch_factor=8 if num_loaders else None,
    )
    return islice(loader, settings.num_steps)
