// What an atom reads of the grids, a piece at a time: grad_w = sum_k w_k G_k, grad_v = R sum_k v_wk G_k and
// grad_weights[k] += sum_p G_k phi, each where it is wanted. Mirror: pyx/gather.pxd.
#pragma once
#include "support.cuh"

struct ToAtoms {
    Atoms atoms;
    Tangents v;                             // second order only: cotangents of the first-order gradients
    const real *__restrict__ grad_density;  // G (B, T, X, Y, Z); relevance: the relevance of a voxel
    const real *__restrict__ density;       // relevance only
    bool second;
    real *__restrict__ grad_coords;         // (N, 3)
    real *__restrict__ grad_weights;        // (N, T)
    real *__restrict__ grad_radii;          // (N,); by type: partial sums, (N,) for index types, (N, T) for weights
    real *__restrict__ relevance;           // (N,)
};

enum {
    WEIGHTS = 16 // channels whose gradients of weights a pass over the support has, by GROUP
};

struct Channels { // 32 of an atom's: those in which theta, its coordinates and radius, asks for G
    const real *__restrict__ grid; // G of the first
    const real *__restrict__ weights; // of the first; absent: 1
    const real *__restrict__ v_weights; // absent: 0
    unsigned asked; // bit c
};

template <bool ALIGNED>
struct Grids { // G of channels: what is the same for all; ALIGNED: read in 16-byte loads
    long long volume; // from one to the next
};

template <bool ALIGNED>
__device__ __forceinline__ Grids<ALIGNED> grids_of(const Geometry &grid)
{
    return {grid.points[0] * grid.points[1] * grid.points[2]};
}

__device__ __forceinline__ bool wants_theta(const ToAtoms &call, const Scalars &scalars)
{
    return (call.grad_coords != nullptr || call.grad_radii != nullptr) && has_slope(scalars.profile);
}

template <bool ALIGNED>
__device__ __forceinline__ Channels asked_channels(const ToAtoms &call, const Scalars &scalars, const Terms &terms,
                                                   const Grids<ALIGNED> &grids, bool moved, int k_begin)
{
    // from k_begin on: there is a weight and it moved, or v of a weight. A warp asks together
    const int k = k_begin + (int)threadIdx.x;
    bool asked = false;
    Channels channels = {call.grad_density + (terms.b * call.atoms.n_types + k_begin) * grids.volume,
                         weights_of(call.atoms.weights, call.atoms, terms.i, k_begin),
                         weights_of(call.v.weights, call.atoms, terms.i, k_begin), 0};
    if (k < terms.k_end && wants_theta(call, scalars))
        asked = (moved && (channels.weights == nullptr || channels.weights[threadIdx.x] != 0))
                || (channels.v_weights != nullptr && channels.v_weights[threadIdx.x] != 0);
    channels.asked = __ballot_sync(0xffffffffu, asked);
    return channels;
}

struct Gathered { // at the voxels of a piece
    real grad_w[VOXELS]; // sum_k w_k G_k
    real grad_v[VOXELS]; // R sum_k v_wk G_k
};

__device__ __forceinline__ void gather(const Channels &channels, int c, const real (&grad)[VOXELS], bool moved,
                                       real radius, Gathered &sums)
{
    // sums += those of channel c, whose G is grad
    const real weight = !moved ? (real)0 : channels.weights != nullptr ? channels.weights[c] : (real)1;
    const real v_weight = channels.v_weights != nullptr ? channels.v_weights[c] : (real)0;
    if (weight != 0)
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            sums.grad_w[l] += weight * grad[l];
    if (v_weight != 0)
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            sums.grad_v[l] += radius * v_weight * grad[l];
}

template <bool ALIGNED>
__device__ __forceinline__ const real *next_channel(const Channels &channels, const Grids<ALIGNED> &grids,
                                                    unsigned todo)
{
    // G of the first of them
    return channels.grid + (__ffs((int)todo) - 1) * grids.volume;
}

__device__ __forceinline__ real first_weight(const Channels &channels)
{
    return channels.weights != nullptr ? channels.weights[__ffs((int)channels.asked) - 1] : (real)1;
}

__device__ __forceinline__ bool is_single(const Channels &channels)
{
    // one is asked for, and not by v
    return (channels.asked & (channels.asked - 1)) == 0 && channels.v_weights == nullptr;
}

template <bool SINGLE, bool ALIGNED>
__device__ __forceinline__ Gathered gather_all(const Channels &channels, const Grids<ALIGNED> &grids,
                                               const Geometry &grid, const Piece &p, real (&grad)[VOXELS], bool moved,
                                               real weight, real radius)
{
    // over the channels asked for; grad: G of the first, weight: its own
    Gathered sums = {};
    if (SINGLE) {
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            sums.grad_w[l] = weight * grad[l];
        return sums;
    }
    gather(channels, __ffs((int)channels.asked) - 1, grad, moved, radius, sums);
    for (unsigned todo = channels.asked & (channels.asked - 1); todo != 0; todo &= todo - 1) {
        read_piece<ALIGNED>(next_channel(channels, grids, todo), p, grid, grad);
        gather(channels, __ffs((int)todo) - 1, grad, moved, radius, sums);
    }
    return sums;
}

struct Several { // channels whose gradients of weights are computed together
    const real *first; // G of the first
    int n; // how many
};

template <bool ALIGNED>
__device__ __forceinline__ void add_weights(const Several &several, const Grids<ALIGNED> &grids, const Geometry &grid,
                                            const Piece &p, const real (&phi)[VOXELS], real (&sum_weights)[WEIGHTS])
{
    // sum_weights[c] += G_c phi, where phi is not zero; the last channel stands in where a group has too few
    const char *at = (const char *)several.first + offset_of(p, grid) * sizeof(real);
#pragma unroll
    for (int group = 0; group < WEIGHTS; group += GROUP) {
        if (group < several.n) {
            real grad[GROUP][VOXELS];
#pragma unroll
            for (int c = 0; c < GROUP; ++c) {
                read_at<ALIGNED>((const real *)at, p, grid, grad[c]);
                at += group + c + 1 < several.n ? grids.volume * sizeof(real) : 0;
            }
#pragma unroll
            for (int c = 0; c < GROUP; ++c)
#pragma unroll
                for (int l = 0; l < VOXELS; ++l)
                    sum_weights[group + c] += (phi[l] != 0 ? grad[c][l] : (real)0) * phi[l];
        }
    }
}

__device__ __forceinline__ void store_weights(real (&sum_weights)[WEIGHTS], real *grad_weights, int n)
{
    // of n channels, WEIGHTS at most
    const int c = threadIdx.x / (32 / WEIGHTS);
    const real sum = warp_sum(sum_weights);
    if (threadIdx.x % (32 / WEIGHTS) == 0 && c < n)
        grad_weights[c] = sum;
}
