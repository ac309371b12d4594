# The atoms of a call: who belongs to which example, their channels, weights and radii. Mirror: cuda/atoms.cuh.

from profile cimport real
from support cimport Geometry


cdef struct Atoms:
    const real* coords          # (N, 3)
    const long long* index      # (N,) channel, negative: ignored; or
    const real* weights         # (N, T)
    const real* radii           # (N,), or (T,) or (B, T) by type
    const long long* offsets    # (B + 1,), or absent: N / B atoms each
    const double* centers       # (B, 3) of the grids, or absent: Geometry.center
    long long n_examples
    long long n_atoms
    long long n_types
    long long radius_example_stride
    bint radius_by_type


cdef struct Tangents:           # v = (v_r, v_w, v_R), or u; absent: zero
    const real* coords          # (N, 3)
    const real* weights         # (N, T)
    const real* radii           # as Atoms.radii


cdef struct Terms:              # w_ik phi of an atom in channels that share its radius
    long long b                 # example
    long long i                 # atom
    double r[3]                 # its position, relative to the centre of the grid
    long long k_begin
    long long k_end
    double radius               # R


cdef struct Direction:          # v at one atom: R s_v = <xi, coords> + s radius
    real coords[3]              # -2 v_r
    real radius                 # -2 v_R
    bint moves                  # v_r or v_R is there


cdef inline long long first_atom(const Atoms* atoms, long long b) noexcept nogil:
    if atoms.offsets != NULL:
        return atoms.offsets[b]
    return b * (atoms.n_atoms // atoms.n_examples)


cdef inline long long example_of(const Atoms* atoms, long long i) noexcept nogil:
    cdef long long low = 0, high = atoms.n_examples, middle
    if atoms.offsets == NULL:
        return i // (atoms.n_atoms // atoms.n_examples)
    while high - low > 1:
        middle = (low + high) // 2
        if atoms.offsets[middle] <= i:
            low = middle
        else:
            high = middle
    return low


cdef inline long long radius_slot(const Atoms* atoms, long long b, long long i, long long k) noexcept nogil:
    return b * atoms.radius_example_stride + k if atoms.radius_by_type else i


cdef inline double center_of(const Atoms* atoms, const double* center, long long b, int axis) noexcept nogil:
    # of the grid of example b; center: of all of them
    return atoms.centers[3 * b + axis] if atoms.centers != NULL else center[axis]


cdef inline bint is_nan(const double* r, double radius) noexcept nogil:
    return r[0] != r[0] or r[1] != r[1] or r[2] != r[2] or radius != radius


cdef inline bint is_finite(real x) noexcept nogil:
    return x - x == 0


cdef inline bint has_weight(const Atoms* atoms, const real* v_weights, long long i, long long k_begin,
                            long long k_end) noexcept nogil:
    # some weight (or its cotangent) of the channels is not zero; that of index types is 1
    cdef long long k
    if atoms.weights == NULL:
        return True
    for k in range(i * atoms.n_types + k_begin, i * atoms.n_types + k_end):
        if atoms.weights[k] != 0 or (v_weights != NULL and v_weights[k] != 0):
            return True
    return False


cdef inline long long n_weights(const Atoms* atoms) noexcept nogil:
    # that are not zero; none for index types
    cdef long long n = 0, j
    if atoms.weights != NULL:
        for j in range(atoms.n_atoms * atoms.n_types):
            n += atoms.weights[j] != 0
    return n


cdef inline Terms terms_of(const Atoms* atoms, const Geometry* grid, long long b, long long i) noexcept nogil:
    # in all channels, the radius not yet read; none for an atom that is ignored
    cdef Terms terms
    cdef int axis
    terms.b = b
    terms.i = i
    for axis in range(3):   # in double precision: far from zero, both have many digits in common
        terms.r[axis] = <double>atoms.coords[3 * i + axis] - center_of(atoms, grid.center, b, axis)
    terms.k_begin = 0
    terms.k_end = atoms.n_types
    terms.radius = 0
    if atoms.index != NULL:
        terms.k_begin = max(atoms.index[i], 0)
        terms.k_end = atoms.index[i] + 1
    return terms


cdef inline Terms sharing_radius(const Atoms* atoms, const Terms* terms, long long k_begin, long long k_end,
                                 double radius_scale) noexcept nogil:
    # those of channels [k_begin, k_end), which share a radius
    cdef Terms part = terms[0]
    part.k_begin = k_begin
    part.k_end = k_end
    part.radius = radius_scale * <double>atoms.radii[radius_slot(atoms, terms.b, terms.i, k_begin)]
    return part


cdef inline const real* weights_of(const real* weights, const Atoms* atoms, long long i, long long k) noexcept nogil:
    # those (N, T), or their cotangents, of atom i from channel k on; absent for index types
    if atoms.weights == NULL or weights == NULL:
        return NULL
    return weights + i * atoms.n_types + k


cdef inline bint is_known(const Tangents* v, const Atoms* atoms, const Terms* terms) noexcept nogil:
    # not: v at the atom is not finite, and its second order NaN
    cdef int axis
    for axis in range(3):
        if v.coords != NULL and not is_finite(v.coords[3 * terms.i + axis]):
            return False
    return v.radii == NULL or is_finite(v.radii[radius_slot(atoms, terms.b, terms.i, terms.k_begin)])


cdef inline real minus_two(real v) noexcept nogil:
    # -2 v; NaN for an infinite v, since no zero hides a NaN
    return <real>-2 * (v + (v - v))


cdef inline Direction direction_of(const Tangents* v, const Atoms* atoms, const Terms* terms,
                                   double radius_scale) noexcept nogil:
    cdef Direction along
    cdef int axis
    along.radius = 0
    along.moves = v.coords != NULL or v.radii != NULL
    for axis in range(3):
        along.coords[axis] = minus_two(v.coords[3 * terms.i + axis]) if v.coords != NULL else <real>0
    if v.radii != NULL:
        along.radius = minus_two(<real>(radius_scale * v.radii[radius_slot(atoms, terms.b, terms.i, terms.k_begin)]))
    return along


cdef inline long long first_bad_index(const Atoms* atoms) noexcept nogil:
    # first atom with index >= T, or -1
    cdef long long i
    if atoms.index != NULL:
        for i in range(atoms.n_atoms):
            if atoms.index[i] >= atoms.n_types:
                return i
    return -1


cdef inline long long first_bad_offset(const Atoms* atoms) noexcept nogil:
    # first b whose offset breaks the rise from 0 to N, or -1
    cdef long long b, below = 0
    if atoms.offsets == NULL:
        return -1
    for b in range(atoms.n_examples + 1):
        if atoms.offsets[b] < below or (b == 0 and atoms.offsets[0] != 0) or (
                b == atoms.n_examples and atoms.offsets[b] != atoms.n_atoms):
            return b
        below = atoms.offsets[b]
    return -1


cdef inline bint has_atom(const Atoms* atoms, const real* u_weights, const real* v_weights, long long begin,
                          long long end, long long k_begin, long long k_end) noexcept nogil:
    # one of atoms [begin, end) counts in one of channels [k_begin, k_end)
    cdef long long i
    for i in range(begin, end):
        if k_begin <= atoms.index[i] < k_end if atoms.index != NULL else (
                has_weight(atoms, u_weights, i, k_begin, k_end) or has_weight(atoms, v_weights, i, k_begin, k_end)):
            return True
    return False


cdef inline long long first_bad_radius(const Atoms* atoms, const real* u_weights,
                                       const real* v_weights) noexcept nogil:
    # first slot with a radius <= 0 that belongs to an atom which counts, or -1
    cdef long long i, b, k
    if not atoms.radius_by_type:
        for i in range(atoms.n_atoms):
            if atoms.radii[i] <= 0 and has_atom(atoms, u_weights, v_weights, i, i + 1, 0, atoms.n_types):
                return i
    elif atoms.radius_example_stride == 0:
        for k in range(atoms.n_types):
            if atoms.radii[k] <= 0 and has_atom(atoms, u_weights, v_weights, 0, atoms.n_atoms, k, k + 1):
                return k
    else:
        for b in range(atoms.n_examples):
            for k in range(atoms.n_types):
                i = radius_slot(atoms, b, 0, k)
                if atoms.radii[i] <= 0 and has_atom(atoms, u_weights, v_weights, first_atom(atoms, b),
                                                    first_atom(atoms, b + 1), k, k + 1):
                    return i
    return -1
