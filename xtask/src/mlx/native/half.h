/* For bindgen: the half types that mlx-c declares only on ARM, as mlx-rs expects them everywhere. */
#include <stdint.h>

typedef uint16_t float16_t;
typedef uint16_t bfloat16_t;
#define HAS_FLOAT16
#define HAS_BFLOAT16
