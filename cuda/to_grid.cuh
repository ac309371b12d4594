// Kernels whose output is the grid: density and its derivatives along directions. Every voxel is written by one
// thread. Mirror: pyx/to_grid.pxd.
#pragma once
#include "channels.cuh"

struct ToGrid {
    Atoms atoms;
    Tangents u; // second derivative only
    Tangents v; // derivatives only
    Prepared prepared;
    real *__restrict__ out; // (B, T, X, Y, Z)
};

// ALIGNED: rows along z are whole 16-byte stores, so a thread's VOXELS voxels follow each other along z, else along y

struct Corner { // a thread's first voxel
    int x, y, z;
};

template <bool ALIGNED>
__device__ __forceinline__ Corner corner_of(const Box &box)
{
    const int lane = threadIdx.x % 32, x = box.x + lane / (32 / BRICK_X);
    if (ALIGNED)
        return {x, box.y + lane / (BRICK_Z / VOXELS) % BRICK_Y, box.z + lane % (BRICK_Z / VOXELS) * VOXELS};
    return {x, box.y, box.z + lane % BRICK_Z};
}

struct Along { // u, v or both at one atom
    Direction u, v;
    real per_radius;
    bool by_u, by_v;
};

__device__ __forceinline__ real profile_along(real s, real phi_s, real phi_ss, real xi_x, real xi_y, real xi_z,
                                              const Along &a, const Profile &c)
{
    // phi_u, phi_v or phi_uv, from R s_u, R s_v and R^2 s_uv
    const real xi_u = xi_x * a.u.coords[0] + xi_y * a.u.coords[1] + xi_z * a.u.coords[2];
    const real xi_v = xi_x * a.v.coords[0] + xi_y * a.v.coords[1] + xi_z * a.v.coords[2];
    const real R_s_u = xi_u + a.u.radius * s;
    const real R_s_v = xi_v + a.v.radius * s;
    real value = phi_s * (a.by_u ? R_s_u : R_s_v) * a.per_radius;
    if (a.by_u && a.by_v) {
        const real RR_s_uv =
            (real)0.5 * (a.u.coords[0] * a.v.coords[0] + a.u.coords[1] * a.v.coords[1] + a.u.coords[2] * a.v.coords[2])
            + a.v.radius * xi_u + a.u.radius * xi_v + (real)1.5 * a.u.radius * a.v.radius * s;
        value = (phi_ss * R_s_u * R_s_v + phi_s * RR_s_uv) * a.per_radius * a.per_radius;
    }
    return s > c.cutoff_s ? (real)0 : value;
}

template <int DERIVATIVE, bool ALIGNED>
__device__ __forceinline__ void add_atom(const ToGrid &call, const Scalars &scalars, const Position &position,
                                         real per_radius, real u_radius, real v_radius, const Corner &corner,
                                         long long i, long long at, unsigned bits, real (&sums)[GROUP][VOXELS])
{
    // adds atom i to the channels of which the bit is set; at: of its weight in the first
    const Profile &c = scalars.profile;
    const real xi_x = delta_of(position, 0, (real)corner.x, scalars.resolution) * per_radius;
#pragma unroll 1
    for (int pass = 0; pass <= DERIVATIVE; ++pass) { // w phi; w phi_v, v_w phi; w phi_uv, u_w phi_v, v_w phi_u
        const real *weights = pass == 0 ? call.atoms.weights : pass == DERIVATIVE ? call.v.weights : call.u.weights;
        real values[VOXELS];
        Along along = {};
        if constexpr (DERIVATIVE > 0) {
            if (pass > 0 && weights == nullptr)
                continue;
            along.by_u = DERIVATIVE == 2 && pass != 1;
            along.by_v = DERIVATIVE == 2 ? pass != 2 : pass == 0;
            along.per_radius = per_radius;
            along.u.radius = u_radius;
            along.v.radius = v_radius;
            for (int axis = 0; axis < 3; ++axis) {
                if (along.by_u && call.u.coords != nullptr && has_slope(c))
                    along.u.coords[axis] = minus_two(call.u.coords[3 * i + axis]);
                if (along.by_v && call.v.coords != nullptr && has_slope(c))
                    along.v.coords[axis] = minus_two(call.v.coords[3 * i + axis]);
            }
        }
        real xi_y[VOXELS], xi_z[VOXELS], s[VOXELS], core[VOXELS];
#pragma unroll
        for (int l = 0; l < VOXELS; ++l) {
            const real y = (real)corner.y + (ALIGNED ? 0 : l), z = (real)corner.z + (ALIGNED ? l : 0);
            xi_y[l] = delta_of(position, 1, y, scalars.resolution) * per_radius;
            xi_z[l] = delta_of(position, 2, z, scalars.resolution) * per_radius;
            s[l] = square(xi_x, xi_y[l], xi_z[l]);
        }
        core_of(s, c, core);
        if (DERIVATIVE > 0 && (along.by_u || along.by_v)) {
            real phi_ss[VOXELS] = {};
            profile_slope(s, core, c, values);
            if (along.by_u && along.by_v)
                profile_curvature(s, core, c, phi_ss);
#pragma unroll
            for (int l = 0; l < VOXELS; ++l)
                values[l] = profile_along(s[l], values[l], phi_ss[l], xi_x, xi_y[l], xi_z[l], along, c);
        } else {
            profile(s, core, c, values);
        }
        if (weights == nullptr) { // of index types: 1
#pragma unroll
            for (int channel = 0; channel < GROUP; ++channel)
                if (bits >> channel & 1)
                    for (int l = 0; l < VOXELS; ++l)
                        sums[channel][l] += values[l];
            continue;
        }
#pragma unroll
        for (int channel = 0; channel < GROUP; ++channel) {
            if (!(bits >> channel & 1))
                continue;
            const real weight = weights[at + channel];
            if (DERIVATIVE > 0 && weight == 0) // the bit stands for any of the weights
                continue;
#pragma unroll
            for (int l = 0; l < VOXELS; ++l)
                sums[channel][l] += weight * values[l];
        }
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void store(real *out, const Geometry &grid, const Corner &corner, const real (&v)[VOXELS])
{
    // out: of the first voxel, which lies in the grid
    if (ALIGNED) {
        Packed packed;
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            packed.v[l] = v[l];
        *(Packed *)out = packed;
    } else {
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            if (corner.y + l < grid.points[1])
                out[l * grid.points[2]] = v[l];
    }
}

template <int DERIVATIVE, bool ALIGNED>
__device__ __forceinline__ void fill_item(const ToGrid &call, const Geometry &grid, const Scalars &scalars, Tile &tile,
                                          bool by_channel)
{
    const Atoms &atoms = call.atoms;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int group = by_channel ? 1 : GROUP, n_candidates = tile.n_candidates;
    int count = 0, listed = -1, next = 0, found = -1;
    unsigned near = 0; // see find_near
    unsigned counting = 0; // bit k: an atom that reaches the brick counts in channel k of 32
    const Box box = {tile.box.x + warp / (BRICKS_Y * BRICKS_Z) * BRICK_X,
                     tile.box.y + warp / BRICKS_Z % BRICKS_Y * BRICK_Y,
                     tile.box.z + warp % BRICKS_Z * BRICK_Z,
                     BRICK_X,
                     BRICK_Y,
                     BRICK_Z};
    const Corner corner = corner_of<ALIGNED>(box);
    const bool inside =
        corner.x < (int)grid.points[0] && corner.y < (int)grid.points[1] && corner.z < (int)grid.points[2];
    const int n_stored = inside ? (int)atoms.n_types : 0; // channels
    const long long channel_size = grid.points[0] * grid.points[1] * grid.points[2];
    long long first_weight = tile.first * atoms.n_types; // of the example, in channel k_begin
    real *out = call.out + tile.b * atoms.n_types * channel_size
                + (corner.x * grid.points[1] + corner.y) * grid.points[2] + corner.z; // of channel k_begin
    for (int k_begin = 0; k_begin < (int)atoms.n_types; k_begin += group) {
        real sums[GROUP][VOXELS] = {};
        real per_radius = 0, u_radius = 0, v_radius = 0;
        const int word = k_begin / 32;
        if (k_begin % NAN_CHANNELS == 0)
            find_nan_bits(tile, atoms, call.prepared, call.u.weights, call.v.weights, k_begin);
        if (by_channel && tile.n > 0) {
            const long long slot = radius_slot(atoms, tile.b, 0, k_begin);
            per_radius = per_radius_of(atoms.radii[slot] * scalars.radius_scale);
            if (DERIVATIVE == 2 && call.u.radii != nullptr && has_slope(scalars.profile))
                u_radius = minus_two(scalars.radius_scale * call.u.radii[slot]);
            if (DERIVATIVE > 0 && call.v.radii != nullptr && has_slope(scalars.profile))
                v_radius = minus_two(scalars.radius_scale * call.v.radii[slot]);
        }
        int begin = 0;
        do {
            if (begin != listed) {
                count = list_atoms(tile, atoms, call.u.weights, call.v.weights, by_channel ? nullptr : call.u.radii,
                                   by_channel ? nullptr : call.v.radii, grid, scalars, begin);
                listed = begin;
                found = -1;
            }
            if (found != word || by_channel) {
                if (found != word)
                    find_bits(tile, atoms, call.prepared, call.u.weights, call.v.weights, word * 32, count);
                next = tile.next;
                counting = find_near(tile, scalars, box, count, by_channel, per_radius, near);
                found = word;
            }
            const bool any = counting >> k_begin % 32 & ((1u << GROUP) - 1);
            for (int base = 0; any && base < count; base += 32) {
                unsigned bits = 0;
                if (__shfl_sync(0xffffffffu, near, base / 32) >> lane & 1)
                    bits = tile.bits[base + lane] >> k_begin % 32 & (by_channel ? 1u : (1u << GROUP) - 1);
                unsigned todo = __ballot_sync(0xffffffffu, bits != 0);
                while (todo != 0) {
                    const int source = __ffs((int)todo) - 1;
                    const Listed &a = tile.atom[base + source];
                    if (!by_channel)
                        per_radius = a.per_radius;
                    if (DERIVATIVE == 2 && !by_channel && call.u.radii != nullptr && has_slope(scalars.profile))
                        u_radius = tile.u_radius[base + source];
                    if (DERIVATIVE > 0 && !by_channel && call.v.radii != nullptr && has_slope(scalars.profile))
                        v_radius = a.v_radius;
                    const unsigned ordinal = tile.ordinal[base + source];
                    add_atom<DERIVATIVE, ALIGNED>(call, scalars, a.position, per_radius, u_radius, v_radius, corner,
                                                  tile.first + ordinal,
                                                  first_weight + (unsigned long long)ordinal * (unsigned)atoms.n_types,
                                                  __shfl_sync(0xffffffffu, bits, source), sums);
                    todo &= todo - 1;
                }
            }
            begin = next;
        } while (begin < n_candidates);
        const unsigned nan = tile.nan_bits[k_begin % NAN_CHANNELS / 32] >> k_begin % 32 & ((1u << GROUP) - 1);
        if (nan != 0)
#pragma unroll
            for (int channel = 0; channel < GROUP; ++channel)
                for (int l = 0; l < VOXELS; ++l)
                    sums[channel][l] = nan >> channel & 1 ? REAL_NAN : sums[channel][l];
        const int stored = n_stored - k_begin < group ? n_stored - k_begin : group;
        real *at = out;
#pragma unroll
        for (int channel = 0; channel < GROUP; ++channel) {
            if (channel < stored)
                store<ALIGNED>(at, grid, corner, sums[channel]);
            at += channel_size;
        }
        out = by_channel ? out + channel_size : at;
        first_weight += group;
    }
}

template <int DERIVATIVE, bool ALIGNED>
__device__ __forceinline__ void to_grid(const ToGrid &call, const Geometry &grid)
{
    __shared__ Tile tile;
    const Scalars &scalars = narrow(grid);
    const bool by_channel = call.atoms.weights != nullptr && call.atoms.radius_by_type; // a radius per weight
    open_tile(tile, call.atoms, call.prepared, grid, by_channel);
    report_examples(tile, call.atoms);
    fill_item<DERIVATIVE, ALIGNED>(call, grid, scalars, tile, by_channel);
}
