# What an atom reads of the grids below it, block by block: grad_w += sum_k w_k G_k, grad_v += R sum_k v_wk G_k and
# grad_weights[k] += sum_p G_k phi, each where it is wanted. Mirror: cuda/gather.cuh.

from libc.string cimport memset
from profile cimport has_slope, real
from support cimport LANES, Chunk, Support, chunk_of
from atoms cimport Atoms, Tangents, Terms, weights_of
from block cimport Vector, WIDTH, ZERO, grid_vector, only_where, total, vector_of
from workspace cimport Workspace

cdef enum:
    GROUP = 4   # channels that are read together, their sums in registers


cdef struct ToAtoms:
    Atoms atoms
    Tangents v                  # second order only: cotangents of the first-order gradients
    const real* grad_density    # G (B, T, X, Y, Z); relevance: the relevance of a voxel
    const real* density         # relevance only
    bint second
    bint is_far                 # grad_density is read from memory
    long long* order            # in which atoms are visited; absent: theirs
    real* grad_coords           # (N, 3)
    real* grad_weights          # (N, T)
    real* grad_radii            # (N,); by type: partial sums, (N,) for index types, (N, T) for weights
    real* relevance             # (N,)


cdef inline bint any_weight(const real* weights, long long n) noexcept nogil:
    # one of them is not zero
    cdef long long k
    for k in range(n):
        if weights[k] != 0:
            return True
    return False


cdef inline void accumulate(const real* grid, real weight, Support* a, bint is_first, real* target) noexcept nogil:
    # target[c] (+)= weight * grid[c] over the chunks of a block
    cdef long long c
    cdef int lane = 0
    cdef Vector value
    cdef real edge[LANES]
    while lane < LANES:
        for c in range(a.n):
            value = weight * grid_vector(grid, a, c, lane, edge)
            if not is_first:
                value = value + vector_of(target, c, lane)
            (<Vector*>(target + c * LANES + lane))[0] = value
        lane += WIDTH


cdef inline real inner(const real* grid, const real* values, Support* a) noexcept nogil:
    # sum over a block of values * grid, where values != 0; two partial sums hide the latency of the addition
    cdef long long c, n = a.n
    cdef int lane = 0
    cdef Vector even, odd, value
    cdef real sums[LANES]
    cdef real edge[LANES]
    while lane < LANES:
        even = ZERO
        odd = ZERO
        for c in range(0, n - 1, 2):
            value = vector_of(values, c, lane)
            even = even + only_where(value, value * grid_vector(grid, a, c, lane, edge))
            value = vector_of(values, c + 1, lane)
            odd = odd + only_where(value, value * grid_vector(grid, a, c + 1, lane, edge))
        if n % 2 == 1:
            value = vector_of(values, n - 1, lane)
            even = even + only_where(value, value * grid_vector(grid, a, n - 1, lane, edge))
        (<Vector*>(sums + lane))[0] = even + odd
        lane += WIDTH
    return total(sums)


cdef inline void gather_each(Workspace* space, const real* grid, long long volume, long long n_channels,
                             const real* phi, const real* weights, const real* v_weights, double radius, bint wants_w,
                             bint wants_v, real* grad_weights) noexcept nogil:
    # Channel by channel, and as the formulas have it: whatever G is, it does not count where phi, w or v_w is zero.
    cdef Support* a = &space.support
    cdef long long k
    cdef bint no_w = True, no_v = True
    for k in range(n_channels):
        if grad_weights != NULL:
            grad_weights[k] += inner(grid + k * volume, phi, a)
        if wants_w and (weights == NULL or weights[k] != 0):
            accumulate(grid + k * volume, weights[k] if weights != NULL else <real>1, a, no_w, space.grad_w)
            no_w = False
        if wants_v and v_weights[k] != 0:
            accumulate(grid + k * volume, <real>(radius * v_weights[k]), a, no_v, space.grad_v)
            no_v = False


cdef inline void gather_group(Workspace* space, const real* grid, const long long* at_channel, const real* phi,
                              const real* w, const real* R_v_w, real* sums) noexcept nogil:
    # of GROUP channels: grad_w += sum w G, grad_v += sum R v_w G and sums = sum_p G phi; each absent or wanted
    cdef Support* a = &space.support
    cdef long long c
    cdef int lane = 0, j
    cdef const real* at
    cdef Vector G_0, G_1, G_2, G_3, value, sum_0, sum_1, sum_2, sum_3
    cdef real lanes[GROUP][LANES]
    while lane < LANES:
        sum_0 = ZERO
        sum_1 = ZERO
        sum_2 = ZERO
        sum_3 = ZERO
        for c in range(a.n):
            at = grid + a.offset[c] + lane
            G_0 = (<Vector*>(at + at_channel[0]))[0]
            G_1 = (<Vector*>(at + at_channel[1]))[0]
            G_2 = (<Vector*>(at + at_channel[2]))[0]
            G_3 = (<Vector*>(at + at_channel[3]))[0]
            if sums != NULL:
                value = vector_of(phi, c, lane)
                sum_0 = sum_0 + value * G_0
                sum_1 = sum_1 + value * G_1
                sum_2 = sum_2 + value * G_2
                sum_3 = sum_3 + value * G_3
            if w != NULL:
                (<Vector*>(space.grad_w + c * LANES + lane))[0] = vector_of(space.grad_w, c, lane) + (
                    (w[0] * G_0 + w[1] * G_1) + (w[2] * G_2 + w[3] * G_3))
            if R_v_w != NULL:
                (<Vector*>(space.grad_v + c * LANES + lane))[0] = vector_of(space.grad_v, c, lane) + (
                    (R_v_w[0] * G_0 + R_v_w[1] * G_1) + (R_v_w[2] * G_2 + R_v_w[3] * G_3))
        (<Vector*>(lanes[0] + lane))[0] = sum_0
        (<Vector*>(lanes[1] + lane))[0] = sum_1
        (<Vector*>(lanes[2] + lane))[0] = sum_2
        (<Vector*>(lanes[3] + lane))[0] = sum_3
        lane += WIDTH
    if sums != NULL:
        for j in range(GROUP):
            sums[j] = total(lanes[j])


cdef inline void gather_groups(Workspace* space, const real* grid, long long volume, long long n_channels,
                               const real* phi, const real* weights, const real* v_weights, double radius,
                               bint wants_w, bint wants_v, real* grad_weights) noexcept nogil:
    # By GROUP channels, where all is finite: zeros are multiplied rather than left out.
    cdef Support* a = &space.support
    cdef long long k = 0, n
    cdef long long at_channel[GROUP]
    cdef real w[GROUP]
    cdef real R_v_w[GROUP]
    cdef real sums[GROUP]
    cdef int j, n_w, n_v, last_w
    if wants_w:
        memset(space.grad_w, 0, a.n * LANES * sizeof(real))
    if wants_v:
        memset(space.grad_v, 0, a.n * LANES * sizeof(real))
    while k < n_channels:
        n = min(<long long>GROUP, n_channels - k)
        n_w = 0
        n_v = 0
        last_w = 0
        for j in range(GROUP):      # where these are too few, the last stands in, without weight
            at_channel[j] = (k + min(<long long>j, n - 1)) * volume
            w[j] = weights[k + j] if wants_w and j < n else <real>0
            R_v_w[j] = <real>(radius * v_weights[k + j]) if wants_v and j < n else <real>0
            if w[j] != 0:
                n_w += 1
                last_w = j
            if R_v_w[j] != 0:
                n_v += 1
        if grad_weights != NULL or n_v > 0 or n_w > 1:
            gather_group(space, grid, at_channel, phi, &w[0] if n_w > 1 else NULL, &R_v_w[0] if n_v > 0 else NULL,
                         &sums[0] if grad_weights != NULL else NULL)
        if n_w == 1:
            accumulate(grid + at_channel[last_w], w[last_w], a, False, space.grad_w)
        if grad_weights != NULL:
            for j in range(<int>n):
                grad_weights[k + j] += sums[j]
        k += n


cdef inline bint gather(Workspace* space, const ToAtoms* call, const Terms* terms, bint moved, bint careful,
                        const real* phi, real* grad_weights) noexcept nogil:
    # grad_w = sum_k w_k G_k and grad_v = R sum_k v_wk G_k of the block, and grad_weights[k] += sum_p G_k phi; careful
    # where G may not be finite. False: grad_w and grad_v are zero, or not asked for
    cdef Support* a = &space.support
    cdef const Atoms* atoms = &call.atoms
    cdef long long volume = a.grid.points[0] * a.grid.points[1] * a.grid.points[2]
    cdef const real* grid = call.grad_density + (terms.b * atoms.n_types + terms.k_begin) * volume
    cdef const real* weights = weights_of(atoms.weights, atoms, terms.i, terms.k_begin)
    cdef const real* v_weights = weights_of(call.v.weights, atoms, terms.i, terms.k_begin)
    cdef long long n_channels = terms.k_end - terms.k_begin
    cdef bint wants_theta = (call.grad_coords != NULL or call.grad_radii != NULL) and has_slope(&a.profile)
    cdef bint wants_w = wants_theta and moved and (weights == NULL or any_weight(weights, n_channels))
    cdef bint wants_v = wants_theta and v_weights != NULL and any_weight(v_weights, n_channels)
    if (wants_w or wants_v) and not wants_w:
        memset(space.grad_w, 0, a.n * LANES * sizeof(real))
    if (wants_w or wants_v) and not wants_v and call.second:
        memset(space.grad_v, 0, a.n * LANES * sizeof(real))
    if weights == NULL and grad_weights == NULL:    # index types, whose one channel has weight 1
        if wants_w:
            accumulate(grid, 1, a, True, space.grad_w)
    elif careful or a.n_lanes < LANES or n_channels == 1:
        gather_each(space, grid, volume, n_channels, phi, weights, v_weights, terms.radius, wants_w, wants_v,
                    grad_weights if moved else NULL)
    else:
        gather_groups(space, grid, volume, n_channels, phi, weights, v_weights, terms.radius, wants_w, wants_v,
                      grad_weights if moved else NULL)
    return wants_w or wants_v


cdef inline void clear_outside(Workspace* space) noexcept nogil:
    # grad_w and grad_v are what G is there
    cdef Support* a = &space.support
    cdef Chunk chunk
    cdef long long c
    cdef int l
    for c in range(a.n):
        chunk = chunk_of(a, c)
        for l in range(LANES):
            if not chunk.s_xy + chunk.s_z[l] <= a.profile.cutoff_s:
                space.grad_w[c * LANES + l] = 0
                space.grad_v[c * LANES + l] = 0
