// Kernels whose outputs belong to atoms: both orders of derivatives and the relevance. Every atom is computed by one
// block. Mirror: pyx/to_atoms.pxd.
#pragma once
#include "support.cuh"

struct ToAtoms {
    Atoms atoms;
    const real *__restrict__ grad_density;  // (B, T, X, Y, Z); relevance: the relevance of a voxel
    const real *__restrict__ density;       // relevance only
    const real *__restrict__ v_coords; // second order only: cotangents of the first-order gradients; absent: zero
    const real *__restrict__ v_weights;
    const real *__restrict__ v_radii;
    bool second;
    real *__restrict__ grad_coords; // (N, 3)
    real *__restrict__ grad_weights; // (N, T)
    real *__restrict__ grad_radii; // (N,); by type: partial sums, (N,) for index types, (N, T) for weights
    real *__restrict__ relevance; // (N,)
};

__device__ __forceinline__ void fill(real *target, long long n, real value)
{
    for (long long k = threadIdx.x; target != nullptr && k < n; k += ATOM_THREADS)
        target[k] = value;
}

__device__ __forceinline__ void backward_atom(const ToAtoms &call, const Geometry &grid, const Scalars &scalars,
                                              long long b, long long i, int k_begin, int k_end, real radius,
                                              real (&sums)[4], real *grad_weights)
{
    // sums += d/d(x, y, z, R) over channels [k_begin, k_end); grad_weights[k - k_begin] = sum_p G_k phi
    const Atoms &atoms = call.atoms;
    const long long volume = grid.points[0] * grid.points[1] * grid.points[2];
    const bool wants_theta = call.grad_coords != nullptr || call.grad_radii != nullptr;
    __shared__ Support a;
    Voxel p;
    real sum[4] = {};
    if (!place(a, grid, scalars, atoms.coords + 3 * i, radius)) {
        fill(grad_weights, k_end - k_begin, 0);
        return;
    }
    for (int k = k_begin; k < k_end; k += CHANNELS) {
        real weights[CHANNELS] = {}, sum_weights[CHANNELS] = {};
        unsigned weighted = 0, asked = 0;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            if (k + c < k_end) {
                weights[c] = atoms.weights != nullptr ? atoms.weights[i * atoms.n_types + k + c] : (real)1;
                weighted |= (unsigned)(wants_theta && weights[c] != 0) << c;
                asked |= (unsigned)(grad_weights != nullptr) << c;
            }
        }
        asked |= weighted;
        if (asked == 0)
            continue;
        const real *__restrict__ grad = call.grad_density + (b * atoms.n_types + k) * volume;
        rewind(p, a);
        while (next_voxel(p, a, grid, scalars)) { // q = G w phi_s
            if (!p.inside)
                continue;
            const real core = real_exp(-scalars.profile.core_rate * p.s);
            const real phi = profile(p.s, core, scalars.profile);
            real q = 0;
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c) {
                const real v = asked >> c & 1 ? grad[c * volume + p.offset] : (real)0;
                sum_weights[c] += phi != 0 ? v * phi : (real)0;
                q += weighted >> c & 1 ? weights[c] * v : (real)0;
            }
            q *= profile_slope(p.s, core, scalars.profile);
            sum[0] += q * p.delta_x;
            sum[1] += q * p.delta_y;
            sum[2] += q * p.delta_z;
            sum[3] += q * p.s;
        }
        if (grad_weights != nullptr) {
            block_sum(sum_weights);
            if (threadIdx.x == 0)
                for (int c = 0; c < CHANNELS; ++c)
                    if (k + c < k_end)
                        grad_weights[k - k_begin + c] = sum_weights[c];
        }
    }
    block_sum(sum);
    sums[0] += -2 / (radius * radius) * sum[0];
    sums[1] += -2 / (radius * radius) * sum[1];
    sums[2] += -2 / (radius * radius) * sum[2];
    sums[3] += -2 / radius * sum[3];
}

__device__ __forceinline__ void backward_backward_atom(const ToAtoms &call, const Geometry &grid,
                                                       const Scalars &scalars, long long b, long long i, int k_begin,
                                                       int k_end, real radius, real (&sums)[4], real *grad_weights)
{
    // sums += d/d(x, y, z, R) of <v, first order>; grad_weights[k - k_begin] = sum_p G_k phi_v
    const Atoms &atoms = call.atoms;
    const long long volume = grid.points[0] * grid.points[1] * grid.points[2];
    const bool wants_theta = call.grad_coords != nullptr || call.grad_radii != nullptr;
    const bool moved = call.v_coords != nullptr || call.v_radii != nullptr;
    __shared__ Support a;
    Voxel p;
    real sum[5] = {}, v_x = 0, v_y = 0, v_z = 0, v_radius = 0;
    if (!place(a, grid, scalars, atoms.coords + 3 * i, radius)) {
        fill(grad_weights, k_end - k_begin, 0);
        return;
    }
    if (call.v_coords != nullptr) {
        v_x = call.v_coords[3 * i];
        v_y = call.v_coords[3 * i + 1];
        v_z = call.v_coords[3 * i + 2];
    }
    if (call.v_radii != nullptr)
        v_radius = scalars.radius_scale * call.v_radii[radius_slot(atoms, b, i, k_begin)];
    const real from_coords = -2 / (radius * radius);
    const real from_radius = -2 / radius * v_radius;
    const real mixed = 4 / (radius * radius * radius) * v_radius;
    const real radius_s = -2 / radius;
    const real radius_along = 4 / (radius * radius * radius);
    const real radius_radius = 6 / (radius * radius) * v_radius;
    for (int k = k_begin; k < k_end; k += CHANNELS) {
        real weights[CHANNELS] = {}, v_weights[CHANNELS] = {}, sum_weights[CHANNELS] = {};
        unsigned weighted = 0, v_weighted = 0, asked = 0;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            if (k + c < k_end) {
                weights[c] = atoms.weights != nullptr ? atoms.weights[i * atoms.n_types + k + c] : (real)1;
                if (atoms.weights != nullptr && call.v_weights != nullptr)
                    v_weights[c] = call.v_weights[i * atoms.n_types + k + c];
                weighted |= (unsigned)(wants_theta && moved && weights[c] != 0) << c;
                v_weighted |= (unsigned)(wants_theta && v_weights[c] != 0) << c;
                asked |= (unsigned)(grad_weights != nullptr && moved) << c;
            }
        }
        asked |= weighted | v_weighted;
        if (asked != 0) {
            const real *__restrict__ grad = call.grad_density + (b * atoms.n_types + k) * volume;
            rewind(p, a);
            while (next_voxel(p, a, grid, scalars)) { // A = G w phi_ss s_v + G v_w phi_s, B = G w phi_s
                if (!p.inside)
                    continue;
                const real core = real_exp(-scalars.profile.core_rate * p.s);
                const real phi_s = profile_slope(p.s, core, scalars.profile);
                const real phi_ss = profile_curvature(p.s, core, scalars.profile);
                const real along = p.delta_x * v_x + p.delta_y * v_y + p.delta_z * v_z;
                const real s_v = from_coords * along + from_radius * p.s;
                const real phi_v = phi_s * s_v;
                real grad_w = 0, grad_v = 0;
#pragma unroll
                for (int c = 0; c < CHANNELS; ++c) {
                    const real v = asked >> c & 1 ? grad[c * volume + p.offset] : (real)0;
                    sum_weights[c] += phi_v != 0 ? v * phi_v : (real)0;
                    grad_w += weighted >> c & 1 ? weights[c] * v : (real)0;
                    grad_v += v_weighted >> c & 1 ? v_weights[c] * v : (real)0;
                }
                const real second_order = grad_w * phi_ss * s_v + grad_v * phi_s;
                const real first_order = grad_w * phi_s;
                const real q = second_order * from_coords + first_order * mixed;
                sum[0] += q * p.delta_x;
                sum[1] += q * p.delta_y;
                sum[2] += q * p.delta_z;
                sum[3] += second_order * radius_s * p.s + first_order * (radius_along * along + radius_radius * p.s);
                sum[4] += first_order;
            }
        }
        if (grad_weights != nullptr) {
            block_sum(sum_weights);
            if (threadIdx.x == 0)
                for (int c = 0; c < CHANNELS; ++c)
                    if (k + c < k_end)
                        grad_weights[k - k_begin + c] = sum_weights[c];
        }
    }
    block_sum(sum);
    sums[0] += sum[0] - from_coords * v_x * sum[4];
    sums[1] += sum[1] - from_coords * v_y * sum[4];
    sums[2] += sum[2] - from_coords * v_z * sum[4];
    sums[3] += sum[3];
}

__device__ __forceinline__ void channel_gradients(const ToAtoms &call, const Geometry &grid, const Scalars &scalars,
                                                  long long b, long long i, int k_begin, int k_end, real (&sums)[4])
{
    // the channels of atom i that share a radius
    const Atoms &atoms = call.atoms;
    const real *r = atoms.coords + 3 * i;
    real *grad_weights = call.grad_weights != nullptr ? call.grad_weights + i * atoms.n_types + k_begin : nullptr;
    const bool matters = atoms.weights == nullptr || has_weight(atoms, call.v_weights, i, k_begin, k_end);
    real radius = atoms.radii[radius_slot(atoms, b, i, k_begin)];
    if (matters)
        radius = good_radius(atoms, radius);
    radius *= scalars.radius_scale;
    if (is_nan(r, radius)) {
        fill(grad_weights, k_end - k_begin, REAL_NAN);
        for (int c = 0; matters && c < 4; ++c)
            sums[c] = REAL_NAN;
    } else if (!(radius > 0)) {
        fill(grad_weights, k_end - k_begin, 0);
    } else if (call.second) {
        backward_backward_atom(call, grid, scalars, b, i, k_begin, k_end, radius, sums, grad_weights);
    } else {
        backward_atom(call, grid, scalars, b, i, k_begin, k_end, radius, sums, grad_weights);
    }
}

__device__ __forceinline__ void atom_gradients(const ToAtoms &call, const Geometry &grid)
{
    __shared__ Scalars scalars;
    const Atoms &atoms = call.atoms;
    const long long i = blockIdx.x, b = example_of(atoms, i);
    real sums[4] = {};
    const bool per_channel = atoms.weights != nullptr && atoms.radius_by_type;
    int k_begin = 0, k_end = (int)atoms.n_types;
    narrow(scalars, grid);
    if (atoms.index != nullptr) {
        k_end = 0;
        if (atoms.index[i] >= 0 && !bad_index(atoms, i)) {
            k_begin = (int)atoms.index[i];
            k_end = k_begin + 1;
        }
    }
    for (int k = k_begin; k < k_end; k += per_channel ? 1 : k_end - k_begin) {
        if (per_channel)
            sums[3] = 0;
        channel_gradients(call, grid, scalars, b, i, k, per_channel ? k + 1 : k_end, sums);
        if (per_channel && call.grad_radii != nullptr && threadIdx.x == 0)
            call.grad_radii[i * atoms.n_types + k] = scalars.radius_scale * sums[3];
    }
    if (threadIdx.x != 0)
        return;
    if (call.grad_coords != nullptr)
        for (int c = 0; c < 3; ++c)
            call.grad_coords[3 * i + c] = sums[c];
    if (call.grad_radii != nullptr && !per_channel)
        call.grad_radii[i] = scalars.radius_scale * sums[3];
}

__device__ __forceinline__ void atom_relevance_sum(const ToAtoms &call, const Geometry &grid)
{
    // sum over voxels and channels of relevance * w phi / density
    __shared__ Scalars scalars;
    const Atoms &atoms = call.atoms;
    const long long i = blockIdx.x, b = example_of(atoms, i);
    const long long volume = grid.points[0] * grid.points[1] * grid.points[2];
    const real *r = atoms.coords + 3 * i;
    int k_begin = 0, k_end = (int)atoms.n_types;
    __shared__ Support a;
    Voxel p;
    bool nan = false;
    real sum[1] = {};
    narrow(scalars, grid);
    if (atoms.index != nullptr) {
        k_end = 0;
        if (atoms.index[i] >= 0 && !bad_index(atoms, i)) {
            k_begin = (int)atoms.index[i];
            k_end = k_begin + 1;
        }
    }
    for (int k = k_begin; k < k_end; ++k) {
        const real weight = atoms.weights != nullptr ? atoms.weights[i * atoms.n_types + k] : (real)1;
        if (weight == 0)
            continue;
        const real radius = good_radius(atoms, atoms.radii[radius_slot(atoms, b, i, k)]) * scalars.radius_scale;
        const long long channel = (b * atoms.n_types + k) * volume;
        if (is_nan(r, radius)) {
            nan = true;
        } else if (place(a, grid, scalars, r, radius)) {
            rewind(p, a);
            while (next_voxel(p, a, grid, scalars)) {
                if (!p.inside)
                    continue;
                const real core = real_exp(-scalars.profile.core_rate * p.s);
                const real share = weight * profile(p.s, core, scalars.profile);
                const real density = call.density[channel + p.offset];
                if (share != 0 && density != 0)
                    sum[0] += call.grad_density[channel + p.offset] * (share / density);
            }
        }
    }
    block_sum(sum);
    if (threadIdx.x == 0)
        call.relevance[i] = nan ? REAL_NAN : sum[0];
}
