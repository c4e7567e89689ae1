"""The architecture, and faster training versions of the operations that eat the time.

The model is transformers' `Qwen3_5ForCausalLM`, unchanged. Its reference code is written for clarity: `speed_up`
replaces the gated delta rule, the causal convolution and the norms inside it by fused or batched equivalents;
`check_speed_up` holds them against the originals before every training run.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5 as reference

CHUNK = 32


def configuration(vocabulary: int, end_ids: list[int], pad_id: int) -> Qwen3_5TextConfig:
    return Qwen3_5TextConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        full_attention_interval=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        linear_conv_kernel_dim=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25, "mrope_section": [3, 3, 2]},
        eos_token_id=end_ids,
        pad_token_id=pad_id,
    )


def build(config: Qwen3_5TextConfig, seed: int = 0) -> Qwen3_5ForCausalLM:
    torch.manual_seed(seed)
    return Qwen3_5ForCausalLM(config)


class UnitLowerInverse(torch.autograd.Function):
    """The inverse of I + L for strictly lower triangular L `[..., C, C]`, C a power of two.

    Diagonal blocks are merged pairwise, [[A, 0], [B, D]]⁻¹ = [[A⁻¹, 0], [-D⁻¹ B A⁻¹, D⁻¹]]: log₂ C batched products
    in place of C dependent rows, and as stable as forward substitution.
    """

    @staticmethod
    def forward(ctx, lower: Tensor) -> Tensor:
        size = lower.shape[-1]
        count, block = size, 1
        inverse = lower.new_ones(*lower.shape[:-2], size, 1, 1)
        while count > 1:
            first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
            blocks = lower.unflatten(-1, (count // 2, 2, block)).unflatten(-4, (count // 2, 2, block))
            below = blocks[..., 1, :, :, 0, :].diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
            corner = -(second @ below @ first)
            top = torch.cat([first, torch.zeros_like(first)], -1)
            inverse = torch.cat([top, torch.cat([corner, second], -1)], -2)
            count, block = count // 2, block * 2
        inverse = inverse.squeeze(-3)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        transposed = inverse.transpose(-1, -2)
        return -(transposed @ gradient @ transposed).tril(-1)


def _l2_normalised(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def _prepare(query: Tensor, key: Tensor, value: Tensor, beta: Tensor, decay: Tensor) -> tuple[Tensor, ...]:
    """Everything that needs only a chunk's own rows; `[N, C, D]` and `[N, C]`, N chunks of any sequence and head."""
    query, key, value, beta, decay = (x.float() for x in (query, key, value, beta, decay))
    query = _l2_normalised(query) * query.shape[-1] ** -0.5
    key = _l2_normalised(key)
    total = decay.cumsum(-1)
    ahead = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=query.device).triu(1)
    between = (total[:, :, None] - total[:, None, :]).masked_fill(ahead, float("-inf")).exp()
    key_beta = key * beta[..., None]
    lower = ((key_beta @ key.transpose(-1, -2)) * between).tril(-1)
    inside = (query @ key.transpose(-1, -2)) * between
    solve = UnitLowerInverse.apply(lower)
    grown = total.exp()[..., None]
    new_values = solve @ (value * beta[..., None])
    key_read = solve @ (key_beta * grown)
    left = (total[:, -1:] - total).exp()[..., None]
    return query * grown, key * left, inside, new_values, key_read, total[:, -1].exp()


_prepare_fast = _prepare


def gated_delta(query, key, value, g, beta, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=True, **_):
    """Same arguments and result as transformers' `torch_chunk_gated_delta_rule`, for whole sequences without a cache."""
    batch, length, heads, _ = value.shape
    group = heads // key.shape[2]
    if group > 1:
        query, key = query.repeat_interleave(group, 2), key.repeat_interleave(group, 2)
    pad = -length % CHUNK
    chunks = (length + pad) // CHUNK

    def chunked(x: Tensor) -> Tensor:
        x = F.pad(x.movedim(2, 1), (0, 0) * (x.dim() - 3) + (0, pad))
        return x.reshape(batch * heads * chunks, CHUNK, *x.shape[3:])

    with torch.autocast(value.device.type, enabled=False):  # the recurrence stays in float32
        parts = _prepare_fast(*(chunked(x) for x in (query, key, value, beta, g)))
        by_chunk = [x.unflatten(0, (batch * heads, chunks)).unbind(1) for x in parts]
        state = value.new_zeros(batch * heads, key.shape[-1], value.shape[-1], dtype=torch.float32)
        outputs = []
        for q, k, inside, new_values, key_read, decay in zip(*by_chunk, strict=True):
            fresh = new_values - key_read @ state
            outputs.append(torch.baddbmm(inside @ fresh, q, state))
            state = torch.baddbmm(state * decay[:, None, None], k.transpose(-1, -2), fresh)
    output = torch.cat(outputs, 1)[:, :length].view(batch, heads, length, -1).movedim(1, 2)
    return output.to(value.dtype).contiguous(), None


def _convolution(rows: Tensor, position: Tensor, weight: Tensor) -> Tensor:
    """Depthwise causal convolution and SiLU over rows `[N, C]` at `position [N]` of their sequences; weight `[C, K]`."""
    taps = weight.shape[-1]
    total = rows.float() * weight[:, taps - 1]
    for back in range(1, taps):
        earlier = torch.where((position >= back)[:, None], rows.roll(back, 0), 0)
        total = total + earlier.float() * weight[:, taps - 1 - back]
    return F.silu(total).to(rows.dtype)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * (1.0 + weight.float())).to(x.dtype)


def _gated_norm(x: Tensor, gate: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight
    return (wide * F.silu(gate.float())).to(x.dtype)


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


def speed_up(compiled: bool) -> None:
    """Puts the versions above into transformers' module; `compiled` also fuses them with `torch.compile`.

    Each is called on flattened rows: batches of any length with the same number of tokens share one compiled version.
    """
    global _prepare_fast
    torch._dynamo.config.recompile_limit = 32
    fuse = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
    _prepare_fast = fuse(_prepare)
    convolution_rows, rms_norm, gated_norm, swiglu = fuse(_convolution), fuse(_rms_norm), fuse(_gated_norm), fuse(_swiglu)

    def convolution(x: Tensor, weight: Tensor, *_, **__) -> Tensor:
        batch, channels, length = x.shape
        position = torch.arange(length, device=x.device).repeat(batch)
        rows = x.transpose(1, 2).reshape(-1, channels)
        return convolution_rows(rows, position, weight).view(batch, length, channels).transpose(1, 2)

    def norm(self, x: Tensor) -> Tensor:
        return rms_norm(x.reshape(-1, x.shape[-1]), self.weight, self.eps).view(x.shape)

    def mlp(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        return self.down_proj(swiglu(self.gate_proj(rows), self.up_proj(rows))).view(x.shape)

    reference.torch_chunk_gated_delta_rule = gated_delta
    reference.causal_conv1d_fn = convolution
    reference.Qwen3_5RMSNorm.forward = norm
    reference.Qwen3_5RMSNormGated.forward = lambda self, x, gate: gated_norm(x, gate, self.weight, self.variance_epsilon)
    reference.Qwen3_5MLP.forward = mlp


def check_speed_up(compiled: bool, device: str) -> None:
    """Logits and gradients in float32 must not notice `speed_up`."""
    config = configuration(256, [0], 0)
    model = build(config).to(device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    ids = torch.randint(0, 256, (2, 96), device=device)

    def measure() -> tuple[Tensor, Tensor]:
        model.zero_grad()
        logits = model(input_ids=ids, use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
        return logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])

    before = measure()
    speed_up(compiled)
    for name, old, new in zip(("logits", "gradients"), before, measure(), strict=True):
        error = ((new - old).norm() / old.norm()).item()
        print(f"speed-up check: {name} differ by {error:.1e}")
        assert error < 1e-4, name
