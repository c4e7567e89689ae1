"""Token batches: conversations rendered, tokenised and packed into rows, made by worker processes as training goes.

Every row is one conversation of many turns, cut at the row's length; loss is taken on what the assistant says. Long
rows are rarer but present, so that the model holds together over long chats.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from conversation import Message, conversation, render
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

# Rows × length, and how often. The product is always the same.
SHAPES = {(256, 128): 0.55, (128, 256): 0.35, (32, 1024): 0.10}
THINKING = 0.04  # the share of turns whose empty think block the model closes itself (enable_thinking)
IGNORE = -100


class Marks:
    """Token ids that structure a conversation."""

    def __init__(self, tokenizer: Tokenizer):
        self.pad = tokenizer.token_to_id("<|endoftext|>")
        self.end = tokenizer.token_to_id("<|im_end|>")
        self.think = tokenizer.token_to_id("<think>")
        self.answer = tokenizer.token_to_id("</think>")
        (self.newline,) = tokenizer.encode("\n").ids
        (self.blank_line,) = tokenizer.encode("\n\n").ids


def targets(ids: list[int], marks: Marks, rng: random.Random | None) -> tuple[list[int], list[bool]]:
    """The row and which of its tokens the assistant says; with `rng`, some turns think (nothing) before they answer."""
    row: list[int] = []
    said: list[bool] = []
    speaking = False
    i = 0
    while i < len(ids):
        token = ids[i]
        if token == marks.think:
            # <think> \n\n </think> \n\n, then the answer
            if rng is not None and rng.random() < THINKING:
                row += [marks.think, marks.newline, marks.newline, marks.answer, marks.blank_line]
                said += [False, False, True, True, True]
            else:
                row += ids[i : i + 4]
                said += [False] * 4
            speaking = True
            i += 4
            continue
        row.append(token)
        said.append(speaking)
        speaking = speaking and token != marks.end
        i += 1
    return row, said


class Conversations(IterableDataset):
    """An endless stream of `(ids, labels)`, both `[rows, length]`; labels are the next tokens or `IGNORE`."""

    def __init__(self, tokenizer_file: Path, seed: int):
        self.tokenizer_file, self.seed = tokenizer_file, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        tokenizer = Tokenizer.from_file(str(self.tokenizer_file))
        marks = Marks(tokenizer)
        info = get_worker_info()
        rng = random.Random(f"{self.seed} {info.id if info else 0}")
        while True:
            rows, length = rng.choices(list(SHAPES), list(SHAPES.values()))[0]
            ids = np.full((rows, length + 1), marks.pad, dtype=np.int64)
            said = np.zeros((rows, length + 1), dtype=bool)

            def enough(messages: list[Message], length: int = length) -> bool:
                return sum(len(m["content"]) / 4 + 6 for m in messages) > length

            texts = [render(conversation(rng, enough)) for _ in range(rows)]
            for r, encoding in enumerate(tokenizer.encode_batch_fast(texts)):
                row, spoken = targets(encoding.ids, marks, rng)
                count = min(len(row), length + 1)
                ids[r, :count], said[r, :count] = row[:count], spoken[:count]
            labels = np.where(said, ids, IGNORE)[:, 1:]
            yield torch.from_numpy(ids[:, :-1].copy()), torch.from_numpy(labels)


def loader(tokenizer_file: Path, seed: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    data = Conversations(tokenizer_file, seed)
    options = {"num_workers": workers, "prefetch_factor": 4} if workers else {}
    return iter(DataLoader(data, batch_size=None, pin_memory=torch.cuda.is_available(), **options))


def padded(cases: list[tuple[list[int], list[int]]], pad: int, rows: int, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Evaluation batches of one fixed shape from pairs of prompt and answer ids."""
    fitting = [case for case in cases if len(case[0]) + len(case[1]) <= length + 1]
    for start in range(0, len(fitting), rows):
        batch = fitting[start : start + rows]
        ids = torch.full((rows, length + 1), pad)
        labels = torch.full((rows, length + 1), IGNORE)
        for r, (prompt, answer) in enumerate(batch):
            ids[r, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            labels[r, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        yield ids[:, :-1], labels[:, 1:]
