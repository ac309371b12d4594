// Kernels whose output is the grid: density and its tangent. Every voxel is written by one thread. Mirror: pyx/to_grid.pxd.
#pragma once
#include "tile.cuh"

struct ToGrid {
    Atoms atoms;
    Tangents v; // tangent only
    real *__restrict__ out; // (B, T, X, Y, Z)
};

// ALONG_Z: a thread's VOXELS voxels follow each other along z, which makes them one 16-byte store, else along y

struct Corner { // a thread's first voxel
    int x, y, z;
};

template <bool ALONG_Z>
__device__ __forceinline__ Corner corner_of(const Box &box)
{
    const int lane = threadIdx.x % 32;
    return {box.x + lane / 16, box.y + (ALONG_Z ? lane / (16 / VOXELS) % BRICK_Y : 0),
            box.z + (ALONG_Z ? lane % (16 / VOXELS) * VOXELS : lane % 16)};
}

template <bool TANGENT, bool ALONG_Z>
__device__ __forceinline__ void add_atom(const ToGrid &call, const Scalars &scalars, const Position &position,
                                         real scale, real ds_dR_v, const Corner &corner, long long i, int k_begin,
                                         unsigned bits, real (&sums)[GROUP][VOXELS])
{
    // adds atom i to the channels k_begin + c of which bit c is set
    const Profile &c = scalars.profile;
    const real delta_x = delta_of(position, 0, corner.x, scalars.resolution);
    const int passes = TANGENT && call.v.weights != nullptr ? 2 : 1;
#pragma unroll 1
    for (int pass = 0; pass < passes; ++pass) { // density: w phi; tangent: w phi_v, then v_w phi
        const bool moved = TANGENT && pass == 0;
        const real *weights = pass == 0 ? call.atoms.weights : call.v.weights;
        real v_x = 0, v_y = 0, v_z = 0, v[VOXELS];
        if (moved && call.v.coords != nullptr) {
            v_x = call.v.coords[3 * i];
            v_y = call.v.coords[3 * i + 1];
            v_z = call.v.coords[3 * i + 2];
        }
#pragma unroll
        for (int l = 0; l < VOXELS; ++l) {
            const real delta_y = delta_of(position, 1, ALONG_Z ? corner.y : corner.y + l, scalars.resolution);
            const real delta_z = delta_of(position, 2, ALONG_Z ? corner.z + l : corner.z, scalars.resolution);
            const real s = square(delta_x, delta_y, delta_z) * scale;
            const real core = real_exp(-c.core_rate * s);
            if (moved) {
                const real s_v = -2 * scale * (delta_x * v_x + delta_y * v_y + delta_z * v_z) + ds_dR_v * s;
                v[l] = s > c.cutoff_s ? (real)0 : profile_slope(s, core, c) * s_v;
            } else {
                v[l] = profile(s, core, c);
            }
        }
#pragma unroll
        for (int channel = 0; channel < GROUP; ++channel) {
            if (!(bits >> channel & 1))
                continue;
            const real weight = weights != nullptr ? weights[i * call.atoms.n_types + k_begin + channel] : (real)1;
            if (TANGENT && weight == 0) // the bit stands for either weight
                continue;
#pragma unroll
            for (int l = 0; l < VOXELS; ++l)
                sums[channel][l] += weight * v[l];
        }
    }
}

template <bool ALONG_Z>
__device__ __forceinline__ void store(const ToGrid &call, const Geometry &grid, const Corner &corner, long long channel,
                                      const real (&v)[VOXELS])
{
    const long long offset =
        ((channel * grid.points[0] + corner.x) * grid.points[1] + corner.y) * grid.points[2] + corner.z;
    if (corner.x >= grid.points[0] || corner.y >= grid.points[1] || corner.z >= grid.points[2])
        return;
    if (ALONG_Z) {
        struct alignas(16) Quad {
            real v[VOXELS];
        } quad;
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            quad.v[l] = v[l];
        *(Quad *)(call.out + offset) = quad;
    } else {
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            if (corner.y + l < grid.points[1])
                call.out[offset + l * grid.points[2]] = v[l];
    }
}

template <bool TANGENT, bool ALONG_Z>
__device__ __forceinline__ void fill_item(const ToGrid &call, const Geometry &grid, const Scalars &scalars, Tile &tile,
                                          bool by_channel)
{
    const Atoms &atoms = call.atoms;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int group = by_channel ? 1 : GROUP;
    int count = 0, listed = -1, found = -1;
    const Box box = {tile.box.x + warp / BRICKS_Y * BRICK_X,
                     tile.box.y + warp % BRICKS_Y * BRICK_Y,
                     tile.box.z,
                     BRICK_X,
                     BRICK_Y,
                     TILE_Z};
    const Corner corner = corner_of<ALONG_Z>(box);
    for (int k_begin = 0; k_begin < (int)atoms.n_types; k_begin += group) {
        real sums[GROUP][VOXELS] = {};
        real scale = 0, ds_dR_v = 0;
        if (k_begin % 32 == 0)
            find_nan_bits(tile, atoms, call.v.weights, k_begin);
        if (by_channel && tile.n > 0) {
            const long long slot = radius_slot(atoms, tile.b, 0, k_begin);
            const real radius = atoms.radii[slot] * scalars.radius_scale;
            scale = 1 / (radius * radius);
            if (TANGENT && call.v.radii != nullptr)
                ds_dR_v = -2 / radius * scalars.radius_scale * call.v.radii[slot];
        }
        for (int begin = 0; begin < tile.n; begin = tile.next) {
            if (begin != listed) {
                count =
                    list_atoms(tile, atoms, call.v.weights, by_channel ? nullptr : call.v.radii, grid, scalars, begin);
                listed = begin;
                found = -1;
            }
            if (found != k_begin / 32)
                find_bits(tile, atoms, call.v.weights, k_begin / 32 * 32, count);
            for (int base = 0; base < count; base += 32) {
                const int j = base + lane;
                if (found == -1 || by_channel) {
                    const bool near =
                        j < count
                        && reaches(tile.atom[j].position.high, by_channel ? scale : tile.atom[j].scale, scalars, box);
                    const unsigned votes = __ballot_sync(0xffffffffu, near);
                    if (lane == 0)
                        tile.near[warp][base / 32] = votes;
                    __syncwarp();
                }
                unsigned bits = 0;
                if (tile.near[warp][base / 32] >> lane & 1)
                    bits = tile.bits[j] >> k_begin % 32 & ((1u << group) - 1);
                unsigned todo = __ballot_sync(0xffffffffu, bits != 0);
                while (todo != 0) {
                    const int source = __ffs((int)todo) - 1;
                    const Listed &a = tile.atom[base + source];
                    if (!by_channel)
                        scale = a.scale;
                    if (TANGENT && !by_channel && call.v.radii != nullptr)
                        ds_dR_v = a.ds_dR_v;
                    add_atom<TANGENT, ALONG_Z>(call, scalars, a.position, scale, ds_dR_v, corner,
                                               tile.first + tile.ordinal[base + source], k_begin,
                                               __shfl_sync(0xffffffffu, bits, source), sums);
                    todo &= todo - 1;
                }
            }
            found = k_begin / 32;
        }
#pragma unroll
        for (int channel = 0; channel < GROUP; ++channel) {
            if (channel >= group || k_begin + channel >= (int)atoms.n_types)
                continue;
            if (tile.nan_bits >> (k_begin + channel) % 32 & 1)
                for (int l = 0; l < VOXELS; ++l)
                    sums[channel][l] = REAL_NAN;
            store<ALONG_Z>(call, grid, corner, tile.b * atoms.n_types + k_begin + channel, sums[channel]);
        }
    }
}

template <bool TANGENT>
__device__ __forceinline__ void to_grid(const ToGrid &call, const Geometry &grid)
{
    __shared__ Scalars scalars;
    __shared__ Tile tile;
    const bool by_channel = call.atoms.weights != nullptr && call.atoms.radius_by_type; // a radius per weight
    narrow(scalars, grid);
    open_tile(tile, call.atoms, grid, scalars, by_channel);
    if (grid.points[2] % VOXELS == 0 && (size_t)call.out % 16 == 0)
        fill_item<TANGENT, true>(call, grid, scalars, tile, by_channel);
    else
        fill_item<TANGENT, false>(call, grid, scalars, tile, by_channel);
}
