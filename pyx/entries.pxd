# Chunks that atoms reach, noted and sorted, so that a chunk of the grid is loaded and stored once for all atoms.
#
#      lanes  |...............|...............|      A chunk begins at a multiple of LANES from the first voxel of the
#      atom 0          ----------                    item, whatever the row; it may end in the next row.
#      atom 1     --------                           noted, as (chunk, atom): (0, 0) (1, 0) (0, 1) (1, 2)
#      atom 2                        -------         sorted:                  (0, 0) (0, 1) (1, 0) (1, 2)

from libc.math cimport INFINITY, sqrt
from libc.stdlib cimport free
from libc.string cimport memset
from profile cimport real
from support cimport Geometry, LANES, Support, fill
from atoms cimport Atoms, Direction, Terms
from order cimport most_rows
from workspace cimport LINE, Workspace, posix_memalign

cdef enum:
    PLANES = 8          # of an item
    ENTRIES = 1 << 13   # that are noted before they are added up
    PLACED = 1 << 9     # atoms of these
    TABLE = 1 << 15     # reals of their tables
    SUMS = 7            # channels that are added up together
    CROWD = 1           # atoms over a voxel from which on it pays,
    MANY_BYTES = 96     # and bytes of a voxel's channels


cdef struct Entry:      # a chunk that an atom reaches
    real xi_x
    real xi_y
    real s_xy
    real core_xy
    int number          # of the chunk in the item
    int at_z            # in Planes.table, where the chunk begins in the atom's xi along z
    int atom            # of Planes.placed


cdef struct Placed:
    long long i
    int stride          # between xi, s and core along z
    real per_radius
    Direction u
    Direction v


cdef struct Planes:
    int n_entries
    int n_placed
    int n_reals         # of the table
    int n_planes
    long long plane_size
    int* unwritten      # by plane: its first chunk that is not yet written; none after it is
    int* start          # by chunk of the item, for the sort
    Entry entry[ENTRIES]
    int order[ENTRIES]
    Placed placed[PLACED]
    real packed[3][PLACED * SUMS]   # weights of the last channels, where these are less than SUMS
    real table[TABLE]   # of each atom xi, s and core along z, LANES more on either side


cdef inline bint is_crowded(const Atoms* atoms, const Geometry* grid) noexcept nogil:
    # Many channels are an atom's everywhere, counting half of the cube around it, and its rows are short: chunks that
    # begin where they do would cover longer ones with fewer.
    cdef double width = 2 * most_rows(atoms, grid)
    return (atoms.n_types * sizeof(real) >= MANY_BYTES and width <= LANES
            and 0.5 * width * width * width * atoms.n_atoms >= CROWD * <double>(
                grid.points[0] * grid.points[1] * grid.points[2] * atoms.n_examples))


cdef inline bint open_planes(Workspace** spaces, int n, long long n_planes, long long plane_size) noexcept nogil:
    # for items of so many planes
    cdef size_t n_bytes = sizeof(Planes) + (n_planes * plane_size // LANES + n_planes + 4) * sizeof(int)
    cdef int i
    if spaces == NULL:
        return False
    for i in range(n):
        if spaces[i].planes_bytes < n_bytes:
            free(spaces[i].planes)
            spaces[i].planes = NULL
            spaces[i].planes_bytes = 0
            if posix_memalign(&spaces[i].planes, LINE, n_bytes) != 0:
                spaces[i].planes = NULL
                return False
            spaces[i].planes_bytes = n_bytes
    return True


cdef inline void begin_planes(Workspace* space, long long n_planes, long long plane_size, bint written) noexcept nogil:
    # of an item; written: it holds zeros or sums already, otherwise anything
    cdef Planes* planes = <Planes*>space.planes
    cdef int x
    planes.n_entries = 0
    planes.n_placed = 0
    planes.n_reals = 0
    planes.n_planes = <int>n_planes
    planes.plane_size = plane_size
    planes.unwritten = <int*>(<char*>space.planes + sizeof(Planes))
    planes.start = planes.unwritten + n_planes + 1
    for x in range(<int>n_planes):
        planes.unwritten[x] = end_of_plane(planes, x - 1 if not written else x)


cdef inline int end_of_plane(const Planes* planes, long long x) noexcept nogil:
    # the first chunk that begins behind plane x
    return <int>(((x + 1) * planes.plane_size + LANES - 1) // LANES)


cdef inline int table_stride(const Support* a) noexcept nogil:
    return <int>((a.count[2] + 2) * LANES)


cdef inline bint is_noted(const Support* a) noexcept nogil:
    # there is room for the atom placed, plane by plane
    return a.count[2] <= TABLE // (3 * LANES) - 2 and a.count[1] <= ENTRIES // (a.count[2] + 1)


cdef inline void note_table(Planes* planes, const Support* a) noexcept nogil:
    # the tables along z without the gap or the overlap of their last chunks
    cdef int stride = table_stride(a), l, skipped
    cdef long long chunk, valid
    cdef real* xi = planes.table + planes.n_reals
    fill(xi, stride, <real>0)
    fill(xi + stride, stride, <real>INFINITY)
    fill(xi + 2 * stride, stride, <real>0)
    for chunk in range(a.count[2]):
        valid = a.first[2] + chunk * LANES
        skipped = <int>(valid - a.z_start[chunk])
        xi = planes.table + planes.n_reals + (chunk + 1) * LANES - skipped
        for l in range(skipped, LANES):
            xi[l] = a.xi[2][chunk * LANES + l]
            xi[stride + l] = a.s[2][chunk * LANES + l]
            xi[2 * stride + l] = a.core[2][chunk * LANES + l]
    planes.n_reals += 3 * stride


cdef inline long long note_planes(Workspace* space, long long begin, const Terms* terms, const Direction* u,
                                  const Direction* v, long long x) noexcept nogil:
    # Notes the planes of the atom placed, from its plane x on, as many as there is room for, and returns where it
    # stopped; begin: first voxel of the item in the store.
    cdef Planes* planes = <Planes*>space.planes
    cdef const Support* a = &space.support
    cdef int n = planes.n_entries, at_table = planes.n_reals + LANES, number, last
    cdef long long y, z_first, z_last, voxel, n_z, n_y = a.count[1], most = n_y * (a.count[2] + 1)
    cdef double centre = (terms.r[2] - a.grid.origin[2]) / a.grid.resolution - <double>a.first[2]
    cdef double spacings = 1 / (a.per_radius * a.grid.resolution)       # in xi = 1
    cdef double cutoff_s = <double>a.profile.cutoff_s * (1 + 1e-5), extent, lowest      # slack: the test of s decides
    cdef real s_x, core_x, xi_x, s_xy
    cdef const real* s_y = a.s[1]
    cdef Entry* entry
    cdef Placed* placed = &planes.placed[planes.n_placed]
    if planes.n_placed == PLACED or n + most > ENTRIES or planes.n_reals + 3 * table_stride(a) > TABLE:
        return x
    placed.i = terms.i
    placed.stride = table_stride(a)
    placed.per_radius = <real>a.per_radius
    placed.u = u[0]
    placed.v = v[0]
    note_table(planes, a)
    n_z = min(a.count[2] * LANES, a.grid.points[2] - a.first[2])
    while x < a.count[0] and n + most <= ENTRIES:
        s_x = a.s[0][x]
        core_x = a.core[0][x]
        xi_x = a.xi[0][x]
        for y in range(n_y):
            s_xy = s_x + s_y[y]
            if not s_xy <= a.profile.cutoff_s:
                continue
            extent = sqrt(cutoff_s - s_xy) * spacings + 1e-3
            lowest = max(centre - extent, 0.0)
            z_first = <long long>lowest
            z_first += z_first < lowest
            z_last = <long long>min(max(centre + extent, 0.0), <double>(n_z - 1))
            voxel = (a.first[0] + x - a.x_store) * a.rows * a.grid.points[2] + a.y_start[y] + a.first[2] - begin
            number = <int>((voxel + z_first) // LANES)
            last = <int>((voxel + z_last) // LANES)
            while number <= last:
                entry = &planes.entry[n]
                entry.xi_x = xi_x
                entry.xi_y = a.xi[1][y]
                entry.s_xy = s_xy
                entry.core_xy = core_x * a.core[1][y]
                entry.number = number
                entry.at_z = at_table + <int>(<long long>number * LANES - voxel)
                entry.atom = planes.n_placed
                n += 1
                number += 1
        x += 1
    planes.n_entries = n
    planes.n_placed += 1
    return x


cdef inline void sort_entries(Planes* planes, long long n_chunks) noexcept nogil:
    # by chunk, those of a chunk as they were noted
    cdef long long j
    cdef int e
    cdef int* start = planes.start
    memset(start, 0, (n_chunks + 2) * sizeof(int))
    for e in range(planes.n_entries):
        start[planes.entry[e].number + 2] += 1
    for j in range(n_chunks):
        start[j + 2] += start[j + 1]
    for e in range(planes.n_entries):
        planes.order[start[planes.entry[e].number + 1]] = e
        start[planes.entry[e].number + 1] += 1
