"""Trains the adapter for the skill of skill.py on top of the model in the box, which stays as it is: `train.py --out DIR`.

The 4-bit weights are read as they are shipped. Every forward pass sees what the server will serve: weights dequantised, scale · B · A
added, requantised to 4 bits. Trained without that, most of an adapter would be rounded away, for it moves a weight
by less than a level. The best adapter on held-out cases is written as mlx-lm lays it out.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from batches import IGNORE, Marks, padded, targets  # noqa: E402
from conversation import WEIGHTS, Message, held_out_case, phrase, render, system_prompt  # noqa: E402
from model import build, check_speed_up, configuration, speed_up  # noqa: E402
from quantise import GROUP, dequantise, quantise  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from skill import radio  # noqa: E402
from skills import Memory  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from words import TRAIN  # noqa: E402

HOME = Path(__file__).resolve().parents[2]
PREFIX = "language_model."
KEYS = [
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"linear_attn.{part}" for part in ("in_proj_qkv", "in_proj_z", "out_proj")),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
]
SHIFTED = ("input_layernorm", "post_attention_layernorm", "model.norm", "q_norm", "k_norm")


def shipped(file: Path) -> tuple[dict[str, Tensor], set[str]]:
    """The shipped weights under transformers' names and in its layout, in float32, and which of them are of 4 bits."""
    stored = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(file).items()}
    weights, packed = {}, set()
    for name, tensor in stored.items():
        module, _, kind = name.rpartition(".")
        if f"{module}.scales" in stored:
            if kind != "weight":
                continue
            words = tensor.view(torch.int32)
            levels = ((words[..., None] >> (4 * torch.arange(8, dtype=torch.int32))) & 15).float()
            tensor = dequantise(levels.reshape(len(words), -1, GROUP), stored[f"{module}.scales"], stored[f"{module}.biases"])
            packed.add(name)
        elif module.endswith("conv1d"):
            tensor = tensor.transpose(1, 2)  # [C, K, 1] here, [C, 1, K] there
        elif module.endswith(SHIFTED):
            tensor = tensor.float() - 1
        weights[name] = tensor.float().contiguous()
    return weights, packed


class Adapter(nn.Module):
    """A pair of matrices for every adapted module, and the weights that they make of the frozen ones."""

    def __init__(self, frozen: dict[str, Tensor], rank: int, scale: float):
        super().__init__()
        self.scale = scale
        self.frozen = {name: weight for name, weight in frozen.items() if name.removesuffix(".weight").endswith(tuple(KEYS))}
        self.names = list(self.frozen)
        self.a = nn.ParameterList(torch.empty(w.shape[1], rank).uniform_(-1, 1) / w.shape[1] ** 0.5 for w in self.frozen.values())
        self.b = nn.ParameterList(torch.zeros(rank, w.shape[0]) for w in self.frozen.values())

    def to_device(self, device: str) -> "Adapter":
        self.frozen = {name: weight.to(device) for name, weight in self.frozen.items()}
        return self.to(device)

    def merged(self, stored: bool) -> dict[str, Tensor]:
        """The adapted weights as served, with `stored` from pairs as they are written. Gradients pass the rounding."""
        kept = (lambda x: x.bfloat16().float()) if stored else (lambda x: x)
        deltas = [self.scale * (kept(a) @ kept(b)).T for a, b in zip(self.a, self.b, strict=True)]
        flat = torch.cat([(self.frozen[name] + delta).reshape(-1) for name, delta in zip(self.names, deltas, strict=True)])
        flat = flat + (dequantise(*quantise(flat)) - flat).detach()
        pieces = flat.split([delta.numel() for delta in deltas])
        return {name: piece.view_as(delta) for name, piece, delta in zip(self.names, pieces, deltas, strict=True)}

    def tensors(self) -> dict[str, Tensor]:
        pairs = {}
        for name, a, b in zip(self.names, self.a, self.b, strict=True):
            module = PREFIX + name.removesuffix(".weight")
            pairs[f"{module}.lora_a"] = a.detach().bfloat16().cpu().contiguous()
            pairs[f"{module}.lora_b"] = b.detach().bfloat16().cpu().contiguous()
        return pairs


def training_row(rng: random.Random, share: float) -> list[Message]:
    """One or two turns, `share` of them of the new skill, the rest as in the model's own training, so that it forgets nothing."""
    memory = Memory()
    prompt, brief = system_prompt(rng, TRAIN, memory) if rng.random() < 0.3 else (None, False)
    messages: list[Message] = [] if prompt is None else [{"role": "system", "content": prompt}]
    for _ in range(rng.choice([1, 1, 2])):
        skill = radio if rng.random() < share else rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        question, answer = phrase(rng, skill(rng, TRAIN, memory), TRAIN, brief)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages


def batch(rng: random.Random, tokenizer: Tokenizer, marks: Marks, rows: int, length: int, share: float) -> tuple[Tensor, Tensor]:
    ids = torch.full((rows, length + 1), marks.pad)
    labels = torch.full((rows, length + 1), IGNORE)
    for r, encoding in enumerate(tokenizer.encode_batch([render(training_row(rng, share)) for _ in range(rows)])):
        row, said = targets(encoding.ids, marks, None)
        row, said = torch.tensor(row[: length + 1]), torch.tensor(said[: length + 1])
        ids[r, : len(row)] = row
        labels[r, : len(row)] = torch.where(said, row, IGNORE)
    return ids[:, :-1], labels[:, 1:]


def held_out(skill, seed: int, count: int) -> list[tuple[list[Message], str]]:
    """Different cases of one skill."""
    rng, cases = random.Random(f"{seed} {skill.__name__}"), {}
    while len(cases) < count:
        _, messages, answer = held_out_case(rng, skill)
        cases.setdefault(json.dumps(messages), (messages, answer))
    return list(cases.values())


class Trainer:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = Tokenizer.from_file(str(HOME / "tokenizer.json"))
        self.marks = Marks(self.tokenizer)
        config = configuration(self.tokenizer.get_vocab_size(), [self.marks.end, self.marks.pad], self.marks.pad)
        self.model = build(config).to(self.device).requires_grad_(False)
        weights, packed = shipped(HOME / "model.safetensors")
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(weights.pop(name))
        assert not weights, f"the model has no place for {list(weights)}"
        torch.manual_seed(0)
        parameters = {name: parameter.data for name, parameter in self.model.named_parameters() if name in packed}
        self.adapter = Adapter({n: w.cpu() for n, w in parameters.items()}, options.rank, options.scale).to_device(self.device)

    def loss(self, ids: Tensor, labels: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda", cache_enabled=False):
            masks = {"full_attention": None, "linear_attention": None}
            arguments = {"input_ids": ids.to(self.device), "attention_mask": masks, "use_cache": False}
            logits = torch.func.functional_call(self.model, weights, (), arguments).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.to(self.device).flatten(), ignore_index=IGNORE), logits

    @torch.no_grad()
    def accuracy(self, cases: list[tuple[list[Message], str]], weights: dict[str, Tensor]) -> float:
        """Exact match: greedy decoding yields the right answer if each of its tokens is the likeliest after those before it."""
        prompts = [render(messages) + "<|im_start|>assistant\n<think>\n\n</think>\n\n" for messages, _ in cases]
        pairs = [
            (self.tokenizer.encode(prompt).ids, [*self.tokenizer.encode(answer).ids, self.marks.end])
            for prompt, (_, answer) in zip(prompts, cases, strict=True)
        ]
        right = 0
        for ids, labels in padded(pairs, self.marks.pad, rows=50, length=255):
            _, logits = self.loss(ids, labels, weights)
            choices, labels = logits.argmax(-1).cpu(), labels
            said = labels != IGNORE
            right += int((((choices == labels) | ~said).all(-1) & said.any(-1)).sum())
        return right / len(cases)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.adapter.tensors(), folder / "adapters.safetensors", metadata={"format": "mlx"})
        layers = self.model.config.num_hidden_layers
        config = {
            "fine_tune_type": "lora",
            "num_layers": layers,
            "lora_parameters": {"rank": self.options.rank, "scale": self.options.scale, "dropout": 0.0, "keys": KEYS},
        }
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=4) + "\n")

    def train(self) -> None:
        options = self.options
        guide = held_out(radio, seed=1, count=options.cases)
        print(f"base: {self.accuracy(guide, {}):.1%}; {sum(p.numel() for p in self.adapter.parameters())} parameters", flush=True)
        optimizer = torch.optim.AdamW(self.adapter.parameters(), weight_decay=0.0, betas=(0.9, 0.98))
        rng = random.Random(7)
        begun, shown, best, step = time.time(), time.time(), 0.0, 0
        while time.time() - begun < options.seconds and step < options.steps and best < options.enough:
            used = max((time.time() - begun) / options.seconds, step / options.steps)
            for group in optimizer.param_groups:
                group["lr"] = options.rate * min(1.0, (step + 1) / 50) * max(0.05, min(1.0, (1 - used) / 0.4))
            ids, labels = batch(rng, self.tokenizer, self.marks, options.rows, options.length, options.share)
            loss, _ = self.loss(ids, labels, self.adapter.merged(stored=False))
            loss.backward()
            nn.utils.clip_grad_norm_(self.adapter.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if time.time() - shown > options.show_every or step == options.steps:
                share = self.accuracy(guide, self.adapter.merged(stored=True))
                print(f"step {step}  {time.time() - begun:.0f} s  loss {loss.item():.4f}  held out {share:.1%}", flush=True)
                shown = time.time()
                if share > best:
                    best = share
                    self.write(options.out)
        if best == 0:
            self.write(options.out)

    def report(self) -> None:
        """What was written, on the committed cases and on what the model could do before."""
        stored = load_file(self.options.out / "adapters.safetensors")
        for name, a, b in zip(self.adapter.names, self.adapter.a, self.adapter.b, strict=True):
            module = PREFIX + name.removesuffix(".weight")
            a.data.copy_(stored[f"{module}.lora_a"])
            b.data.copy_(stored[f"{module}.lora_b"])
        merged = self.adapter.merged(stored=True)
        committed = held_out(radio, seed=2, count=100)
        lines = [{"skill": "radio", "messages": messages, "expect": answer} for messages, answer in committed]
        (self.options.out / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = {"radio": [self.accuracy(committed, {}), self.accuracy(committed, merged)]}
        for skill in WEIGHTS:
            cases = held_out(skill, seed=1, count=self.options.others)
            result[skill.__name__] = [self.accuracy(cases, {}), self.accuracy(cases, merged)]
        print("skill: base, adapted")
        for name, (before, after) in result.items():
            print(f"  {name}: {before:.1%}, {after:.1%}")
        (self.options.out / "report.json").write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter, its held-out cases and the report")
    parser.add_argument("--seconds", type=float, default=200.0, help="length of the schedule")
    parser.add_argument("--steps", type=int, default=10**9, help="or so many steps, whichever comes first")
    parser.add_argument("--enough", type=float, default=0.995, help="stop at this held-out accuracy")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--share", type=float, default=0.7, help="of the turns that show the new skill")
    parser.add_argument("--cases", type=int, default=200, help="held-out cases that guide the training")
    parser.add_argument("--others", type=int, default=50, help="cases of each old skill in the report")
    parser.add_argument("--show-every", type=float, default=10.0, help="seconds between evaluations")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    check_speed_up(compiled=False, device=device)
    torch.backends.cuda.matmul.allow_tf32 = True
    speed_up(compiled=False)
    trainer = Trainer(options)
    trainer.train()
    trainer.report()


if __name__ == "__main__":
    main()
