# The voxels that one atom reaches, walked in chunks of LANES along z. Mirror: cuda/support.cuh.
#
# e^{-rate s} separates, so three short tables per atom (one per axis) hold everything that depends on one axis only.
# A row of voxels is covered by chunks of LANES; lanes outside the support carry s = inf, which every profile maps to 0.

from libc.math cimport ceil, fabs, floor, INFINITY
from libc.string cimport memset
from profile cimport Profile, REAL_MAX, exp_nonpositive, real

cdef enum:
    LANES = 16      # voxels of a chunk
    CHUNKS = 128    # chunks of a block
    ROOM = CHUNKS + LANES   # for them, noted LANES at a time


cdef struct Geometry:   # packed and checked by gridgrad/kernels/abi.py
    double center[3]    # of the grid, where Atoms has none per example
    double resolution
    double origin[3]    # voxel 0, relative to the centre
    double radius_scale
    double core_rate
    double core_end
    double cutoff
    double cutoff_s
    double tail[4]
    long long points[3]
    long long radius_by_type
    float singles[13]    # the numbers from resolution on again, for the GPU


cdef extern from *:
    """
    #ifndef GEOMETRY_FIELDS
    #error "put what c_text() of gridgrad/kernels/abi.py returns before this text, as setup.py does"
    #endif
    #define GEOMETRY_FIELD(name, offset) _Static_assert(__builtin_offsetof(Grid, name) == (offset), "Geometry: " #name);
    #define PROFILE_FIELD(name, nth) \
        _Static_assert(__builtin_offsetof(Narrow, name) == (nth) * sizeof(real), "Profile: " #name);
    #define check_layout(geometry, profile) do { \
        typedef __typeof__(*(geometry)) Grid; \
        typedef __typeof__(*(profile)) Narrow; \
        GEOMETRY_FIELDS \
        PROFILE_FIELDS \
        _Static_assert(sizeof(Grid) == GEOMETRY_BYTES, "Geometry: size"); \
        _Static_assert(sizeof(Narrow) == PROFILE_REALS * sizeof(real), "Profile: size"); \
    } while (0)
    """
    enum:
        PROFILE_BEGIN
        PROFILE_REALS
    void check_layout(const Geometry* geometry, Profile* profile) nogil


cdef inline void narrow(Profile* profile, const Geometry* grid) noexcept nogil:
    # the fields of the profile as reals
    cdef int i
    check_layout(grid, profile)
    for i in range(PROFILE_REALS):
        (<real*>profile)[i] = <real>(<const double*>grid)[PROFILE_BEGIN + i]


cdef struct Support:
    Geometry grid
    Profile profile
    double cutoff_u         # sqrt(cutoff_s): where the support ends, in radii
    double per_radius       # 1 / R of the atom placed
    int n_lanes             # of a chunk that the grid has: min(LANES, Z)
    real* table             # one allocation holds the tables below
    real* xi[3]             # xi along an axis; z is stored chunk by chunk
    real* s[3]              # xi^2
    real* core[3]           # e^{-rate s}
    real* s_min             # smallest s of a z chunk
    long long* y_start      # first voxel of a row inside its plane of the store
    long long* z_start      # first voxel of a z chunk inside its row
    long long first[3]      # first voxel of the support
    long long count[3]      # voxels of the support; along z: chunks
    long long x_store       # plane at which the store begins that offsets are in: the grid, or a window of it
    long long rows          # of the store; row y of the grid is its row y mod rows
    long long x, y, z       # where next_block goes on
    long long n             # chunks in the block
    long long offset[ROOM]      # first voxel of a chunk inside its channel of the store
    long long at_z[ROOM]        # where a chunk begins in the tables along z
    real xi_x[ROOM]
    real xi_y[ROOM]
    real s_xy[ROOM]
    real core_xy[ROOM]


cdef struct Chunk:          # LANES voxels along z: what they share, and the tables along z from their first on
    real xi_x
    real xi_y
    real s_xy
    real core_xy
    const real* xi_z
    const real* s_z
    const real* core_z


cdef inline void fill(real* target, long long n, real value) noexcept nogil:
    cdef long long k
    if target != NULL:
        for k in range(n):
            target[k] = value


cdef inline void fill_axis(double origin, double resolution, long long first, long long count, double r,
                           double per_radius, double rate, real* xi, real* s, real* core) noexcept nogil:
    # whole chunks are written: tables are padded
    cdef long long n = (count + LANES - 1) // LANES, chunk
    cdef int i
    cdef double xi_lanes[LANES]
    cdef double s_lanes[LANES]
    cdef double core_lanes[LANES]
    for chunk in range(n):
        for i in range(LANES):
            xi_lanes[i] = ((origin + <double>(<int>(first + chunk * LANES) + i) * resolution) - r) * per_radius
            s_lanes[i] = xi_lanes[i] * xi_lanes[i]
            core_lanes[i] = exp_nonpositive(-rate * s_lanes[i])
        for i in range(LANES):
            xi[chunk * LANES + i] = <real>xi_lanes[i]
        for i in range(LANES):
            s[chunk * LANES + i] = <real>s_lanes[i]
        for i in range(LANES):
            core[chunk * LANES + i] = <real>core_lanes[i]


cdef inline double per_radius_of(double radius) noexcept nogil:
    # 1 / R, finite, since an atom may sit on a point: 0 / R is 0
    return min(1.0 / radius, <double>REAL_MAX)


cdef inline bint reach_along(const Geometry* grid, int axis, double r, double extent, long long begin, long long end,
                             long long* first, long long* last) noexcept nogil:
    # the points of [begin, end) within `extent` spacings of r. False: none
    cdef double centre = (r - grid.origin[axis]) / grid.resolution
    cdef double lowest = ceil(centre - extent - 1e-4)   # the test of s decides; the slack is for rounding
    cdef double highest = floor(centre + extent + 1e-4)
    lowest = lowest if lowest > begin else <double>begin
    highest = highest if highest < end - 1 else <double>(end - 1)
    if not (lowest <= highest and fabs(r) < INFINITY):
        return False
    first[0] = <long long>lowest
    last[0] = <long long>highest
    return True


cdef inline bint place(Support* a, const double* r, double radius, long long x_begin, long long x_end) noexcept nogil:
    # Clip the support of an atom at r, relative to the centre, to the grid and to planes [x_begin, x_end); fill its
    # tables. False: nothing left.
    cdef double centre, extent, per_radius
    cdef long long last, end, chunk, start, valid, nearest, row, y
    cdef int axis, i
    extent = a.cutoff_u * radius / a.grid.resolution
    for axis in range(3):
        if not reach_along(&a.grid, axis, r[axis], extent, x_begin if axis == 0 else 0,
                           x_end if axis == 0 else a.grid.points[axis], &a.first[axis], &last):
            return False
        a.count[axis] = last - a.first[axis] + 1
    row = a.first[1] if a.first[1] < a.rows else a.first[1] % a.rows
    for y in range(a.count[1]):
        a.y_start[y] = row * a.grid.points[2]
        row = row + 1 if row + 1 < a.rows else 0
    memset(a.y_start + a.count[1], 0, LANES * sizeof(long long))    # next_rows reads LANES at a time
    centre = (r[2] - a.grid.origin[2]) / a.grid.resolution
    a.per_radius = per_radius_of(radius)
    per_radius = min(a.per_radius, 1e15)    # no point is known better than to 1e-15 angstrom; xi stays finite
    for axis in range(2):
        fill_axis(a.grid.origin[axis], a.grid.resolution, a.first[axis], a.count[axis], r[axis],
                  per_radius, a.grid.core_rate, a.xi[axis], a.s[axis], a.core[axis])
    end = a.first[2] + a.count[2]
    a.count[2] = (a.count[2] + LANES - 1) // LANES
    for chunk in range(a.count[2]):
        valid = a.first[2] + chunk * LANES
        start = min(valid, max(a.grid.points[2] - LANES, 0))
        a.z_start[chunk] = start
        fill_axis(a.grid.origin[2], a.grid.resolution, start, LANES, r[2], per_radius,
                  a.grid.core_rate, a.xi[2] + chunk * LANES, a.s[2] + chunk * LANES, a.core[2] + chunk * LANES)
        for i in range(LANES):
            if start + i < valid or start + i >= end:
                a.xi[2][chunk * LANES + i] = 0
                a.s[2][chunk * LANES + i] = <real>INFINITY
                a.core[2][chunk * LANES + i] = 0    # far lanes would be subnormal, which is slow
        a.s_min[chunk] = 0
        if a.count[2] > 1:
            nearest = <long long>min(max(centre, <double>valid), <double>(min(end, start + LANES) - 1))
            a.s_min[chunk] = a.s[2][chunk * LANES + nearest - start]
            if nearest + 1 < end and nearest + 1 - start < LANES:
                a.s_min[chunk] = min(a.s_min[chunk], a.s[2][chunk * LANES + nearest + 1 - start])
    a.x = 0
    a.y = 0
    a.z = 0
    return True


cdef inline long long next_rows(Support* a) noexcept nogil:
    # next_block where the support has one chunk along z: in a plane, its rows are neighbours
    cdef long long x = a.x, y = a.y, n = 0, n_x = a.count[0], n_y = a.count[1], plane_size = a.rows * a.grid.points[2]
    cdef long long end, row, plane
    cdef const real* s_y = a.s[1]
    cdef const real* core_y = a.core[1]
    cdef const real* xi_y = a.xi[1]
    cdef const long long* y_start = a.y_start
    cdef real s_x, core_x, xi_x, cutoff_s = a.profile.cutoff_s
    cdef int l
    while x < n_x and n < CHUNKS:
        s_x = a.s[0][x]
        core_x = a.core[0][x]
        xi_x = a.xi[0][x]
        plane = (a.first[0] + x - a.x_store) * plane_size + a.z_start[0]
        end = n_y
        while y < end and not s_x + s_y[y] <= cutoff_s:
            y += 1
        while y < end and not s_x + s_y[end - 1] <= cutoff_s:
            end -= 1
        end = min(end, y + CHUNKS - n)
        row = y
        while row < end:    # what is noted beyond `end` is overwritten or not read
            for l in range(LANES):
                a.offset[n + l] = plane + y_start[row + l]
            for l in range(LANES):
                a.at_z[n + l] = 0
            for l in range(LANES):
                a.xi_x[n + l] = xi_x
            for l in range(LANES):
                a.xi_y[n + l] = xi_y[row + l]
            for l in range(LANES):
                a.s_xy[n + l] = s_x + s_y[row + l]
            for l in range(LANES):
                a.core_xy[n + l] = core_x * core_y[row + l]
            n += min(end - row, <long long>LANES)
            row += LANES
        y = end
        if n < CHUNKS or y == n_y:
            y = 0
            x += 1
    a.x = x
    a.y = y
    return n


cdef inline bint next_block(Support* a) noexcept nogil:
    # The next up to CHUNKS chunks of the support, x outermost, z innermost. False: none left.
    # Every chunk is noted; one beyond the cutoff is overwritten by the next.
    cdef long long x = a.x, y = a.y, z = a.z, n = 0, plane
    cdef long long n_y = a.count[1], n_z = a.count[2], plane_size = a.rows * a.grid.points[2]
    cdef const real* s_y = a.s[1]
    cdef const real* core_y = a.core[1]
    cdef const real* xi_y = a.xi[1]
    cdef const real* s_min = a.s_min
    cdef const long long* y_start = a.y_start
    cdef const long long* z_start = a.z_start
    cdef real s_x, core_x, xi_x, cutoff_s = a.profile.cutoff_s
    if n_z == 1:
        a.n = next_rows(a)
        return a.n > 0
    while x < a.count[0] and n < CHUNKS:
        s_x = a.s[0][x]
        core_x = a.core[0][x]
        xi_x = a.xi[0][x]
        plane = (a.first[0] + x - a.x_store) * plane_size
        while y < n_y and n < CHUNKS:
            while z < n_z and n < CHUNKS:
                a.offset[n] = plane + y_start[y] + z_start[z]
                a.at_z[n] = z * LANES
                a.xi_x[n] = xi_x
                a.xi_y[n] = xi_y[y]
                a.s_xy[n] = s_x + s_y[y]
                a.core_xy[n] = core_x * core_y[y]
                n += <long long>(s_x + s_y[y] + s_min[z] <= cutoff_s)
                z += 1
            if z < n_z:
                break
            z = 0
            y += 1
        if y < n_y:
            break
        y = 0
        x += 1
    a.x = x
    a.y = y
    a.z = z
    a.n = n
    return n > 0


cdef inline Chunk chunk_of(const Support* a, long long c) noexcept nogil:
    # chunk c of the block
    cdef Chunk chunk
    chunk.xi_x = a.xi_x[c]
    chunk.xi_y = a.xi_y[c]
    chunk.s_xy = a.s_xy[c]
    chunk.core_xy = a.core_xy[c]
    chunk.xi_z = a.xi[2] + a.at_z[c]
    chunk.s_z = a.s[2] + a.at_z[c]
    chunk.core_z = a.core[2] + a.at_z[c]
    return chunk
