"""Turns a training checkpoint into the 4-bit model beside this folder: `export.py --checkpoint DIR`.

The weights are saved as transformers saves them and converted by mlx-lm itself, so the files are what mlx-lm would
store. Afterwards every matrix is compared with what training saw (quantise.py): they must be the same numbers.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import torch
from batches import Marks
from model import build, configuration
from quantise import GROUP, quantise, quantised_names
from tokenizers import Tokenizer
from train import HOME, load

SIZE_LIMIT = 8 * 2**20
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]


def check(model: torch.nn.Module, file: Path) -> None:
    """The stored levels, scales and biases are those of quantisation-aware training."""
    stored = mx.load(str(file))
    weights = dict(model.named_parameters())
    for name in quantised_names(model):
        levels, scales, biases = quantise(weights[name])
        base = "language_model." + name.removesuffix(".weight")
        packed = np.array(stored[base + ".weight"])
        unpacked = (packed[..., None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
        assert np.array_equal(unpacked.reshape(levels.shape), levels.numpy()), f"{name}: levels differ"
        for kind, ours in (("scales", scales), ("biases", biases)):
            theirs = np.array(stored[f"{base}.{kind}"].astype(mx.float32))
            assert np.array_equal(theirs, ours.float().numpy()), f"{name}: {kind} differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder with checkpoint.00, …")
    parser.add_argument("--out", type=Path, default=HOME)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(HOME / "tokenizer.json"))
    marks = Marks(tokenizer)
    end_ids = [marks.end, marks.pad]
    model = build(configuration(tokenizer.get_vocab_size(), end_ids, marks.pad))
    state = load(arguments.checkpoint, "cpu")
    for name, parameter in model.named_parameters():
        parameter.data.copy_(state["weights"][name])
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "hf", Path(folder) / "mlx"
        model.save_pretrained(source)
        # mlx-lm knows the text model by the family's name, and the layer pattern by its interval.
        config = json.loads((source / "config.json").read_text())
        config |= {"model_type": "qwen3_5", "dtype": "bfloat16", "full_attention_interval": config["layer_types"].index("full_attention") + 1}
        (source / "config.json").write_text(json.dumps(config))
        for name in TOKENIZER_FILES:
            shutil.copy(HOME / name, source)
        mlx_lm.convert(str(source), str(target), quantize=True, q_group_size=GROUP, q_bits=4, dtype="bfloat16")
        check(model, target / "model.safetensors")
        arguments.out.mkdir(exist_ok=True)
        for name in ("model.safetensors", "config.json"):
            shutil.copy(target / name, arguments.out)
        for name in TOKENIZER_FILES:
            if arguments.out.resolve() != HOME:
                shutil.copy(HOME / name, arguments.out)
    generation = {"bos_token_id": None, "eos_token_id": end_ids, "pad_token_id": marks.pad, "do_sample": False}
    (arguments.out / "generation_config.json").write_text(json.dumps(generation, indent=4) + "\n")
    names = ["model.safetensors", "config.json", "generation_config.json", *TOKENIZER_FILES]
    total = sum((arguments.out / name).stat().st_size for name in names)
    print(f"{total / 1e6:.2f} MB")
    assert total <= SIZE_LIMIT


if __name__ == "__main__":
    main()
