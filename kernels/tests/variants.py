"""The variants in which the GPU kernels are compiled: by nvrtc.py as CUDA, by metal.py as Metal."""

# The names of types here, in C as MLX spells them for CUDA and for Metal.
TYPES = ("float", "half", "bf16")

# Kernel: the types of inputs and outputs (a template type by its name; "?": the input may have fewer than 8 elements, which
# Metal passes in another address space), and template arguments to try.
CASES = {
    "add_norm": ("float Y float float", "float T", [
        {"W": 5120, "GROUP": 512, "Y": y, "PARTS": parts, "T": t} for y in TYPES for t in TYPES
        for parts in ((1, 3) if y == "float" else (1,))]),
    "swiglu": ("T T", "T", [{"GROUP": 256, "T": t} for t in TYPES]),
    "route": ("L", "uint float", [{"E": e, "K": k, "L": t} for t in TYPES for e, k in ((256, 8), (1024, 32), (5, 2))]),
    "mix": ("T float? G? T", "float", [
        {"W": 2048, "K": 8, "SHARED": shared, "GROUP": 256, "T": t, "G": g}
        for t in TYPES for g in ("bf16", "float") for shared in (0, 1)]),
    "gated_norm": ("float T float float", "T", [{"D": 128, "T": t} for t in TYPES]),
    "short_conv": ("T float T int? int? int", "T T", [{"C": 10240, "TAPS": 4, "GROUP": 256, "T": t} for t in TYPES]),
    "gated_delta": ("T T? T? float? float? float int?", "float float", [
        {"HK": 16, "HV": 48, "DK": dk, "DV": 128, "LINES": 32, "TILE": 2048 // dk, "T": t}
        for t in TYPES for dk in (32, 64, 128, 256)]),
    "delta_step": ("T float T int? int? int T? T? float? float? float int? T float float", "T T float", [
        {"HK": 16, "HV": 48, "DK": dk, "DV": 128, "TAPS": 4, "WARPS": 8, "T": t}
        for t in TYPES for dk in (32, 128)]),
    "placed": ("T T int? float", "T", [{"H": 24, "D": 256, "STRIDE": 512, "ROTARY": 64, "T": t} for t in TYPES]),
    "sdpa_plain_v": ("T T T int? int? float", "float float", [
        {"G": g, "HKV": 4, "D": d, "PAGE": 64, "KEYS": 4, "SPAN": 512, "WARPS": 4, "T": t}
        for t in TYPES for g, d in ((6, 256), (1, 32))]),
    "sdpa_packed_v": ("T T uint half half int? int? float", "float float", [
        {"G": 6, "HKV": 4, "D": 256, "PAGE": 64, "KEYS": 4, "SPAN": 512, "WARPS": 4, "BITS": bits, "T": t}
        for t in TYPES for bits in (4, 8)]),
    "attention_end": ("float float? T", "T", [{"D": 256, "T": t} for t in TYPES]),
    "unpack": ("uint S", "T", [{"ROWS": 5120, "COLS": 17408, "GROUP": 128, "S": t, "T": t} for t in ("bf16", "float")]),
    "quantize_v": ("T", "uint half half", [{"BITS": bits, "T": t} for t in TYPES for bits in (4, 8)]),
}

# On NVIDIA's tensor cores.
CUDA_ONLY = {}
FEW = [
    {"S": s, "Y": s, "NT": nt, "MT": mt, "U": u, "WK": wk, "RUN": run}
    for nt, mt, u, wk, run in (
        (1, 2, 2, 4, 3), (1, 1, 2, 8, 3), (2, 2, 2, 4, 3), (2, 2, 1, 8, 2), (4, 2, 1, 4, 3), (4, 1, 1, 8, 2))
    for s in ("bf16", "float")]
WIDE = [
    {"S": "bf16", "Y": y, "NT": nt, "MT": 2, "W": 4, "WK": 4, "RUN": 4, "PARTS": parts}
    for nt in (2, 4) for y, parts in (("bf16", 1), ("float", 3))]
for m in range(1, 5):
    for family, variants in (("qmv", FEW), ("qmm", WIDE)):
        CUDA_ONLY[f"{family}{m}"] = ("bf16 int" + " uint S" * m, " ".join(["Y"] * m), variants)
CUDA_ONLY["qmv_gated"] = ("bf16 int uint S uint S", "Y", [
    v for v in FEW if v["MT"] == 2 and v["WK"] == 4 and v["S"] == "bf16"])
CUDA_ONLY["qmv_places"] = ("bf16 int uint uint S", "Y", [
    {"S": "bf16", "Y": "bf16", "NT": 1, "MT": 1, "U": 2, "WK": 4, "RUN": 3, "SHARE": share} for share in (1, 8)])
CUDA_ONLY["qmv_places_gated"] = ("bf16 int uint uint S uint S", "Y", [
    {"S": "bf16", "Y": "bf16", "NT": 1, "MT": 2, "U": 2, "WK": 4, "RUN": 3, "SHARE": share} for share in (1, 8)])
CUDA_ONLY["qmm_gated"] = ("bf16 int uint S uint S", "Y", [
    {"S": "bf16", "Y": "bf16", "NT": nt, "MT": 2, "W": 3, "WK": 2, "RUN": 4, "PARTS": 1} for nt in (2, 4)])
CUDA_ONLY["placed_store"] = ("T T T T T int int float T T", "T", [
    {"H": 24, "HKV": 4, "D": 256, "ROTARY": 64, "T": t} for t in TYPES])
for kind in ("rows", "segments"):
    CUDA_ONLY[f"sdpa_tensor_{kind}"] = ("bf16 bf16 bf16 int int int int float", "float float", [
        {"G": g, "HKV": 4, "D": d} for g, d in ((6, 256), (8, 128), (1, 64))])


def cases(sources):
    """Every kernel with its folder in `sources`; ends the program if a kernel has no variants or the other way round."""
    there = {folder.name.removeprefix("sanctum_") for folder in sources.iterdir()}
    known = CASES | CUDA_ONLY
    if there != set(known):
        raise SystemExit(f"variants.py: no variants for {there - set(known)}, no texts for {set(known) - there}")
    return {kernel: (sources / f"sanctum_{kernel}", *case) for kernel, case in known.items()}
