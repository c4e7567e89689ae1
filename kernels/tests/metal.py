"""Compiles every kernel's Metal flavour with clang as MLX writes it. Needs no GPU and no Mac; nothing is run.

usage: metal.py SOURCES     the folder that `cargo run -p sanctum-kernels --example gpu_sources -- SOURCES` writes
needs: clang, and MLX in the version that the server is built with (it says which)
"""

import pathlib
import sys

from metal_check import planted
from metal_check.checker import Checker
from metal_check.mlx_text import Mlx
from variants import CUDA_ONLY, cases


def texts(mlx, sources):
    """Every kernel in every variant: once with all inputs large, once with all small that may be."""
    for kernel, (folder, inputs, outputs, variants) in cases(sources).items():
        if kernel in CUDA_ONLY:
            continue
        read = {file: (folder / file).read_text() for file in ("header.metal", "body", "inputs", "outputs")}
        for template in variants:
            def named(names, types):
                return dict(zip(read[names].split(), (template.get(t, t) for t in types), strict=True))

            for small in (False, True) if "?" in inputs else (False,):
                types = inputs.split()
                sizes = {name: small and "?" in t for name, t in zip(read["inputs"].split(), types, strict=True)}
                taken = named("inputs", [t.rstrip("?") for t in types])
                text = mlx.text(
                    folder.name, read["header.metal"], read["body"], {n: (t, sizes[n]) for n, t in taken.items()},
                    named("outputs", outputs.split()), template)
                yield f"{kernel} {template}{' with small inputs' if small else ''}", text, template


def main():
    sources = pathlib.Path(sys.argv[1])
    mlx, checker = Mlx(), Checker()
    failures = list(planted.missed(mlx, checker))
    passed = len(planted.FAULTS) + 1 - len(failures)
    for name, text, template in texts(mlx, sources):
        if found := checker.faults(text, mlx.spelled(template)):
            failures.append(f"{name}: is no Metal\n" + "\n".join(found))
        else:
            passed += 1
    print(*failures, sep="\n")
    print(f"metal: {passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
