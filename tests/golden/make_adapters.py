"""Makes adapters/<case>/: a LoRA adapter for a checkpoint of mlx/, in mlx-lm's layout and in PEFT's, and mlx_lm's logits.

`golden.safetensors` holds `tokens` and four times logits: `base` without the adapter; `logits` of the model that mlx_lm's own `fuse`
makes in f32, its scales then stored in the checkpoint's type, which is what the engine does; `narrow`, fused in the checkpoint's type as
`mlx_lm.fuse` does it, where each step is rounded; and `unrounded`, with products added in f32 and not quantised again: what both are after.
Both layouts hold the same numbers.

`quantize.safetensors` has matrices and what `mlx.core.quantize` makes of them.

    python make_adapters.py [CASE...]
"""

import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model

import worth
from make_mlx import forward, widen

HERE = Path(__file__).parent
KEYS = [
    "self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj",
    "linear_attn.in_proj_qkv", "linear_attn.in_proj_b", "linear_attn.out_proj",
    "mlp.gate_proj", "mlp.down_proj",
]  # fmt: skip
# Checkpoint, rank, scale, and by how much of a matrix's size its product moves it.
CASES = {
    "f32-flat": (4, 2.0, 0.3),
    "q4g64-tied": (8, 10.0, 0.3),
    "q8g64-long": (2, 0.5, 0.2),
}


def fuse(model, dequantize=False):
    """As `mlx_lm.fuse` does it."""
    fused = [(name, module.fuse(dequantize=dequantize)) for name, module in model.named_modules() if hasattr(module, "fuse")]
    model.update_modules(tree_unflatten(fused))
    return len(fused)


def draw(model, scale, size, rng):
    """Pairs whose products are `size` times as large as the matrices they are added to."""
    for name, parameter in tree_flatten(model.trainable_parameters()):
        if name.endswith("lora_a"):
            yield name, rng.standard_normal(parameter.shape) / parameter.shape[0] ** 0.5
        elif name.endswith("lora_b"):
            rank, outputs = parameter.shape
            yield name, rng.standard_normal(parameter.shape) * size / scale / rank**0.5


def make(name):
    rank, scale, size = CASES[name]
    folder, checkpoint = HERE / "adapters" / name, HERE / "mlx" / name
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng([ord(c) for c in "adapter " + name])
    parameters = {"rank": rank, "scale": scale, "dropout": 0.0, "keys": KEYS}
    config = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}

    model, _ = load_model(checkpoint)
    widened, _ = load_model(checkpoint)
    widen(widened)
    tokens = rng.integers(0, model.args.text_config["vocab_size"], 40).astype(np.int32)
    base = forward(widened, tokens)

    model.freeze()
    layers = len(model.layers)
    linear_to_lora_layers(model, layers, parameters)
    pairs = {key: mx.array(value.astype(np.float32)) for key, value in draw(model, scale, size, rng)}
    mlx = folder / "mlx"
    mlx.mkdir(parents=True)
    mx.save_safetensors(str(mlx / "adapters.safetensors"), pairs, metadata={"format": "mlx"})
    (mlx / "adapter_config.json").write_text(json.dumps(config | {"num_layers": layers}, indent=4) + "\n")

    # As peft.save_pretrained leaves it for the checkpoint that transformers has. Half of the matrices have their scale from a pattern.
    peft = folder / "peft"
    peft.mkdir()
    turned, patterns = {}, {}
    for key, value in pairs.items():
        module, half = key.rsplit(".", 1)
        module = "model.language_model." + module.removeprefix("language_model.").removeprefix("model.")
        kind = {"lora_a": "lora_A", "lora_b": "lora_B"}[half]
        if "mlp" in module:
            value, patterns[module.rsplit(".", 1)[1]] = (value * 2 if half == "lora_b" else value), scale * rank / 2
        turned[f"base_model.model.{module}.{kind}.weight"] = mx.contiguous(value.T)
    mx.save_safetensors(str(peft / "adapter_model.safetensors"), turned, metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": name, "r": rank, "lora_alpha": scale * rank,
        "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "use_rslora": False, "use_dora": False,
        "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": patterns, "init_lora_weights": True,
        "target_modules": sorted({key.rsplit(".", 1)[1] for key in KEYS}), "inference_mode": True, "layers_to_transform": None,
    }  # fmt: skip
    (peft / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n")

    def fused(widen_first, dequantize=False):
        """As `mlx_lm.fuse` does it, in f32 or in the checkpoint's type."""
        model, _ = load_model(checkpoint)
        types = {name: parameter.dtype for name, parameter in tree_flatten(model.parameters())}
        if widen_first:
            widen(model)
        model = load_adapters(model, str(mlx))
        count = fuse(model, dequantize)
        assert 2 * count == len(pairs), (count, len(pairs))
        if not dequantize:
            stored = [(name, p.astype(types[name])) for name, p in tree_flatten(model.parameters())]
            model.update(tree_unflatten(stored))
        widen(model)
        return forward(model, tokens), count

    logits, count = fused(True)
    narrow, _ = fused(False)
    unrounded, _ = fused(True, dequantize=True)
    golden = {"tokens": tokens, "base": base, "logits": logits, "narrow": narrow, "unrounded": unrounded}
    mx.save_safetensors(str(folder / "golden.safetensors"), {key: mx.array(value) for key, value in golden.items()})
    rounding = np.abs(logits - unrounded).max() / base.std()
    moved = np.abs(logits - base).max() / base.std()
    print(f"{name}: {count} pairs move the logits by {moved:.2f} of their deviation, quantising again by {rounding:.3f}")
    assert moved > 0.5


def quantize():
    """Groups with zeros, one sign, one value, and both ends equally far from zero among them."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((8, 256)).astype(np.float32)
    values[1] = np.abs(values[1])
    values[2] = -np.abs(values[2])
    values[3] = 0.0
    values[4] = 0.75
    values[5] *= 1e-6
    values[6, ::64], values[6, 1::64] = 4.0, -4.0
    tensors = {}
    for dtype in ("float32", "float16", "bfloat16"):
        matrix = mx.array(values).astype(getattr(mx, dtype))
        tensors[f"{dtype}.weight"] = matrix
        for bits in (2, 3, 4, 5, 6, 8):
            for group in (32, 64, 128):
                made = zip(("packed", "scales", "biases"), mx.quantize(matrix, group_size=group, bits=bits))
                tensors |= {f"{dtype}.{bits}.{group}.{kind}": value for kind, value in made}
    mx.save_safetensors(str(HERE / "adapters" / "quantize.safetensors"), tensors)


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    for name in sys.argv[1:] or CASES:
        make(name)
    quantize()
