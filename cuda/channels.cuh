// The channels of a tile: in which of them a listed atom counts, an atom that reaches a brick, and which are NaN.
#pragma once
#include "tile.cuh"

__device__ __forceinline__ unsigned bits_of(const Atoms &atoms, const real *u_weights, const real *v_weights,
                                            long long i, int k_begin)
{
    // bit k: atom i has a weight in channel k_begin + k, directions included. A warp asks together
    const int k = k_begin + threadIdx.x % 32;
    const long long at = i * atoms.n_types + k;
    bool bit = false;
    if (k < atoms.n_types)
        bit = atoms.weights[at] != 0 || (u_weights != nullptr && u_weights[at] != 0)
              || (v_weights != nullptr && v_weights[at] != 0);
    return __ballot_sync(0xffffffffu, bit);
}

__device__ __forceinline__ void find_bits(Tile &tile, const Atoms &atoms, const Prepared &prepared,
                                          const real *u_weights, const real *v_weights, int k_begin, int count)
{
    // tile.bits of the listed atoms and channels [k_begin, k_begin + 32)
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();
    if (atoms.index != nullptr) {
        for (int j = threadIdx.x; j < count; j += blockDim.x) {
            const long long k = atoms.index[tile.first + tile.ordinal[j]] - k_begin;
            tile.bits[j] = k >= 0 && k < 32 ? 1u << k : 0;
        }
    } else if (prepared.bits != nullptr) {
        const int left = (int)atoms.n_types - k_begin; // channels, from which addresses are made
        const unsigned *bits = prepared.bits + k_begin / 32;
        for (int j = threadIdx.x; j < count; j += blockDim.x)
            tile.bits[j] =
                bits[(tile.first + tile.ordinal[j]) * words_of(atoms)] & (left < 32 ? (1u << left) - 1 : ~0u);
    } else {
        for (int j = warp; j < count; j += blockDim.x / 32) {
            const unsigned bits = bits_of(atoms, u_weights, v_weights, tile.first + tile.ordinal[j], k_begin);
            if (lane == 0)
                tile.bits[j] = bits;
        }
    }
    __syncthreads();
}

static_assert(LISTED <= 32 * 32, "find_near: 32 bits of 32 lanes");

__device__ __forceinline__ unsigned find_near(const Tile &tile, const Scalars &scalars, const Box &box, int count,
                                              bool by_channel, real per_radius, unsigned &near)
{
    // near of lane n: which of its n-th 32 listed atoms reach the box of the warp. Returns the channels, of those of
    // tile.bits, in which one of these counts. per_radius: of all atoms, if by_channel
    const int lane = threadIdx.x % 32;
    unsigned counting = 0;
#pragma unroll 1 // mostly one turn
    for (int base = 0; base < count; base += 32) {
        const Listed &a = tile.atom[base + lane];
        const bool reached =
            base + lane < count && reaches(a.position.high, by_channel ? per_radius : a.per_radius, scalars, box);
        const unsigned votes = __ballot_sync(0xffffffffu, reached);
        if (lane == base / 32)
            near = votes;
        if (reached)
            counting |= tile.bits[base + lane];
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        counting |= __shfl_xor_sync(0xffffffffu, counting, distance);
    return counting;
}

__device__ __forceinline__ void mark_nan(Tile &tile, int k)
{
    if (k >= 0 && k < NAN_CHANNELS)
        atomicOr(&tile.nan_bits[k / 32], 1u << k % 32);
}

__device__ __forceinline__ void search_nan(Tile &tile, const real *weights, int n_types, int k_begin)
{
    // weights of the example that are not finite; whose they are is asked only where there are some
    if (weights == nullptr)
        return;
    weights += tile.first * n_types;
    const long long end = (long long)tile.n * n_types;
    real zero = 0;
#pragma unroll 4
    for (long long at = threadIdx.x; at < end; at += blockDim.x)
        zero += weights[at] - weights[at];
    if (zero == 0)
        return;
    for (long long at = threadIdx.x; at < end; at += blockDim.x)
        if (!is_finite(weights[at]))
            mark_nan(tile, (int)(at % n_types) - k_begin);
}

__device__ __forceinline__ void read_nan(Tile &tile, const Atoms &atoms, const Prepared &prepared, int k_begin)
{
    // the same, found before
    const int words = words_of(atoms), first = k_begin / 32;
    const int some = words - first < NAN_CHANNELS / 32 ? words - first : NAN_CHANNELS / 32;
    for (int at = threadIdx.x; at < prepared.n_parts * some; at += blockDim.x) {
        const long long row = (tile.b * prepared.n_parts + at / some) * 2 + 1;
        const unsigned nan = prepared.channels[row * words + first + at % some];
        if (nan != 0)
            atomicOr(&tile.nan_bits[at % some], nan);
    }
}

__device__ __forceinline__ bool is_counted(const Tile &tile, const Atoms &atoms, const Prepared &prepared,
                                           const real *u_weights, const real *v_weights, int k)
{
    // some atom of the example counts in channel k
    if (prepared.channels != nullptr) {
        for (int part = 0; part < prepared.n_parts; ++part) {
            const long long row = (tile.b * prepared.n_parts + part) * 2;
            if (prepared.channels[row * words_of(atoms) + k / 32] >> k % 32 & 1)
                return true;
        }
        return false;
    }
    for (int j = 0; j < tile.n; ++j) {
        const long long i = tile.first + j;
        if (has_weight(atoms, v_weights, i, k, k + 1)
            || (u_weights != nullptr && has_weight(atoms, u_weights, i, k, k + 1)))
            return true;
    }
    return false;
}

__device__ __forceinline__ void find_nan_bits(Tile &tile, const Atoms &atoms, const Prepared &prepared,
                                              const real *u_weights, const real *v_weights, int k_begin)
{
    // tile.nan_bits: channels [k_begin, k_begin + NAN_CHANNELS) in which any atom of the example makes everything NaN,
    // by a weight, a direction's included, or by a radius by type that counts. Complete after the barrier of find_bits
    const int n_types = (int)atoms.n_types;
    __syncthreads();
    if (threadIdx.x < NAN_CHANNELS / 32)
        tile.nan_bits[threadIdx.x] = 0;
    __syncthreads();
    if (atoms.weights == nullptr)
        return;
    if (prepared.channels != nullptr) {
        read_nan(tile, atoms, prepared, k_begin);
    } else {
        search_nan(tile, atoms.weights, n_types, k_begin);
        search_nan(tile, u_weights, n_types, k_begin);
        search_nan(tile, v_weights, n_types, k_begin);
    }
    for (int k = k_begin + threadIdx.x; atoms.radius_by_type && k < n_types; k += blockDim.x) {
        const real radius = atoms.radii[radius_slot(atoms, tile.b, 0, k)];
        if (!(radius > 0) && is_counted(tile, atoms, prepared, u_weights, v_weights, k)) {
            good_radius(atoms, radius);
            mark_nan(tile, k - k_begin);
        }
    }
}
