# Kernels whose output is the grid: density and its derivatives along directions. Every voxel is written by one thread.
# Mirror: cuda/to_grid.cuh.

from cython.parallel cimport prange, threadid
from libc.math cimport NAN
from libc.stdlib cimport free
from libc.string cimport memset
from profile cimport has_slope, real
from support cimport Geometry, Support, fill, next_block, place
from atoms cimport (Atoms, Direction, Tangents, Terms, direction_of, first_atom, group_by_channel, has_weight,
                    is_finite, is_nan, sharing_radius, terms_of, weights_of)
from block cimport add_block, fill_phi, fill_phi_uv, fill_phi_v
from interrupt cimport VISITS, Interrupt, interrupted, listen
from workspace cimport Workspace, advise_huge_pages, close_workspaces, open_workspaces

cdef enum:
    SLAB_BYTES = 1 << 20    # what a thread writes at a time, to stay in its L2 cache
    RUN_BYTES = 1 << 22     # what a thread writes in a row where there is much, so that two do not share a 2 MiB page
    SERIAL = 1 << 15        # voxels below which a second thread costs more than it brings


cdef struct ToGrid:
    Atoms atoms
    Tangents u                  # second derivative only
    Tangents v                  # derivatives only
    int derivative              # 0: the density, 1: its derivative along v, 2: its second derivative along u and v
    long long* order            # index types: atoms by example and channel
    long long* start
    long long group             # channels of an item: evaluated together
    long long planes            # planes of an item
    long long n_groups
    long long n_slabs
    real* out                   # (B, T, X, Y, Z)


cdef inline void add_atom(Workspace* space, const ToGrid* call, const Terms* terms, long long x_begin,
                          long long x_end) noexcept nogil:
    # adds the terms to planes [x_begin, x_end)
    cdef Support* a = &space.support
    cdef const Atoms* atoms = &call.atoms
    cdef const real* weights = weights_of(atoms.weights, atoms, terms.i, terms.k_begin)
    cdef const real* u_weights = weights_of(call.u.weights, atoms, terms.i, terms.k_begin)
    cdef const real* v_weights = weights_of(call.v.weights, atoms, terms.i, terms.k_begin)
    cdef long long plane = a.grid.points[1] * a.grid.points[2], volume = a.grid.points[0] * plane, k
    cdef double radius = terms.radius
    cdef real weight, u_weight, v_weight
    cdef real* grid = call.out + (terms.b * atoms.n_types + terms.k_begin) * volume
    cdef Direction u, v
    for k in range(terms.k_end - terms.k_begin):
        weight = weights[k] if weights != NULL else <real>1
        u_weight = u_weights[k] if u_weights != NULL else <real>0
        v_weight = v_weights[k] if v_weights != NULL else <real>0
        if (weight != 0 or u_weight != 0 or v_weight != 0) and (
                is_nan(terms.r, radius) or not is_finite(weight) or not is_finite(u_weight) or not is_finite(v_weight)):
            fill(grid + k * volume + x_begin * plane, (x_end - x_begin) * plane, <real>NAN)
    if not radius > 0 or is_nan(terms.r, radius) or not place(a, terms.r, radius, x_begin, x_end):
        return
    u.moves = False
    v.moves = False
    if call.derivative == 2:
        u = direction_of(&call.u, atoms, terms, a.grid.radius_scale)
        u.moves = u.moves and has_slope(&a.profile)
    if call.derivative > 0:
        v = direction_of(&call.v, atoms, terms, a.grid.radius_scale)
        v.moves = v.moves and has_slope(&a.profile)
    while next_block(a):
        if call.derivative == 0 or (call.derivative == 1 and v_weights != NULL):
            fill_phi(space)
        if v.moves and (call.derivative == 1 or u_weights != NULL):
            fill_phi_v(space, &v, space.phi_v)
        if u.moves and v_weights != NULL:
            fill_phi_v(space, &u, space.phi_u)
        if call.derivative == 2 and (u.moves or v.moves):       # the other one counts as zero, which hides no NaN
            fill_phi_uv(space, &u, &v)
        for k in range(terms.k_end - terms.k_begin):
            weight = weights[k] if weights != NULL else <real>1
            u_weight = u_weights[k] if u_weights != NULL else <real>0
            v_weight = v_weights[k] if v_weights != NULL else <real>0
            if call.derivative == 0:
                if weight != 0:
                    add_block(space.phi, weight, space.phi, 0, a, grid + k * volume)
            elif call.derivative == 1:
                if v.moves and weight != 0:     # w phi_v + v_w phi
                    add_block(space.phi_v, weight, &space.phi[0] if v_weights != NULL else &space.phi_v[0], v_weight, a,
                              grid + k * volume)
                elif v_weight != 0:
                    add_block(space.phi, v_weight, space.phi, 0, a, grid + k * volume)
            else:                               # w phi_uv + u_w phi_v + v_w phi_u
                if (u.moves or v.moves) and weight != 0:
                    add_block(space.phi_uv, weight, space.phi_uv, 0, a, grid + k * volume)
                if v.moves and u_weight != 0:
                    add_block(space.phi_v, u_weight, space.phi_v, 0, a, grid + k * volume)
                if u.moves and v_weight != 0:
                    add_block(space.phi_u, v_weight, space.phi_u, 0, a, grid + k * volume)


cdef inline void fill_item(Workspace* space, const ToGrid* call, long long item) noexcept nogil:
    # item = (example, group of channels, slab of planes)
    cdef const Atoms* atoms = &call.atoms
    cdef const Geometry* grid = &space.support.grid
    cdef long long slab = item % call.n_slabs, group = item // call.n_slabs % call.n_groups
    cdef long long b = item // call.n_slabs // call.n_groups, k_begin, k_end, x_begin, x_end, plane, k, j
    cdef Terms terms
    k_begin = group * call.group
    k_end = min(k_begin + call.group, atoms.n_types)
    x_begin = slab * call.planes
    x_end = min(x_begin + call.planes, grid.points[0])
    plane = grid.points[1] * grid.points[2]
    for k in range(b * atoms.n_types + k_begin, b * atoms.n_types + k_end):
        memset(call.out + (k * grid.points[0] + x_begin) * plane, 0, (x_end - x_begin) * plane * sizeof(real))
    if atoms.index != NULL:
        for j in range(call.start[b * atoms.n_types + k_begin], call.start[b * atoms.n_types + k_end]):
            terms = terms_of(atoms, grid, b, call.order[j])
            terms = sharing_radius(atoms, &terms, k_begin, k_end, grid.radius_scale)
            add_atom(space, call, &terms, x_begin, x_end)
        return
    for j in range(first_atom(atoms, b), first_atom(atoms, b + 1)):
        if call.group > 1 or has_weight(atoms, call.v.weights, j, k_begin, k_end) or (
                call.u.weights != NULL and has_weight(atoms, call.u.weights, j, k_begin, k_end)):
            terms = terms_of(atoms, grid, b, j)
            terms = sharing_radius(atoms, &terms, k_begin, k_end, grid.radius_scale)
            add_atom(space, call, &terms, x_begin, x_end)


cdef inline bint is_dense(const ToGrid* call) noexcept nogil:
    # more than two channels an atom: evaluate phi once for all of them
    cdef long long n = 0, i
    if call.atoms.weights == NULL or call.atoms.radius_by_type:
        return False
    if call.u.weights != NULL or call.v.weights != NULL:
        return True
    for i in range(call.atoms.n_atoms * call.atoms.n_types):
        n += call.atoms.weights[i] != 0
    return n > 2 * call.atoms.n_atoms


cdef inline int to_grid(ToGrid* call, const Geometry* grid, int n_threads) except -1 nogil:
    # cuts the grid into items, and the items among the threads
    cdef long long plane_bytes = grid.points[1] * grid.points[2] * sizeof(real), n_items, item, run
    cdef long long volume = grid.points[0] * grid.points[1] * grid.points[2]
    cdef Workspace** spaces
    cdef Interrupt interrupt = listen()
    cdef bint ok = True
    if call.atoms.n_examples * call.atoms.n_types * volume <= SERIAL:
        n_threads = 1
    call.group = 1
    if is_dense(call):
        call.group = max(1, min(call.atoms.n_types, SLAB_BYTES // plane_bytes))
    call.planes = max(1, min(grid.points[0], SLAB_BYTES // (plane_bytes * call.group)))
    call.n_groups = (call.atoms.n_types + call.group - 1) // call.group
    if n_threads > 1 and call.atoms.n_examples * call.n_groups < 4 * n_threads:
        call.planes = max(1, min(call.planes, grid.points[0] * call.atoms.n_examples * call.n_groups
                                 // (4 * n_threads)))
    call.n_slabs = (grid.points[0] + call.planes - 1) // call.planes
    n_items = call.atoms.n_examples * call.n_groups * call.n_slabs
    spaces = open_workspaces(grid, n_threads)
    if call.atoms.index != NULL:
        ok = group_by_channel(&call.atoms, &call.order, &call.start)
    if spaces != NULL and ok:
        advise_huge_pages(call.out, call.atoms.n_examples * call.atoms.n_types * volume * sizeof(real))
        if n_threads == 1:
            for item in range(n_items):
                if interrupted(&interrupt, VISITS):
                    break
                fill_item(spaces[0], call, item)
        else:
            run = max(1, min(n_items // (16 * n_threads), RUN_BYTES // (plane_bytes * call.group * call.planes)))
            for item in prange(n_items, schedule="dynamic", chunksize=run, num_threads=n_threads):
                if not interrupted(&interrupt, VISITS):
                    fill_item(spaces[threadid()], call, item)
    free(call.order)
    free(call.start)
    close_workspaces(spaces, n_threads)
    if spaces == NULL or not ok:
        with gil:
            raise MemoryError("no memory for the scratch space of the kernels")
    return -1 if interrupt.told else 0
