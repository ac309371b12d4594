// What is found once a call, before its tiles, where that pays (gridgrad/kernels/gpu/preparation.py): Prepared.
#pragma once
#include "tile.cuh"

enum {
    BITS_THREADS = 256
};

__device__ __forceinline__ void find_weight_bits(const Atoms &atoms, const real *u_weights, const real *v_weights,
                                                 int n_parts, unsigned *__restrict__ bits,
                                                 unsigned *__restrict__ channels)
{
    // item = (example, part of its atoms)
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, words = words_of(atoms);
    const long long b = blockIdx.x / n_parts, part = blockIdx.x % n_parts;
    const long long first = first_atom(atoms, b), n = first_atom(atoms, b + 1) - first;
    const long long end = first + n * (part + 1) / n_parts;
    __shared__ unsigned found[2][BITS_THREADS / 32];
    for (int word = 0; word < words; ++word) {
        const int k = 32 * word + lane;
        unsigned any = 0;
        real zero = 0;
#pragma unroll 2
        for (long long i = first + n * part / n_parts + warp; i < end; i += BITS_THREADS / 32) {
            const long long at = i * atoms.n_types + k;
            real w = 0, u = 0, v = 0;
            if (k < atoms.n_types) {
                w = atoms.weights[at];
                u = u_weights != nullptr ? u_weights[at] : (real)0;
                v = v_weights != nullptr ? v_weights[at] : (real)0;
            }
            const unsigned counting = __ballot_sync(0xffffffffu, w != 0 || u != 0 || v != 0);
            any |= counting;
            zero += (w - w) + (u - u) + (v - v);
            if (lane == 0)
                bits[i * words + word] = counting;
        }
        const unsigned nan = __ballot_sync(0xffffffffu, zero != 0);
        __syncthreads();
        if (lane == 0) {
            found[0][warp] = any;
            found[1][warp] = nan;
        }
        __syncthreads();
        if (threadIdx.x < 2) {
            unsigned all = 0;
            for (int w = 0; w < BITS_THREADS / 32; ++w)
                all |= found[threadIdx.x][w];
            channels[((b * n_parts + part) * 2 + threadIdx.x) * words + word] = all;
        }
    }
}
