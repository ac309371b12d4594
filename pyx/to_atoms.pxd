# Kernels whose outputs belong to atoms: both orders of derivatives and the relevance. Every atom is computed by one
# thread. Mirror: cuda/to_atoms.cuh.

from cython.parallel cimport prange, threadid
from libc.math cimport NAN
from libc.stdlib cimport free
from profile cimport Profile, has_slope, profile, profile_curvature, profile_slope, real
from support cimport LANES, Chunk, Geometry, Support, chunk_of, fill, next_block, place
from atoms cimport (Atoms, Direction, Terms, direction_of, example_of, has_weight, is_finite, is_known,
                    is_nan, n_weights, sharing_radius, terms_of, weights_of)
from block cimport Vector, WIDTH, ZERO, fill_phi, fill_phi_s, load, only_where, prefetch, total, vector_of
from gather cimport ToAtoms, clear_outside, gather
from order cimport sort_by_cell
from interrupt cimport Interrupt, interrupted, listen
from workspace cimport Workspace, close_workspaces, open_workspaces

cdef enum:
    NEAR_BYTES = 1 << 24    # of a grid that a cache has at hand


cdef inline void first_order(const Workspace* space, bint wants_radius, double* sum) noexcept nogil:
    # sum += the block's sum of first = G w phi_s, times -R/2 ds/d(x, y, z, R) = (xi, s)
    cdef const Support* a = &space.support
    cdef Chunk chunk
    cdef long long c
    cdef int lane = 0
    cdef Vector phi_s, first, along_x, along_y, along_z, along_s
    cdef real sum_x[LANES]
    cdef real sum_y[LANES]
    cdef real sum_z[LANES]
    cdef real sum_s[LANES]
    while lane < LANES:
        along_x = ZERO
        along_y = ZERO
        along_z = ZERO
        along_s = ZERO
        for c in range(a.n):
            chunk = chunk_of(a, c)
            phi_s = vector_of(space.phi_s, c, lane)
            first = only_where(phi_s, phi_s * vector_of(space.grad_w, c, lane))
            along_x = along_x + chunk.xi_x * first
            along_y = along_y + chunk.xi_y * first
            along_z = along_z + (<Vector*>(chunk.xi_z + lane))[0] * first
            if wants_radius:
                along_s = along_s + only_where(first, first * (chunk.s_xy + (<Vector*>(chunk.s_z + lane))[0]))
        (<Vector*>(sum_x + lane))[0] = along_x
        (<Vector*>(sum_y + lane))[0] = along_y
        (<Vector*>(sum_z + lane))[0] = along_z
        (<Vector*>(sum_s + lane))[0] = along_s
        lane += WIDTH
    sum[0] += <double>total(sum_x)
    sum[1] += <double>total(sum_y)
    sum[2] += <double>total(sum_z)
    sum[3] += <double>total(sum_s)


cdef inline void backward_atom(Workspace* space, const ToAtoms* call, const Terms* terms, bint careful, double* sums,
                               real* grad_weights) noexcept nogil:
    # sums += d/d(x, y, z, R); grad_weights[k - k_begin] += sum_p G_k phi
    cdef Support* a = &space.support
    cdef double[4] sum = [0, 0, 0, 0]
    cdef int n
    cdef const real* weights = weights_of(call.atoms.weights, &call.atoms, terms.i, terms.k_begin)
    cdef long long volume = a.grid.points[0] * a.grid.points[1] * a.grid.points[2], k
    cdef const real* grid = call.grad_density + (terms.b * call.atoms.n_types + terms.k_begin) * volume
    cdef bint prefetches = call.is_far and grad_weights == NULL
    if not place(a, terms.r, terms.radius, 0, a.grid.points[0]):
        return
    while next_block(a):
        if prefetches:      # the profiles are computed meanwhile
            for k in range(terms.k_end - terms.k_begin):
                if weights == NULL or weights[k] != 0:
                    prefetch(grid + k * volume, a)
        if grad_weights != NULL:
            fill_phi(space)
        if call.grad_coords != NULL or call.grad_radii != NULL:
            fill_phi_s(space)
        if gather(space, call, terms, True, careful, space.phi, grad_weights):
            first_order(space, call.grad_radii != NULL, sum)
    for n in range(4):
        sums[n] += -2 * sum[n] / terms.radius


cdef inline void fill_second_order(Workspace* space, const Direction* along) noexcept nogil:
    # phi_s, phi_ss, phi_v = phi_s s_v, R s_v and s of the block, outside of the support zero; xi_v as in fill_phi_v
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef Chunk chunk
    cdef long long c
    cdef real s, xi_v_xy, v_z = along.coords[2], v_radius = along.radius, per_radius = <real>a.per_radius
    cdef real xi_v[LANES]
    cdef real phi_s[LANES]
    cdef real phi_ss[LANES]
    cdef real phi_v[LANES]
    cdef real R_s_v[LANES]
    cdef real s_inside[LANES]
    cdef int l
    cdef bint inside
    for c in range(a.n):
        chunk = chunk_of(a, c)
        xi_v_xy = chunk.xi_x * along.coords[0] + chunk.xi_y * along.coords[1]
        for l in range(LANES):
            xi_v[l] = xi_v_xy + chunk.xi_z[l] * v_z
        for l in range(LANES):
            s = chunk.s_xy + chunk.s_z[l]
            inside = s <= coefficients.cutoff_s
            phi_s[l] = profile_slope(s, chunk.core_xy * chunk.core_z[l], &coefficients)
            phi_ss[l] = profile_curvature(s, chunk.core_xy * chunk.core_z[l], &coefficients)
            s = s if inside else <real>0
            s_inside[l] = s
            R_s_v[l] = xi_v[l] + v_radius * s if inside else <real>0
            phi_v[l] = phi_s[l] * R_s_v[l] * per_radius
        for l in range(LANES):
            space.phi_s[c * LANES + l] = phi_s[l]
        for l in range(LANES):
            space.phi_ss[c * LANES + l] = phi_ss[l]
        for l in range(LANES):
            space.phi_v[c * LANES + l] = phi_v[l]
        for l in range(LANES):
            space.R_s_v[c * LANES + l] = R_s_v[l]
        for l in range(LANES):
            space.s[c * LANES + l] = s_inside[l]


cdef inline void second_order(const Workspace* space, const Direction* along, bint wants_radius,
                              double* sum) noexcept nogil:
    # sum += the block's sums for second ds/dr + first ds_v/dr = -2 / R^2 (xi by_xi - v_r first) and second ds/dR
    # + first ds_v/dR = -2 / R^2 by_radius; first = G w phi_s, R_second = R (G w phi_ss s_v + G v_w phi_s)
    cdef const Support* a = &space.support
    cdef Chunk chunk
    cdef long long c
    cdef int lane = 0
    cdef real v_radius = along.radius, v_radius_2 = <real>0.5 * along.radius
    cdef Vector phi_s, R_s_v, s, grad_w, first, R_second, by_xi, along_x, along_y, along_z, along_v, along_R
    cdef real sum_x[LANES]
    cdef real sum_y[LANES]
    cdef real sum_z[LANES]
    cdef real sum_v[LANES]
    cdef real sum_R[LANES]
    while lane < LANES:
        along_x = ZERO
        along_y = ZERO
        along_z = ZERO
        along_v = ZERO
        along_R = ZERO
        for c in range(a.n):
            chunk = chunk_of(a, c)
            phi_s = vector_of(space.phi_s, c, lane)
            R_s_v = vector_of(space.R_s_v, c, lane)
            grad_w = vector_of(space.grad_w, c, lane)
            first = grad_w * phi_s
            R_second = grad_w * vector_of(space.phi_ss, c, lane) * R_s_v + vector_of(space.grad_v, c, lane) * phi_s
            by_xi = R_second + first * v_radius
            along_x = along_x + chunk.xi_x * by_xi
            along_y = along_y + chunk.xi_y * by_xi
            along_z = along_z + (<Vector*>(chunk.xi_z + lane))[0] * by_xi
            along_v = along_v + first
            if wants_radius:
                s = vector_of(space.s, c, lane)
                along_R = along_R + (R_second * s + first * (R_s_v + v_radius_2 * s))
        (<Vector*>(sum_x + lane))[0] = along_x
        (<Vector*>(sum_y + lane))[0] = along_y
        (<Vector*>(sum_z + lane))[0] = along_z
        (<Vector*>(sum_v + lane))[0] = along_v
        (<Vector*>(sum_R + lane))[0] = along_R
        lane += WIDTH
    sum[0] += <double>total(sum_x)
    sum[1] += <double>total(sum_y)
    sum[2] += <double>total(sum_z)
    sum[3] += <double>total(sum_R)
    sum[4] += <double>total(sum_v)


cdef inline void backward_backward_atom(Workspace* space, const ToAtoms* call, const Terms* terms, bint careful,
                                        double* sums, real* grad_weights) noexcept nogil:
    # sums += d/d(x, y, z, R) of <v, first order>; grad_weights[k - k_begin] += sum_p G_k phi_v
    cdef Support* a = &space.support
    cdef bint moved = call.v.coords != NULL or call.v.radii != NULL
    cdef Direction along
    cdef double[5] sum = [0, 0, 0, 0, 0]
    cdef int n
    if not has_slope(&a.profile) or not place(a, terms.r, terms.radius, 0, a.grid.points[0]):
        return
    along = direction_of(&call.v, &call.atoms, terms, a.grid.radius_scale)
    while next_block(a):
        fill_second_order(space, &along)
        if gather(space, call, terms, moved, careful, space.phi_v, grad_weights):
            if careful or a.n_lanes < LANES:
                clear_outside(space)
            second_order(space, &along, call.grad_radii != NULL, sum)
    for n in range(3):
        sum[n] += 0.5 * along.coords[n] * sum[4]
    for n in range(4):
        sums[n] += -2 * sum[n] / terms.radius / terms.radius


cdef inline bint order_gradients(Workspace* space, const ToAtoms* call, const Terms* terms, bint careful,
                                 double* sums, real* grad_weights) noexcept nogil:
    # what terms that share a radius add to sums, and what grad_weights become. False: not all is finite
    cdef double[4] sum = [0, 0, 0, 0]
    cdef long long k, n_channels = terms.k_end - terms.k_begin
    cdef bint finite = True
    cdef int n
    fill(grad_weights, n_channels, <real>0)
    if call.second:
        backward_backward_atom(space, call, terms, careful, sum, grad_weights)
    else:
        backward_atom(space, call, terms, careful, sum, grad_weights)
    for n in range(4):
        finite = finite and sum[n] - sum[n] == 0
    if grad_weights != NULL:
        for k in range(n_channels):
            finite = finite and is_finite(grad_weights[k])
    if finite or careful:
        for n in range(4):
            sums[n] += sum[n]
    return finite


cdef inline void channel_gradients(Workspace* space, const ToAtoms* call, const Terms* terms,
                                   double* sums) noexcept nogil:
    # of terms that share a radius
    cdef const Atoms* atoms = &call.atoms
    cdef real* grad_weights = NULL
    cdef bint lost = is_nan(terms.r, terms.radius) or (has_slope(&space.support.profile)
                                                       and not is_known(&call.v, atoms, terms))
    cdef int n
    if call.grad_weights != NULL:
        grad_weights = call.grad_weights + terms.i * atoms.n_types + terms.k_begin
    fill(grad_weights, terms.k_end - terms.k_begin, <real>NAN if lost else <real>0)
    if lost:
        if has_weight(atoms, call.v.weights, terms.i, terms.k_begin, terms.k_end):
            for n in range(4):
                sums[n] = NAN
    elif terms.radius > 0 and not order_gradients(space, call, terms, False, sums, grad_weights):
        order_gradients(space, call, terms, True, sums, grad_weights)


cdef inline void atom_gradients(Workspace* space, const ToAtoms* call, long long i) noexcept nogil:
    cdef const Atoms* atoms = &call.atoms
    cdef Terms terms = terms_of(atoms, &space.support.grid, example_of(atoms, i), i), part
    cdef double scale = space.support.grid.radius_scale
    cdef bint per_channel = atoms.weights != NULL and atoms.radius_by_type
    cdef long long k = terms.k_begin, k_end
    cdef double sums[4]
    cdef int n
    for n in range(4):
        sums[n] = 0
    while k < terms.k_end:
        k_end = k + 1 if per_channel else terms.k_end
        part = sharing_radius(atoms, &terms, k, k_end, scale)
        if per_channel:
            sums[3] = 0
        channel_gradients(space, call, &part, sums)
        if per_channel and call.grad_radii != NULL:
            call.grad_radii[i * atoms.n_types + k] = <real>(scale * sums[3])
        k = k_end
    if call.grad_coords != NULL:
        for n in range(3):
            call.grad_coords[3 * i + n] = <real>sums[n]
    if call.grad_radii != NULL and not per_channel:
        call.grad_radii[i] = <real>(scale * sums[3])


cdef inline void atom_relevance_sum(Workspace* space, const ToAtoms* call, long long i) noexcept nogil:
    # sum over voxels and channels of relevance * w phi / density
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef const Atoms* atoms = &call.atoms
    cdef Terms terms = terms_of(atoms, &a.grid, example_of(atoms, i), i), part
    cdef Chunk chunk
    cdef long long volume = a.grid.points[0] * a.grid.points[1] * a.grid.points[2], k, c, at_channel
    cdef double result = 0
    cdef real weight
    cdef real phi[LANES]
    cdef real density[LANES]
    cdef real relevance[LANES]
    cdef real sums[LANES]
    cdef int l
    for k in range(terms.k_begin, terms.k_end):
        weight = atoms.weights[i * atoms.n_types + k] if atoms.weights != NULL else <real>1
        part = sharing_radius(atoms, &terms, k, k + 1, a.grid.radius_scale)
        if weight != 0 and is_nan(part.r, part.radius):
            result = NAN
        elif weight != 0 and part.radius > 0 and place(a, part.r, part.radius, 0, a.grid.points[0]):
            at_channel = (part.b * atoms.n_types + k) * volume
            while next_block(a):
                for l in range(LANES):
                    sums[l] = 0
                for c in range(a.n):
                    chunk = chunk_of(a, c)
                    load(call.grad_density + at_channel + a.offset[c], a.n_lanes, relevance)
                    load(call.density + at_channel + a.offset[c], a.n_lanes, density)
                    for l in range(LANES):
                        phi[l] = profile(chunk.s_xy + chunk.s_z[l], chunk.core_xy * chunk.core_z[l], &coefficients)
                    for l in range(LANES):
                        sums[l] += relevance[l] * (weight * phi[l] / density[l]) \
                            if phi[l] != 0 and density[l] != 0 else <real>0
                result += <double>total(sums)
    call.relevance[i] = <real>result


cdef inline void atom_item(Workspace* space, const ToAtoms* call, long long item) noexcept nogil:
    cdef long long i = call.order[item] if call.order != NULL else item
    if call.relevance != NULL:
        atom_relevance_sum(space, call, i)
    else:
        atom_gradients(space, call, i)


cdef inline bint reads_few_channels(const ToAtoms* call) noexcept nogil:
    # an atom: those of its weights that are not zero, and these are at most two on average
    if call.atoms.index != NULL:
        return True
    return (call.grad_weights == NULL and call.v.weights == NULL
            and n_weights(&call.atoms) <= 2 * call.atoms.n_atoms)


cdef inline int to_atoms(ToAtoms* call, const Geometry* grid, int n_threads) except -1 nogil:
    # cuts the atoms among the threads
    cdef long long item, run = max(1, call.atoms.n_atoms // (16 * n_threads))
    cdef Workspace** spaces
    cdef Interrupt interrupt = listen()
    cdef bint ok = True, few_channels = reads_few_channels(call)
    n_threads = max(1, <int>min(<long long>n_threads, call.atoms.n_atoms // 4))
    call.is_far = (call.atoms.n_examples * call.atoms.n_types * grid.points[0] * grid.points[1] * grid.points[2]
                   * <long long>sizeof(real) > NEAR_BYTES)
    spaces = open_workspaces(grid, n_threads, 0)
    if call.atoms.n_atoms > (64 if few_channels else 16):   # fewer of them share too little
        ok = sort_by_cell(&call.atoms, grid, few_channels, &call.order)
    if spaces != NULL and ok and n_threads == 1:
        for item in range(call.atoms.n_atoms):
            if interrupted(&interrupt, 1):
                break
            atom_item(spaces[0], call, item)
    elif spaces != NULL and ok:
        for item in prange(call.atoms.n_atoms, schedule="dynamic", chunksize=run, num_threads=n_threads):
            if not interrupted(&interrupt, 1):
                atom_item(spaces[threadid()], call, item)
    free(call.order)
    close_workspaces(spaces, n_threads)
    if spaces == NULL or not ok:
        with gil:
            raise MemoryError("no memory for the scratch space of the kernels")
    return -1 if interrupt.told else 0
