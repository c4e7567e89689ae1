"""Greedy answers of a running server beside mlx_lm's for the same checkpoint and prompts.

mlx_lm loads MODEL unchanged (4-bit, its own activation type) and once more with f32 activations: where the server and
mlx_lm part, the third column tells rounding from error. `margin` is by how much mlx_lm preferred its own token, in
log-probability, at the point where the texts part: a near-tie may fall either way, a clear preference may not.

    python compare_server.py MODEL URL [--prompts FILE] [--max-tokens N] [--api-key KEY] [--served-model ID]

URL ends in /v1. PROMPTS is JSON lines with `messages` and optionally `tools`. Exits 1 when an answer differs.
"""

import argparse
import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm import load, stream_generate
from mlx_lm.sample_utils import make_sampler
from openai import OpenAI


class Answer:
    """A greedy continuation: its text, and for each token the text before it and the margin over the runner-up."""

    def __init__(self, text, steps, prompt_tokens):
        self.text = text
        self.steps = steps
        self.prompt_tokens = prompt_tokens

    def margin_at(self, length):
        """The margin of the token that covers character `length` of the text."""
        covering = [margin for start, margin in self.steps if start <= length]
        return covering[-1] if covering else float("nan")


def widen(model):
    """f32 activations over the same quantised weights."""
    model.update(
        tree_unflatten(
            [
                (name, p.astype(mx.float32) if mx.issubdtype(p.dtype, mx.floating) else p)
                for name, p in tree_flatten(model.parameters())
            ]
        )
    )


def mlx_answer(model, tokenizer, prompt, max_tokens):
    ids = tokenizer.apply_chat_template(
        prompt["messages"], tools=prompt.get("tools"), add_generation_prompt=True, enable_thinking=False
    )
    text, steps = "", []
    for step in stream_generate(model, tokenizer, ids, max_tokens=max_tokens, sampler=make_sampler(temp=0.0)):
        best, second = mx.sort(step.logprobs.astype(mx.float32))[-2:][::-1].tolist()
        steps.append((len(text), best - second))
        text += step.text
    return Answer(text, steps, len(ids))


def server_answer(client, served, prompt, max_tokens):
    completion = client.chat.completions.create(
        model=served,
        messages=prompt["messages"],
        temperature=0,
        max_tokens=max_tokens,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        **({"tools": prompt["tools"]} if prompt.get("tools") else {}),
    )
    return completion.choices[0].message.content or "", completion.usage.prompt_tokens


def parting(a, b):
    """How many leading characters two texts share."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def shown(text, width=44):
    line = json.dumps(text, ensure_ascii=False)
    return (line if len(line) <= width else line[: width - 1] + "…").ljust(width)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("url")
    parser.add_argument("--prompts", type=Path, default=Path(__file__).parent / "prompts.jsonl")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--served-model", help="default: the first of /v1/models")
    args = parser.parse_args()

    mx.set_default_device(mx.cpu)
    prompts = [json.loads(line) for line in args.prompts.read_text(encoding="utf-8").split("\n") if line.strip()]
    client = OpenAI(base_url=args.url, api_key=args.api_key)
    served = args.served_model or next(iter(client.models.list())).id
    model, tokenizer = load(str(args.model))
    as_stored = [mlx_answer(model, tokenizer, p, args.max_tokens) for p in prompts]
    widen(model)
    in_f32 = [mlx_answer(model, tokenizer, p, args.max_tokens) for p in prompts]

    differences = 0
    print(f"{'prompt':34}  {'mlx_lm':44}  {'server':44}  verdict")
    for prompt, theirs, wide in zip(prompts, as_stored, in_f32):
        ours, prompt_tokens = server_answer(client, served, prompt, args.max_tokens)
        notes = []
        if ours == theirs.text:
            notes.append("same")
        else:
            differences += 1
            at = parting(ours, theirs.text)
            notes.append(f"DIFFERS at character {at}, margin {theirs.margin_at(at):.3f}")
            notes.append("as mlx_lm in f32" if ours == wide.text else "mlx_lm in f32: " + shown(wide.text).strip())
        if prompt_tokens != theirs.prompt_tokens:
            notes.append(f"prompt is {prompt_tokens} tokens, {theirs.prompt_tokens} in mlx_lm")
        question = shown(prompt["messages"][-1]["content"], 34)
        print(f"{question}  {shown(theirs.text)}  {shown(ours)}  {'; '.join(notes)}", flush=True)
    print(f"{len(prompts) - differences} of {len(prompts)} the same")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
