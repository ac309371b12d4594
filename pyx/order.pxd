# In which order the atoms of a call are visited, so that neighbours find in the cache what the other has left there.
#
#     z .---------------.     Atoms of a slab of planes along x go by their row, the point along y below them. What they
#      /   /.....//    /|     reach is a window (dotted) of the slab that moves along y: it stays in the cache, whatever
#     /   /.....//    / |     the size of the grid, and each row of the grid passes through it once.
#    /   /.....//    / /
#    '------> y-----' /       x: into the page
#    |_______________|/

from libc.math cimport ceil, floor, sqrt
from libc.stdlib cimport calloc, free, malloc
from profile cimport real
from support cimport Geometry
from atoms cimport Atoms, Terms, first_atom, terms_of

cdef enum:
    CACHE_BYTES = 1 << 20   # what a thread reads and writes at a time, to stay in its L2 cache
    ROWS = 8                # that a window moves at a time
    CELL = 8                # points along an axis


cdef inline bint is_large(const Geometry* grid) noexcept nogil:
    # a channel is more than what stays in the cache; nothing else decides, so that an example has the same sums in
    # every batch
    return grid.points[0] * grid.points[1] * grid.points[2] > CACHE_BYTES // <long long>sizeof(real)


cdef inline double most_rows(const Atoms* atoms, const Geometry* grid) noexcept nogil:
    # that the support of an atom extends to either side of it, at most those of the grid
    cdef long long i, n
    cdef double widest = 0
    n = atoms.n_atoms
    if atoms.radius_by_type:
        n = atoms.n_types * (atoms.n_examples if atoms.radius_example_stride > 0 else 1)
    for i in range(n):
        widest = max(widest, <double>atoms.radii[i])    # NaN: no
    return min(<double>grid.points[1], sqrt(grid.cutoff_s) * grid.radius_scale * widest / grid.resolution + 1e-4)


cdef inline long long rows_of_window(const Atoms* atoms, const Geometry* grid) noexcept nogil:
    # those that atoms of one row reach, and ROWS
    return min(grid.points[1], 2 * <long long>ceil(most_rows(atoms, grid)) + 2 + ROWS)


cdef inline long long planes_of_window(const Geometry* grid, long long rows, long long channels) noexcept nogil:
    # as many as stay in the cache
    return max(1, min(grid.points[0], CACHE_BYTES // (rows * grid.points[2] * channels * <long long>sizeof(real))))


cdef inline long long point_below(const Geometry* grid, int axis, double r) noexcept nogil:
    # number of the point; NaN and what lies before the first: 0
    r = floor((r - grid.origin[axis]) / grid.resolution)
    return <long long>min(r, <double>(grid.points[axis] - 1)) if r > 0 else 0


cdef inline bint sort_by_key(const long long* key, const long long* before, long long n, long long n_keys,
                             long long** order, long long** start) noexcept nogil:
    # Counting sort, stable, of elements that were in the order `before`, or that of their numbers: those with key j are
    # order[start[j]:start[j + 1]]; negative keys are dropped.
    cdef long long i, j
    order[0] = <long long*>malloc((n + 1) * sizeof(long long))
    start[0] = <long long*>calloc(n_keys + 2, sizeof(long long))
    if order[0] == NULL or start[0] == NULL:
        return False
    for i in range(n):
        if key[i] >= 0:
            start[0][key[i] + 2] += 1
    for j in range(n_keys):
        start[0][j + 2] += start[0][j + 1]
    for j in range(n):
        i = before[j] if before != NULL else j
        if key[i] >= 0:
            order[0][start[0][key[i] + 1]] = i
            start[0][key[i] + 1] += 1
    return True


cdef inline bint sort_by_row(const Atoms* atoms, const Geometry* grid, long long** order) noexcept nogil:
    # the atoms, example by example, by their row
    cdef long long b, i
    cdef Terms terms
    cdef long long* start = NULL
    cdef long long* key = <long long*>malloc((atoms.n_atoms + 1) * sizeof(long long))
    cdef bint ok = key != NULL
    if ok:
        for b in range(atoms.n_examples):
            for i in range(first_atom(atoms, b), first_atom(atoms, b + 1)):
                terms = terms_of(atoms, grid, b, i)
                key[i] = b * grid.points[1] + point_below(grid, 1, terms.r[1])
        ok = sort_by_key(key, NULL, atoms.n_atoms, atoms.n_examples * grid.points[1], order, &start)
    free(start)
    free(key)
    return ok


cdef inline long long first_channel(const Atoms* atoms, long long i) noexcept nogil:
    # of an atom; that of one which has none: 0
    cdef long long k
    if atoms.index != NULL:
        return max(atoms.index[i], 0)
    for k in range(atoms.n_types):
        if atoms.weights[i * atoms.n_types + k] != 0:
            return k
    return 0


cdef inline bint sort_by_cell(const Atoms* atoms, const Geometry* grid, bint by_channel,
                              long long** order) noexcept nogil:
    # The atoms, example by example and, where they read few channels, by the first: slab by slab, in it along y, and to
    # and fro along x and z, in cells of CELL points an axis, or more so that they are not many more than atoms.
    cdef long long b, i, x, y, z, slab, planes, n_slabs, n_x, n_y, n_z, n_cells, side = CELL
    cdef long long n_channels = atoms.n_types if by_channel else 1
    cdef Terms terms
    cdef long long* start = NULL
    cdef long long* cells = NULL
    cdef long long* key = <long long*>malloc((atoms.n_atoms + 1) * sizeof(long long))
    cdef bint ok = key != NULL
    planes = planes_of_window(grid, rows_of_window(atoms, grid), 1 if by_channel else atoms.n_types)
    while True:
        n_x = (planes + side - 1) // side
        n_slabs = (grid.points[0] + side * n_x - 1) // (side * n_x)
        n_y = (grid.points[1] + side - 1) // side
        n_z = (grid.points[2] + side - 1) // side
        n_cells = n_slabs * n_y * n_x * n_z
        if n_cells <= 8 * (atoms.n_atoms + CELL * CELL):
            break
        side *= 2
    if ok:
        for b in range(atoms.n_examples):
            for i in range(first_atom(atoms, b), first_atom(atoms, b + 1)):
                terms = terms_of(atoms, grid, b, i)
                x = point_below(grid, 0, terms.r[0]) // side
                y = point_below(grid, 1, terms.r[1]) // side
                z = point_below(grid, 2, terms.r[2]) // side
                slab = x // n_x
                x = x % n_x if y % 2 == 0 else n_x - 1 - x % n_x
                z = z if x % 2 == 0 else n_z - 1 - z
                key[i] = ((slab * n_y + y) * n_x + x) * n_z + z
        ok = sort_by_key(key, NULL, atoms.n_atoms, n_cells, &cells, &start)
        free(start)
        start = NULL
    if ok:
        for b in range(atoms.n_examples):
            for i in range(first_atom(atoms, b), first_atom(atoms, b + 1)):
                key[i] = b * n_channels + (first_channel(atoms, i) if by_channel else 0)
        ok = sort_by_key(key, cells, atoms.n_atoms, atoms.n_examples * n_channels, order, &start)
    free(start)
    free(cells)
    free(key)
    return ok
