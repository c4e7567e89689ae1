"""The text that MLX makes of a kernel for Metal, by MLX itself.

MLX writes it when a kernel is called. Where there is no Metal it refuses calls, except while a function is exported:
then the call is only recorded, and `verbose` prints the text.
"""

import os
import pathlib
import re
import sys
import tempfile

WHEEL = pathlib.Path(__file__).parents[3] / "xtask/src/mlx/wheel.rs"


def load():
    """mlx.core, of the version that the server is built with."""
    wanted = re.search(r'VERSION: &str = "([\d.]+)"', WHEEL.read_text())[1]
    try:
        import mlx.core as mx
    except ImportError:
        sys.exit(f"metal.py: MLX is missing: pip install --no-deps mlx=={wanted} mlx-cpu=={wanted}")
    if mx.__version__ != wanted:
        sys.exit(f"metal.py: MLX {mx.__version__} is installed, the server has {wanted} (xtask/src/mlx/wheel.rs)")
    return mx


class Mlx:
    # By the names of variants.py: MLX's types' names, and Metal's.
    DTYPES = {"float": "float32", "half": "float16", "bf16": "bfloat16", "int": "int32", "uint": "uint32"}
    SPELLED = {"float": "float", "half": "float16_t", "bf16": "bfloat16_t"}

    def __init__(self):
        self.mx = load()

    def dtype(self, name):
        return getattr(self.mx, self.DTYPES[name])

    def text(self, name, header, body, inputs, outputs, template):
        """The text for `inputs`: names to (type, whether it has fewer than 8 elements), `outputs`: names to types."""
        kernel = self.mx.fast.metal_kernel(
            name=name, input_names=list(inputs), output_names=list(outputs), source=body, header=header)
        arguments = [(k, self.dtype(v) if isinstance(v, str) else v) for k, v in template.items()]
        arrays = [self.mx.zeros((1, 2) if small else (8, 8), self.dtype(t)) for t, small in inputs.values()]

        def call(*arrays):
            return kernel(
                inputs=arrays, template=arguments, grid=(32, 1, 1), threadgroup=(32, 1, 1), verbose=True,
                output_shapes=[(8,)] * len(outputs), output_dtypes=[self.dtype(t) for t in outputs.values()])

        printed = self.printed(call, arrays)
        return re.search(r"^```\n(.*?)^```$", printed, re.DOTALL | re.MULTILINE)[1]

    def printed(self, call, arrays):
        """What MLX prints while `call` is exported; it writes to the process's output, not to Python's."""
        with tempfile.TemporaryDirectory() as folder:
            said = pathlib.Path(folder, "said")
            sys.stdout.flush()
            kept = os.dup(1)
            with said.open("w") as file:
                os.dup2(file.fileno(), 1)
            try:
                self.mx.export_function(str(pathlib.Path(folder, "exported")), call, *arrays)
            finally:
                os.dup2(kept, 1)
                os.close(kept)
            return said.read_text()

    def spelled(self, template):
        """Template arguments as Metal's text has them."""
        return {k: self.SPELLED.get(v, v) for k, v in template.items()}
