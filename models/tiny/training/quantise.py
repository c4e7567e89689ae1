"""MLX's affine quantisation in PyTorch: 4 bits, groups of 64 along the input dimension, bf16 scale and bias.

`w ≈ scale · q + bias` with q in 0..15, by the rule of `mlx.core.quantize`: the end of the group's range that is larger
in magnitude is met exactly, and the scale is nudged so that zero falls on a level. `export.py` writes these very numbers
and checks that `mlx.core.quantize` finds the same.
"""

import torch
from torch import Tensor, nn

GROUP, BITS = 64, 4
_LEVELS = 2**BITS - 1


def quantise(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Levels `[..., groups, 64]` and bf16 scales and biases `[..., groups]` of a weight `[..., groups · 64]`."""
    groups = weight.detach().to(torch.bfloat16).float().unflatten(-1, (-1, GROUP))
    low, high = groups.amin(-1), groups.amax(-1)
    low_is_larger = low.abs() > high.abs()
    scale = ((high - low) / _LEVELS).clamp_min(1e-7)
    scale = torch.where(low_is_larger, scale, -scale)
    edge = torch.where(low_is_larger, low, high)
    steps = torch.round(edge / scale)
    scale = torch.where(steps != 0, edge / steps, scale)
    bias = torch.where(steps != 0, edge, torch.zeros_like(edge))
    levels = torch.round((groups - bias[..., None]) / scale[..., None]).clamp_(0, _LEVELS)
    return levels, scale.to(torch.bfloat16), bias.to(torch.bfloat16)


def dequantise(levels: Tensor, scales: Tensor, biases: Tensor) -> Tensor:
    return (levels * scales.float()[..., None] + biases.float()[..., None]).flatten(-2)


def quantised_names(model: nn.Module) -> list[str]:
    """What `mlx_lm.convert -q` quantises: every Linear and Embedding (a tied head follows its embedding)."""
    return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding) and name != "lm_head"]


def working_weights(model: nn.Module, names: list[str], quantised: bool) -> dict[str, Tensor]:
    """The named weights as a forward pass uses them: matrices in bf16, the embedding in float32, and, if `quantised`,
    rounded as the 4-bit model will see them. Gradients pass straight through to the real weights.

    All weights go through in one flat tensor, so that the cost is a dozen launches whatever their number.
    """
    parameters = dict(model.named_parameters())
    weights = [parameters[name] for name in names]
    flat = torch.cat([weight.reshape(-1) for weight in weights])
    if quantised:
        flat = flat + (dequantise(*quantise(flat)) - flat).detach()
    sizes = [weight.numel() for weight in weights]
    wide, narrow = flat.split(sizes), flat.to(torch.bfloat16).split(sizes)
    return {
        name: (wide if "embed" in name else narrow)[i].view_as(weight)
        for i, (name, weight) in enumerate(zip(names, weights, strict=True))
    }
