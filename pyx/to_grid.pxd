# Kernels whose output is the grid: density and its derivatives along directions. Every voxel is written by one thread.
# Mirror: cuda/to_grid.cuh.

from cython.parallel cimport prange, threadid
from libc.math cimport NAN, ceil, sqrt
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from profile cimport has_slope, real
from support cimport Geometry, Support, fill, next_block, place, reach_along
from atoms cimport (Atoms, Direction, Tangents, Terms, direction_of, first_atom, has_weight,
                    is_finite, is_nan, n_weights, sharing_radius, terms_of, weights_of)
from order cimport (CACHE_BYTES, ROWS, is_large, most_rows, planes_of_window, point_below, rows_of_window,
                    sort_by_row)
from block cimport add_block, fill_phi, fill_phi_uv, fill_phi_v
from entries cimport PLANES, begin_planes, is_crowded, is_noted, note_planes, open_planes
from planes cimport Factors, add_noted, factors_of, write_rest
from interrupt cimport VISITS, Interrupt, interrupted, listen
from workspace cimport (Workspace, advise_huge_pages, close_workspaces, end_stream, has_pages,
                        open_workspaces, stream)

cdef enum:
    RUN_BYTES = 1 << 22     # what a thread writes in a row where there is much, so that two do not share a 2 MiB page
    STREAM_BYTES = 1 << 26  # of a grid that no cache keeps
    SERIAL = 1 << 15        # voxels below which a second thread costs more than it brings


cdef struct ToGrid:
    Atoms atoms
    Tangents u                  # second derivative only
    Tangents v                  # derivatives only
    int derivative              # 0: the density, 1: its derivative along v, 2: its second derivative along u and v
    long long n_weights         # that are not zero
    long long* listed           # atoms of item j: listed[start[j]:start[j + 1]]
    long long* start
    bint by_row                 # these go by their row; else in their order
    long long rows_below        # that an atom reaches, below its own
    long long rows              # of the window; 0: no window
    long long group_size        # channels of an item: evaluated together
    long long planes            # planes of an item
    bint by_planes              # atoms are noted, in all channels, and added up chunk by chunk
    Factors factors             # then
    long long n_groups
    long long n_slabs
    real* out                   # (B, T, X, Y, Z)


cdef struct Reach:              # the items that terms of an atom in a group of channels write to
    long long i
    long long first
    long long last


cdef struct Item:               # a slab of planes of channels [k_begin, k_end) of example b
    long long b
    long long k_begin
    long long k_end
    long long x_begin
    long long x_end
    long long written           # rows [0, written) of the grid are
    real* target                # channel k_begin of what is added to: the window or, all rows written, the grid
    long long stride            # voxels between its channels


cdef inline long long next_group(const ToGrid* call, long long i, long long group) noexcept nogil:
    # first one from `group` on in which a term of atom i is not zero
    cdef const Atoms* atoms = &call.atoms
    cdef const real* weights = atoms.weights + i * atoms.n_types
    cdef long long k_begin, k_end
    if call.group_size == 1 and call.u.weights == NULL and call.v.weights == NULL:
        while group < call.n_groups and weights[group] == 0:
            group += 1
        return group
    while group < call.n_groups:
        k_begin = group * call.group_size
        k_end = min(k_begin + call.group_size, atoms.n_types)
        if has_weight(atoms, call.v.weights, i, k_begin, k_end) or (
                call.u.weights != NULL and has_weight(atoms, call.u.weights, i, k_begin, k_end)):
            break
        group += 1
    return group


cdef inline bint is_lost(const ToGrid* call, const Terms* terms, long long k) noexcept nogil:
    # the term of channel k fills it with NaN
    cdef const real* weight = weights_of(call.atoms.weights, &call.atoms, terms.i, k)
    cdef const real* u_weight = weights_of(call.u.weights, &call.atoms, terms.i, k)
    cdef const real* v_weight = weights_of(call.v.weights, &call.atoms, terms.i, k)
    cdef bint zero = True, finite = True
    if weight == NULL:
        return is_nan(terms.r, terms.radius)
    zero = weight[0] == 0
    finite = is_finite(weight[0])
    if u_weight != NULL:
        zero = zero and u_weight[0] == 0
        finite = finite and is_finite(u_weight[0])
    if v_weight != NULL:
        zero = zero and v_weight[0] == 0
        finite = finite and is_finite(v_weight[0])
    return not zero and (not finite or is_nan(terms.r, terms.radius))


cdef inline bint slabs_of(const ToGrid* call, const Geometry* grid, const Terms* terms, long long* first,
                          long long* last) noexcept nogil:
    # those that the terms write to. False: none
    cdef double extent = sqrt(grid.cutoff_s) * terms.radius / grid.resolution
    cdef long long k
    first[0] = 0
    last[0] = call.n_slabs - 1
    if call.n_slabs == 1:
        return True
    for k in range(terms.k_begin, terms.k_end):
        if is_lost(call, terms, k):
            return True
    if not reach_along(grid, 0, terms.r[0], extent, 0, grid.points[0], first, last):
        return False
    first[0] = first[0] // call.planes
    last[0] = last[0] // call.planes
    return True


cdef inline long long most_terms(const ToGrid* call) noexcept nogil:
    # how many terms of an atom in a group of channels there can be
    if call.atoms.index != NULL:
        return call.atoms.n_atoms
    if call.group_size == 1 and call.u.weights == NULL and call.v.weights == NULL:
        return call.n_weights
    return call.atoms.n_atoms * call.n_groups


cdef inline long long find_items(ToGrid* call, const Geometry* grid, const long long* order,
                                 Reach* found) noexcept nogil:
    # of all terms, atom by atom in `order` or in their own; counts the terms of item j in start[j + 2]
    cdef const Atoms* atoms = &call.atoms
    cdef long long n = 0, b, i, j, group, item
    cdef Terms terms, part
    cdef Reach reach
    for b in range(atoms.n_examples):
        for j in range(first_atom(atoms, b), first_atom(atoms, b + 1)):
            i = order[j] if order != NULL else j
            terms = terms_of(atoms, grid, b, i)
            group = terms.k_begin if atoms.index != NULL else next_group(call, i, 0)
            while group < (terms.k_end if atoms.index != NULL else call.n_groups):
                part = sharing_radius(atoms, &terms, group * call.group_size,
                                      min((group + 1) * call.group_size, atoms.n_types), grid.radius_scale)
                if slabs_of(call, grid, &part, &reach.first, &reach.last):
                    item = (b * call.n_groups + group) * call.n_slabs
                    reach.i = i
                    reach.first += item
                    reach.last += item
                    for item in range(reach.first, reach.last + 1):
                        call.start[item + 2] += 1
                    found[n] = reach
                    n += 1
                group = terms.k_end if atoms.index != NULL else next_group(call, i, group + 1)
    return n


cdef inline bint list_atoms(ToGrid* call, const Geometry* grid, long long n_items) noexcept nogil:
    # Once per call, since a slab that looked for its own atoms would look at all of them: count, add up, note.
    cdef long long* order = NULL
    cdef long long item, j, n
    cdef Reach* found = <Reach*>malloc((most_terms(call) + 1) * sizeof(Reach))
    cdef bint ok = found != NULL and (not call.by_row or sort_by_row(&call.atoms, grid, &order))
    call.start = <long long*>calloc(n_items + 2, sizeof(long long))
    if ok and call.start != NULL:
        n = find_items(call, grid, order, found)
        for item in range(n_items):
            call.start[item + 2] += call.start[item + 1]
        call.listed = <long long*>malloc((call.start[n_items + 1] + 1) * sizeof(long long))
        if call.listed != NULL:
            for j in range(n):
                for item in range(found[j].first, found[j].last + 1):
                    call.listed[call.start[item + 1]] = found[j].i
                    call.start[item + 1] += 1
    free(found)
    free(order)
    return ok and call.start != NULL and call.listed != NULL


cdef inline void add_to_grid(Workspace* space, const ToGrid* call, Item* item) noexcept nogil:
    # from now on, all rows being written
    cdef Support* a = &space.support
    item.stride = a.grid.points[0] * a.grid.points[1] * a.grid.points[2]
    item.target = call.out + (item.b * call.atoms.n_types + item.k_begin) * item.stride
    a.x_store = 0
    a.rows = a.grid.points[1]


cdef inline void add_to_window(Workspace* space, const ToGrid* call, Item* item) noexcept nogil:
    cdef Support* a = &space.support
    item.stride = call.planes * call.rows * a.grid.points[2]
    item.target = space.window
    a.x_store = item.x_begin
    a.rows = call.rows


cdef inline void write_rows(Workspace* space, const ToGrid* call, Item* item, long long end) noexcept nogil:
    # moves rows [written, end) from the window to the grid
    cdef const Geometry* grid = &space.support.grid
    cdef long long row_size = grid.points[2], volume = grid.points[0] * grid.points[1] * row_size, k, x, y, n
    cdef real* source
    cdef real* target = call.out + (item.b * call.atoms.n_types + item.k_begin) * volume
    for k in range(item.k_end - item.k_begin):
        for x in range(item.x_begin, item.x_end):
            y = item.written
            while y < end:
                n = min(end - y, call.rows - y % call.rows)
                source = space.window + k * item.stride + ((x - item.x_begin) * call.rows + y % call.rows) * row_size
                stream(target + k * volume + (x * grid.points[1] + y) * row_size, source, n * row_size * sizeof(real))
                memset(source, 0, n * row_size * sizeof(real))
                y += n
    item.written = max(item.written, end)


cdef inline void settle(Workspace* space, const ToGrid* call, const Item* item, bint whole) noexcept nogil:
    # adds what is noted to the item; whole: and writes zeros where nothing is
    cdef const Support* a = &space.support
    cdef real* target = item.target + (item.x_begin - a.x_store) * a.rows * a.grid.points[2]
    if call.by_planes:
        add_noted(space, &call.factors, call.atoms.n_types, target, item.stride)
        if whole:
            write_rest(space, call.atoms.n_types, target, item.stride)


cdef inline void add_atom(Workspace* space, const ToGrid* call, const Terms* terms, Item* item,
                          int derivative) noexcept nogil:
    # adds the terms to the item; derivative: a constant where this is called, so that loops for others are left out
    cdef Support* a = &space.support
    cdef const Atoms* atoms = &call.atoms
    cdef const real* weights = weights_of(atoms.weights, atoms, terms.i, terms.k_begin)
    cdef const real* u_weights = weights_of(call.u.weights, atoms, terms.i, terms.k_begin)
    cdef const real* v_weights = weights_of(call.v.weights, atoms, terms.i, terms.k_begin)
    cdef long long plane_size = a.grid.points[1] * a.grid.points[2], k, x = 0
    cdef real weight, u_weight, v_weight
    cdef Direction u, v
    for k in range(terms.k_end - terms.k_begin):
        if is_lost(call, terms, terms.k_begin + k):
            settle(space, call, item, True)
            if item.written < a.grid.points[1]:
                write_rows(space, call, item, a.grid.points[1])
                add_to_grid(space, call, item)
            fill(item.target + k * item.stride + item.x_begin * plane_size, (item.x_end - item.x_begin) * plane_size,
                 <real>NAN)
    if not terms.radius > 0 or is_nan(terms.r, terms.radius) or not place(a, terms.r, terms.radius, item.x_begin,
                                                                          item.x_end):
        return
    memset(&u, 0, sizeof(Direction))    # what the compiler computes of them in advance is slow if it is subnormal
    memset(&v, 0, sizeof(Direction))
    if derivative == 2:
        u = direction_of(&call.u, atoms, terms, a.grid.radius_scale)
        u.moves = u.moves and has_slope(&a.profile)
    if derivative > 0:
        v = direction_of(&call.v, atoms, terms, a.grid.radius_scale)
        v.moves = v.moves and has_slope(&a.profile)
    if call.by_planes:
        while x < a.count[0] and is_noted(a):
            x = note_planes(space, (item.x_begin - a.x_store) * plane_size, terms, &u, &v, x)
            if x < a.count[0]:
                settle(space, call, item, False)
        if x == a.count[0]:
            return
        settle(space, call, item, True)
    while next_block(a):
        if derivative == 0 or (derivative == 1 and v_weights != NULL):
            fill_phi(space)
        if v.moves and (derivative == 1 or u_weights != NULL):
            fill_phi_v(space, &v, space.phi_v)
        if u.moves and v_weights != NULL:
            fill_phi_v(space, &u, space.phi_u)
        if derivative == 2 and (u.moves or v.moves):       # the other one counts as zero, which hides no NaN
            fill_phi_uv(space, &u, &v)
        for k in range(terms.k_end - terms.k_begin):
            weight = weights[k] if weights != NULL else <real>1
            u_weight = u_weights[k] if u_weights != NULL else <real>0
            v_weight = v_weights[k] if v_weights != NULL else <real>0
            if derivative == 0:
                if weight != 0:
                    add_block(space.phi, weight, space.phi, 0, a, item.target + k * item.stride)
            elif derivative == 1:
                if v.moves and weight != 0:     # w phi_v + v_w phi
                    add_block(space.phi_v, weight, &space.phi[0] if v_weights != NULL else &space.phi_v[0], v_weight, a,
                              item.target + k * item.stride)
                elif v_weight != 0:
                    add_block(space.phi, v_weight, space.phi, 0, a, item.target + k * item.stride)
            else:                               # w phi_uv + u_w phi_v + v_w phi_u
                if (u.moves or v.moves) and weight != 0:
                    add_block(space.phi_uv, weight, space.phi_uv, 0, a, item.target + k * item.stride)
                if v.moves and u_weight != 0:
                    add_block(space.phi_v, u_weight, space.phi_v, 0, a, item.target + k * item.stride)
                if u.moves and v_weight != 0:
                    add_block(space.phi_u, v_weight, space.phi_u, 0, a, item.target + k * item.stride)


cdef inline void fill_item(Workspace* space, const ToGrid* call, long long number) noexcept nogil:
    cdef const Atoms* atoms = &call.atoms
    cdef const Geometry* grid = &space.support.grid
    cdef long long slab = number % call.n_slabs, group = number // call.n_slabs % call.n_groups, j, k, row
    cdef long long plane_size = grid.points[1] * grid.points[2]
    cdef Terms terms
    cdef Item item
    item.b = number // call.n_slabs // call.n_groups
    item.k_begin = group * call.group_size
    item.k_end = min(item.k_begin + call.group_size, atoms.n_types)
    item.x_begin = slab * call.planes
    item.x_end = min(item.x_begin + call.planes, grid.points[0])
    item.written = 0
    if call.rows > 0:
        add_to_window(space, call, &item)
    else:
        item.written = grid.points[1]
        add_to_grid(space, call, &item)
        for k in range(item.k_end - item.k_begin if not call.by_planes else 0):
            memset(item.target + k * item.stride + item.x_begin * plane_size, 0,
                   (item.x_end - item.x_begin) * plane_size * sizeof(real))
    if call.by_planes:
        begin_planes(space, item.x_end - item.x_begin, plane_size, call.rows > 0)
    for j in range(call.start[number], call.start[number + 1]):
        terms = terms_of(atoms, grid, item.b, call.listed[j])
        terms = sharing_radius(atoms, &terms, item.k_begin, item.k_end, grid.radius_scale)
        if 0 < call.rows < grid.points[1]:
            row = point_below(grid, 1, terms.r[1]) - call.rows_below
            if row >= item.written + ROWS:
                write_rows(space, call, &item, row)
        if call.derivative == 0:
            add_atom(space, call, &terms, &item, 0)
        elif call.derivative == 1:
            add_atom(space, call, &terms, &item, 1)
        else:
            add_atom(space, call, &terms, &item, 2)
    settle(space, call, &item, True)
    if item.written < grid.points[1]:
        write_rows(space, call, &item, grid.points[1])
    if call.rows > 0:
        end_stream()


cdef inline bint is_dense(const ToGrid* call) noexcept nogil:
    # more than two channels an atom: evaluate phi once for all of them
    if call.atoms.weights == NULL or call.atoms.radius_by_type:
        return False
    return call.u.weights != NULL or call.v.weights != NULL or call.n_weights > 2 * call.atoms.n_atoms


cdef inline int to_grid(ToGrid* call, const Geometry* grid, int n_threads) except -1 nogil:
    # cuts the grid into items, and the items among the threads
    cdef long long plane_bytes = grid.points[1] * grid.points[2] * sizeof(real), n_bytes, n_items, item, run
    cdef long long volume = grid.points[0] * grid.points[1] * grid.points[2]
    cdef Workspace** spaces
    cdef Interrupt interrupt = listen()
    cdef bint ok, past_cache
    if call.atoms.n_examples * call.atoms.n_types * volume <= SERIAL:
        n_threads = 1
    call.n_weights = n_weights(&call.atoms)
    call.group_size = 1
    if is_dense(call):
        call.group_size = max(1, min(call.atoms.n_types, CACHE_BYTES // plane_bytes))
    call.by_row = is_large(grid)
    n_bytes = call.atoms.n_examples * call.atoms.n_types * volume * sizeof(real)
    past_cache = n_bytes > STREAM_BYTES and has_pages(call.out, n_bytes)    # else the system clears it in the cache
    call.planes = max(1, min(grid.points[0], CACHE_BYTES // (plane_bytes * call.group_size)))
    if past_cache:
        call.rows_below = <long long>ceil(most_rows(&call.atoms, grid))
        call.rows = rows_of_window(&call.atoms, grid) if call.by_row else grid.points[1]
        call.planes = planes_of_window(grid, call.rows, call.group_size)
    elif call.by_row and call.group_size > 1:   # the same rows pass through the cache
        call.planes = planes_of_window(grid, rows_of_window(&call.atoms, grid), call.group_size)
    if call.group_size == call.atoms.n_types and not call.by_row and is_crowded(&call.atoms, grid):
        call.by_planes = True
        call.factors = factors_of(&call.atoms, &call.u, &call.v, call.derivative, grid.core_rate != 0)
        call.planes = max(call.planes, min(grid.points[0], PLANES if not past_cache else 1))
    call.n_groups = (call.atoms.n_types + call.group_size - 1) // call.group_size
    if n_threads > 1 and call.atoms.n_examples * call.n_groups < 4 * n_threads:
        call.planes = max(1, min(call.planes, grid.points[0] * call.atoms.n_examples * call.n_groups
                                 // (4 * n_threads)))
    call.n_slabs = (grid.points[0] + call.planes - 1) // call.planes
    n_items = call.atoms.n_examples * call.n_groups * call.n_slabs
    n_threads = max(1, <int>min(<long long>n_threads, n_items))
    spaces = open_workspaces(grid, n_threads, call.group_size * call.planes * call.rows * grid.points[2])
    ok = list_atoms(call, grid, n_items) and (not call.by_planes or open_planes(
        spaces, n_threads, call.planes, grid.points[1] * grid.points[2]))
    if spaces != NULL and ok:
        advise_huge_pages(call.out, n_bytes)
        if n_threads == 1:
            for item in range(n_items):
                if interrupted(&interrupt, VISITS):
                    break
                fill_item(spaces[0], call, item)
        else:
            run = max(1, min(n_items // (16 * n_threads), RUN_BYTES // (plane_bytes * call.group_size * call.planes)))
            for item in prange(n_items, schedule="dynamic", chunksize=run, num_threads=n_threads):
                if not interrupted(&interrupt, VISITS):
                    fill_item(spaces[threadid()], call, item)
    free(call.listed)
    free(call.start)
    close_workspaces(spaces, n_threads)
    if spaces == NULL or not ok:
        with gil:
            raise MemoryError("no memory for the scratch space of the kernels")
    return -1 if interrupt.told else 0
