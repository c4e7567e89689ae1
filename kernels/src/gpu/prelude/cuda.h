// The words of the dialect in CUDA. MLX puts this before the kernel, at global scope.
#define thread_position_in_threadgroup threadIdx
#define threadgroup_position_in_grid blockIdx
#define K_SHARED __shared__
#define K_SYNC() __syncthreads()
#define K_XOR(value, mask) __shfl_xor_sync(0xffffffffu, value, mask)
#define K_EXP(x) expf(x)
#define K_LOG(x) logf(x)
#define K_RSQRT(x) (1.0f / sqrtf(x))
#define K_FMA(a, b, c) fmaf(a, b, c)
typedef __half float16_t;
typedef __nv_bfloat16 bfloat16_t;
typedef unsigned int uint;
#define K_SIN(x) sinf(x)
#define K_COS(x) cosf(x)
#define K_DEVICE
