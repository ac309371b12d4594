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

struct Channels { // 32 of an atom's: those in which theta, its coordinates and radius, asks for G
    const real *__restrict__ grid; // G of the first
    const real *__restrict__ weights; // of the first; absent: 1
    const real *__restrict__ v_weights; // absent: 0
    unsigned asked; // bit c
};

struct Grids { // G of channels: what is the same for all
    long long volume; // from one to the next
    bool aligned; // read in 16-byte loads
};

__device__ __forceinline__ Grids grids_of(const real *values, const Geometry &grid)
{
    return {grid.points[0] * grid.points[1] * grid.points[2], is_aligned(values, grid)};
}

__device__ __forceinline__ bool wants_theta(const ToAtoms &call, const Scalars &scalars)
{
    return (call.grad_coords != nullptr || call.grad_radii != nullptr) && has_slope(scalars.profile);
}

__device__ __forceinline__ Channels asked_channels(const ToAtoms &call, const Scalars &scalars, const Terms &terms,
                                                   const Grids &grids, bool moved, int k_begin)
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

__device__ __forceinline__ Gathered gather_all(const Channels &channels, const Grids &grids, const Geometry &grid,
                                               const Piece &p, real (&grad)[VOXELS], bool moved, real radius)
{
    // over the channels asked for; grad: G of the first. The next is on its way while one is added up
    Gathered sums = {};
    unsigned todo = channels.asked;
    for (;;) {
        const int c = __ffs((int)todo) - 1;
        real next[VOXELS];
        todo &= todo - 1;
        if (todo != 0)
            read_piece(channels.grid + (__ffs((int)todo) - 1) * grids.volume, p, grid, grids.aligned, next);
        gather(channels, c, grad, moved, radius, sums);
        if (todo == 0)
            return sums;
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            grad[l] = next[l];
    }
}

__device__ __forceinline__ void add_weights(const real *grad_density, const Grids &grids, const Geometry &grid,
                                            const Piece &p, int n, const real (&phi)[VOXELS],
                                            real (&sum_weights)[GROUP])
{
    // sum_weights[c] += G_c phi of the first n channels, where phi is not zero
    real grad[GROUP][VOXELS];
#pragma unroll
    for (int c = 0; c < GROUP; ++c)
        read_piece(grad_density + (c < n ? c : 0) * grids.volume, p, grid, grids.aligned, grad[c]);
#pragma unroll
    for (int c = 0; c < GROUP; ++c)
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            if (phi[l] != 0)
                sum_weights[c] += grad[c][l] * phi[l];
}

__device__ __forceinline__ void store_weights(const real (&sum_weights)[GROUP], real *grad_weights, int n)
{
    // of n channels, GROUP at most
    const int c = threadIdx.x / (32 / GROUP);
    const real sum = warp_sum(sum_weights);
    if (threadIdx.x % (32 / GROUP) == 0 && c < n)
        grad_weights[c] = sum;
}
