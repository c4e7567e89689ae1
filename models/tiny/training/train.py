"""Trains the tiny model: `train.py --total-minutes 9 --minutes 9 --out DIR [--resume DIR]`.

Needs a CUDA GPU for real runs. Time-aware: the schedule runs over
`--total-minutes` of training, this call stops after `--minutes` and leaves a checkpoint in pieces below 16 MiB. Resuming
continues the schedule; resuming a finished run with a larger total trains on from its rate at that point.

From `--quantise-from` of the schedule on, every forward pass sees the weights as the 4-bit model will (see quantise.py).
"""

import argparse
import contextlib
import io
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import jinja2
import torch
import torch.nn.functional as F
from batches import IGNORE, Marks, loader, padded
from cases import held_out
from conversation import conversation, render
from model import build, check_speed_up, configuration, speed_up
from optimizer import Optimizer
from quantise import quantised_names, working_weights
from tokenizers import Tokenizer
from torch import Tensor

HOME = Path(__file__).resolve().parent.parent
PIECE = 12 * 2**20


def learning_rate(progress: float, step: int, peak: float, decay_from: float) -> float:
    """Linear warm-up over 200 steps, constant, linear down to zero from `decay_from` of the schedule."""
    down = min(1.0, (1 - progress) / (1 - decay_from))
    return peak * min(1.0, (step + 1) / 200) * max(down, 0.005)


def save(folder: Path, model: torch.nn.Module, optimizer: Optimizer, step: int, elapsed: float) -> None:
    buffer = io.BytesIO()
    weights = {name: parameter.data for name, parameter in model.named_parameters()}
    torch.save({"weights": weights, "optimizer": optimizer.state(), "step": step, "elapsed": elapsed}, buffer)
    data = buffer.getvalue()
    for old in folder.glob("checkpoint.*"):
        old.unlink()
    for i, start in enumerate(range(0, len(data), PIECE)):
        (folder / f"checkpoint.{i:02}").write_bytes(data[start : start + PIECE])


def load(folder: Path, device: str) -> dict:
    pieces = sorted(folder.glob("checkpoint.*"))
    assert pieces, f"no checkpoint in {folder}"
    return torch.load(io.BytesIO(b"".join(piece.read_bytes() for piece in pieces)), map_location=device, weights_only=True)


def check_template() -> None:
    """`render` must write what the served template writes."""
    template = jinja2.Environment().from_string((HOME / "chat_template.jinja").read_text())
    rng = random.Random(5)
    for _ in range(200):
        messages = conversation(rng, lambda m: len(m) >= 6)
        assert render(messages) == template.render(messages=messages)
        prompt = template.render(messages=messages[:-1], add_generation_prompt=True)
        assert render(messages) == prompt + messages[-1]["content"].strip() + "<|im_end|>\n"


class Graph:
    """A step recorded once and replayed: fixed buffers for its inputs and its loss."""

    memory = None  # one pool for all graphs: they never run at the same time

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], ids: Tensor, labels: Tensor):
        self.ids, self.labels = ids.cuda(), labels.cuda()
        self.graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # thread_local: the loader's thread pins memory meanwhile, which is none of this capture's business
        with torch.cuda.graph(self.graph, pool=Graph.memory, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
            self.loss = step(self.ids, self.labels)
        Graph.memory = self.graph.pool()

    def replay(self, ids: Tensor, labels: Tensor) -> Tensor:
        self.ids.copy_(ids, non_blocking=True)
        self.labels.copy_(labels, non_blocking=True)
        self.graph.replay()
        return self.loss.clone()


class Trainer:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = Tokenizer.from_file(str(HOME / "tokenizer.json"))
        self.marks = Marks(self.tokenizer)
        config = configuration(self.tokenizer.get_vocab_size(), [self.marks.end, self.marks.pad], self.marks.pad)
        self.model = build(config).to(self.device)
        self.quantised = quantised_names(self.model)
        self.optimizer = Optimizer(self.model, self.device)
        self.step, self.elapsed = 0, 0.0
        self.graphs: dict[tuple, Graph | int] = {}
        if arguments.resume:
            state = load(arguments.resume, self.device)
            for name, parameter in self.model.named_parameters():
                parameter.data.copy_(state["weights"][name])
            self.optimizer.load(state["optimizer"])
            self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"{sum(p.numel() for p in self.model.parameters()) / 1e6:.2f} M parameters, step {self.step}", flush=True)

    def loss(self, ids: Tensor, labels: Tensor, quantised: bool) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy over what the assistant says, and the logits."""
        with torch.autocast(self.device, torch.bfloat16, cache_enabled=False):
            weights = working_weights(self.model, self.quantised, quantised)
            # No padding and no packing: a causal mask is all there is, and naming it spares transformers a look at the data.
            masks = {"full_attention": None, "linear_attention": None}
            arguments = {"input_ids": ids, "attention_mask": masks, "use_cache": False}
            logits = torch.func.functional_call(self.model, weights, (), arguments).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE), logits

    def update(self, ids: Tensor, labels: Tensor, quantised: bool) -> Tensor:
        """One whole training step; the rate has been set."""
        loss, _ = self.loss(ids.to(self.device), labels.to(self.device), quantised)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)
        return loss.detach()

    def update_captured(self, ids: Tensor, labels: Tensor, quantised: bool) -> Tensor:
        """`update` as a CUDA graph, one a batch shape: launching its thousands of small kernels one by one costs three
        times what they compute. The first steps of a shape run plainly, which compiles and warms up what they call."""
        key = (*ids.shape, quantised)
        known = self.graphs.get(key, 0)
        if isinstance(known, Graph):
            return known.replay(ids, labels)
        if known == 3:
            self.graphs[key] = Graph(lambda i, t: self.update(i, t, quantised), ids, labels)
            return self.graphs[key].replay(ids, labels)
        self.graphs[key] = known + 1
        return self.update(ids, labels, quantised)

    def train(self) -> None:
        options = self.arguments
        total = options.total_minutes * 60
        stop = time.time() + options.minutes * 60
        batches = loader(HOME / "tokenizer.json", seed=self.step, workers=options.workers)
        update = self.update_captured if self.device == "cuda" and not options.eager else self.update
        before, first = self.elapsed, self.step
        begun, shown, tokens, losses = time.time(), time.time(), 0, []
        while self.elapsed < total and time.time() < stop and self.step < options.steps:
            progress = self.elapsed / total
            self.optimizer.set_rate(learning_rate(progress, self.step, options.rate, options.decay_from))
            ids, labels = next(batches)
            losses.append(update(ids, labels, progress >= options.quantise_from))
            self.step += 1
            tokens += ids.numel()
            if self.step % 50 == 0 and self.device == "cuda":
                torch.cuda.current_stream().synchronize()  # the clock is to show work done, not work queued
            self.elapsed = before + time.time() - begun
            if self.step == first + 20:
                begun, shown, tokens = time.time(), time.time(), 0  # compilation is not training time
            if time.time() - shown > options.show_every:
                mean = torch.stack(losses).mean().item()
                speed = tokens / (time.time() - begun) / 1e6
                print(f"{self.elapsed:5.0f} s  step {self.step}  loss {mean:.4f}  {speed:.2f} M tokens/s", flush=True)
                shown, losses = time.time(), []
                if options.probe:
                    self.evaluate(options.probe, examples=0)

    @torch.no_grad()
    def evaluate(self, each: int, examples: int) -> dict[str, float]:
        """Exact match on held-out cases with 4-bit weights.

        One pass over the right answer suffices: greedy decoding yields it exactly if every one of its tokens is the
        likeliest after the ones before it.
        """
        cases = held_out(seed=1, each=each)
        prompts = [render(messages) + "<|im_start|>assistant\n<think>\n\n</think>\n\n" for _, messages, _ in cases]
        pairs = [
            (self.tokenizer.encode(prompt).ids, [*self.tokenizer.encode(answer).ids, self.marks.end])
            for prompt, (_, _, answer) in zip(prompts, cases, strict=True)
        ]
        self.model.eval()
        verdicts: list[tuple[bool, str]] = []
        for ids, labels in padded(pairs, self.marks.pad, rows=64, length=512):
            _, logits = self.loss(ids.to(self.device), labels.to(self.device), quantised=True)
            choices = logits.argmax(-1).cpu()
            for choice, label in zip(choices, labels, strict=True):
                places = (label != IGNORE).nonzero().flatten()
                if len(places):
                    wrong = choice[places] != label[places]
                    until = int(wrong.nonzero()[0]) + 1 if wrong.any() else len(places)
                    verdicts.append((not bool(wrong.any()), self.tokenizer.decode(choice[places][:until].tolist())))
        self.model.train()
        right: dict[str, list[bool]] = {}
        failures: dict[str, list[str]] = {}
        fitting = [case for case, pair in zip(cases, pairs, strict=True) if len(pair[0]) + len(pair[1]) <= 513]
        for (skill, messages, expect), (ok, said) in zip(fitting, verdicts, strict=True):
            right.setdefault(skill, []).append(ok)
            if not ok:
                system = "[system] " if messages[0]["role"] == "system" else ""
                failures.setdefault(skill, []).append(f"{system}{messages[-1]['content']!r} expected {expect!r} said {said!r}…")
        accuracy = {skill: sum(oks) / len(oks) for skill, oks in right.items()}
        print("  ".join(f"{skill} {share:.1%}" for skill, share in accuracy.items()), flush=True)
        for skill, lines in failures.items():
            for line in lines[:examples]:
                print(f"  {skill}: {line}")
        return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the report")
    parser.add_argument("--resume", type=Path, help="folder of an earlier checkpoint")
    parser.add_argument("--total-minutes", type=float, default=9.0, help="length of the schedule")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop this call after so long")
    parser.add_argument("--steps", type=int, default=10**9, help="stop at this step")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--decay-from", type=float, default=0.5)
    parser.add_argument("--quantise-from", type=float, default=0.4)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--eager", action="store_true", help="neither torch.compile nor CUDA graphs")
    parser.add_argument("--show-every", type=float, default=20.0, help="seconds between progress lines")
    parser.add_argument("--probe", type=int, default=0, help="evaluate so many cases a skill at every progress line")
    parser.add_argument("--each", type=int, default=500, help="cases a skill in the final evaluation")
    parser.add_argument("--examples", type=int, default=6, help="failures shown per skill at the end")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    check_template()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    check_speed_up(compiled=False, device=device)
    torch.backends.cuda.matmul.allow_tf32 = True
    speed_up(compiled=not arguments.eager)
    trainer = Trainer(arguments)
    with torch.cuda.stream(torch.cuda.Stream()) if device == "cuda" else contextlib.nullcontext():
        trainer.train()
    if device == "cuda":
        torch.cuda.synchronize()
    save(arguments.out, trainer.model, trainer.optimizer, trainer.step, trainer.elapsed)
    accuracy = trainer.evaluate(arguments.each, arguments.examples)
    (arguments.out / "report.json").write_text(json.dumps({"step": trainer.step, "seconds": trainer.elapsed, "accuracy": accuracy}, indent=2))


if __name__ == "__main__":
    main()
