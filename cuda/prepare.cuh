// What is found once a call, before its tiles, where that pays (gridgrad/kernels/gpu/preparation.py): Prepared.
#pragma once
#include "tile.cuh"

enum {
    BITS_THREADS = 256,
    CELLS_THREADS = 256
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

__device__ __forceinline__ void list_in_cells(const Atoms &atoms, const real *u_weights, const real *v_weights,
                                              const Geometry &grid, int scale, int capacity, int *__restrict__ cells)
{
    // item = (example, cell). A warp tests up to 32 times 32 atoms; then lane n has the bits of its n-th 32
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Scalars &scalars = narrow(grid);
    __shared__ Region cell;
    __shared__ int kept[CELLS_THREADS / 32];
    int *listed = cells + blockIdx.x * (1 + (long long)capacity);
    int count = 0;
    if (threadIdx.x == 0)
        open_region(cell, atoms, grid, atoms.weights != nullptr && atoms.radius_by_type, scale * CELL_X, scale * CELL_Y,
                    scale * CELL_Z);
    __syncthreads();
    for (int begin = 0; begin < cell.n; begin += 32 * CELLS_THREADS) {
        const int left = (cell.n - begin + CELLS_THREADS - 1) / CELLS_THREADS, turns = left < 32 ? left : 32;
        const int first = begin + 32 * turns * warp; // of the warp
        unsigned bits = 0;
        for (int turn = 0; turn < turns; ++turn) {
            const int ordinal = first + 32 * turn + lane;
            long long slot;
            real radius;
            const bool keep =
                ordinal < cell.n
                && is_near(cell, atoms, u_weights, v_weights, scalars, cell.first + ordinal, slot, radius);
            const unsigned votes = __ballot_sync(0xffffffffu, keep);
            if (lane == turn)
                bits = votes;
        }
        int at = sum_before(__popc(bits));
        __syncthreads();
        if (lane == 31)
            kept[warp] = at + __popc(bits);
        __syncthreads();
        const int before = sum_before(lane < CELLS_THREADS / 32 ? kept[lane] : 0); // lane n: of the warps before warp n
        at += count + __shfl_sync(0xffffffffu, before, warp);
        count += __shfl_sync(0xffffffffu, before, 31);
        for (; bits != 0; bits &= bits - 1, ++at)
            if (at < capacity)
                listed[1 + at] = first + 32 * lane + __ffs((int)bits) - 1;
    }
    if (threadIdx.x == 0)
        listed[0] = count <= capacity ? count : -1;
}
