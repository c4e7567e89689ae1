"""Muon for the matrices inside the layers, AdamW for everything else.

Muon (Jordan et al., 2024) replaces a matrix's momentum by the nearest orthogonal matrix, here with the five-step
Newton-Schulz iteration in bf16. Matrices of one shape are stacked, so that the whole step is a few batched products.
The update is scaled to AdamW's usual size (0.2 · √max(rows, columns)), so one learning rate serves both.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn


def _orthogonal(matrices: Tensor) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon:
    def __init__(self, parameters: list[nn.Parameter], momentum: float = 0.95, decay: float = 0.1):
        self.momentum, self.decay = momentum, decay
        stacks = defaultdict(list)
        for parameter in parameters:
            stacks[tuple(parameter.shape)].append(parameter)
        self.stacks = list(stacks.values())
        self.buffers = [torch.zeros(len(stack), *stack[0].shape, device=stack[0].device) for stack in self.stacks]

    @torch.no_grad()
    def step(self, rate: Tensor) -> None:
        for stack, buffer in zip(self.stacks, self.buffers, strict=True):
            gradient = torch.stack([parameter.grad for parameter in stack])
            buffer.lerp_(gradient, 1 - self.momentum)
            update = _orthogonal(gradient.lerp(buffer, self.momentum))
            size = 0.2 * max(stack[0].shape) ** 0.5
            torch._foreach_mul_(stack, 1 - rate * self.decay)
            torch._foreach_add_(stack, list((update * (-rate * size)).unbind()))


class Optimizer:
    """Both optimizers behind one step, and their state for the checkpoint. `rate` lives on the device, so that a
    captured CUDA graph sees its changes."""

    def __init__(self, model: nn.Module, device: str):
        matrices, plain, decayed = [], [], []
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and min(parameter.shape) >= 64 and "embed" not in name:
                matrices.append(parameter)
            else:
                (decayed if parameter.dim() == 2 else plain).append(parameter)
        self.rate = torch.zeros((), device=device)
        self.muon = Muon(matrices)
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        on_gpu = device == "cuda"
        self.adam = torch.optim.AdamW(groups, lr=self.rate if on_gpu else 0.0, betas=(0.9, 0.98), fused=on_gpu, capturable=on_gpu)

    def set_rate(self, rate: float) -> None:
        self.rate.fill_(rate)
        for group in self.adam.param_groups:
            group["lr"] = self.rate if self.rate.is_cuda else rate

    def step(self) -> None:
        self.adam.step()
        self.muon.step(self.rate)

    def state(self) -> dict:
        return {"adam": self.adam.state_dict(), "muon": [buffer.bfloat16() for buffer in self.muon.buffers]}

    def load(self, state: dict) -> None:
        self.adam.load_state_dict(state["adam"])
        for buffer, saved in zip(self.muon.buffers, state["muon"], strict=True):
            buffer.copy_(saved)
