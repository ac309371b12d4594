// Kernels whose outputs belong to atoms: both orders of derivatives and the relevance. Every atom is computed by one
// warp. Mirror: pyx/to_atoms.pxd.
#pragma once
#include "gather.cuh"

__device__ __forceinline__ void fill_gradients(const ToAtoms &call, const Terms &terms, real value, real (&sums)[4],
                                               real *grad_weights)
{
    // the same everywhere, where it counts: zero, or NaN
    fill(grad_weights, terms.k_end - terms.k_begin, value);
    if (has_weight(call.atoms, call.v.weights, terms.i, terms.k_begin, terms.k_end))
        for (int n = 0; n < 4; ++n)
            sums[n] += value;
}

__device__ __forceinline__ void first_order(const Piece &p, const Voxels &v, const Gathered &g,
                                            const real (&phi_s)[VOXELS], real (&sum)[4])
{
    // sum += first = G w phi_s, times -R/2 ds/d(x, y, z, R) = (xi, s)
    real along = 0;
#pragma unroll
    for (int l = 0; l < VOXELS; ++l) {
        if (phi_s[l] != 0) {
            const real first = g.grad_w[l] * phi_s[l];
            along += first;
            sum[2] += first * v.xi_z[l];
            sum[3] += first * v.s[l];
        }
    }
    sum[0] += along * p.xi_x;
    sum[1] += along * p.xi_y;
}

__device__ __forceinline__ void backward_theta(const Channels &channels, const Grids &grids, const Geometry &grid,
                                               const Scalars &scalars, Support &a, Walk walk, real (&sum)[4])
{
    // one pass over the support
    Piece p;
    bool any;
    while (next_piece(walk, p, any, a, grid, scalars)) {
        if (!any)
            continue;
        real grad[VOXELS], core[VOXELS], phi_s[VOXELS];
        read_piece(channels.grid + (__ffs((int)channels.asked) - 1) * grids.volume, p, grid, grids.aligned, grad);
        const Voxels v = voxels_of(p, a, grid, scalars);
        core_of(v.s, scalars.profile, core);
        profile_slope(v.s, core, scalars.profile, phi_s);
        first_order(p, v, gather_all(channels, grids, grid, p, grad, true, 0), phi_s, sum);
    }
}

__device__ __forceinline__ void backward_weights(const ToAtoms &call, const Terms &terms, const Grids &grids,
                                                 const Geometry &grid, const Scalars &scalars, Support &a,
                                                 const Walk &start, real *grad_weights)
{
    // a pass over the support for GROUP channels
    for (int k = terms.k_begin; k < terms.k_end; k += GROUP) {
        const real *grad_density = call.grad_density + (terms.b * call.atoms.n_types + k) * grids.volume;
        real sum_weights[GROUP] = {};
        Walk walk = start;
        Piece p;
        bool any;
        while (next_piece(walk, p, any, a, grid, scalars)) {
            if (!any)
                continue;
            real core[VOXELS], phi[VOXELS];
            const Voxels v = voxels_of(p, a, grid, scalars);
            core_of(v.s, scalars.profile, core);
            profile(v.s, core, scalars.profile, phi);
            add_weights(grad_density, grids, grid, p, terms.k_end - k, phi, sum_weights);
        }
        store_weights(sum_weights, grad_weights + (k - terms.k_begin), terms.k_end - k);
    }
}

__device__ __forceinline__ void backward_atom(const ToAtoms &call, const Geometry &grid, const Scalars &scalars,
                                              Support &a, const Terms &terms, real (&sums)[4], real *grad_weights)
{
    // sums += this thread's part of d/d(x, y, z, R); grad_weights[k - k_begin] = sum_p G_k phi
    real sum[4] = {};
    if (!place(a, grid, scalars, call.atoms, terms)) {
        fill_gradients(call, terms, is_nan(a.position.high, 0) ? REAL_NAN : (real)0, sums, grad_weights);
        return;
    }
    const Grids grids = grids_of(call.grad_density, grid);
    const Walk start = rewind(a);
    if (grad_weights != nullptr)
        backward_weights(call, terms, grids, grid, scalars, a, start, grad_weights);
    for (int k_begin = terms.k_begin; k_begin < terms.k_end; k_begin += 32) {
        const Channels channels = asked_channels(call, scalars, terms, grids, true, k_begin);
        if (channels.asked != 0)
            backward_theta(channels, grids, grid, scalars, a, start, sum);
    }
    for (int n = 0; n < 4; ++n)
        sums[n] += -2 * sum[n] / terms.radius;
}

__device__ __forceinline__ void second_order(const Piece &p, const Voxels &v, const Direction &along, const Gathered &g,
                                             const real (&phi_s)[VOXELS], const real (&phi_ss)[VOXELS],
                                             const real (&R_s_v)[VOXELS], real (&sum)[5])
{
    // of first = G w phi_s, R_second = R (G w phi_ss s_v + G v_w phi_s); what is to be summed, second ds/dr
    // + first ds_v/dr = -2 / R^2 (xi by_xi - v_r by_v) and second ds/dR + first ds_v/dR = -2 / R^2 by_radius
    real by_xi = 0;
#pragma unroll
    for (int l = 0; l < VOXELS; ++l) {
        if (v.inside[l]) {
            const real first = g.grad_w[l] * phi_s[l];
            const real R_second = g.grad_w[l] * phi_ss[l] * R_s_v[l] + g.grad_v[l] * phi_s[l];
            const real turned = R_second + first * along.radius;
            by_xi += turned;
            sum[2] += turned * v.xi_z[l];
            sum[3] += R_second * v.s[l] + first * (R_s_v[l] + along.radius * ((real)0.5 * v.s[l])); // by_radius
            sum[4] += first; // by_v
        }
    }
    sum[0] += by_xi * p.xi_x;
    sum[1] += by_xi * p.xi_y;
}

__device__ __forceinline__ void along_v(const Piece &p, const Voxels &v, const Direction &along, real (&R_s_v)[VOXELS])
{
    const real xi_v = p.xi_x * along.coords[0] + p.xi_y * along.coords[1];
#pragma unroll
    for (int l = 0; l < VOXELS; ++l)
        R_s_v[l] = xi_v + v.xi_z[l] * along.coords[2] + along.radius * v.s[l];
}

__device__ __forceinline__ void backward_backward_theta(const Channels &channels, const Grids &grids,
                                                        const Geometry &grid, const Scalars &scalars, Support &a,
                                                        const Direction &along, bool moved, real radius, Walk walk,
                                                        real (&sum)[5])
{
    // one pass over the support
    Piece p;
    bool any;
    while (next_piece(walk, p, any, a, grid, scalars)) {
        if (!any)
            continue;
        real grad[VOXELS], core[VOXELS], phi_s[VOXELS], phi_ss[VOXELS], R_s_v[VOXELS];
        read_piece(channels.grid + (__ffs((int)channels.asked) - 1) * grids.volume, p, grid, grids.aligned, grad);
        const Voxels v = voxels_of(p, a, grid, scalars);
        core_of(v.s, scalars.profile, core);
        profile_slope(v.s, core, scalars.profile, phi_s);
        profile_curvature(v.s, core, scalars.profile, phi_ss);
        along_v(p, v, along, R_s_v);
        second_order(p, v, along, gather_all(channels, grids, grid, p, grad, moved, radius), phi_s, phi_ss, R_s_v, sum);
    }
}

__device__ __forceinline__ void backward_backward_weights(const ToAtoms &call, const Terms &terms, const Grids &grids,
                                                          const Geometry &grid, const Scalars &scalars, Support &a,
                                                          const Direction &along, const Walk &start, real *grad_weights)
{
    // a pass over the support for GROUP channels
    for (int k = terms.k_begin; k < terms.k_end; k += GROUP) {
        const real *grad_density = call.grad_density + (terms.b * call.atoms.n_types + k) * grids.volume;
        real sum_weights[GROUP] = {};
        Walk walk = start;
        Piece p;
        bool any;
        while (next_piece(walk, p, any, a, grid, scalars)) {
            if (!any)
                continue;
            real core[VOXELS], phi_s[VOXELS], phi_v[VOXELS], R_s_v[VOXELS];
            const Voxels v = voxels_of(p, a, grid, scalars);
            core_of(v.s, scalars.profile, core);
            profile_slope(v.s, core, scalars.profile, phi_s);
            along_v(p, v, along, R_s_v);
#pragma unroll
            for (int l = 0; l < VOXELS; ++l)
                phi_v[l] = v.inside[l] ? phi_s[l] * R_s_v[l] * a.per_radius : (real)0;
            add_weights(grad_density, grids, grid, p, terms.k_end - k, phi_v, sum_weights);
        }
        store_weights(sum_weights, grad_weights + (k - terms.k_begin), terms.k_end - k);
    }
}

__device__ __forceinline__ void backward_backward_atom(const ToAtoms &call, const Geometry &grid,
                                                       const Scalars &scalars, Support &a, const Terms &terms,
                                                       real (&sums)[4], real *grad_weights)
{
    // sums += this thread's part of d/d(x, y, z, R) of <v, first order>; grad_weights[k - k_begin] = sum_p G_k phi_v
    const bool moved = call.v.coords != nullptr || call.v.radii != nullptr;
    real sum[5] = {};
    const bool any = place(a, grid, scalars, call.atoms, terms);
    if (!any || !has_slope(scalars.profile)) {
        fill_gradients(call, terms, is_nan(a.position.high, 0) ? REAL_NAN : (real)0, sums, grad_weights);
        return;
    }
    const Direction along = direction_of(call.v, call.atoms, terms, scalars.radius_scale);
    const Grids grids = grids_of(call.grad_density, grid);
    const Walk start = rewind(a);
    if (!moved) // phi_v is zero
        fill(grad_weights, terms.k_end - terms.k_begin, 0);
    else if (grad_weights != nullptr)
        backward_backward_weights(call, terms, grids, grid, scalars, a, along, start, grad_weights);
    for (int k_begin = terms.k_begin; k_begin < terms.k_end; k_begin += 32) {
        const Channels channels = asked_channels(call, scalars, terms, grids, moved, k_begin);
        if (channels.asked != 0)
            backward_backward_theta(channels, grids, grid, scalars, a, along, moved, terms.radius, start, sum);
    }
    for (int n = 0; n < 3; ++n)
        sum[n] += (real)0.5 * along.coords[n] * sum[4];
    for (int n = 0; n < 4; ++n)
        sums[n] += -2 * sum[n] / terms.radius / terms.radius;
}

__device__ __forceinline__ void channel_gradients(const ToAtoms &call, const Geometry &grid, const Scalars &scalars,
                                                  Support &a, const Terms &terms, real (&sums)[4])
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
        backward_backward_atom(call, grid, scalars, a, terms, sums, grad_weights);
    } else {
        backward_atom(call, grid, scalars, a, terms, sums, grad_weights);
    }
}

__device__ __forceinline__ void atom_gradients(const ToAtoms &call, const Geometry &grid)
{
    __shared__ Support a;
    const Atoms &atoms = call.atoms;
    const int lane = threadIdx.x;
    const long long i = blockIdx.x;
    const bool per_channel = atoms.weights != nullptr && atoms.radius_by_type;
    const Scalars &scalars = narrow(grid);
    real sums[4] = {};
    const Terms terms = terms_of(atoms, example_of(atoms, i), i);
    if (terms.b < 0) {
        fill(call.grad_coords != nullptr ? call.grad_coords + 3 * i : nullptr, 3, 0);
        fill(call.grad_weights != nullptr ? call.grad_weights + i * atoms.n_types : nullptr, atoms.n_types, 0);
        if (call.grad_radii != nullptr)
            fill(call.grad_radii + (per_channel ? i * atoms.n_types : i), per_channel ? atoms.n_types : 1, 0);
        return;
    }
    for (int k = terms.k_begin, k_end; k < terms.k_end; k = k_end) {
        k_end = per_channel ? k + 1 : terms.k_end;
        if (per_channel)
            sums[3] = 0;
        channel_gradients(call, grid, scalars, a,
                          sharing_radius(atoms, call.v.weights, terms, k, k_end, scalars.radius_scale), sums);
        if (per_channel && call.grad_radii != nullptr) {
            const real sum = warp_sum(sums[3]);
            if (lane == 0)
                call.grad_radii[i * atoms.n_types + k] = scalars.radius_scale * sum;
        }
    }
    const real sum = warp_sum(sums);
    const int n = lane / 8;
    if (lane % 8 != 0)
        return;
    if (n < 3 && call.grad_coords != nullptr)
        call.grad_coords[3 * i + n] = sum;
    if (n == 3 && call.grad_radii != nullptr && !per_channel)
        call.grad_radii[i] = scalars.radius_scale * sum;
}

__device__ __forceinline__ void atom_relevance_sum(const ToAtoms &call, const Geometry &grid)
{
    // sum over voxels and channels of relevance * w phi / density
    __shared__ Support a;
    const Atoms &atoms = call.atoms;
    const int lane = threadIdx.x;
    const long long i = blockIdx.x;
    const long long volume = grid.points[0] * grid.points[1] * grid.points[2];
    Piece p;
    bool nan = false, any;
    const Scalars &scalars = narrow(grid);
    real sum = 0;
    const bool aligned = is_aligned(call.grad_density, grid) && is_aligned(call.density, grid);
    const Terms terms = terms_of(atoms, example_of(atoms, i), i);
    for (int k = terms.k_begin; terms.b >= 0 && k < terms.k_end; ++k) {
        const real weight = atoms.weights != nullptr ? atoms.weights[i * atoms.n_types + k] : (real)1;
        if (weight == 0)
            continue;
        const Terms part = sharing_radius(atoms, nullptr, terms, k, k + 1, scalars.radius_scale);
        const long long channel = (part.b * atoms.n_types + k) * volume;
        const bool placed = place(a, grid, scalars, atoms, part);
        if (is_nan(a.position.high, part.radius)) {
            nan = true;
        } else if (placed) {
            Walk walk = rewind(a);
            while (next_piece(walk, p, any, a, grid, scalars)) {
                if (!any)
                    continue;
                real density[VOXELS], relevance[VOXELS];
                read_piece(call.density + channel, p, grid, aligned, density);
                read_piece(call.grad_density + channel, p, grid, aligned, relevance);
                const Voxels v = voxels_of(p, a, grid, scalars);
                real core[VOXELS], phi[VOXELS];
                core_of(v.s, scalars.profile, core);
                profile(v.s, core, scalars.profile, phi);
#pragma unroll
                for (int l = 0; l < VOXELS; ++l)
                    if (phi[l] != 0 && density[l] != 0)
                        sum += relevance[l] * (weight * phi[l] / density[l]);
            }
        }
    }
    sum = warp_sum(sum);
    if (lane == 0)
        call.relevance[i] = nan ? REAL_NAN : sum;
}
