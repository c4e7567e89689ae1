"""Makes mlx/<name>/: tiny random checkpoints in MLX's layout with the logits mlx_lm computes for them in float32.

Each checkpoint is quantised and saved by mlx_lm's own functions and loaded again by them before the logits are taken,
so the values computed with are the stored ones. Floating tensors are widened to f32 after loading (exact), so that
activations are f32 and only the order of additions can differ from the engine's exact path.

    python make_mlx.py [NAME...]      all of them without names; see README.md for the versions

`worth.py` refuses a golden that is noisy or that a wrong tensor would not change.
"""

import copy
import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.convert import QUANT_RECIPES, mixed_quant_predicate_builder
from mlx_lm.models import qwen3_5, qwen3_5_moe
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

import worth

HERE = Path(__file__).parent / "mlx"


def text_config(**changes):
    """A complete text configuration; every case overrides what it is about."""
    config = {
        "model_type": "qwen3_5_text",
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4,
        "vocab_size": 301,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
            "mrope_section": [11, 11, 10],
            "mrope_interleaved": True,
        },
    }
    experts = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size")
    if "num_experts" in changes:
        assert all(key in changes for key in experts)
        config["model_type"] = "qwen3_5_moe_text"
        del config["intermediate_size"]
    unknown = changes.keys() - config.keys() - {"rope", *experts}
    assert not unknown, unknown
    config["rope_parameters"] |= changes.pop("rope", {})
    return config | changes


def mixture(experts, per_token, inner, shared, **changes):
    """A small mixture of experts; its first layer is linear attention, its second attention."""
    small = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "full_attention_interval": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "linear_num_key_heads": 1,
        "linear_num_value_heads": 2,
        "num_experts": experts,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": inner,
        "shared_expert_intermediate_size": shared,
    }
    return small | changes


def small(**changes):
    """Two layers, whose matrices all divide into groups of 32, 64 and 128."""
    sizes = {"num_hidden_layers": 2, "full_attention_interval": 2, "intermediate_size": 128, "linear_value_head_dim": 32}
    return sizes | changes


def case(tokens, dtype="bfloat16", *, bits=None, group=None, mode=None, overrides=None, nested=True, **changes):
    return {
        "tokens": tokens,
        "dtype": getattr(mx, dtype),
        "mode": mode or (bits and "affine"),
        "bits": bits,
        "group": group,
        "overrides": {} if overrides is None else overrides,
        "nested": nested,
        "config": text_config(**changes),
    }


LAYER = "language_model.model.layers."
MODEL = "model"  # the overrides that mlx_lm's model asks for: routers of mixtures at 8 bits; a name of QUANT_RECIPES: that recipe's

CASES = {
    "q4g64-tied": case(64, bits=4, group=64, tie_word_embeddings=True),
    "q4g32-flat": case(
        47, "float16", bits=4, group=32, nested=False,
        hidden_size=96, intermediate_size=160, num_attention_heads=3, num_key_value_heads=1,
        linear_num_key_heads=2, linear_num_value_heads=6, linear_key_head_dim=16, linear_value_head_dim=32,
        full_attention_interval=2, vocab_size=211, rms_norm_eps=1e-5,
        rope={"partial_rotary_factor": 0.5, "rope_theta": 500000},
    ),
    "q4g128": case(
        130, "float32", bits=4, group=128,
        hidden_size=256, intermediate_size=128, num_attention_heads=2, num_key_value_heads=2, head_dim=64,
        linear_num_key_heads=2, linear_num_value_heads=8, linear_key_head_dim=48, linear_value_head_dim=16,
        vocab_size=157,
    ),
    "q8g64-long": case(
        300, bits=8, group=64,
        hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=1, head_dim=16,
        linear_num_key_heads=4, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=32,
        num_hidden_layers=6, full_attention_interval=2, vocab_size=199,
        rope={"partial_rotary_factor": 0.5, "rope_theta": 10000},
    ),
    "q4-overrides": case(
        100, bits=4, group=64,
        overrides={
            "language_model.model.embed_tokens": {"group_size": 64, "bits": 8},
            "language_model.lm_head": {"group_size": 128, "bits": 8},
            LAYER + "0.mlp.down_proj": {"group_size": 32, "bits": 8},
            LAYER + "1.linear_attn.in_proj_qkv": {"group_size": 32, "bits": 4},
            LAYER + "2.linear_attn.in_proj_a": False,
            LAYER + "3.self_attn.v_proj": {"group_size": 128, "bits": 8},
            LAYER + "3.self_attn.k_proj": False,
        },
        vocab_size=250,
    ),
    "q4g64-indivisible": case(
        40, bits=4, group=64,
        hidden_size=96, intermediate_size=128, head_dim=16, linear_num_value_heads=4, linear_value_head_dim=32,
        vocab_size=173, tie_word_embeddings=True,
    ),
    "q4g64-conflict": case(
        56, bits=4, group=64,
        hidden_size=64, intermediate_size=128, linear_num_key_heads=1, linear_num_value_heads=4,
        vocab_size=137, full_attention_interval=2, rope={"rope_theta": 20000, "partial_rotary_factor": 0.5},
    ),
    "bf16-bias-flat-shards": case(
        200, nested=False, attention_bias=True,
        hidden_size=80, intermediate_size=112, num_attention_heads=5, num_key_value_heads=5, head_dim=48,
        linear_num_key_heads=3, linear_num_value_heads=3, linear_key_head_dim=48, linear_value_head_dim=40,
        vocab_size=149,
    ),
    "f16-tied-conv3": case(
        24, "float16", tie_word_embeddings=True,
        hidden_size=72, intermediate_size=104, num_attention_heads=6, num_key_value_heads=3, head_dim=16,
        linear_num_key_heads=1, linear_num_value_heads=3, linear_key_head_dim=64, linear_value_head_dim=8,
        linear_conv_kernel_dim=3, vocab_size=331, rope={"partial_rotary_factor": 1.0},
    ),
    "f32-flat": case(
        90, "float32", nested=False,
        hidden_size=56, intermediate_size=72, num_attention_heads=2, num_key_value_heads=1, head_dim=80,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=24,
        num_hidden_layers=5, full_attention_interval=2, vocab_size=127, rms_norm_eps=1e-4,
        rope={"partial_rotary_factor": 0.25, "rope_theta": 10000},
    ),
    "bf16-yarn-beside": case(
        240,
        hidden_size=64, intermediate_size=96, num_attention_heads=2, num_key_value_heads=1, head_dim=64,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=24,
        full_attention_interval=2, vocab_size=131,
        rope={
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024,
            "partial_rotary_factor": 0.5, "rope_theta": 10000,
        },
    ),
    "bf16-linear-rope": case(
        60, nested=False,
        hidden_size=64, intermediate_size=96, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=24,
        full_attention_interval=2, vocab_size=97,
        rope={"rope_type": "linear", "factor": 3.0, "partial_rotary_factor": 0.5, "rope_theta": 10000},
    ),
    "moe-q4g64-router8": case(72, bits=4, group=64, overrides=MODEL, vocab_size=61, **mixture(10, 3, 64, 128)),
    "moe-q4g32-flat": case(40, "float16", bits=4, group=32, nested=False, vocab_size=67, **mixture(7, 2, 32, 96)),
    "moe-q8g64-shards": case(48, bits=8, group=64, vocab_size=59, **mixture(5, 2, 64, 64)),
    "moe-q4-mixed": case(
        44, "float32", bits=4, group=64,
        overrides={
            LAYER + "0.mlp.gate": False,
            LAYER + "1.mlp.gate": {"group_size": 32, "bits": 8},
            LAYER + "0.mlp.switch_mlp.gate_proj": {"group_size": 32, "bits": 8},
            LAYER + "1.mlp.switch_mlp.down_proj": {"group_size": 64, "bits": 8},
            LAYER + "1.mlp.shared_expert.up_proj": False,
        },
        vocab_size=71, **mixture(6, 3, 64, 32),
    ),
    "moe-bf16-wide": case(36, vocab_size=73, **mixture(6, 2, 48, 24, hidden_size=32, head_dim=16)),
    "q2g32-flat": case(40, "float16", bits=2, group=32, nested=False, **small(vocab_size=83)),
    "q2g128": case(44, bits=2, group=128, **small(vocab_size=79)),
    "q3g64-tied": case(70, bits=3, group=64, **small(vocab_size=89, tie_word_embeddings=True)),
    "q3g128": case(36, "float32", bits=3, group=128, **small(vocab_size=73)),
    "q5g32-shards": case(50, bits=5, group=32, **small(vocab_size=97)),
    "q5g64": case(42, "float16", bits=5, group=64, **small(vocab_size=71)),
    "q6g64-tied": case(48, bits=6, group=64, **small(vocab_size=101, tie_word_embeddings=True)),
    "q6g128": case(38, "float32", bits=6, group=128, **small(vocab_size=67)),
    "q3-q6-recipe": case(46, bits=3, group=64, overrides="mixed_3_6", **small(vocab_size=77, num_hidden_layers=4)),
    "q5-every-width": case(
        52, bits=5, group=64,
        overrides={
            "language_model.model.embed_tokens": {"group_size": 128, "bits": 6},
            "language_model.lm_head": {"group_size": 32, "bits": 8},
            LAYER + "0.linear_attn.in_proj_qkv": {"group_size": 64, "bits": 3},
            LAYER + "0.linear_attn.in_proj_z": {"group_size": 32, "bits": 2},
            LAYER + "0.linear_attn.in_proj_b": {"group_size": 128, "bits": 4},
            LAYER + "0.linear_attn.out_proj": {"group_size": 32, "bits": 6},
            LAYER + "0.mlp.gate_proj": {"group_size": 128, "bits": 2},
            LAYER + "0.mlp.up_proj": {"group_size": 32, "bits": 3},
            LAYER + "1.self_attn.q_proj": {"group_size": 32, "bits": 4},
            LAYER + "1.self_attn.k_proj": False,
            LAYER + "1.self_attn.v_proj": {"group_size": 64, "bits": 6},
            LAYER + "1.mlp.down_proj": {"group_size": 128, "bits": 3},
        },
        **small(vocab_size=91),
    ),
    "moe-q3g64-router8": case(40, bits=3, group=64, overrides=MODEL, vocab_size=57, **mixture(8, 2, 64, 64)),
    "moe-q2-q6-recipe": case(
        36, bits=2, group=32, overrides="mixed_2_6", vocab_size=63, **mixture(6, 2, 64, 32, num_hidden_layers=4),
    ),
    "moe-q5-q6": case(
        38, "float16", bits=5, group=32,
        overrides={
            "language_model.model.layers.0.mlp.gate": {"group_size": 64, "bits": 8},
            "language_model.model.layers.1.mlp.gate": {"group_size": 32, "bits": 6},
            "language_model.model.layers.1.mlp.switch_mlp.down_proj": {"group_size": 64, "bits": 6},
        },
        vocab_size=69, **mixture(6, 3, 64, 96),
    ),
    "mxfp4-tied": case(48, mode="mxfp4", **small(vocab_size=81, tie_word_embeddings=True)),
    "mxfp8": case(40, mode="mxfp8", **small(vocab_size=75)),
    "nvfp4": case(44, mode="nvfp4", **small(vocab_size=85)),
    "mxfp4-mixed": case(
        42, mode="mxfp4",
        overrides={
            "language_model.lm_head": {"group_size": 64, "bits": 6},
            LAYER + "0.linear_attn.in_proj_qkv": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
            LAYER + "0.mlp.down_proj": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
            LAYER + "1.self_attn.k_proj": False,
        },
        **small(vocab_size=93),
    ),
    "moe-mxfp4-router8": case(40, mode="mxfp4", overrides=MODEL, vocab_size=65, **mixture(8, 3, 64, 96)),
    "moe-nvfp4": case(36, mode="nvfp4", vocab_size=55, **mixture(6, 2, 48, 64)),
    "moe-q4-top8-of-24": case(30, bits=4, group=32, overrides=MODEL, vocab_size=53, **mixture(24, 8, 32, 64)),
}


def randomise(model, rng):
    drawn = [(name, mx.array(worth.draw(name, p.shape, rng))) for name, p in tree_flatten(model.parameters())]
    model.update(tree_unflatten(drawn))


def build(case, rng):
    """The model as `mlx_lm.convert` would leave it in memory, and its config.json."""
    config = copy.deepcopy(case["config"])
    module = qwen3_5_moe if "num_experts" in config else qwen3_5
    root = module.__name__.rsplit(".", 1)[1]
    config = {"model_type": root, "text_config": config} if case["nested"] else config | {"model_type": root}
    model = module.Model(module.ModelArgs.from_dict(copy.deepcopy(config)))
    randomise(model, rng)
    model.set_dtype(case["dtype"])
    if case["nested"]:  # mlx_lm.convert leaves A_log as it was stored: f32 in some checkpoints, narrow in others
        for layer in model.layers:
            if layer.is_linear:
                layer.linear_attn.A_log = layer.linear_attn.A_log.astype(mx.float32)
    if case["mode"]:
        overrides = case["overrides"]
        if overrides == MODEL:
            predicate = model.quant_predicate
        elif overrides in QUANT_RECIPES:
            predicate = mixed_quant_predicate_builder(overrides, model, case["group"])
        else:
            predicate = lambda path, _: overrides.get(path, True)
        group, bits, mode = case["group"], case["bits"], case["mode"]
        model, config = quantize_model(model, config, group, bits, mode=mode, quant_predicate=predicate)
    return model, config


def widen(model):
    """Every floating tensor as f32: the stored values, exactly."""
    model.update(
        tree_unflatten(
            [
                (name, p.astype(mx.float32) if mx.issubdtype(p.dtype, mx.floating) else p)
                for name, p in tree_flatten(model.parameters())
            ]
        )
    )


def forward(model, tokens):
    return np.array(model(mx.array(tokens)[None])[0].astype(mx.float32))


def plain_names(folder):
    """Renames `language_model.model.…` to `model.…`, as text-only conversions have it; mlx_lm takes both."""
    file = folder / "model.safetensors"
    weights = {name.removeprefix("language_model."): value for name, value in mx.load(str(file)).items()}
    mx.eval(weights)
    mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})


def split_in_two(folder):
    """Two shards and the index that `mlx_lm` writes for large models."""
    weights = mx.load(str(folder / "model.safetensors"))
    mx.eval(weights)
    names = sorted(weights)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"] = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        mx.save_safetensors(str(folder / file), {n: weights[n] for n in part}, metadata={"format": "mlx"})
        index["weight_map"].update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=4))
    (folder / "model.safetensors").unlink()


def contradict_text_config(folder):
    """True values at the root, wrong ones in text_config: a reader that lets text_config win fails or drifts."""
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"]
    wrong = {
        "full_attention_interval": 4,
        "linear_num_key_heads": 2,
        "rms_norm_eps": 1e-2,
        "rope_parameters": text["rope_parameters"] | {"rope_theta": 10000, "partial_rotary_factor": 0.25},
        "tie_word_embeddings": True,
    }
    config |= {key: text[key] for key in wrong}
    text |= wrong
    save_config(config, folder / "config.json")


def scale_beside(folder):
    """Moves the scaling to `rope_scaling`, where older files have it; mlx_lm ignores it there."""
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"]
    moved = ("factor", "original_max_position_embeddings")
    text["rope_scaling"] = {"type": "yarn"} | {key: text["rope_parameters"].pop(key) for key in moved}
    text["rope_parameters"]["rope_type"] = "default"
    save_config(config, folder / "config.json")


def say_unquantised(folder, path):
    """mlx_lm records nothing for a module it left alone, other converters write `false`; it reads both."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization"][path] = False
    save_config(config, folder / "config.json")


def make(name, case):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng([ord(c) for c in name])
    model, config = build(case, rng)
    save_model(folder, model)
    save_config(config, folder / "config.json")

    if not case["nested"]:
        plain_names(folder)
    if "shards" in name:
        split_in_two(folder)
    else:
        (folder / "model.safetensors.index.json").unlink()

    if isinstance(case["overrides"], dict):
        for path, override in case["overrides"].items():
            if path.endswith("k_proj") and override is False:
                say_unquantised(folder, path)

    model, _ = load_model(folder)
    widen(model)
    tokens = worth.draw_tokens(folder, case["tokens"], case["config"]["vocab_size"], rng)
    logits = forward(model, tokens)
    worth.save(folder, tokens, logits)
    if "conflict" in name:
        contradict_text_config(folder)
    if "beside" in name:
        scale_beside(folder)

    tensors = {n: p for n, p in tree_flatten(model.parameters()) if mx.issubdtype(p.dtype, mx.floating)}

    def logits_with(tensor, factors):
        model.update(tree_unflatten([(tensor, tensors[tensor] * mx.array(factors))]))
        changed = forward(model, tokens)
        model.update(tree_unflatten([(tensor, tensors[tensor])]))
        return changed

    worth.judge(folder, logits, {n: p.shape for n, p in tensors.items()}, logits_with, rng)


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
