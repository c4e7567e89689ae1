"""Compiles every kernel's CUDA flavour with NVRTC as MLX wraps it, for sm_90. Needs no GPU.

usage: nvrtc.py SOURCES     the folder that `cargo run -p sanctum-kernels --example gpu_sources -- SOURCES` writes
needs: pip install 'nvidia-cuda-nvrtc==13.*' 'nvidia-cuda-runtime==13.*' 'nvidia-cuda-cccl==13.*'
"""

import ctypes
import glob
import pathlib
import sys

from variants import cases

TYPES = {"float": "float", "half": "__half", "bf16": "__nv_bfloat16"}


def packages():
    found = [lib for root in sys.path for lib in glob.glob(f"{root}/nvidia/*/lib/libnvrtc.so.13")]
    if not found:
        sys.exit("nvrtc.py: libnvrtc.so.13 is missing: pip install 'nvidia-cuda-nvrtc==13.*' "
                 "'nvidia-cuda-runtime==13.*' 'nvidia-cuda-cccl==13.*'")
    home = pathlib.Path(found[0]).parent.parent
    return found[0], [home / "include", home / "include" / "cccl"]


class Nvrtc:
    def __init__(self):
        library, folders = packages()
        self.lib = ctypes.CDLL(library)
        self.options = [b"--gpu-architecture=sm_90a", b"--device-as-default-execution-space", b"-std=c++20",
                        b"--ptxas-options=-v"]
        self.options += [f"-I{folder}".encode() for folder in folders]

    def compile(self, name, source):
        """NVRTC's status, 0 if it compiles, and what the compiler says."""
        program = ctypes.c_void_p()
        self.lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
        options = (ctypes.c_char_p * len(self.options))(*self.options)
        status = self.lib.nvrtcCompileProgram(program, len(self.options), options)
        size = ctypes.c_size_t()
        self.lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self.lib.nvrtcGetProgramLog(program, log)
        self.lib.nvrtcDestroyProgram(ctypes.byref(program))
        return status, log.value.decode().strip()


def wrapped(folder, arguments, types, outputs):
    """The text that MLX makes of a kernel."""

    def spell(t):
        return {"int": "int", "uint": "uint32_t"}.get(t) or TYPES[arguments.get(t, t)]

    body = (folder / "body").read_text()
    parameters = []
    for name, t in zip((folder / "inputs").read_text().split(), types, strict=True):
        parameters.append(f"const {spell(t)}* {name}")
        if f"{name}_shape" in body:
            parameters.append(f"const __grid_constant__ cuda::std::array<int32_t, 10> {name}_shape")
    names = (folder / "outputs").read_text().split()
    parameters += [f"{spell(t)}* {name}" for name, t in zip(names, outputs, strict=True)]
    constants = [f"using {k} = {TYPES[v]};" if isinstance(v, str) else f"constexpr int {k} = {v};"
                 for k, v in arguments.items()]
    return "\n".join([
        "#include <cuda_bf16.h>", "#include <cuda_fp16.h>", "#include <cuda/std/array>", "#include <cuda/std/cstdint>",
        "#include <cooperative_groups.h>", "using namespace cuda::std;",
        (folder / "header.cuda").read_text(),
        "namespace mlx::core::cu { namespace cg = cooperative_groups;",
        f"__global__ void custom_kernel({', '.join(parameters)}) {{", *constants, body, "}}"])


def main():
    sources = pathlib.Path(sys.argv[1])
    nvrtc, failures, count = Nvrtc(), 0, 0
    for kernel, (folder, inputs, outputs, variants) in cases(sources).items():
        for arguments in variants:
            text = wrapped(folder, arguments, inputs.replace("?", "").split(), outputs.split())
            status, log = nvrtc.compile(f"{kernel}.cu", text)
            spills = [line for line in log.splitlines() if "spill" in line and "0 bytes spill stores" not in line]
            registers = [line.split("Used ")[1].split(",")[0] for line in log.splitlines() if "Used " in line]
            count += 1
            if status:
                failures += 1
                print(f"{kernel} {arguments}: does not compile\n{log}")
            else:
                print(f"{kernel} {arguments}: {' '.join(registers)} {' '.join(spills)}")
    print(f"nvrtc: {count - failures} passed, {failures} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
