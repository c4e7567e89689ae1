"""Faults that the check must find, each planted in a kernel that passes without it."""

INPUTS = {"x": ("float", False), "b": ("bf16", False), "h": ("half", False), "few": ("float", True), "fewb": ("bf16", True)}
OUTPUTS = {"out": "float", "outb": "bf16"}
TEMPLATE = {"T": "bf16", "N": 4}

# What every planted text has besides the fault: right uses of the same things.
HEADER = """
struct pair { float a; float b; };
inline float read(const device float* p) { return p[0]; }
inline float sum(const threadgroup float* p) { return p[0] + p[1]; }
template <typename P>
inline float any(P p) { return float(p[0]); }
"""
BODY = """
threadgroup float shared[N];
float own[N];
uint lane = thread_position_in_threadgroup.x;
own[0] = read(x) + any(few) + any(x) + float(b[lane]) + float(fewb[1]) + float(h[0]);
shared[lane] = own[0] * 2.0f;
threadgroup_barrier(mem_flags::mem_threadgroup);
pair two = *reinterpret_cast<const device pair*>(x + 2);
const thread float* mine = own;
outb[0] = static_cast<T>(mine[0]);
outb[1] = b[1];
outb[2] = fewb[0];
out[0] = sum(shared) + two.a;
"""

# Name: more header, more body, and a part of the message.
FAULTS = {
    "threadgroup memory where device is wanted": ("", "out[1] = read(shared);", "no matching function"),
    "device memory where threadgroup is wanted": ("", "out[1] = sum(x);", "no matching function"),
    "a small input where device is wanted": ("", "out[1] = read(few);", "no matching function"),
    "a thread's array where device is wanted": ("", "out[1] = read(own);", "no matching function"),
    "a thread's pointer to device memory": ("", "const thread float* p = x;", "cannot initialize"),
    "a cast from device to threadgroup": (
        "", "out[1] = *reinterpret_cast<const threadgroup float*>(x);", "reinterpret_cast"),
    "a cast that drops the address space": ("", "out[1] = reinterpret_cast<const pair*>(x)->a;", "address space"),
    "a C cast between address spaces": ("", "out[1] = *(const threadgroup float*)(x);", "mismatching address spaces"),
    "a pointer without address space": ("", "const float* p = x; out[1] = p[0];", "without address space: p"),
    "a parameter without address space": (
        "inline float loose(const float* p) { return p[0]; }", "out[1] = loose(x);", "without address space: p"),
    "a reference without address space": ("", "const float& r = x[0]; out[1] = r;", "without address space: r"),
    "writing to an input": ("", "x[0] = 1.0f;", "read-only"),
    "threadgroup memory in a function": (
        "inline float f() { threadgroup float a[2]; a[0] = 1.0f; return a[0]; }", "out[1] = f();", "local address space"),
    "threadgroup memory in an inner block": (
        "", "if (lane == 0) { threadgroup float a[2]; a[0] = 1.0f; out[1] = a[0]; }", "local address space"),
    "float into bfloat": ("", "bfloat16_t v = own[0]; outb[3] = v;", "no viable conversion"),
    "a float literal into bfloat": ("", "outb[3] = 1.0f;", "no viable"),
    "half into bfloat": ("", "outb[3] = h[0];", "no viable"),
    "bfloat into half": ("", "float16_t v = b[0]; out[1] = float(v);", "no viable conversion"),
    "bfloat into float": ("", "out[1] = b[0];", "assigning to"),
    "bfloat times float": ("", "out[1] = b[0] * own[0];", "invalid operands"),
    "a double literal": ("", "out[1] = own[0] * 2.0;", "double precision constant"),
    "a double variable": ("", "double d = own[0]; out[1] = float(d);", "poisoned"),
    "recursion": (
        "inline float down(int n) { return n == 0 ? 0.0f : down(n - 1); }", "out[1] = down(N);", "recursion: "),
    "recursion by way of another": (
        "float odd(int n);\ninline float even(int n) { return n == 0 ? 1.0f : odd(n - 1); }\n"
        "inline float odd(int n) { return n == 0 ? 0.0f : even(n - 1); }", "", "recursion: "),
    "new": ("", "auto p = new float[N]; out[1] = p[0];", "poisoned"),
    "throw": ("", "if (lane > 99) { throw 1; }", "poisoned"),
    "try": ("", "try { out[1] = 1.0f; } catch (...) { }", "poisoned"),
    "virtual": ("struct shape { virtual float area() const { return 0.0f; } };", "", "poisoned"),
    "a pointer to a function": ("", "float (*f)(float) = cos; out[1] = f(own[0]);", "pointers to functions"),
    "goto": ("", "goto end; end: out[1] = 0.0f;", "poisoned"),
    "a lambda expression": ("", "auto f = [&](int i) { return own[i]; }; out[1] = f(0);", "lambda"),
    "a C++17 word": ("", "if constexpr (N > 2) { out[1] = 0.0f; }", "C++17"),
    "a function that Metal lacks": ("", "out[1] = expf(own[0]);", "undeclared"),
    "a mathematical function of an integer": ("", "out[1] = exp(N);", "deleted function"),
    "a position that MLX does not declare": (
        "#define where thread_position_in_grid", "out[1] = float(where.x);", "undeclared"),
    "a shape that MLX does not declare": ("#define rows x_shape[0]", "out[1] = float(rows);", "undeclared"),
}


def missed(mlx, checker):
    """The faults that pass, and what is wrong with the text without any."""
    def found(header, body):
        text = mlx.text("planted", HEADER + header + "\n", BODY + body + "\n", INPUTS, OUTPUTS, TEMPLATE)
        return "\n".join(checker.faults(text, mlx.spelled(TEMPLATE)))

    if wrong := found("", ""):
        yield f"a text without a fault is refused\n{wrong}"
    for name, (header, body, message) in FAULTS.items():
        said = found(header, body)
        if message not in said:
            yield f"planted and not found: {name} (wanted: {message})\n{said}"
