// The part of CUDA C++ that the kernels use, for g++ (C++20):  g++ -x c++ -include cuda_shim.h density.cu
//
// Not modelled: races between threads of a block (they never run at once), the contraction of a * b + c, the
// approximate division and square root of the options that gridgrad.gpu compiles with.
#pragma once
#include "fibers.h"
#include <cmath>

#undef __noinline__
#define __global__
#define __host__
#define __device__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ thread_local         // one block at a time per operating-system thread

#define threadIdx (shim::current->index)
#define blockIdx (shim::block_index)
#define blockDim (shim::block_size)
#define gridDim (shim::grid_size)

inline void __syncthreads() { shim::sync_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { shim::sync_warp(mask); }
inline unsigned __ballot_sync(unsigned mask, int vote) { return shim::ballot(mask, vote != 0); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source)
{
    return shim::exchange(mask, value, source & 31);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned bits)
{
    return shim::exchange(mask, value, shim::current->lane ^ bits);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance)
{
    const unsigned lane = shim::current->lane;
    return shim::exchange(mask, value, lane + distance < 32 ? lane + distance : lane);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance)
{
    const unsigned lane = shim::current->lane;
    return shim::exchange(mask, value, lane >= distance ? lane - distance : lane);
}

inline unsigned atomicOr(unsigned *target, unsigned bits) { return std::atomic_ref<unsigned>(*target).fetch_or(bits); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return bits ? std::countr_zero(unsigned(bits)) + 1 : 0; }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }

// What the stand-in driver and the tests call. The rest is hidden: libraries of two precisions share all their names.
#define SHIM_VISIBLE extern "C" __attribute__((visibility("default")))
// shim_launch_NAME(grid, block, argument buffer, its size); shim_global_launch_NAME(&its size) -> the address of its row
#define SHIM_EXPORT(name) \
    SHIM_VISIBLE void shim_launch_##name(const unsigned *grid, const unsigned *block, const void *buffer, size_t bytes) \
    { shim::launch_packed(name, grid, block, (const char *)buffer, bytes); } \
    SHIM_VISIBLE void *shim_global_launch_##name(size_t *bytes) { *bytes = sizeof launch_##name; return launch_##name; }
