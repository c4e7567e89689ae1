// The words of the dialect in Metal. MLX puts this before the kernel, at global scope.
#define K_SHARED threadgroup
#define K_SYNC() threadgroup_barrier(mem_flags::mem_threadgroup)
#define K_XOR(value, mask) simd_shuffle_xor(value, ushort(mask))
#define K_EXP(x) exp(x)
#define K_LOG(x) log(x)
#define K_RSQRT(x) (1.0f / sqrt(x))
#define K_FMA(a, b, c) fma(a, b, c)
#define K_SIN(x) sin(x)
#define K_COS(x) cos(x)
#define K_DEVICE device
