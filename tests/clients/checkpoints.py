"""Writes small Qwen3.5 checkpoints: `scripted` says given texts, `random_weights` says anything.

The scripted model has no knowledge: every token names the next. Its residual stream holds a code of the last token
and, by one attention head that always looks one position back, a code of the token before it. The output matrix looks
the next token up in both: text is cut into pieces that occur once in all scripts, so the last token decides; tags such
as `<tool_call>` occur often, so the token before them decides.

The chat template picks the script: `[weather]` in a message that is not the assistant's selects the script "weather",
and each assistant turn after that message advances it by one answer. Standard library only.

    python3 checkpoints.py scripted DIR
    python3 checkpoints.py random DIR [SEED]
"""

import array
import json
import math
import pathlib
import random
import re
import struct
import sys

from scripts import SCRIPTS

TINY = pathlib.Path(__file__).resolve().parents[2] / "models" / "tiny"
CONTEXT = 16384

# The scripted model: CODE numbers for the last token, as many for the one before, and some that are always 1.
CODE = 256
CONSTANT = 32
WIDTH = 2 * CODE + CONSTANT
HEADS = 4
HEAD_DIM = CODE // HEADS
ROTARY = HEAD_DIM // 2
THETA = 30.0  # of several bases the one with a wide margin between distance 1 and any other up to CONTEXT
SHARPNESS = 10.0
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
END = "<|im_end|>"
# Stands before a selector.
GUARD = "\u3000"
# Tokens that follow many others get no code of each (their sum would resemble any code) but a number of their own: the
# first numbers of a code say which of these is next, and which is next once the tag after this token has been said.
COMMON = [*TAGS, END]
FLAG = 8.0


def bf16(values):
    """Floats as bytes of bfloat16."""
    raw = array.array("f", values).tobytes()
    out = bytearray(len(raw) // 2)
    out[0::2] = raw[2::4]
    out[1::2] = raw[3::4]
    return bytes(out)


def write_safetensors(path, tensors):
    """`tensors`: name -> (dtype, shape, bytes)."""
    header, offset = {"__metadata__": {"format": "mlx"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def matrix(rows, columns, cells=()):
    """A matrix of zeros, except for (row, column, value)."""
    values = array.array("f", bytes(4 * rows * columns))
    for row, column, value in cells:
        values[row * columns + column] = value
    return "BF16", [rows, columns], bf16(values)


def vector(size, value):
    return "BF16", [size], bf16([value] * size)


def byte_letters():
    """The letter that stands for each byte in a byte-level vocabulary."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + n) for n, byte in enumerate(hidden)}


LETTERS = byte_letters()


def spelled(text):
    return "".join(LETTERS[byte] for byte in text.encode())


class Pieces:
    """Cuts texts into pieces of which each occurs once."""

    def __init__(self, vocabulary):
        self.used = set(vocabulary)
        # Whole segments between two tags may be these; each can be used once.
        self.separators = {spelled("\n"), spelled("\n\n")}

    def cut(self, text):
        whole, pieces, start = spelled(text), [], 0
        if whole in self.separators:
            self.separators.remove(whole)
            return [whole]
        while start < len(whole):
            end = start + 2
            while end <= len(whole) and whole[start:end] in self.used:
                end += 1
            piece = whole[start:end]
            while piece in self.used or len(piece) < 2:  # the tail is taken: join it to the piece before
                if not pieces:
                    raise ValueError(f"the segment {text!r} of a script is not unique; change its words")
                self.used.discard(pieces[-1])
                piece = pieces.pop() + piece
            self.used.add(piece)
            pieces.append(piece)
            start = end
        return pieces


def segments(text):
    return [part for part in re.split("(" + "|".join(map(re.escape, TAGS)) + ")", text) if part]


def chains():
    """(names of selectors by script, [(selector, text)])."""
    selectors, texts = {}, []
    # Selectors are white space, since a prompt that ends with `<think>` and white space is one whose answer begins with
    # reasoning. U+2000 and U+2001 are not normalised.
    free = (chr(a) + chr(b) for a in range(0x2002, 0x200B) for b in range(0x2002, 0x200B))
    for name, answers in SCRIPTS.items():
        for key in (name, name + "/thinking"):
            row = []
            for step, answer in enumerate(answers):
                thought, said = answer if isinstance(answer, tuple) else (None, answer)
                if key.endswith("/thinking") and thought is not None:
                    row.append(next(free))
                    texts.append((row[-1], f"{thought}\n</think>\n\n{said}"))
                else:
                    plain = selectors[name][step] if key != name else next(free)
                    row.append(plain)
                    if key == name:
                        texts.append((plain, said))
            selectors[key] = row
    return selectors, texts


PICK = """
{%- set scripts = SELECTORS -%}
{%- set pick = namespace(name='hello', step=0) -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- set pick.step = pick.step + 1 -%}
    {%- else -%}
        {%- set content = text_of(message.content) -%}
        {%- for name in NAMES -%}
            {%- if '[' + name + ']' in content -%}
                {%- set pick.name = name -%}
                {%- set pick.step = 0 -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- set said = scripts[pick.name + ('/thinking' if enable_thinking is defined and enable_thinking is true else '')] -%}
    {#- Two tokens, so that the one before the selector is never a line break of a script. -#}
    {{- GUARD + said[[pick.step, (said | length) - 1] | min] -}}
{%- endif -%}
"""


def write_text_files(folder, tokenizer, template):
    """Everything but weights and config.json; returns the ids by text."""
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_bytes((TINY / "tokenizer_config.json").read_bytes())
    ends = {"eos_token_id": [ids[END], ids["<|endoftext|>"]], "pad_token_id": ids["<|endoftext|>"], "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    (folder / "chat_template.jinja").write_text(template)
    return ids


def scripted(folder):
    """Writes the checkpoint that says SCRIPTS."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = json.loads((TINY / "tokenizer.json").read_text())
    vocabulary, added = tokenizer["model"]["vocab"], tokenizer["added_tokens"]
    selectors, texts = chains()

    pieces = Pieces(vocabulary)
    said = []  # (selector, [token])
    for selector, text in texts:
        tokens = []
        for segment in segments(text):
            tokens += [segment] if segment in TAGS else pieces.cut(segment)
        said.append((selector, tokens))
    for _, tokens in said:
        for token in tokens:
            if token not in TAGS and token not in vocabulary:
                vocabulary[token] = len(vocabulary)
    # Added tokens come last. The end token leaves a chain at its end only, so it needs no place of its own.
    names = [(token["content"], token["special"]) for token in added] + [(GUARD, True)]
    names += [(selector, True) for selector, _ in texts]
    base = len(vocabulary)
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"] = [{"id": base + n, "content": text, "special": special, **plain} for n, (text, special) in enumerate(names)]
    template = (TINY / "chat_template.jinja").read_text()
    names = json.dumps(list(SCRIPTS))
    template += PICK.replace("SELECTORS", json.dumps(selectors)).replace("NAMES", names).replace("GUARD", json.dumps(GUARD))
    ids = write_text_files(folder, tokenizer, template)

    draw = random.Random(15)
    codes = []
    for _ in ids:
        bits = draw.getrandbits(CODE)
        code = array.array("f", (1.0 if bits >> n & 1 else -1.0 for n in range(CODE)))
        code[: 2 * len(COMMON)] = array.array("f", [0.0] * (2 * len(COMMON)))
        codes.append(code)
    head = array.array("f", bytes(4 * len(ids) * WIDTH))

    def follows(token, after, behind_tag):
        row = ids[after] * WIDTH + behind_tag * CODE
        if after in COMMON:
            flag = COMMON.index(after) + behind_tag * len(COMMON)
            codes[ids[token]][flag] = FLAG
            head[row + flag] = FLAG
            return
        for n, value in enumerate(codes[ids[token]][2 * len(COMMON) :], 2 * len(COMMON)):
            head[row + n] += value / 4

    for selector, tokens in said:
        chain = [selector, *tokens, END]
        if any(here in TAGS and after in TAGS for here, after in zip(tokens, tokens[1:])):
            raise ValueError(f"two tags follow each other in the script {tokens}; put text between them")
        for before, here, after in zip([None, *chain], chain, chain[1:]):
            behind_tag = here in TAGS
            follows(before if behind_tag else here, after, behind_tag)
    embedding, tail = array.array("f"), array.array("f", [0.0] * CODE + [1.0] * CONSTANT)
    for code in codes:
        embedding += code
        embedding += tail
    # The head that looks one position back: constant queries, one step behind the constant keys.
    half = ROTARY // 2
    angles = [THETA ** (-n / half) for n in range(half)]
    one = 2 * CODE  # a number that is 1 for every token
    query, key, value, output = [], [], [], []
    for h in range(HEADS):
        for n, angle in enumerate(angles):
            query.append((h * 2 * HEAD_DIM + n, one, math.cos(angle)))
            query.append((h * 2 * HEAD_DIM + half + n, one, -math.sin(angle)))
            key.append((h * HEAD_DIM + n, one, 1.0))
    for n in range(CODE):
        value.append((n, n, 1.0))
        output.append((CODE + n, n, 2.0))  # the gate of a query that is zero halves what comes out
    layer = {
        "input_layernorm.weight": vector(WIDTH, 1.0),
        "post_attention_layernorm.weight": vector(WIDTH, 1.0),
        "self_attn.q_proj.weight": matrix(2 * CODE, WIDTH, query),
        "self_attn.k_proj.weight": matrix(CODE, WIDTH, key),
        "self_attn.v_proj.weight": matrix(CODE, WIDTH, value),
        "self_attn.o_proj.weight": matrix(WIDTH, CODE, output),
        "self_attn.q_norm.weight": vector(HEAD_DIM, SHARPNESS),
        "self_attn.k_norm.weight": vector(HEAD_DIM, SHARPNESS),
        "mlp.gate_proj.weight": matrix(32, WIDTH),
        "mlp.up_proj.weight": matrix(32, WIDTH),
        "mlp.down_proj.weight": matrix(WIDTH, 32),
    }
    tensors = {f"model.layers.0.{name}": tensor for name, tensor in layer.items()}
    tensors["model.embed_tokens.weight"] = "BF16", [len(ids), WIDTH], bf16(embedding)
    tensors["model.norm.weight"] = vector(WIDTH, 1.0)
    tensors["lm_head.weight"] = "BF16", [len(ids), WIDTH], bf16(head)
    write_safetensors(folder / "model.safetensors", tensors)
    write_config(folder, ids, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, full_attention_interval=1,
                 num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=HEAD_DIM, theta=THETA, rotary=ROTARY / HEAD_DIM,
                 linear_num_key_heads=1, linear_num_value_heads=1, linear_key_head_dim=32, linear_value_head_dim=32)


def write_config(folder, ids, theta, rotary, **shape):
    config = {
        "model_type": "qwen3_5_text", "architectures": ["Qwen3_5ForCausalLM"], "vocab_size": len(ids),
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "attention_bias": False,
        "linear_conv_kernel_dim": 4, "hidden_act": "silu", "eos_token_id": [ids[END], ids["<|endoftext|>"]],
        "rope_parameters": {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": rotary}, **shape,
    }
    (folder / "config.json").write_text(json.dumps(config))


def random_weights(folder, seed=5, spread=3.0):
    """Writes a checkpoint of random weights with the built-in model's tokenizer: three linear layers and a full one."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    tokenizer = json.loads((TINY / "tokenizer.json").read_text())
    ids = write_text_files(folder, tokenizer, (TINY / "chat_template.jinja").read_text())
    width, inner, head = 64, 128, 32

    def normal(rows, columns, scale=1.0):
        deviation = scale / math.sqrt(columns)
        return "BF16", [rows, columns], bf16([draw.gauss(0, deviation) for _ in range(rows * columns)])

    tensors = {}
    for number in range(4):
        layer = {
            "input_layernorm.weight": vector(width, 1.0), "post_attention_layernorm.weight": vector(width, 1.0),
            "mlp.gate_proj.weight": normal(inner, width), "mlp.up_proj.weight": normal(inner, width),
            "mlp.down_proj.weight": normal(width, inner),
        }
        if number == 3:
            layer |= {
                "self_attn.q_proj.weight": normal(2 * 2 * head, width), "self_attn.k_proj.weight": normal(head, width),
                "self_attn.v_proj.weight": normal(head, width), "self_attn.o_proj.weight": normal(width, 2 * head),
                "self_attn.q_norm.weight": vector(head, 1.0), "self_attn.k_norm.weight": vector(head, 1.0),
            }
        else:
            mixed = 2 * head + 2 * head  # one key head for queries, one for keys, two value heads
            convolution = "BF16", [mixed, 4, 1], normal(mixed, 4)[2]
            layer |= {
                "linear_attn.A_log": ("F32", [2], struct.pack("<2f", 0.0, 0.5)), "linear_attn.dt_bias": vector(2, 0.5),
                "linear_attn.conv1d.weight": convolution, "linear_attn.norm.weight": vector(head, 1.0),
                "linear_attn.in_proj_a.weight": normal(2, width), "linear_attn.in_proj_b.weight": normal(2, width),
                "linear_attn.in_proj_qkv.weight": normal(mixed, width), "linear_attn.in_proj_z.weight": normal(2 * head, width),
                "linear_attn.out_proj.weight": normal(width, 2 * head),
            }
        tensors |= {f"model.layers.{number}.{name}": tensor for name, tensor in layer.items()}
    tensors["model.embed_tokens.weight"] = normal(len(ids), width, math.sqrt(width))
    tensors["model.norm.weight"] = vector(width, 1.0)
    tensors["lm_head.weight"] = normal(len(ids), width, spread)
    write_safetensors(folder / "model.safetensors", tensors)
    write_config(folder, ids, hidden_size=width, intermediate_size=inner, num_hidden_layers=4, full_attention_interval=4,
                 num_attention_heads=2, num_key_value_heads=1, head_dim=head, theta=1e4, rotary=0.25, linear_num_key_heads=1,
                 linear_num_value_heads=2, linear_key_head_dim=head, linear_value_head_dim=head)


def main(kind, folder, seed="5"):
    if kind == "scripted":
        scripted(folder)
    elif kind == "random":
        random_weights(folder, int(seed))
    else:
        raise SystemExit(f"unknown kind of checkpoint `{kind}`; use scripted or random")


if __name__ == "__main__":
    main(*sys.argv[1:])
