# One block of an atom's support, chunk by chunk: profiles into scratch memory, and reductions.

from profile cimport Profile, profile, profile_curvature, profile_slope, real
from atoms cimport Direction
from support cimport LANES, Chunk, Support, chunk_of
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
    typedef REAL Vector __attribute__((vector_size(WIDTH * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
    #define ZERO ((Vector){0})
    #define fetch_line(p) __builtin_prefetch(p)
    /* x where mask is not 0, else 0, whatever x is there */
    #define only_where(mask, x) ((Vector)((__typeof__((x) != (x)))(x) & ((mask) != ZERO)))
    """
    int WIDTH
    ctypedef real Vector
    const Vector ZERO
    Vector only_where(Vector mask, Vector x) nogil
    void fetch_line(const real* p) nogil


cdef inline void load(const real* source, int n_lanes, real* target) noexcept nogil:
    cdef int l
    if n_lanes == LANES:
        for l in range(LANES):
            target[l] = source[l]
    else:
        for l in range(LANES):
            target[l] = source[l] if l < n_lanes else <real>0


cdef inline Vector vector_of(const real* values, long long c, int lane) noexcept nogil:
    # lanes from `lane` on of chunk c of a block
    return (<Vector*>(values + c * LANES + lane))[0]


cdef inline Vector grid_vector(const real* grid, const Support* a, long long c, int lane, real* edge) noexcept nogil:
    # the same of the grid below it; edge: room for a chunk that the grid does not fill
    if a.n_lanes == LANES:
        return (<Vector*>(grid + a.offset[c] + lane))[0]
    load(grid + a.offset[c], a.n_lanes, edge)
    return (<Vector*>(edge + lane))[0]


cdef inline void prefetch(const real* grid, const Support* a) noexcept nogil:
    # asks memory for the lines of the grid below the block
    cdef long long c
    for c in range(a.n):
        fetch_line(grid + a.offset[c])
        fetch_line(grid + a.offset[c] + LANES - 1)


cdef inline real total(const real* sums) noexcept nogil:
    # fixed order: halves onto halves
    cdef real halves[8]
    cdef int l
    for l in range(8):
        halves[l] = sums[l] + sums[l + 8]
    for l in range(4):
        halves[l] = halves[l] + halves[l + 4]
    return (halves[0] + halves[2]) + (halves[1] + halves[3])


cdef inline void chunk_phi(const Chunk* chunk, Profile* coefficients, real* target) noexcept nogil:
    # phi of a chunk
    cdef real phi[LANES]
    cdef int l
    for l in range(LANES):
        phi[l] = profile(chunk.s_xy + chunk.s_z[l], chunk.core_xy * chunk.core_z[l], coefficients)
    for l in range(LANES):
        target[l] = phi[l]


cdef inline void chunk_phi_v(const Chunk* chunk, const Direction* along, real per_radius, Profile* coefficients,
                             real* target) noexcept nogil:
    # phi_v = phi_s s_v of a chunk; xi_v = <xi, -2 v_r> apart, so that its load does not wait for a comparison
    cdef real s, phi_s, v_z = along.coords[2], v_radius = along.radius
    cdef real xi_v_xy = chunk.xi_x * along.coords[0] + chunk.xi_y * along.coords[1]
    cdef real xi_v[LANES]
    cdef real phi_v[LANES]
    cdef int l
    for l in range(LANES):
        xi_v[l] = xi_v_xy + chunk.xi_z[l] * v_z
    for l in range(LANES):
        s = chunk.s_xy + chunk.s_z[l]
        phi_s = profile_slope(s, chunk.core_xy * chunk.core_z[l], coefficients)
        phi_v[l] = phi_s * (xi_v[l] + v_radius * s) * per_radius if s <= coefficients.cutoff_s else <real>0
    for l in range(LANES):
        target[l] = phi_v[l]


cdef inline void chunk_phi_uv(const Chunk* chunk, const Direction* u, const Direction* v, real per_radius,
                              Profile* coefficients, real* target) noexcept nogil:
    # phi_uv = phi_ss s_u s_v + phi_s s_uv of a chunk, from R s_u, R s_v and R^2 s_uv; xi_u = <xi, -2 u_r>
    cdef real xi_u_xy = chunk.xi_x * u.coords[0] + chunk.xi_y * u.coords[1]
    cdef real xi_v_xy = chunk.xi_x * v.coords[0] + chunk.xi_y * v.coords[1]
    cdef real u_z = u.coords[2], v_z = v.coords[2], u_radius = u.radius, v_radius = v.radius
    cdef real by_s = <real>1.5 * u_radius * v_radius
    cdef real by_one = <real>0.5 * (u.coords[0] * v.coords[0] + u.coords[1] * v.coords[1] + u_z * v_z)
    cdef real s, core, phi_s, phi_ss, R_s_u, R_s_v, RR_s_uv
    cdef real xi_u[LANES]
    cdef real xi_v[LANES]
    cdef real phi_uv[LANES]
    cdef int l
    for l in range(LANES):
        xi_u[l] = xi_u_xy + chunk.xi_z[l] * u_z
    for l in range(LANES):
        xi_v[l] = xi_v_xy + chunk.xi_z[l] * v_z
    for l in range(LANES):
        s = chunk.s_xy + chunk.s_z[l]
        core = chunk.core_xy * chunk.core_z[l]
        phi_s = profile_slope(s, core, coefficients)
        phi_ss = profile_curvature(s, core, coefficients)
        R_s_u = xi_u[l] + u_radius * s
        R_s_v = xi_v[l] + v_radius * s
        RR_s_uv = by_one + v_radius * xi_u[l] + u_radius * xi_v[l] + by_s * s
        phi_uv[l] = (phi_ss * R_s_u * R_s_v + phi_s * RR_s_uv) * per_radius * per_radius \
            if s <= coefficients.cutoff_s else <real>0
    for l in range(LANES):
        target[l] = phi_uv[l]


cdef inline void fill_phi(Workspace* space) noexcept nogil:
    # phi of the block
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef Chunk chunk
    cdef long long c
    for c in range(a.n):
        chunk = chunk_of(a, c)
        chunk_phi(&chunk, &coefficients, space.phi + c * LANES)


cdef inline void fill_phi_s(Workspace* space) noexcept nogil:
    # phi_s of the block
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef Chunk chunk
    cdef long long c
    cdef real phi_s[LANES]
    cdef int l
    for c in range(a.n):
        chunk = chunk_of(a, c)
        for l in range(LANES):
            phi_s[l] = profile_slope(chunk.s_xy + chunk.s_z[l], chunk.core_xy * chunk.core_z[l], &coefficients)
        for l in range(LANES):
            space.phi_s[c * LANES + l] = phi_s[l]


cdef inline void fill_phi_v(Workspace* space, const Direction* along, real* target) noexcept nogil:
    # phi_v of the block
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef Direction copy = along[0]
    cdef Chunk chunk
    cdef long long c
    for c in range(a.n):
        chunk = chunk_of(a, c)
        chunk_phi_v(&chunk, &copy, <real>a.per_radius, &coefficients, target + c * LANES)


cdef inline void fill_phi_uv(Workspace* space, const Direction* u, const Direction* v) noexcept nogil:
    # phi_uv of the block
    cdef Support* a = &space.support
    cdef Profile coefficients = a.profile
    cdef Chunk chunk
    cdef long long c
    for c in range(a.n):
        chunk = chunk_of(a, c)
        chunk_phi_uv(&chunk, u, v, <real>a.per_radius, &coefficients, space.phi_uv + c * LANES)


cdef inline void add_block(const real* values, real weight, const real* more, real more_weight,
                           const Support* a, real* grid) noexcept nogil:
    # grid += weight values + more_weight more over the chunks of a block; the second not where its weight is 0
    cdef long long c
    cdef int lane = 0, l
    cdef Vector* target
    if a.n_lanes < LANES:
        for c in range(a.n):
            for l in range(a.n_lanes):      # rounded as below, where a multiplication may be fused with the addition
                if more_weight == 0:
                    grid[a.offset[c] + l] += weight * values[c * LANES + l]
                else:
                    grid[a.offset[c] + l] = (grid[a.offset[c] + l] + weight * values[c * LANES + l]
                                             + more_weight * more[c * LANES + l])
        return
    while lane < LANES:
        for c in range(a.n):
            target = <Vector*>(grid + a.offset[c] + lane)
            if more_weight == 0:
                target[0] = target[0] + weight * vector_of(values, c, lane)
            else:
                target[0] = target[0] + weight * vector_of(values, c, lane) + more_weight * vector_of(more, c, lane)
        lane += WIDTH
