"""Makes hf/<name>/: tiny random checkpoints saved by transformers with the logits transformers computes in float32.

Each checkpoint is written by `save_pretrained`, read back by `from_pretrained(dtype=float32)` (widening, exact) and
run with eager attention. Only then are the quirks of published checkpoints added that transformers itself ignores:
`mtp.` tensors, and root keys that contradict text_config.

    python make_hf.py [NAME...]       all of them without names; see README.md for the versions

Where mlx_lm is importable, the same folder also goes through its `sanitize` and the two must agree.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForCausalLM,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeForCausalLM,
    Qwen3_5MoeTextConfig,
    Qwen3_5TextConfig,
)
from transformers.utils import logging

import reference
import worth

HERE = Path(__file__).parent / "hf"
MAX_DISAGREEMENT = 3e-4  # mlx_lm against transformers, in standard deviations of the logits


def case(tokens, dtype, *, multimodal=False, shard=None, rope=None, joined=False, **text):
    defaults = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 24,
        "tie_word_embeddings": False,
    }
    parameters = {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25}
    parameters |= {"mrope_section": [11, 11, 10], "mrope_interleaved": True} | (rope or {})
    return {
        "tokens": tokens,
        "dtype": dtype,
        "multimodal": multimodal,
        "shard": shard,
        "joined": joined,
        "text": defaults | text | {"rope_parameters": parameters},
    }


def mixture(tokens, dtype, experts, per_token, inner, shared, **changes):
    """A small mixture of experts. `joined`: with the tensors of the experts joined, as they are published;
    transformers itself saves every expert by itself."""
    small = {
        "hidden_size": 32,
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
    return case(tokens, dtype, **small | changes)


CASES = {
    "causal-bf16-tied": case(80, torch.bfloat16, vocab_size=263, tie_word_embeddings=True),
    "causal-f32-bias-interval2": case(
        150, torch.float32, vocab_size=131, attention_bias=True, full_attention_interval=2,
        num_key_value_heads=4, linear_num_key_heads=1, linear_key_head_dim=32, linear_value_head_dim=16,
        rms_norm_eps=1e-5, rope={"partial_rotary_factor": 0.5, "rope_theta": 10000},
    ),
    "causal-f16-shards-long": case(
        270, torch.float16, vocab_size=179, shard="230KB", num_hidden_layers=6, full_attention_interval=3,
        num_attention_heads=3, num_key_value_heads=1, head_dim=32, linear_num_value_heads=6, linear_value_head_dim=8,
    ),
    "multimodal-bf16-mtp-shards": case(
        72, torch.bfloat16, multimodal=True, vocab_size=223, shard="250KB",
        linear_num_key_heads=4, linear_key_head_dim=48,
    ),
    "multimodal-f16-conflict": case(
        48, torch.float16, multimodal=True, vocab_size=101, tie_word_embeddings=True, full_attention_interval=2,
        num_key_value_heads=1, linear_num_key_heads=1, rope={"partial_rotary_factor": 0.5, "rope_theta": 20000},
    ),
    "moe-bf16-joined-nested-shards": mixture(64, torch.bfloat16, 9, 4, 24, 40, joined=True, shard="60KB", vocab_size=61),
    "moe-f16-apart": mixture(50, torch.float16, 7, 3, 40, 24, vocab_size=67, tie_word_embeddings=True),
    "moe-bf16-top1-joined": mixture(60, torch.bfloat16, 12, 1, 16, 48, joined=True, vocab_size=59),
    "moe-f32-all-apart": mixture(40, torch.float32, 5, 5, 16, 32, vocab_size=53),
    "moe-bf16-unshared-joined": mixture(56, torch.bfloat16, 6, 2, 32, 0, joined=True, vocab_size=71),
}

VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "patch_size": 4,
    "num_position_embeddings": 16,
}


def stored_minus_one(name):
    return name.endswith(reference.NORMS_STORED_MINUS_ONE) or name.endswith("language_model.norm.weight")


def randomise(model, rng):
    for name, parameter in model.named_parameters():
        if ".visual." in name:
            continue
        values = worth.draw(name, tuple(parameter.shape), rng)
        parameter.data = torch.from_numpy(values - 1 if stored_minus_one(name) else values)


def build(case, rng):
    text = case["text"]
    if case["multimodal"]:
        vision = VISION | {"out_hidden_size": text["hidden_size"]}
        config = Qwen3_5Config(
            text_config=text, vision_config=vision, tie_word_embeddings=text["tie_word_embeddings"]
        )
        model = Qwen3_5ForConditionalGeneration(config)
    elif "num_experts" in text:
        text = {key: value for key, value in text.items() if key != "intermediate_size"}
        config = Qwen3_5MoeTextConfig(**text, experts_implementation="eager")
        model = Qwen3_5MoeForCausalLM(config)
    else:
        model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**text))
    randomise(model, rng)
    model.tie_weights()
    model.generation_config.eos_token_id = [7, 11]
    return model


def narrow(model, dtype, mtp):
    """The storage type; the checkpoint that imitates the published ones keeps A_log and the gated norm in f32."""
    kept = {n: p.data.clone() for n, p in model.named_parameters() if n.endswith(("A_log", "linear_attn.norm.weight"))}
    model.to(dtype)
    if mtp:
        for name, parameter in model.named_parameters():
            parameter.data = kept.get(name, parameter.data)


def forward(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(tokens).long()[None], use_cache=False).logits[0].numpy()


def add_mtp(folder, hidden, rng):
    """One multi-token-prediction layer's worth of names and shapes, which a text model must skip."""
    index_file = folder / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    file = sorted(set(index["weight_map"].values()))[-1]
    weights = load_file(folder / file)
    shapes = {
        "fc.weight": (hidden, 2 * hidden),
        "layers.0.input_layernorm.weight": (hidden,),
        "layers.0.post_attention_layernorm.weight": (hidden,),
        "layers.0.self_attn.q_norm.weight": (16,),
        "layers.0.self_attn.k_norm.weight": (16,),
        "layers.0.self_attn.q_proj.weight": (128, hidden),
        "layers.0.mlp.down_proj.weight": (hidden, 32),
        "norm.weight": (hidden,),
        "pre_fc_norm_embedding.weight": (hidden,),
        "pre_fc_norm_hidden.weight": (hidden,),
    }
    for name, shape in shapes.items():
        values = torch.from_numpy(rng.normal(0, 1, shape).astype(np.float32))
        weights["mtp." + name] = values.to(torch.bfloat16)
        index["weight_map"]["mtp." + name] = file
    save_file(weights, folder / file, metadata={"format": "pt"})
    index_file.write_text(json.dumps(index, indent=2))


def join_experts(folder, model, dtype, case):
    """The layout of published mixtures: the experts' tensors joined, and text_config in a configuration with a root."""
    for file in folder.glob("model*.safetensors*"):
        file.unlink()
    unshared = case["text"]["shared_expert_intermediate_size"] == 0
    tensors = {
        name.replace("model.", "model.language_model.", 1) if "nested" in folder.name else name: value.to(dtype).contiguous()
        for name, value in model.state_dict().items()
        if not (unshared and "shared_expert" in name)
    }
    limit = int(case["shard"].removesuffix("KB")) << 10 if case["shard"] else None
    shards, size = [{}], 0
    for name, value in tensors.items():
        if limit and size and size + value.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += value.nbytes
    if limit:
        files = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
        index = {name: file for file, shard in zip(files, shards) for name in shard}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}, indent=2))
    else:
        files = ["model.safetensors"]
    for file, shard in zip(files, shards):
        save_file(shard, folder / file, metadata={"format": "pt"})
    if "nested" in folder.name:
        file = folder / "config.json"
        text = json.loads(file.read_text())
        file.write_text(json.dumps({"model_type": "qwen3_5_moe", "text_config": text}, indent=2, sort_keys=True))


def contradict_text_config(folder):
    """True values at the root, wrong ones in text_config: a reader that lets text_config win fails or drifts."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    text = config["text_config"]
    wrong = {
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "num_key_value_heads": 2,
        "linear_num_key_heads": 2,
        "rms_norm_eps": 1e-2,
        "rope_parameters": text["rope_parameters"] | {"rope_theta": 10000, "partial_rotary_factor": 0.25},
        "tie_word_embeddings": False,
    }
    config |= {key: text[key] for key in wrong}
    text |= wrong
    file.write_text(json.dumps(config, indent=2, sort_keys=True))


def through_mlx_lm(folder, tokens):
    """The logits of the same folder through mlx_lm's sanitize, in f32; None without mlx_lm."""
    if importlib.util.find_spec("mlx_lm") is None:
        return None
    import mlx.core as mx
    from mlx_lm.models import qwen3_5, qwen3_5_moe

    mx.set_default_device(mx.cpu)
    config = reference.read_config(folder)
    if "num_experts" in config:
        apart = config["shared_expert_intermediate_size"] == 0 or "apart" in folder.name
        if apart:  # it reads joined experts only, and always wants a shared one
            return None
        qwen3_5 = qwen3_5_moe
    config["full_attention_interval"] = config["layer_types"].index("full_attention") + 1  # it reads no layer_types
    model = qwen3_5.Model(qwen3_5.ModelArgs.from_dict(config))
    weights = {}
    for file in folder.glob("model*.safetensors"):
        weights |= {name: value.astype(mx.float32) for name, value in mx.load(str(file)).items()}
    model.load_weights(list(model.sanitize(weights).items()))
    model.eval()
    return np.array(model(mx.array(tokens)[None])[0])


def make(name, case):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng([ord(c) for c in name])
    torch.manual_seed(0)  # the vision tower keeps transformers' own initialisation
    model = build(case, rng)
    narrow(model, case["dtype"], "mtp" in name)
    model.save_pretrained(folder, max_shard_size=case["shard"] or "1GB")

    stored = model
    model = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if case["joined"]:
        join_experts(folder, stored, case["dtype"], case)
    tokens = worth.draw_tokens(folder, case["tokens"], case["text"]["vocab_size"], rng)
    logits = forward(model, tokens)
    worth.save(folder, tokens, logits)
    if "mtp" in name:
        add_mtp(folder, case["text"]["hidden_size"], rng)
    if "conflict" in name:
        contradict_text_config(folder)

    unused = [".visual."] + ["shared_expert"] * (case["text"].get("shared_expert_intermediate_size") == 0)
    parameters = {n: p for n, p in model.named_parameters() if not any(part in n for part in unused)}

    def logits_with(tensor, factors):
        kept = parameters[tensor].data
        shift = 1 if stored_minus_one(tensor) else 0
        parameters[tensor].data = (kept + shift) * torch.from_numpy(factors) - shift
        changed = forward(model, tokens)
        parameters[tensor].data = kept
        return changed

    worth.judge(folder, logits, {n: tuple(p.shape) for n, p in parameters.items()}, logits_with, rng)
    theirs = through_mlx_lm(folder, tokens)
    if theirs is not None:
        disagreement = reference.relative_difference(theirs, logits)
        print(f"{'':28} mlx_lm against transformers {disagreement:.1e}", flush=True)
        assert disagreement < MAX_DISAGREEMENT, name


if __name__ == "__main__":
    logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
