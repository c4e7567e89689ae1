"""What makes a golden worth having, for either source of logits.

Random weights can hide errors: norms at 1, decays at 0 or 1, logits that one tensor dominates. `draw` avoids that,
and `judge` proves it: the golden must be quiet (near float64) and every tensor must be heard.
"""

import numpy as np
from safetensors.numpy import save_file

import reference

MAX_NOISE = 2e-4  # distance from float64 in standard deviations of the logits; the engine's tests allow 1e-3
MIN_EFFECT = 3e-3  # what a 3% error in any one tensor must move the logits by, in the same unit
MIN_MARGIN = 1e-4  # in probability, between the last expert of a token and the next one: float32 must not swap them


ROUTERS = ("mlp.gate.weight", "mlp.shared_expert_gate.weight")


def draw(name, shape, rng):
    """Values as the graph uses them (a norm's true factor): decays from fast to slow, logits a few units wide."""
    if name.endswith("A_log"):
        values = np.log(rng.uniform(0.02, 3.0, shape))
    elif name.endswith("dt_bias"):
        values = rng.uniform(-3.0, 1.5, shape)
    elif name.endswith("norm.weight"):
        values = rng.uniform(0.4, 1.7, shape)
    elif name.endswith("conv1d.weight"):
        values = rng.normal(0, 0.6, shape)
    elif name.endswith(".bias"):
        values = rng.normal(0, 1.0, shape)
    else:
        gain = 2.5 if "embed_tokens" in name or "lm_head" in name or name.endswith(ROUTERS) else 1.2
        values = rng.normal(0, gain / np.sqrt(shape[-1]), shape)
    return values.astype(np.float32)


def draw_tokens(folder, count, vocab, rng):
    """Random tokens; for a mixture such that every expert sees one, and none is near a tie."""
    for _ in range(200):
        tokens = rng.integers(0, vocab, count).astype(np.int32)
        margin, least = reference.routing(folder, tokens)
        if margin >= MIN_MARGIN and least > 0:
            return tokens
    raise AssertionError(f"{folder}: no tokens with a clear choice of experts")


def save(folder, tokens, logits):
    """golden.safetensors: `tokens` [n] int32, `logits` [n, vocab] f32."""
    assert tokens.dtype == np.int32 and logits.dtype == np.float32 and logits.shape[0] == len(tokens)
    save_file({"tokens": tokens, "logits": logits}, folder / "golden.safetensors")


def parts(name, errors):
    """1 + errors, expert by expert: one that is wrong would not show among those that are right."""
    if errors.ndim < 3 or "conv1d" in name:
        yield name, 1 + errors
        return
    for expert in range(len(errors)):
        factors = np.ones_like(errors)
        factors[expert] += errors[expert]
        yield f"{name}[{expert}]", factors


def judge(folder, logits, tensors, logits_with, rng):
    """Prints a line about the golden and refuses a bad one.

    `tensors` maps names to shapes; `logits_with(name, factors)` recomputes the logits with one tensor multiplied.
    """
    noise = reference.noise(folder)
    effects = []
    for name, shape in tensors.items():
        errors = (0.03 * rng.choice([-1.0, 1.0], shape)).astype(np.float32)
        for part, factors in parts(name, errors):
            effects.append((reference.relative_difference(logits_with(name, factors), logits), part))
    effect, tensor = min(effects)
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.iterdir()) >> 10
    print(
        f"{folder.name:28} {size:5} KiB  {len(logits):4} tokens  std {logits.std():4.2f}  noise {noise:.1e}  "
        f"least effect {effect:.1e} {tensor}",
        flush=True,
    )
    assert noise < MAX_NOISE and effect > MIN_EFFECT, folder
