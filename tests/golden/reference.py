"""The Qwen3.5 text graph in numpy and float64, read straight from a checkpoint folder.

It exists to judge the golden files, not to make them: mlx_lm and transformers compute the goldens in float32, and the
distance of those from this float64 rendition is their rounding noise. A golden whose noise is not far below the
tolerance of the engine's tests would prove nothing. It needs neither mlx nor torch.

    python reference.py DIR...        max |golden - float64| / std(golden) for each folder with a golden.safetensors

Shapes: n tokens; hidden D; query heads H, key/value heads G; linear value heads Hv, key heads Hk; Dk, Dv their widths;
experts E, of which k see a token.
"""

import json
import sys
from pathlib import Path

import numpy as np

NORMS_STORED_MINUS_ONE = (
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
    "q_norm.weight",
    "k_norm.weight",
    "model.norm.weight",
)


def small_floats(exponents, mantissas, bias):
    """Every number of a sign, so many bits of exponent and so many of mantissa, by its code."""
    codes = np.arange(2 ** (exponents + mantissas))
    exponent, mantissa = codes >> mantissas, (codes & 2**mantissas - 1) / 2**mantissas
    normal = (1 + mantissa) * 2.0 ** (exponent - bias)
    positive = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), normal)
    return np.concatenate([positive, -positive])


E2M1, E4M3 = small_floats(2, 1, 1), small_floats(4, 3, 7)


def read_safetensors(path):
    """Tensors of one file by name; bf16 is widened to f32, everything else keeps its type."""
    raw = Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U32": "<u4", "U8": "u1", "I64": "<i8", "I32": "<i4"}
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = np.frombuffer(raw[start + begin : start + end], kinds[entry["dtype"]])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = array.reshape(entry["shape"])
    return tensors


def read_config(folder):
    """config.json with text_config folded in; where both name a key, the root wins."""
    root = json.loads((folder / "config.json").read_text())
    return {**root.get("text_config", {}), **{k: v for k, v in root.items() if k != "text_config"}}


class Checkpoint:
    """Weights under one naming (`layers.0.…`), whichever layout they were stored in, as float64."""

    def __init__(self, folder):
        self.config = read_config(folder)
        self.stored = {}
        for file in sorted(folder.glob("model*.safetensors")):
            self.stored.update(read_safetensors(file))
        self.names = {self._plain(name): name for name in self.stored}
        self.hugging_face = any(n.endswith("conv1d.weight") and t.shape[-1] != 1 for n, t in self.stored.items())

    @staticmethod
    def _plain(name):
        for prefix in ("language_model.model.", "model.language_model.", "model."):
            if name.startswith(prefix):
                return name[len(prefix) :]
        return name.removeprefix("language_model.")

    def has(self, name):
        return name in self.names

    def vector(self, name):
        stored = self.names[name]
        value = self.stored[stored].astype(np.float64)
        if self.hugging_face and ("model." + name).endswith(NORMS_STORED_MINUS_ONE):
            value = value + 1.0
        return value

    def matrix(self, module):
        """[out, in], behind the experts if it is stacked; affine-quantised weights are expanded as q * scale + bias."""
        weight = self.stored[self.names[module + ".weight"]]
        if not self.has(module + ".scales"):
            return weight.astype(np.float64)
        mode, bits, group = self._packing(module)
        # A row is one stream of bits, the lowest first: codes may cross from one word into the next.
        stream = np.unpackbits(np.ascontiguousarray(weight).view(np.uint8), axis=-1, bitorder="little")
        codes = stream.reshape(*weight.shape[:-1], -1, bits) @ (1 << np.arange(bits))
        codes = codes.reshape(*weight.shape[:-1], -1, group)
        scales = self.vector(module + ".scales")[..., None]
        if mode == "affine":
            matrix = codes * scales + self.vector(module + ".biases")[..., None]
        else:
            matrix = (E4M3 if bits == 8 else E2M1)[codes]
            matrix = matrix * (E4M3[scales.astype(int)] if mode == "nvfp4" else 2.0 ** (scales - 127))
        return matrix.reshape(*weight.shape[:-1], -1)

    def experts(self, at):
        """Gate and up [E, inner, D] and down [E, D, inner] of all experts, from any of the three layouts."""
        if self.has(at + "switch_mlp.gate_proj.weight"):
            return [self.matrix(f"{at}switch_mlp.{part}_proj") for part in ("gate", "up", "down")]
        if self.has(at + "experts.gate_up_proj"):
            gate, up = np.split(self.vector(at + "experts.gate_up_proj"), 2, axis=1)
            return [gate, up, self.vector(at + "experts.down_proj")]
        count = self.config["num_experts"]
        return [
            np.stack([self.matrix(f"{at}experts.{e}.{part}_proj") for e in range(count)])
            for part in ("gate", "up", "down")
        ]

    def _packing(self, module):
        quantization = self.config["quantization"]
        own = quantization.get(self.names[module + ".weight"].removesuffix(".weight"), quantization)
        return own.get("mode", "affine"), own["bits"], own["group_size"]

    def conv(self, module):
        """[channels, kernel], from [C, K, 1] (MLX) or [C, 1, K] (Hugging Face)."""
        weight = self.vector(module + ".weight")
        return weight.reshape(weight.shape[0], -1)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def l2_norm(x, eps=1e-6):
    return x / np.sqrt((x * x).sum(-1, keepdims=True) + eps)


def rope_frequencies(dims, theta, scaling):
    """Radians a position, [dims / 2], and what cosines and sines are multiplied with.

    YaRN (arXiv 2309.00071, sections 3.2 to 3.4): of a dimension that turns r times within the original context, the
    frequency f becomes f / factor where r <= beta, f where r >= alpha, with a ramp over the dimensions between.
    """
    frequencies = theta ** (-np.arange(0, dims, 2) / dims)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return frequencies, 1.0
    factor = scaling["factor"]
    if kind == "linear":
        return frequencies / factor, 1.0
    assert kind == "yarn", kind
    context = scaling["original_max_position_embeddings"]
    # r(d) = context * theta ** (-2d / dims) / 2 pi, solved for d.
    few, many = (
        dims / 2 * np.log(context / (2 * np.pi * turns)) / np.log(theta)
        for turns in (scaling.get("beta_slow", 1), scaling.get("beta_fast", 32))
    )
    first, last = max(np.floor(many), 0), min(np.ceil(few), dims - 1)
    stretched = np.interp(np.arange(dims // 2), [first, last], [0.0, 1.0])
    return frequencies * (1 - stretched + stretched / factor), 0.1 * np.log(factor) + 1


class Graph:
    """One forward pass over a whole sequence, no caches."""

    def __init__(self, folder):
        self.weights = Checkpoint(folder)
        self.config = self.weights.config
        self.eps = self.config["rms_norm_eps"]
        self.routes = []  # of each layer with experts: (probabilities [n, E], experts of each token [n, k])
        interval = self.config.get("full_attention_interval", 4)
        self.kinds = self.config.get("layer_types") or [
            "linear_attention" if (i + 1) % interval else "full_attention"
            for i in range(self.config["num_hidden_layers"])
        ]

    def logits(self, tokens):
        embedding = self.weights.matrix("embed_tokens")
        x = embedding[tokens]
        for i, kind in enumerate(self.kinds):
            layer = f"layers.{i}."
            mixer = self.attention if kind == "full_attention" else self.linear_attention
            x = x + mixer(layer, self.norm(layer + "input_layernorm", x))
            x = x + self.mlp(layer + "mlp.", self.norm(layer + "post_attention_layernorm", x))
        x = self.norm("norm", x)
        return x @ (embedding if self.config["tie_word_embeddings"] else self.weights.matrix("lm_head")).T

    def norm(self, module, x):
        return rms_norm(x, self.weights.vector(module + ".weight"), self.eps)

    def linear(self, module, x):
        y = x @ self.weights.matrix(module).T
        return y + self.weights.vector(module + ".bias") if self.weights.has(module + ".bias") else y

    def mlp(self, at, x):
        return (self.experts if self.weights.has(at + "gate.weight") else self.block)(at, x)

    def block(self, at, x):
        return self.linear(at + "down_proj", silu(self.linear(at + "gate_proj", x)) * self.linear(at + "up_proj", x))

    def experts(self, at, x):
        """The k most probable experts, their weights scaled to add up to 1, and the shared expert."""
        logits = self.linear(at + "gate", x)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        chosen = np.argsort(-p, axis=-1, kind="stable")[:, : self.config["num_experts_per_tok"]]
        self.routes.append((p, chosen))
        weights = np.take_along_axis(p, chosen, -1)
        weights /= weights.sum(-1, keepdims=True)
        gate, up, down = self.weights.experts(at)
        y = np.zeros_like(x)
        for t in range(len(x)):
            for w, e in zip(weights[t], chosen[t]):
                y[t] += w * (down[e] @ (silu(gate[e] @ x[t]) * (up[e] @ x[t])))
        if self.weights.has(at + "shared_expert_gate.weight"):
            y = y + sigmoid(self.linear(at + "shared_expert_gate", x)) * self.block(at + "shared_expert.", x)
        return y

    def attention(self, layer, x):
        at, n = layer + "self_attn.", len(x)
        heads, groups = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        width = self.config["head_dim"]
        q, gate = np.split(self.linear(at + "q_proj", x).reshape(n, heads, 2 * width), 2, -1)
        k = self.linear(at + "k_proj", x).reshape(n, groups, width)
        v = self.linear(at + "v_proj", x).reshape(n, groups, width)
        q, k = self.rope(self.norm(at + "q_norm", q)), self.rope(self.norm(at + "k_norm", k))
        k, v = (np.repeat(t, heads // groups, axis=1) for t in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(width)
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        y = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v)
        return self.linear(at + "o_proj", (y * sigmoid(gate)).reshape(n, -1))

    def rope(self, x):
        """Rotates the first head_dim * partial_rotary_factor dimensions, first half against second half."""
        rope = self.config["rope_parameters"]
        dims = int(x.shape[-1] * rope["partial_rotary_factor"])
        scaling = self.config.get("rope_scaling") or rope
        frequencies, attention_factor = rope_frequencies(dims, rope["rope_theta"], scaling)
        angles = np.arange(len(x))[:, None] * frequencies
        cos, sin = attention_factor * np.cos(angles)[:, None], attention_factor * np.sin(angles)[:, None]
        a, b = x[..., : dims // 2], x[..., dims // 2 : dims]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., dims:]], -1)

    def linear_attention(self, layer, x):
        at, n, c = layer + "linear_attn.", len(x), self.config
        hk, hv = c["linear_num_key_heads"], c["linear_num_value_heads"]
        dk, dv = c["linear_key_head_dim"], c["linear_value_head_dim"]
        qkv = self.short_conv(at + "conv1d", self.linear(at + "in_proj_qkv", x))
        q, k, v = np.split(qkv, [hk * dk, 2 * hk * dk], -1)
        q = l2_norm(q.reshape(n, hk, dk)) / np.sqrt(dk)
        k = l2_norm(k.reshape(n, hk, dk))
        q, k = (np.repeat(t, hv // hk, axis=1) for t in (q, k))
        z = self.linear(at + "in_proj_z", x).reshape(n, hv, dv)
        beta = sigmoid(self.linear(at + "in_proj_b", x))
        a = self.linear(at + "in_proj_a", x) + self.weights.vector(at + "dt_bias")
        g = np.exp(-np.exp(self.weights.vector(at + "A_log")) * np.logaddexp(0, a))
        y = self.gated_delta(q, k, v.reshape(n, hv, dv), g, beta)
        y = rms_norm(y, self.weights.vector(at + "norm.weight"), self.eps) * silu(z)
        return self.linear(at + "out_proj", y.reshape(n, -1))

    def short_conv(self, module, x):
        """Depthwise and causal: tap K-1 meets the newest row."""
        taps = self.weights.conv(module)
        kernel = taps.shape[1]
        padded = np.concatenate([np.zeros((kernel - 1, x.shape[1])), x])
        return silu(sum(padded[j : j + len(x)] * taps[:, j] for j in range(kernel)))

    @staticmethod
    def gated_delta(q, k, v, g, beta):
        state = np.zeros((v.shape[1], v.shape[2], k.shape[2]))
        out = np.empty_like(v)
        for t in range(len(v)):
            state *= g[t][:, None, None]
            delta = (v[t] - np.einsum("hvk,hk->hv", state, k[t])) * beta[t][:, None]
            state += delta[..., None] * k[t][:, None, :]
            out[t] = np.einsum("hvk,hk->hv", state, q[t])
        return out


def relative_difference(logits, reference):
    """max |difference| in units of the reference's standard deviation."""
    return float(np.abs(logits - reference).max() / reference.std())


def noise(folder):
    """How far the golden of this folder is from float64."""
    golden = read_safetensors(Path(folder) / "golden.safetensors")
    return relative_difference(Graph(Path(folder)).logits(golden["tokens"]), golden["logits"])


def routing(folder, tokens):
    """How near a token comes to other experts, as the least distance in probability between the last expert that it
    goes to and the next one, and the least number of tokens that an expert of any layer sees."""
    graph = Graph(Path(folder))
    graph.logits(tokens)
    margin, least = np.inf, len(tokens)
    for p, chosen in graph.routes:
        ordered, k = np.sort(p, -1)[:, ::-1], chosen.shape[1]
        if k < p.shape[1]:
            margin = min(margin, float((ordered[:, k - 1] - ordered[:, k]).min()))
        least = min(least, int(np.bincount(chosen.ravel(), minlength=p.shape[1]).min()))
    return margin, least


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        print(f"{noise(folder):9.2e}  {folder}")
