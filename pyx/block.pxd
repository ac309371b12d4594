# One block of an atom's support, chunk by chunk: profiles into scratch memory, and reductions.

from profile cimport Profile, profile, profile_slope, real
from support cimport LANES, Support
from workspace cimport Workspace

cdef extern from *:
    """
    /* What a register holds of a chunk; arithmetic goes lane by lane. For sums: an array would live on the stack. */
    #if defined(__AVX512F__)
    enum { WIDTH = 64 / sizeof(REAL) };
    #elif defined(__AVX__)
    enum { WIDTH = 32 / sizeof(REAL) };
    #else
    enum { WIDTH = 16 / sizeof(REAL) };
    #endif
    typedef REAL lanes __attribute__((vector_size(WIDTH * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
    #define NO_LANES ((lanes){0})
    /* x where mask is not 0, else 0, whatever x is there */
    #define only_where(mask, x) ((lanes)((__typeof__((x) != (x)))(x) & ((mask) != NO_LANES)))
    """
    int WIDTH
    ctypedef real lanes
    const lanes NO_LANES
    lanes only_where(lanes mask, lanes x) nogil


cdef inline void load(const real* source, int lanes, real* target) noexcept nogil:
    cdef int l
    if lanes == LANES:
        for l in range(LANES):
            target[l] = source[l]
    else:
        for l in range(LANES):
            target[l] = source[l] if l < lanes else <real>0


cdef inline lanes lanes_of(const real* values, long long c, int part) noexcept nogil:
    # lanes from `part` on of a chunk of a block
    return (<lanes*>(values + c * LANES + part))[0]


cdef inline lanes grid_lanes(const real* grid, const Support* a, long long c, int part, real* edge) noexcept nogil:
    # the same of the grid below it; edge: room for a chunk that the grid does not fill
    if a.lanes == LANES:
        return (<lanes*>(grid + a.offset[c] + part))[0]
    load(grid + a.offset[c], a.lanes, edge)
    return (<lanes*>(edge + part))[0]


cdef inline real total(const real* sums) noexcept nogil:
    # fixed order: halves onto halves
    cdef real v[8]
    cdef int l
    for l in range(8):
        v[l] = sums[l] + sums[l + 8]
    for l in range(4):
        v[l] = v[l] + v[l + 4]
    return (v[0] + v[2]) + (v[1] + v[3])


cdef inline void fill_phi(Workspace* space) noexcept nogil:
    # phi of the block
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef long long c
    cdef real s_xy, core_xy
    cdef const real* s_z
    cdef const real* core_z
    cdef real v[LANES]
    cdef int l
    for c in range(a.n):
        s_xy = a.s_xy[c]
        core_xy = a.core_xy[c]
        s_z = a.s[2] + a.lane[c]
        core_z = a.core[2] + a.lane[c]
        for l in range(LANES):
            v[l] = profile(s_xy + s_z[l], core_xy * core_z[l], &coefficients)
        for l in range(LANES):
            space.phi[c * LANES + l] = v[l]


cdef inline void fill_slope(Workspace* space) noexcept nogil:
    # phi_s of the block
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef long long c
    cdef real s_xy, core_xy
    cdef const real* s_z
    cdef const real* core_z
    cdef real v[LANES]
    cdef int l
    for c in range(a.n):
        s_xy = a.s_xy[c]
        core_xy = a.core_xy[c]
        s_z = a.s[2] + a.lane[c]
        core_z = a.core[2] + a.lane[c]
        for l in range(LANES):
            v[l] = profile_slope(s_xy + s_z[l], core_xy * core_z[l], &coefficients)
        for l in range(LANES):
            space.phi_s[c * LANES + l] = v[l]


cdef inline void fill_phi_v(Workspace* space, const real* v_coords, real from_coords, real from_radius) noexcept nogil:
    # phi_v = phi_s s_v of the block, s_v = from_coords <delta, v_coords> + from_radius s
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef long long c
    cdef real s_xy, core_xy, along_xy, v_z = v_coords[2], s, phi_s
    cdef const real* s_z
    cdef const real* core_z
    cdef const real* delta_z
    cdef real v[LANES]
    cdef int l
    for c in range(a.n):
        s_xy = a.s_xy[c]
        core_xy = a.core_xy[c]
        along_xy = a.delta_x[c] * v_coords[0] + a.delta_y[c] * v_coords[1]
        s_z = a.s[2] + a.lane[c]
        core_z = a.core[2] + a.lane[c]
        delta_z = a.delta[2] + a.lane[c]
        for l in range(LANES):
            s = s_xy + s_z[l]
            phi_s = profile_slope(s, core_xy * core_z[l], &coefficients)
            v[l] = phi_s * (from_coords * (along_xy + delta_z[l] * v_z) + from_radius * s) \
                if s <= coefficients.cutoff_s else <real>0
        for l in range(LANES):
            space.phi_v[c * LANES + l] = v[l]


cdef inline void add_block(const real* values, real w, const real* values_v, real w_v, const Support* a,
                           real* grid) noexcept nogil:
    # grid[c] += w values[c] + w_v values_v[c] over the chunks of a block
    cdef long long c
    cdef int part = 0, l
    cdef lanes* target
    if a.lanes < LANES:
        for c in range(a.n):
            for l in range(a.lanes):
                grid[a.offset[c] + l] += w * values[c * LANES + l] + w_v * values_v[c * LANES + l]
        return
    while part < LANES:
        for c in range(a.n):
            target = <lanes*>(grid + a.offset[c] + part)
            target[0] = target[0] + (w * lanes_of(values, c, part) + w_v * lanes_of(values_v, c, part))
        part += WIDTH
