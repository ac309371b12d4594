# Kernels whose outputs belong to atoms: both orders of derivatives and the relevance. Every atom is computed by one
# thread. Mirror: cuda/to_atoms.cuh.

from libc.math cimport NAN
from libc.string cimport memset
from profile cimport Profile, profile, profile_curvature, profile_slope, real
from support cimport LANES, Support, next_block, place
from atoms cimport Atoms, example_of, is_nan, radius_slot
from block cimport (NO_LANES, WIDTH, fill_phi, fill_phi_v, fill_slope, grid_lanes, lanes, lanes_of, load, only_where,
                    total)
from workspace cimport Workspace


cdef struct ToAtoms:
    Atoms atoms
    const real* grad_density    # (B, T, X, Y, Z); relevance: the relevance of a voxel
    const real* density         # relevance only
    const real* v_coords        # second order only: cotangents of the first-order gradients; absent: zero
    const real* v_weights
    const real* v_radii
    bint second
    long long* order            # in which atoms are visited; absent: theirs
    real* grad_coords           # (N, 3)
    real* grad_weights          # (N, T)
    real* grad_radii            # (N,); by type: partial sums, (N,) for index types, (N, T) for weights
    real* relevance             # (N,)


cdef inline void accumulate(const real* grid, real weight, Support* a, bint first, real* target) noexcept nogil:
    # target[c] (+)= weight * grid[c] over the chunks of a block
    cdef long long c
    cdef int part = 0
    cdef lanes value
    cdef real edge[LANES]
    while part < LANES:
        for c in range(a.n):
            value = weight * grid_lanes(grid, a, c, part, edge)
            if not first:
                value = value + lanes_of(target, c, part)
            (<lanes*>(target + c * LANES + part))[0] = value
        part += WIDTH


cdef inline real inner(const real* grid, const real* values, Support* a) noexcept nogil:
    # sum over a block of values * grid, where values != 0; two partial sums hide the latency of the addition
    cdef long long c, n = a.n
    cdef int part = 0
    cdef lanes even, odd, value
    cdef real sums[LANES]
    cdef real edge[LANES]
    while part < LANES:
        even = NO_LANES
        odd = NO_LANES
        for c in range(0, n - 1, 2):
            value = lanes_of(values, c, part)
            even = even + only_where(value, value * grid_lanes(grid, a, c, part, edge))
            value = lanes_of(values, c + 1, part)
            odd = odd + only_where(value, value * grid_lanes(grid, a, c + 1, part, edge))
        if n % 2 == 1:
            value = lanes_of(values, n - 1, part)
            even = even + only_where(value, value * grid_lanes(grid, a, n - 1, part, edge))
        (<lanes*>(sums + part))[0] = even + odd
        part += WIDTH
    return total(sums)


cdef inline void backward_atom(Workspace* space, const ToAtoms* call, long long b, long long i, long long k_begin,
                               long long k_end, double radius, double* sums, real* grad_weights) noexcept nogil:
    # sums += d/d(x, y, z, R) over channels [k_begin, k_end); grad_weights[k - k_begin] += sum_p G_k phi
    cdef Support* a = &space.support
    cdef const Atoms* atoms = &call.atoms
    cdef const real* weights = NULL
    cdef const real* grid
    cdef long long volume = a.grid.points[0] * a.grid.points[1] * a.grid.points[2], k, c
    cdef lanes v, along_x, along_y, along_z, along_s
    cdef real sum_x[LANES]
    cdef real sum_y[LANES]
    cdef real sum_z[LANES]
    cdef real sum_s[LANES]
    cdef int part
    cdef bint wants_theta = call.grad_coords != NULL or call.grad_radii != NULL, first
    grid = call.grad_density + (b * atoms.n_types + k_begin) * volume
    if atoms.weights != NULL:
        weights = atoms.weights + i * atoms.n_types + k_begin
    if not place(a, atoms.coords + 3 * i, radius, 0, a.grid.points[0]):
        return
    while next_block(a):
        if grad_weights != NULL:
            fill_phi(space)
        if wants_theta:
            fill_slope(space)
        first = True
        for k in range(k_end - k_begin):
            if grad_weights != NULL:
                grad_weights[k] += inner(grid + k * volume, space.phi, a)
            if wants_theta and (weights == NULL or weights[k] != 0):
                accumulate(grid + k * volume, weights[k] if weights != NULL else <real>1, a, first, space.grad_w)
                first = False
        if first:
            continue
        part = 0
        while part < LANES:                 # G w phi_s
            along_x = NO_LANES
            along_y = NO_LANES
            along_z = NO_LANES
            along_s = NO_LANES
            for c in range(a.n):
                v = lanes_of(space.phi_s, c, part)
                v = only_where(v, v * lanes_of(space.grad_w, c, part))
                along_x = along_x + a.delta_x[c] * v
                along_y = along_y + a.delta_y[c] * v
                along_z = along_z + (<lanes*>(a.delta[2] + a.lane[c] + part))[0] * v
                if call.grad_radii != NULL:
                    along_s = along_s + only_where(v, v * (a.s_xy[c] + (<lanes*>(a.s[2] + a.lane[c] + part))[0]))
            (<lanes*>(sum_x + part))[0] = along_x
            (<lanes*>(sum_y + part))[0] = along_y
            (<lanes*>(sum_z + part))[0] = along_z
            (<lanes*>(sum_s + part))[0] = along_s
            part += WIDTH
        sums[0] += -2.0 / (radius * radius) * <double>total(sum_x)
        sums[1] += -2.0 / (radius * radius) * <double>total(sum_y)
        sums[2] += -2.0 / (radius * radius) * <double>total(sum_z)
        sums[3] += -2.0 / radius * <double>total(sum_s)


cdef inline void backward_backward_atom(Workspace* space, const ToAtoms* call, long long b, long long i,
                                        long long k_begin, long long k_end, double radius, double* sums,
                                        real* grad_weights) noexcept nogil:
    # sums += d/d(x, y, z, R) of <v, first order>; grad_weights[k - k_begin] += sum_p G_k phi_v
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef const Atoms* atoms = &call.atoms
    cdef const real* r = atoms.coords + 3 * i
    cdef const real* weights = NULL
    cdef const real* v_weights = NULL
    cdef const real* grid
    cdef long long volume = a.grid.points[0] * a.grid.points[1] * a.grid.points[2], k, c
    cdef real s, phi_s, phi_ss, s_v, along, first_order, second_order, v_z, v_radius, along_xy
    cdef real from_coords, from_radius, mixed, radius_along, radius_radius, radius_s
    cdef real v_coords[3]
    cdef real s_xy, core_xy
    cdef const real* s_z
    cdef const real* core_z
    cdef const real* delta_z
    cdef real q[LANES]
    cdef real b_lanes[LANES]
    cdef real r_lanes[LANES]
    cdef lanes v, along_x, along_y, along_z, along_b, along_s
    cdef real sum_x[LANES]
    cdef real sum_y[LANES]
    cdef real sum_z[LANES]
    cdef real sum_b[LANES]
    cdef real sum_s[LANES]
    cdef int l, part
    cdef bint wants_theta = call.grad_coords != NULL or call.grad_radii != NULL, first_w, first_v, moved
    grid = call.grad_density + (b * atoms.n_types + k_begin) * volume
    if atoms.weights != NULL:
        weights = atoms.weights + i * atoms.n_types + k_begin
        if call.v_weights != NULL:
            v_weights = call.v_weights + i * atoms.n_types + k_begin
    if not place(a, r, radius, 0, a.grid.points[0]):
        return
    for k in range(3):
        v_coords[k] = call.v_coords[3 * i + k] if call.v_coords != NULL else <real>0
    v_z = v_coords[2]
    v_radius = 0
    if call.v_radii != NULL:
        v_radius = <real>(a.grid.radius_scale * call.v_radii[radius_slot(atoms, b, i, k_begin)])
    moved = call.v_coords != NULL or call.v_radii != NULL
    from_coords = <real>(-2.0 / (radius * radius))
    from_radius = <real>(-2.0 / radius * v_radius)
    mixed = <real>(4.0 / (radius * radius * radius) * v_radius)
    radius_s = <real>(-2.0 / radius)
    radius_along = <real>(4.0 / (radius * radius * radius))
    radius_radius = <real>(6.0 / (radius * radius) * v_radius)
    while next_block(a):
        if grad_weights != NULL and moved:
            fill_phi_v(space, v_coords, from_coords, from_radius)
        first_w = True
        first_v = True
        for k in range(k_end - k_begin):
            if wants_theta and moved and (weights == NULL or weights[k] != 0):
                accumulate(grid + k * volume, weights[k] if weights != NULL else <real>1, a, first_w, space.grad_w)
                first_w = False
            if wants_theta and v_weights != NULL and v_weights[k] != 0:
                accumulate(grid + k * volume, v_weights[k], a, first_v, space.grad_v)
                first_v = False
            if grad_weights != NULL and moved:
                grad_weights[k] += inner(grid + k * volume, space.phi_v, a)
        if first_w and first_v:
            continue
        if first_w:
            memset(space.grad_w, 0, a.n * LANES * sizeof(real))
        if first_v:
            memset(space.grad_v, 0, a.n * LANES * sizeof(real))
        for c in range(a.n):                # A = G w phi_ss s_v + G v_w phi_s, B = G w phi_s
            s_xy = a.s_xy[c]
            core_xy = a.core_xy[c]
            along_xy = a.delta_x[c] * v_coords[0] + a.delta_y[c] * v_coords[1]
            s_z = a.s[2] + a.lane[c]
            core_z = a.core[2] + a.lane[c]
            delta_z = a.delta[2] + a.lane[c]
            for l in range(LANES):
                s = s_xy + s_z[l]
                phi_s = profile_slope(s, core_xy * core_z[l], &coefficients)
                phi_ss = profile_curvature(s, core_xy * core_z[l], &coefficients)
                along = along_xy + delta_z[l] * v_z
                s_v = from_coords * along + from_radius * s
                second_order = space.grad_w[c * LANES + l] * phi_ss * s_v + space.grad_v[c * LANES + l] * phi_s
                first_order = space.grad_w[c * LANES + l] * phi_s
                second_order = second_order if s <= coefficients.cutoff_s else <real>0
                first_order = first_order if s <= coefficients.cutoff_s else <real>0
                s = s if s <= coefficients.cutoff_s else <real>0
                q[l] = second_order * from_coords + first_order * mixed
                b_lanes[l] = first_order
                r_lanes[l] = second_order * radius_s * s + first_order * (radius_along * along + radius_radius * s)
            for l in range(LANES):
                space.grad_w[c * LANES + l] = q[l]
            for l in range(LANES):
                space.grad_v[c * LANES + l] = b_lanes[l]
            for l in range(LANES):
                space.phi_s[c * LANES + l] = r_lanes[l]
        part = 0
        while part < LANES:                 # the scratch now holds what is summed
            along_x = NO_LANES
            along_y = NO_LANES
            along_z = NO_LANES
            along_b = NO_LANES
            along_s = NO_LANES
            for c in range(a.n):
                v = lanes_of(space.grad_w, c, part)
                along_x = along_x + a.delta_x[c] * v
                along_y = along_y + a.delta_y[c] * v
                along_z = along_z + (<lanes*>(a.delta[2] + a.lane[c] + part))[0] * v
                along_b = along_b + lanes_of(space.grad_v, c, part)
                along_s = along_s + lanes_of(space.phi_s, c, part)
            (<lanes*>(sum_x + part))[0] = along_x
            (<lanes*>(sum_y + part))[0] = along_y
            (<lanes*>(sum_z + part))[0] = along_z
            (<lanes*>(sum_b + part))[0] = along_b
            (<lanes*>(sum_s + part))[0] = along_s
            part += WIDTH
        sums[0] += <double>total(sum_x) - <double>from_coords * v_coords[0] * total(sum_b)
        sums[1] += <double>total(sum_y) - <double>from_coords * v_coords[1] * total(sum_b)
        sums[2] += <double>total(sum_z) - <double>from_coords * v_coords[2] * total(sum_b)
        sums[3] += <double>total(sum_s)


cdef inline bint matters(const ToAtoms* call, long long i, long long k_begin, long long k_end) noexcept nogil:
    # some weight (or its cotangent) of the channels is not zero
    cdef const Atoms* atoms = &call.atoms
    cdef long long k
    if atoms.weights == NULL:
        return True
    for k in range(i * atoms.n_types + k_begin, i * atoms.n_types + k_end):
        if atoms.weights[k] != 0 or (call.v_weights != NULL and call.v_weights[k] != 0):
            return True
    return False


cdef inline void channel_gradients(Workspace* space, const ToAtoms* call, long long b, long long i, long long k_begin,
                                   long long k_end, double* sums) noexcept nogil:
    # the channels of atom i that share a radius
    cdef const Atoms* atoms = &call.atoms
    cdef const real* r = atoms.coords + 3 * i
    cdef real* grad_weights = NULL
    cdef double radius = space.support.grid.radius_scale * <double>atoms.radii[radius_slot(atoms, b, i, k_begin)]
    cdef long long k
    if call.grad_weights != NULL:
        grad_weights = call.grad_weights + i * atoms.n_types + k_begin
        for k in range(k_end - k_begin):
            grad_weights[k] = <real>NAN if is_nan(r, radius) else <real>0
    if is_nan(r, radius):
        if matters(call, i, k_begin, k_end):
            for k in range(4):
                sums[k] = NAN
    elif radius > 0 and call.second:
        backward_backward_atom(space, call, b, i, k_begin, k_end, radius, sums, grad_weights)
    elif radius > 0:
        backward_atom(space, call, b, i, k_begin, k_end, radius, sums, grad_weights)


cdef inline void atom_gradients(Workspace* space, const ToAtoms* call, long long i) noexcept nogil:
    cdef const Atoms* atoms = &call.atoms
    cdef long long b = example_of(atoms, i), k
    cdef double scale = space.support.grid.radius_scale
    cdef double sums[4]
    for k in range(4):
        sums[k] = 0
    if atoms.index != NULL:
        if atoms.index[i] >= 0:
            channel_gradients(space, call, b, i, atoms.index[i], atoms.index[i] + 1, sums)
    elif not atoms.radius_by_type:
        channel_gradients(space, call, b, i, 0, atoms.n_types, sums)
    else:
        for k in range(atoms.n_types):
            sums[3] = 0
            channel_gradients(space, call, b, i, k, k + 1, sums)
            if call.grad_radii != NULL:
                call.grad_radii[i * atoms.n_types + k] = <real>(scale * sums[3])
    if call.grad_coords != NULL:
        for k in range(3):
            call.grad_coords[3 * i + k] = <real>sums[k]
    if call.grad_radii != NULL and (atoms.index != NULL or not atoms.radius_by_type):
        call.grad_radii[i] = <real>(scale * sums[3])


cdef inline void atom_relevance_sum(Workspace* space, const ToAtoms* call, long long i) noexcept nogil:
    # sum over voxels and channels of relevance * w phi / density
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef const Atoms* atoms = &call.atoms
    cdef long long b = example_of(atoms, i), volume, k_begin = 0, k_end = atoms.n_types, k, c, channel
    cdef double radius, result = 0
    cdef real s, weight
    cdef real share[LANES]
    cdef real s_xy, core_xy
    cdef const real* s_z
    cdef const real* core_z
    cdef real density[LANES]
    cdef real relevance[LANES]
    cdef real sums[LANES]
    cdef int l
    volume = a.grid.points[0] * a.grid.points[1] * a.grid.points[2]
    if atoms.index != NULL:
        k_begin = atoms.index[i]
        k_end = atoms.index[i] + 1 if atoms.index[i] >= 0 else k_begin
    for k in range(k_begin, k_end):
        weight = atoms.weights[i * atoms.n_types + k] if atoms.weights != NULL else <real>1
        radius = a.grid.radius_scale * <double>atoms.radii[radius_slot(atoms, b, i, k)]
        if weight != 0 and is_nan(atoms.coords + 3 * i, radius):
            result = NAN
        elif weight != 0 and radius > 0 and place(a, atoms.coords + 3 * i, radius, 0, a.grid.points[0]):
            channel = (b * atoms.n_types + k) * volume
            while next_block(a):
                for l in range(LANES):
                    sums[l] = 0
                for c in range(a.n):
                    s_xy = a.s_xy[c]
                    core_xy = a.core_xy[c]
                    s_z = a.s[2] + a.lane[c]
                    core_z = a.core[2] + a.lane[c]
                    load(call.grad_density + channel + a.offset[c], a.lanes, relevance)
                    load(call.density + channel + a.offset[c], a.lanes, density)
                    for l in range(LANES):
                        s = s_xy + s_z[l]
                        share[l] = weight * profile(s, core_xy * core_z[l], &coefficients)
                    for l in range(LANES):
                        sums[l] += relevance[l] * (share[l] / density[l]) \
                            if share[l] != 0 and density[l] != 0 else <real>0
                result += <double>total(sums)
    call.relevance[i] = <real>result
