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
        if (v.inside[l] && phi_s[l] != 0) {
            const real first = g.grad_w[l] * phi_s[l];
            along += first;
            sum[2] += first * v.xi_z[l];
            sum[3] += first * v.s[l];
        }
    }
    sum[0] += along * p.xi_x;
    sum[1] += along * p.xi_y;
}

template <bool SINGLE, bool ALIGNED>
__device__ __forceinline__ void backward_theta(const Channels &channels, const Grids<ALIGNED> &grids,
                                               const Geometry &grid, const Scalars &scalars, const Support &a,
                                               real (&sum)[4])
{
    // one pass over the support
    Walk walk = rewind(a);
    const Line line = line_of(a);
    const real *const first = next_channel(channels, grids, channels.asked);
    const real weight = first_weight(channels);
    Piece p;
    bool any;
    while (next_piece(walk, p, any, a, grid, scalars)) {
        if (!any)
            continue;
        real grad[VOXELS], core[VOXELS], phi_s[VOXELS];
        read_piece<ALIGNED>(first, p, grid, grad);
        const Voxels v = voxels_of(p, line, scalars);
        core_of(v.s, scalars.profile, core);
        profile_slope<false>(v.s, core, scalars.profile, phi_s);
        first_order(p, v, gather_all<SINGLE>(channels, grids, grid, p, grad, true, weight, 0), phi_s, sum);
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void backward_weights(const ToAtoms &call, const Terms &terms, const Grids<ALIGNED> &grids,
                                                 const Geometry &grid, const Scalars &scalars, const Support &a,
                                                 real *grad_weights)
{
    // a pass over the support for WEIGHTS channels
    for (int k = terms.k_begin; k < terms.k_end; k += WEIGHTS) {
        const Several several = {call.grad_density + (terms.b * call.atoms.n_types + k) * grids.volume,
                                 terms.k_end - k};
        real sum_weights[WEIGHTS] = {};
        Walk walk = rewind(a);
        Piece p;
        bool any;
        while (next_piece(walk, p, any, a, grid, scalars)) {
            if (!any)
                continue;
            real core[VOXELS], phi[VOXELS];
            const Voxels v = voxels_of(p, line_of(a), scalars);
            core_of(v.s, scalars.profile, core);
            profile(v.s, core, scalars.profile, phi);
            add_weights(several, grids, grid, p, phi, sum_weights);
        }
        store_weights(sum_weights, grad_weights + (k - terms.k_begin), terms.k_end - k);
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void backward_atom(const ToAtoms &call, const Geometry &grid, const Scalars &scalars,
                                              const Terms &terms, real (&sums)[4], real *grad_weights)
{
    // sums += this thread's part of d/d(x, y, z, R); grad_weights[k - k_begin] = sum_p G_k phi
    __shared__ Support a;
    real sum[4] = {};
    if (!place(a, grid, scalars, call.atoms, terms)) {
        fill_gradients(call, terms, is_nan(a.position.high, 0) ? REAL_NAN : (real)0, sums, grad_weights);
        return;
    }
    const Grids<ALIGNED> grids = grids_of<ALIGNED>(grid);
    if (grad_weights != nullptr)
        backward_weights(call, terms, grids, grid, scalars, a, grad_weights);
    for (int k_begin = terms.k_begin; k_begin < terms.k_end; k_begin += 32) {
        const Channels channels = asked_channels(call, scalars, terms, grids, true, k_begin);
        if (channels.asked == 0)
            continue;
        if (is_single(channels))
            backward_theta<true>(channels, grids, grid, scalars, a, sum);
        else
            backward_theta<false>(channels, grids, grid, scalars, a, sum);
    }
    for (int n = 0; n < 4; ++n)
        sums[n] += -2 * sum[n] * a.per_radius;
}

template <bool SINGLE>
__device__ __forceinline__ void second_order(const Piece &p, const Voxels &v, const Direction &along, const Gathered &g,
                                             const real (&phi_s)[VOXELS], const real (&phi_ss)[VOXELS], real (&sum)[5])
{
    // of first = G w phi_s, R_second = R (G w phi_ss s_v + G v_w phi_s); what is to be summed, second ds/dr
    // + first ds_v/dr = -2 / R^2 (xi by_xi - v_r by_v) and second ds/dR + first ds_v/dR = -2 / R^2 by_radius
    const real xi_v = p.xi_x * along.coords[0] + p.xi_y * along.coords[1], half = (real)0.5 * along.radius;
    real by_xi = 0;
#pragma unroll
    for (int l = 0; l < VOXELS; ++l) {
        if (v.inside[l]) {
            const real R_s_v = xi_v + v.xi_z[l] * along.coords[2] + along.radius * v.s[l];
            const real first = g.grad_w[l] * phi_s[l];
            real R_second = g.grad_w[l] * (phi_ss[l] * R_s_v);
            if (!SINGLE)
                R_second += g.grad_v[l] * phi_s[l];
            const real turned = R_second + first * along.radius;
            by_xi += turned;
            sum[2] += turned * v.xi_z[l];
            sum[3] += R_second * v.s[l] + first * (R_s_v + half * v.s[l]); // by_radius
            sum[4] += first; // by_v
        }
    }
    sum[0] += by_xi * p.xi_x;
    sum[1] += by_xi * p.xi_y;
}

template <bool SINGLE, bool ALIGNED>
__device__ __forceinline__ void backward_backward_theta(const Channels &channels, const Grids<ALIGNED> &grids,
                                                        const Geometry &grid, const Scalars &scalars, const Support &a,
                                                        const Direction &along, bool moved, real radius, real (&sum)[5])
{
    // one pass over the support
    Walk walk = rewind(a);
    const Line line = line_of(a);
    const real *const first = next_channel(channels, grids, channels.asked);
    const real weight = first_weight(channels);
    Piece p;
    bool any;
    while (next_piece(walk, p, any, a, grid, scalars)) {
        if (!any)
            continue;
        real grad[VOXELS], core[VOXELS], phi_s[VOXELS], phi_ss[VOXELS];
        read_piece<ALIGNED>(first, p, grid, grad);
        const Voxels v = voxels_of(p, line, scalars);
        core_of(v.s, scalars.profile, core);
        profile_slope<false>(v.s, core, scalars.profile, phi_s);
        profile_curvature<false>(v.s, core, scalars.profile, phi_ss);
        second_order<SINGLE>(p, v, along, gather_all<SINGLE>(channels, grids, grid, p, grad, moved, weight, radius),
                             phi_s, phi_ss, sum);
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void
backward_backward_weights(const ToAtoms &call, const Terms &terms, const Grids<ALIGNED> &grids, const Geometry &grid,
                          const Scalars &scalars, const Support &a, const Direction &along, real *grad_weights)
{
    // a pass over the support for WEIGHTS channels
    for (int k = terms.k_begin; k < terms.k_end; k += WEIGHTS) {
        const Several several = {call.grad_density + (terms.b * call.atoms.n_types + k) * grids.volume,
                                 terms.k_end - k};
        real sum_weights[WEIGHTS] = {};
        Walk walk = rewind(a);
        const Line line = line_of(a);
        Piece p;
        bool any;
        while (next_piece(walk, p, any, a, grid, scalars)) {
            if (!any)
                continue;
            real core[VOXELS], phi_s[VOXELS], phi_v[VOXELS];
            const Voxels v = voxels_of(p, line, scalars);
            core_of(v.s, scalars.profile, core);
            profile_slope<false>(v.s, core, scalars.profile, phi_s);
            const real xi_v = p.xi_x * along.coords[0] + p.xi_y * along.coords[1];
#pragma unroll
            for (int l = 0; l < VOXELS; ++l) {
                const real R_s_v = xi_v + v.xi_z[l] * along.coords[2] + along.radius * v.s[l];
                phi_v[l] = v.inside[l] ? phi_s[l] * R_s_v * line.per_radius : (real)0;
            }
            add_weights(several, grids, grid, p, phi_v, sum_weights);
        }
        store_weights(sum_weights, grad_weights + (k - terms.k_begin), terms.k_end - k);
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void backward_backward_atom(const ToAtoms &call, const Geometry &grid,
                                                       const Scalars &scalars, const Terms &terms, real (&sums)[4],
                                                       real *grad_weights)
{
    // sums += this thread's part of d/d(x, y, z, R) of <v, first order>; grad_weights[k - k_begin] = sum_p G_k phi_v
    __shared__ Support a;
    const bool moved = call.v.coords != nullptr || call.v.radii != nullptr;
    real sum[5] = {};
    const bool any = place(a, grid, scalars, call.atoms, terms);
    if (!any || !has_slope(scalars.profile)) {
        fill_gradients(call, terms, is_nan(a.position.high, 0) ? REAL_NAN : (real)0, sums, grad_weights);
        return;
    }
    const Direction along = direction_of(call.v, call.atoms, terms, scalars.radius_scale);
    const Grids<ALIGNED> grids = grids_of<ALIGNED>(grid);
    if (!moved) // phi_v is zero
        fill(grad_weights, terms.k_end - terms.k_begin, 0);
    else if (grad_weights != nullptr)
        backward_backward_weights(call, terms, grids, grid, scalars, a, along, grad_weights);
    for (int k_begin = terms.k_begin; k_begin < terms.k_end; k_begin += 32) {
        const Channels channels = asked_channels(call, scalars, terms, grids, moved, k_begin);
        if (channels.asked == 0)
            continue;
        if (is_single(channels))
            backward_backward_theta<true>(channels, grids, grid, scalars, a, along, moved, terms.radius, sum);
        else
            backward_backward_theta<false>(channels, grids, grid, scalars, a, along, moved, terms.radius, sum);
    }
    for (int n = 0; n < 3; ++n)
        sum[n] += (real)0.5 * along.coords[n] * sum[4];
    for (int n = 0; n < 4; ++n)
        sums[n] += -2 * sum[n] * a.per_radius * a.per_radius;
}

template <bool ALIGNED>
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
        backward_backward_atom<ALIGNED>(call, grid, scalars, terms, sums, grad_weights);
    } else {
        backward_atom<ALIGNED>(call, grid, scalars, terms, sums, grad_weights);
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void atom_gradients(const ToAtoms &call, const Geometry &grid)
{
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
        channel_gradients<ALIGNED>(call, grid, scalars,
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

__device__ __forceinline__ void atom_gradients(const ToAtoms &call, const Geometry &grid)
{
    if (is_aligned(call.grad_density, grid))
        atom_gradients<true>(call, grid);
    else
        atom_gradients<false>(call, grid);
}

template <bool ALIGNED>
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
            const Line line = line_of(a);
            while (next_piece(walk, p, any, a, grid, scalars)) {
                if (!any)
                    continue;
                real density[VOXELS], relevance[VOXELS];
                read_piece<ALIGNED>(call.density + channel, p, grid, density);
                read_piece<ALIGNED>(call.grad_density + channel, p, grid, relevance);
                const Voxels v = voxels_of(p, line, scalars);
                real core[VOXELS], phi[VOXELS];
                core_of(v.s, scalars.profile, core);
                profile<false>(v.s, core, scalars.profile, phi);
#pragma unroll
                for (int l = 0; l < VOXELS; ++l)
                    if (v.inside[l] && phi[l] != 0 && density[l] != 0)
                        sum += relevance[l] * (weight * phi[l] / density[l]);
            }
        }
    }
    sum = warp_sum(sum);
    if (lane == 0)
        call.relevance[i] = nan ? REAL_NAN : sum;
}

__device__ __forceinline__ void atom_relevance_sum(const ToAtoms &call, const Geometry &grid)
{
    if (is_aligned(call.grad_density, grid) && is_aligned(call.density, grid))
        atom_relevance_sum<true>(call, grid);
    else
        atom_relevance_sum<false>(call, grid);
}
