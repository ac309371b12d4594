# Atoms in many channels: what entries.pxd has noted is added up chunk by chunk, the sums of SUMS channels in registers.

from libc.string cimport memcpy, memset
from profile cimport Profile, real
from support cimport CHUNKS, Chunk, LANES
from atoms cimport Atoms, Tangents
from block cimport Vector, WIDTH, ZERO, chunk_phi, chunk_phi_uv, chunk_phi_v, load, total, vector_of
from entries cimport SUMS, Entry, Placed, Planes, end_of_plane, sort_entries
from workspace cimport Workspace


cdef struct Factors:    # w, u_w or v_w, (N, T), of each profile; absent: it is not added
    const real* of_phi_uv
    const real* of_phi_v
    const real* of_phi_u
    const real* of_phi


cdef struct Stretch:       # up to CHUNKS entries in their order, those of a chunk a run
    int n
    int n_runs
    int begin[CHUNKS + 1]           # of a run, its first entry
    int number[CHUNKS]              # its chunk
    int unwritten[CHUNKS]           # the first chunk below it that is not yet written, or itself; -1: it is written
    long long at[CHUNKS]            # i T of an entry
    long long at_packed[CHUNKS]     # where its atom stands in Planes.packed
    int n_factors
    const real* values[3]
    const real* weights[3]
    bint finite


cdef inline Factors factors_of(const Atoms* atoms, const Tangents* u, const Tangents* v, int derivative,
                               bint slope) noexcept nogil:
    # w phi; w phi_v + v_w phi; or w phi_uv + u_w phi_v + v_w phi_u
    cdef bint u_moves = slope and (u.coords != NULL or u.radii != NULL)
    cdef bint v_moves = slope and (v.coords != NULL or v.radii != NULL)
    cdef Factors factors
    memset(&factors, 0, sizeof(Factors))
    if derivative == 0:
        factors.of_phi = atoms.weights
    elif derivative == 1:
        factors.of_phi_v = atoms.weights if v_moves else NULL
        factors.of_phi = v.weights
    else:
        factors.of_phi_uv = atoms.weights if u_moves or v_moves else NULL
        factors.of_phi_v = u.weights if v_moves else NULL
        factors.of_phi_u = v.weights if u_moves else NULL
    return factors


cdef inline bint all_finite(const real* values, int n) noexcept nogil:
    # of n chunks
    cdef int c, lane = 0
    cdef Vector sum
    cdef real sums[LANES]
    while lane < LANES:
        sum = ZERO
        for c in range(n):
            sum = sum + (vector_of(values, c, lane) - vector_of(values, c, lane))
        (<Vector*>(sums + lane))[0] = sum
        lane += WIDTH
    return total(sums) == 0


cdef inline void add_factor(Stretch* stretch, const real* values, const real* weights) noexcept nogil:
    stretch.values[stretch.n_factors] = values
    stretch.weights[stretch.n_factors] = weights
    stretch.n_factors += 1
    stretch.finite = stretch.finite and all_finite(values, stretch.n)


cdef inline void fill_stretch(Workspace* space, Stretch* stretch, const Factors* factors, int first,
                              long long n_types) noexcept nogil:
    # profiles and runs of the entries from `first` on
    cdef Planes* planes = <Planes*>space.planes
    cdef Profile coefficients = space.support.profile
    cdef const Entry* entry
    cdef const Placed* placed
    cdef Chunk chunk
    cdef int m, x = 0, l
    cdef real phi[LANES]
    cdef real phi_v[LANES]
    stretch.n = min(<int>CHUNKS, planes.n_entries - first)
    stretch.n_runs = 0
    for m in range(stretch.n):
        entry = &planes.entry[planes.order[first + m]]
        placed = &planes.placed[entry.atom]
        stretch.at[m] = placed.i * n_types
        stretch.at_packed[m] = entry.atom * SUMS
        if m == 0 or entry.number != stretch.number[stretch.n_runs - 1]:
            stretch.begin[stretch.n_runs] = m
            stretch.number[stretch.n_runs] = entry.number
            while entry.number >= end_of_plane(planes, x):
                x += 1
            stretch.unwritten[stretch.n_runs] = -1
            if entry.number >= planes.unwritten[x]:
                stretch.unwritten[stretch.n_runs] = planes.unwritten[x]
                planes.unwritten[x] = entry.number + 1
            stretch.n_runs += 1
        chunk.xi_x = entry.xi_x
        chunk.xi_y = entry.xi_y
        chunk.s_xy = entry.s_xy
        chunk.core_xy = entry.core_xy
        chunk.xi_z = planes.table + entry.at_z
        chunk.s_z = chunk.xi_z + placed.stride
        chunk.core_z = chunk.s_z + placed.stride
        if factors.of_phi != NULL and factors.of_phi_v != NULL:
            chunk_phi(&chunk, &coefficients, phi)               # nothing is stored in between: they share a root
            chunk_phi_v(&chunk, &placed.v, placed.per_radius, &coefficients, phi_v)
            for l in range(LANES):
                space.phi[m * LANES + l] = phi[l]
            for l in range(LANES):
                space.phi_v[m * LANES + l] = phi_v[l]
            continue
        if factors.of_phi != NULL:
            chunk_phi(&chunk, &coefficients, space.phi + m * LANES)
        if factors.of_phi_v != NULL:
            chunk_phi_v(&chunk, &placed.v, placed.per_radius, &coefficients, space.phi_v + m * LANES)
        if factors.of_phi_u != NULL:
            chunk_phi_v(&chunk, &placed.u, placed.per_radius, &coefficients, space.phi_u + m * LANES)
        if factors.of_phi_uv != NULL:
            chunk_phi_uv(&chunk, &placed.u, &placed.v, placed.per_radius, &coefficients, space.phi_uv + m * LANES)
    stretch.begin[stretch.n_runs] = stretch.n
    stretch.n_factors = 0
    memset(stretch.values, 0, sizeof(stretch.values))
    memset(stretch.weights, 0, sizeof(stretch.weights))
    stretch.finite = True
    if factors.of_phi_uv != NULL:
        add_factor(stretch, space.phi_uv, factors.of_phi_uv)
    if factors.of_phi_v != NULL:
        add_factor(stretch, space.phi_v, factors.of_phi_v)
    if factors.of_phi_u != NULL:
        add_factor(stretch, space.phi_u, factors.of_phi_u)
    if factors.of_phi != NULL:
        add_factor(stretch, space.phi, factors.of_phi)


cdef inline void add_run(const Stretch* stretch, int begin, int end, const real** weights, const long long* at,
                         real** target, long long voxel, bint is_new) noexcept nogil:
    # target[j] (+)= sum over entries and factors of weights[at + j] values; zeros are multiplied rather than left out
    cdef int lane = 0, m
    cdef const real* w
    cdef const real* values_0 = stretch.values[0]
    cdef const real* values_1 = stretch.values[1]
    cdef const real* values_2 = stretch.values[2]
    cdef const real* weights_0 = weights[0]
    cdef const real* weights_1 = weights[1]
    cdef const real* weights_2 = weights[2]
    cdef int n_factors = stretch.n_factors
    cdef Vector value, sum_0, sum_1, sum_2, sum_3, sum_4, sum_5, sum_6
    while lane < LANES:
        if is_new:
            sum_0 = ZERO
            sum_1 = ZERO
            sum_2 = ZERO
            sum_3 = ZERO
            sum_4 = ZERO
            sum_5 = ZERO
            sum_6 = ZERO
        else:
            sum_0 = (<Vector*>(target[0] + voxel + lane))[0]
            sum_1 = (<Vector*>(target[1] + voxel + lane))[0]
            sum_2 = (<Vector*>(target[2] + voxel + lane))[0]
            sum_3 = (<Vector*>(target[3] + voxel + lane))[0]
            sum_4 = (<Vector*>(target[4] + voxel + lane))[0]
            sum_5 = (<Vector*>(target[5] + voxel + lane))[0]
            sum_6 = (<Vector*>(target[6] + voxel + lane))[0]
        for m in range(begin, end):
            value = vector_of(values_0, m, lane)
            w = weights_0 + at[m]
            sum_0 = sum_0 + w[0] * value
            sum_1 = sum_1 + w[1] * value
            sum_2 = sum_2 + w[2] * value
            sum_3 = sum_3 + w[3] * value
            sum_4 = sum_4 + w[4] * value
            sum_5 = sum_5 + w[5] * value
            sum_6 = sum_6 + w[6] * value
            if n_factors > 1:
                value = vector_of(values_1, m, lane)
                w = weights_1 + at[m]
                sum_0 = sum_0 + w[0] * value
                sum_1 = sum_1 + w[1] * value
                sum_2 = sum_2 + w[2] * value
                sum_3 = sum_3 + w[3] * value
                sum_4 = sum_4 + w[4] * value
                sum_5 = sum_5 + w[5] * value
                sum_6 = sum_6 + w[6] * value
            if n_factors > 2:
                value = vector_of(values_2, m, lane)
                w = weights_2 + at[m]
                sum_0 = sum_0 + w[0] * value
                sum_1 = sum_1 + w[1] * value
                sum_2 = sum_2 + w[2] * value
                sum_3 = sum_3 + w[3] * value
                sum_4 = sum_4 + w[4] * value
                sum_5 = sum_5 + w[5] * value
                sum_6 = sum_6 + w[6] * value
        (<Vector*>(target[0] + voxel + lane))[0] = sum_0
        (<Vector*>(target[1] + voxel + lane))[0] = sum_1
        (<Vector*>(target[2] + voxel + lane))[0] = sum_2
        (<Vector*>(target[3] + voxel + lane))[0] = sum_3
        (<Vector*>(target[4] + voxel + lane))[0] = sum_4
        (<Vector*>(target[5] + voxel + lane))[0] = sum_5
        (<Vector*>(target[6] + voxel + lane))[0] = sum_6
        lane += WIDTH


cdef inline void clear(real* target, int n) noexcept nogil:
    # n chunks
    cdef int c
    for c in range(n * (LANES // WIDTH)):
        (<Vector*>(target + c * WIDTH))[0] = ZERO


cdef inline void add_run_carefully(const Stretch* stretch, int begin, int end, long long k,
                                   real* target) noexcept nogil:
    # the same of one channel, where values may not be finite: they do not count where the weight is zero
    cdef int m, f, l
    cdef real weight
    for m in range(begin, end):
        for f in range(stretch.n_factors):
            weight = stretch.weights[f][stretch.at[m] + k]
            if weight != 0:
                for l in range(LANES):
                    target[l] = target[l] + weight * stretch.values[f][m * LANES + l]


cdef inline void pack(Planes* planes, const Stretch* stretch, long long n_types) noexcept nogil:
    # the factors of the last channels, the last one again up to SUMS
    cdef long long k = n_types - n_types % SUMS
    cdef int f, m, j
    for f in range(stretch.n_factors):
        for m in range(planes.n_placed):
            for j in range(SUMS):
                planes.packed[f][m * SUMS + j] = stretch.weights[f][planes.placed[m].i * n_types
                                                                    + min(k + j, n_types - 1)]


cdef inline void add_stretch(const Planes* planes, Stretch* stretch, long long k_begin, long long n, real* target,
                             long long stride, long long n_voxels) noexcept nogil:
    # to channels [k_begin, k_begin + n); where these are less than SUMS, the last one is computed and written again
    cdef int r, j, f, n_lanes
    cdef bint is_new
    cdef long long voxel
    cdef const real* weights[3]
    cdef real* to[SUMS]
    cdef real edge[LANES]
    for j in range(SUMS):
        to[j] = target + (k_begin + min(<long long>j, n - 1)) * stride
    for f in range(stretch.n_factors):
        weights[f] = stretch.weights[f] + k_begin if n == SUMS else &planes.packed[f][0]
    for f in range(stretch.n_factors, 3):
        weights[f] = NULL
    for r in range(stretch.n_runs):
        voxel = <long long>stretch.number[r] * LANES
        is_new = stretch.unwritten[r] >= 0
        if is_new:
            for j in range(SUMS):
                clear(to[j] + <long long>stretch.unwritten[r] * LANES, stretch.number[r] - stretch.unwritten[r])
        if stretch.finite and voxel + LANES <= n_voxels:
            add_run(stretch, stretch.begin[r], stretch.begin[r + 1], weights,
                    &stretch.at[0] if n == SUMS else &stretch.at_packed[0], to, voxel, is_new)
            continue
        n_lanes = <int>min(<long long>LANES, n_voxels - voxel)
        for j in range(<int>n):
            load(to[j] + voxel, n_lanes if not is_new else 0, edge)
            add_run_carefully(stretch, stretch.begin[r], stretch.begin[r + 1], k_begin + j, edge)
            memcpy(to[j] + voxel, edge, n_lanes * sizeof(real))


cdef inline void add_noted(Workspace* space, const Factors* factors, long long n_types, real* target,
                           long long stride) noexcept nogil:
    # adds up what is noted; target: the first voxel of the item, stride: between channels
    cdef Planes* planes = <Planes*>space.planes
    cdef long long k, n_voxels = planes.n_planes * planes.plane_size
    cdef int first = 0
    cdef Stretch stretch
    if factors.of_phi_uv == NULL and factors.of_phi_v == NULL and factors.of_phi_u == NULL and factors.of_phi == NULL:
        planes.n_entries = 0        # nothing moves
    sort_entries(planes, (n_voxels + LANES - 1) // LANES)
    while first < planes.n_entries:
        fill_stretch(space, &stretch, factors, first, n_types)
        if first == 0 and n_types % SUMS > 0:
            pack(planes, &stretch, n_types)
        k = 0
        while k < n_types:
            add_stretch(planes, &stretch, k, min(<long long>SUMS, n_types - k), target, stride, n_voxels)
            k += SUMS
        first += stretch.n
    planes.n_entries = 0
    planes.n_placed = 0
    planes.n_reals = 0


cdef inline void write_rest(Workspace* space, long long n_channels, real* target, long long stride) noexcept nogil:
    # zeros where the item is not yet written
    cdef Planes* planes = <Planes*>space.planes
    cdef long long k, begin, end
    cdef int x
    for k in range(n_channels):
        for x in range(planes.n_planes):
            begin = <long long>planes.unwritten[x] * LANES
            end = min(<long long>end_of_plane(planes, x) * LANES, planes.n_planes * planes.plane_size)
            if begin < end:
                memset(target + k * stride + begin, 0, (end - begin) * sizeof(real))
    for x in range(planes.n_planes):
        planes.unwritten[x] = end_of_plane(planes, x)
