// Kernels whose outputs belong to atoms: both orders of derivatives and the relevance. Every atom is computed by one
// block. Mirror: pyx/to_atoms.pxd.
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

struct Group { // channels [k, k + GROUP) of an atom, in registers
    const real *__restrict__ grid; // G of the first
    real weights[GROUP];
    real v_weights[GROUP]; // times R
    unsigned weighted;   // bit c: w_c G_c counts,
    unsigned v_weighted; // v_wc G_c counts,
    unsigned asked;      // G_c is to be read
};

__device__ __forceinline__ bool wants_theta(const ToAtoms &call, const Scalars &scalars)
{
    return (call.grad_coords != nullptr || call.grad_radii != nullptr) && has_slope(scalars.profile);
}

__device__ __forceinline__ unsigned asked_channels(const ToAtoms &call, const Scalars &scalars, const Terms &terms,
                                                   bool moved, int k_begin)
{
    // bit k: G of channel k_begin + k is to be read. A warp asks together
    const int k = k_begin + (int)threadIdx.x % 32;
    bool asked = false;
    if (k < terms.k_end) {
        const real *weight = weights_of(call.atoms.weights, call.atoms, terms.i, k);
        const real *v_weight = weights_of(call.v.weights, call.atoms, terms.i, k);
        asked = (call.grad_weights != nullptr && moved)
                || (wants_theta(call, scalars)
                    && ((moved && (weight == nullptr || *weight != 0)) || (v_weight != nullptr && *v_weight != 0)));
    }
    return __ballot_sync(0xffffffffu, asked);
}

__device__ __forceinline__ Group read_group(const ToAtoms &call, const Scalars &scalars, const Terms &terms, bool moved,
                                            int k, unsigned asked, long long volume)
{
    const real *weights = weights_of(call.atoms.weights, call.atoms, terms.i, k);
    const real *v_weights = weights_of(call.v.weights, call.atoms, terms.i, k);
    const bool counts = wants_theta(call, scalars);
    Group group = {};
    group.grid = call.grad_density + (terms.b * call.atoms.n_types + k) * volume;
    group.asked = asked & ((1u << GROUP) - 1);
#pragma unroll
    for (int c = 0; c < GROUP; ++c) {
        if (group.asked >> c & 1) {
            group.weights[c] = weights != nullptr ? weights[c] : (real)1;
            group.weighted |= (unsigned)(counts && moved && group.weights[c] != 0) << c;
            if (v_weights != nullptr) {
                group.v_weights[c] = terms.radius * v_weights[c];
                group.v_weighted |= (unsigned)(counts && v_weights[c] != 0) << c;
            }
        }
    }
    return group;
}

struct Gathered {   // at a voxel
    real grad_w;    // sum_k w_k G_k
    real grad_v;    // R sum_k v_wk G_k
};

template <bool WEIGHTS, int CHANNELS>
__device__ __forceinline__ Gathered gather(const Group &group, long long volume, long long offset, real phi,
                                           real (&sum_weights)[GROUP])
{
    // of the first CHANNELS; WEIGHTS: and sum_weights[c] += G_c phi
    Gathered sums = {};
    const real *__restrict__ grad = group.grid + offset;
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c, grad += volume) {
        const real v = CHANNELS == 1 || (group.asked >> c & 1) ? *grad : (real)0;
        if (WEIGHTS)
            sum_weights[c] += phi != 0 ? v * phi : (real)0;
        sums.grad_w += group.weighted >> c & 1 ? group.weights[c] * v : (real)0;
        sums.grad_v += group.v_weighted >> c & 1 ? group.v_weights[c] * v : (real)0;
    }
    return sums;
}

__device__ __forceinline__ void store_weights(real (&sum_weights)[GROUP], real *grad_weights, const Terms &terms, int k)
{
    // those of channels [k, k + GROUP)
    block_sum<ATOM_THREADS>(sum_weights);
    if (threadIdx.x == 0)
        for (int c = 0; c < GROUP; ++c)
            if (k + c < terms.k_end)
                grad_weights[k - terms.k_begin + c] = sum_weights[c];
}

__device__ __forceinline__ void fill_gradients(const ToAtoms &call, const Terms &terms, real value, real (&sums)[4],
                                               real *grad_weights)
{
    // the same everywhere, where it counts: zero, or NaN
    fill(grad_weights, terms.k_end - terms.k_begin, value);
    if (has_weight(call.atoms, call.v.weights, terms.i, terms.k_begin, terms.k_end))
        for (int n = 0; n < 4; ++n)
            sums[n] += value;
}

__device__ __forceinline__ void first_order(const Voxel &p, real first, real (&sum)[4])
{
    // sum += first = G w phi_s, times -R/2 ds/d(x, y, z, R) = (xi, s)
    sum[0] += first * p.xi_x;
    sum[1] += first * p.xi_y;
    sum[2] += first * p.xi_z;
    sum[3] += first * p.s;
}

template <bool WEIGHTS, bool THETA, int CHANNELS>
__device__ __forceinline__ void backward_group(const Group &group, const Geometry &grid, const Scalars &scalars,
                                               const Support &a, long long volume, real (&sum)[4],
                                               real (&sum_weights)[GROUP])
{
    // one pass over the support: WEIGHTS: phi is asked for; THETA: phi_s
    Voxel p;
    rewind(p, a);
    while (next_voxel(p, a, grid, scalars)) {
        if (!p.inside)
            continue;
        const real core = real_exp2(-LOG2_E * scalars.profile.core_rate * p.s);
        const real phi = WEIGHTS ? profile(p.s, core, scalars.profile) : (real)0;
        const Gathered g = gather<WEIGHTS, CHANNELS>(group, volume, p.offset, phi, sum_weights);
        if (THETA) {
            const real phi_s = profile_slope(p.s, core, scalars.profile);
            first_order(p, phi_s != 0 ? g.grad_w * phi_s : (real)0, sum);
        }
    }
}

__device__ __forceinline__ void backward_atom(const ToAtoms &call, const Geometry &grid, const Scalars &scalars,
                                              const Terms &terms, real (&sums)[4], real *grad_weights)
{
    // sums += d/d(x, y, z, R); grad_weights[k - k_begin] = sum_p G_k phi
    const long long volume = grid.points[0] * grid.points[1] * grid.points[2];
    __shared__ Support a;
    real sum[4] = {};
    if (!place(a, grid, scalars, call.atoms, terms)) {
        fill_gradients(call, terms, is_nan(a.position.high, 0) ? REAL_NAN : (real)0, sums, grad_weights);
        return;
    }
    for (int k_begin = terms.k_begin; k_begin < terms.k_end; k_begin += 32) {
        unsigned todo = asked_channels(call, scalars, terms, true, k_begin);
        while (todo != 0) {
            const int first = __ffs((int)todo) - 1, k = k_begin + first;
            const Group group = read_group(call, scalars, terms, true, k, todo >> first, volume);
            real sum_weights[GROUP] = {};
            if (grad_weights != nullptr) {
                if (group.weighted != 0)
                    backward_group<true, true, GROUP>(group, grid, scalars, a, volume, sum, sum_weights);
                else
                    backward_group<true, false, GROUP>(group, grid, scalars, a, volume, sum, sum_weights);
                store_weights(sum_weights, grad_weights, terms, k);
            } else if (group.asked == 1) {
                backward_group<false, true, 1>(group, grid, scalars, a, volume, sum, sum_weights);
            } else {
                backward_group<false, true, GROUP>(group, grid, scalars, a, volume, sum, sum_weights);
            }
            todo &= ~(((1u << GROUP) - 1) << first);
        }
    }
    block_sum<ATOM_THREADS>(sum);
    for (int n = 0; n < 4; ++n)
        sums[n] += -2 * sum[n] / terms.radius;
}

__device__ __forceinline__ void second_order(const Voxel &p, const Direction &along, real R_s_v, real first,
                                             real R_second, real (&sum)[5])
{
    // first = G w phi_s, R_second = R (G w phi_ss s_v + G v_w phi_s); what is to be summed, second ds/dr
    // + first ds_v/dr = -2 / R^2 (xi by_xi - v_r by_v) and second ds/dR + first ds_v/dR = -2 / R^2 by_radius
    const real turn = first * along.radius;
    const real by_xi = R_second + turn;
    const real by_v = first;
    const real by_radius = R_second * p.s + first * (R_s_v + along.radius * ((real)0.5 * p.s));
    sum[0] += by_xi * p.xi_x;
    sum[1] += by_xi * p.xi_y;
    sum[2] += by_xi * p.xi_z;
    sum[3] += by_radius;
    sum[4] += by_v;
}

template <int CHANNELS>
__device__ __forceinline__ void
backward_backward_group(const Group &group, const Geometry &grid, const Scalars &scalars, const Support &a,
                        const Direction &along, long long volume, real (&sum)[5], real (&sum_weights)[GROUP])
{
    // one pass over the support
    Voxel p;
    rewind(p, a);
    while (next_voxel(p, a, grid, scalars)) {
        if (!p.inside)
            continue;
        const real core = real_exp2(-LOG2_E * scalars.profile.core_rate * p.s);
        const real phi_s = profile_slope(p.s, core, scalars.profile);
        const real phi_ss = profile_curvature(p.s, core, scalars.profile);
        const real R_s_v =
            p.xi_x * along.coords[0] + p.xi_y * along.coords[1] + p.xi_z * along.coords[2] + along.radius * p.s;
        const Gathered g = gather<true, CHANNELS>(group, volume, p.offset, phi_s * R_s_v * a.per_radius, sum_weights);
        second_order(p, along, R_s_v, g.grad_w * phi_s, g.grad_w * phi_ss * R_s_v + g.grad_v * phi_s, sum);
    }
}

__device__ __forceinline__ void backward_backward_atom(const ToAtoms &call, const Geometry &grid,
                                                       const Scalars &scalars, const Terms &terms, real (&sums)[4],
                                                       real *grad_weights)
{
    // sums += d/d(x, y, z, R) of <v, first order>; grad_weights[k - k_begin] = sum_p G_k phi_v
    const long long volume = grid.points[0] * grid.points[1] * grid.points[2];
    const bool moved = call.v.coords != nullptr || call.v.radii != nullptr;
    __shared__ Support a;
    real sum[5] = {};
    const bool any = place(a, grid, scalars, call.atoms, terms);
    if (!any || !has_slope(scalars.profile)) {
        fill_gradients(call, terms, is_nan(a.position.high, 0) ? REAL_NAN : (real)0, sums, grad_weights);
        return;
    }
    if (!moved) // phi_v is zero
        fill(grad_weights, terms.k_end - terms.k_begin, 0);
    const Direction along = direction_of(call.v, call.atoms, terms, scalars.radius_scale);
    for (int k_begin = terms.k_begin; k_begin < terms.k_end; k_begin += 32) {
        unsigned todo = asked_channels(call, scalars, terms, moved, k_begin);
        while (todo != 0) {
            const int first = __ffs((int)todo) - 1, k = k_begin + first;
            const Group group = read_group(call, scalars, terms, moved, k, todo >> first, volume);
            real sum_weights[GROUP] = {};
            if (group.asked == 1)
                backward_backward_group<1>(group, grid, scalars, a, along, volume, sum, sum_weights);
            else
                backward_backward_group<GROUP>(group, grid, scalars, a, along, volume, sum, sum_weights);
            if (grad_weights != nullptr && moved)
                store_weights(sum_weights, grad_weights, terms, k);
            todo &= ~(((1u << GROUP) - 1) << first);
        }
    }
    block_sum<ATOM_THREADS>(sum);
    for (int n = 0; n < 3; ++n)
        sum[n] += (real)0.5 * along.coords[n] * sum[4];
    for (int n = 0; n < 4; ++n)
        sums[n] += -2 * sum[n] / terms.radius / terms.radius;
}

__device__ __forceinline__ void channel_gradients(const ToAtoms &call, const Geometry &grid, const Scalars &scalars,
                                                  const Terms &terms, real (&sums)[4])
{
    // of terms that share a radius
    const Atoms &atoms = call.atoms;
    const real *r = atoms.coords + 3 * terms.i;
    real *grad_weights = nullptr;
    if (call.grad_weights != nullptr)
        grad_weights = call.grad_weights + terms.i * atoms.n_types + terms.k_begin;
    if (is_nan(r, terms.radius) || (has_slope(scalars.profile) && !is_known(call.v, atoms, terms))) {
        fill_gradients(call, terms, REAL_NAN, sums, grad_weights);
    } else if (!(terms.radius > 0)) { // and it does not count
        real value = 0;
        for (int axis = 0; axis < 3; ++axis) {
            const double x = (double)r[axis] - center_of(atoms, grid.center, (int)terms.b, axis);
            value = x == x ? value : REAL_NAN;
        }
        fill_gradients(call, terms, value, sums, grad_weights);
    } else if (call.second) {
        backward_backward_atom(call, grid, scalars, terms, sums, grad_weights);
    } else {
        backward_atom(call, grid, scalars, terms, sums, grad_weights);
    }
}

__device__ __forceinline__ void atom_gradients(const ToAtoms &call, const Geometry &grid)
{
    __shared__ Scalars scalars;
    const Atoms &atoms = call.atoms;
    const long long i = blockIdx.x;
    const bool per_channel = atoms.weights != nullptr && atoms.radius_by_type;
    real sums[4] = {};
    const Terms terms = terms_of(atoms, example_of(atoms, i), i);
    if (terms.b < 0) {
        fill(call.grad_coords != nullptr ? call.grad_coords + 3 * i : nullptr, 3, 0);
        fill(call.grad_weights != nullptr ? call.grad_weights + i * atoms.n_types : nullptr, atoms.n_types, 0);
        if (call.grad_radii != nullptr)
            fill(call.grad_radii + (per_channel ? i * atoms.n_types : i), per_channel ? atoms.n_types : 1, 0);
        return;
    }
    narrow(scalars, grid);
    for (int k = terms.k_begin, k_end; k < terms.k_end; k = k_end) {
        k_end = per_channel ? k + 1 : terms.k_end;
        if (per_channel)
            sums[3] = 0;
        channel_gradients(call, grid, scalars,
                          sharing_radius(atoms, call.v.weights, terms, k, k_end, scalars.radius_scale), sums);
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
    const long long i = blockIdx.x;
    const long long volume = grid.points[0] * grid.points[1] * grid.points[2];
    __shared__ Support a;
    Voxel p;
    bool nan = false;
    real sum[1] = {};
    narrow(scalars, grid);
    const Terms terms = terms_of(atoms, example_of(atoms, i), i);
    for (int k = terms.k_begin; terms.b >= 0 && k < terms.k_end; ++k) {
        const real weight = atoms.weights != nullptr ? atoms.weights[i * atoms.n_types + k] : (real)1;
        if (weight == 0)
            continue;
        const Terms part = sharing_radius(atoms, nullptr, terms, k, k + 1, scalars.radius_scale);
        const long long channel = (part.b * atoms.n_types + k) * volume;
        const bool any = place(a, grid, scalars, atoms, part);
        if (is_nan(a.position.high, part.radius)) {
            nan = true;
        } else if (any) {
            rewind(p, a);
            while (next_voxel(p, a, grid, scalars)) {
                if (!p.inside)
                    continue;
                const real core = real_exp2(-LOG2_E * scalars.profile.core_rate * p.s);
                const real phi = profile(p.s, core, scalars.profile);
                const real density = call.density[channel + p.offset];
                if (phi != 0 && density != 0)
                    sum[0] += call.grad_density[channel + p.offset] * (weight * phi / density);
            }
        }
    }
    block_sum<ATOM_THREADS>(sum);
    if (threadIdx.x == 0)
        call.relevance[i] = nan ? REAL_NAN : sum[0];
}
