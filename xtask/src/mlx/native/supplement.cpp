// What mlx-c declares only on ARM and mlx-rs wants everywhere, and the clock of macOS that mlx-rs seeds from.

#include <cstdint>
#include <ctime>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

namespace {

template <typename Read>
int guarded(Read read) {
  try {
    read();
    return 0;
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}

} // namespace

extern "C" {

int mlx_array_item_float16(uint16_t* result, const mlx_array array) {
  return guarded([&] {
    auto value = mlx_array_get_(array).item<mlx::core::float16_t>();
    *result = reinterpret_cast<const uint16_t&>(value);
  });
}

int mlx_array_item_bfloat16(uint16_t* result, const mlx_array array) {
  return guarded([&] {
    auto value = mlx_array_get_(array).item<mlx::core::bfloat16_t>();
    *result = reinterpret_cast<const uint16_t&>(value);
  });
}

const uint16_t* mlx_array_data_float16(const mlx_array array) {
  const uint16_t* data = nullptr;
  guarded([&] { data = mlx_array_get_(array).data<uint16_t>(); });
  return data;
}

const uint16_t* mlx_array_data_bfloat16(const mlx_array array) {
  const uint16_t* data = nullptr;
  guarded([&] { data = mlx_array_get_(array).data<uint16_t>(); });
  return data;
}

uint64_t mach_approximate_time() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

} // extern "C"
