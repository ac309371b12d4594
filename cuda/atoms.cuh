// The atoms of a call: who belongs to which example, their channels, weights and radii. Mirror: pyx/atoms.pxd.
#pragma once
#include "profile.cuh"

#define REAL_NAN ((real)__int_as_float(0x7fffffff))

struct Atoms {
    const real *__restrict__ coords;        // (N, 3)
    const long long *__restrict__ index;    // (N,) channel, negative: ignored; or
    const real *__restrict__ weights;       // (N, T)
    const real *__restrict__ radii;         // (N,), or (T,) or (B, T) by type
    const long long *__restrict__ offsets;  // (B + 1,), or absent: N / B atoms each
    const double *__restrict__ centers;     // (B, 3) of the grids, or absent: Geometry.center
    long long n_examples;
    long long n_atoms;
    long long n_types;
    long long radius_example_stride;
    bool radius_by_type;
    int *fault;                             // the words FAULT_...: see FAULTS in gridgrad/kernels/abi.py
};

struct Tangents {                           // v = (v_r, v_w, v_R); absent: zero
    const real *__restrict__ coords;        // (N, 3)
    const real *__restrict__ weights;       // (N, T)
    const real *__restrict__ radii;         // as Atoms.radii
};

struct Terms {                              // w_ik phi of an atom in channels that share its radius
    long long b;                            // example
    long long i;                            // atom
    int k_begin;
    int k_end;
    real radius;                            // R
};

struct Direction {                          // v at one atom: R s_v = <xi, coords> + s radius
    real coords[3];                         // -2 v_r
    real radius;                            // -2 v_R
};

__device__ __forceinline__ long long read_once(const long long *p)
{
    // what may change meanwhile: what is checked is what is followed
    return *(const volatile long long *)p;
}

__device__ __forceinline__ long long first_atom(const Atoms &atoms, long long b)
{
    // offsets that do not rise from 0 to N lead to no foreign address
    if (atoms.offsets != nullptr) {
        const long long i = read_once(atoms.offsets + b);
        return i < 0 ? 0 : i < atoms.n_atoms ? i : atoms.n_atoms;
    }
    return b * (atoms.n_atoms / atoms.n_examples);
}

__device__ __forceinline__ long long example_of(const Atoms &atoms, long long i)
{
    // -1: none, which is reported
    long long low = 0, high = atoms.n_examples;
    if (atoms.offsets == nullptr)
        return (unsigned)i
               / ((unsigned)atoms.n_atoms / (unsigned)atoms.n_examples); // abi.py sees to it that 32 bits do
    while (high - low > 1) {
        const long long middle = (low + high) / 2;
        if (first_atom(atoms, middle) <= i)
            low = middle;
        else
            high = middle;
    }
    if (first_atom(atoms, low) <= i && i < first_atom(atoms, low + 1))
        return low;
    atoms.fault[FAULT_EXAMPLE] = 1;
    return -1;
}

__device__ __forceinline__ long long radius_slot(const Atoms &atoms, long long b, long long i, long long k)
{
    return atoms.radius_by_type ? b * atoms.radius_example_stride + k : i;
}

__device__ __forceinline__ double center_of(const Atoms &atoms, const double *center, int b, int axis)
{
    // of the grid of example b; center: of all of them. In 32 bits, which abi.py sees to: 64 registers have no room
    double x = center[axis];
    if (atoms.centers != nullptr)
        x = atoms.centers[3 * b + axis];
    return x;
}

__device__ __forceinline__ bool is_nan(const real *r, real radius)
{
    return r[0] != r[0] || r[1] != r[1] || r[2] != r[2] || radius != radius;
}

__device__ __forceinline__ bool is_finite(real x) { return x - x == 0; }

__device__ __forceinline__ bool has_weight(const Atoms &atoms, const real *v_weights, long long i, int k_begin,
                                           int k_end)
{
    // some weight (or its cotangent) of the channels is not zero; that of index types is 1
    if (atoms.weights == nullptr)
        return true;
    for (long long k = i * atoms.n_types + k_begin; k < i * atoms.n_types + k_end; ++k)
        if (atoms.weights[k] != 0 || (v_weights != nullptr && v_weights[k] != 0))
            return true;
    return false;
}

__device__ __forceinline__ long long channel_of(const Atoms &atoms, long long i)
{
    // of an index; -1: ignored, as a bad one is, which is reported
    const long long k = read_once(atoms.index + i);
    if (k >= 0 && k < atoms.n_types)
        return k;
    if (k >= 0)
        atoms.fault[FAULT_INDEX] = 1;
    return -1;
}

__device__ __forceinline__ real good_radius(const Atoms &atoms, real radius)
{
    // a radius <= 0 is reported and becomes NaN
    if (radius <= 0) {
        atoms.fault[FAULT_RADIUS] = 1;
        return REAL_NAN;
    }
    return radius;
}

__device__ __forceinline__ Terms terms_of(const Atoms &atoms, long long b, long long i)
{
    // in all channels, the radius not yet read; none for an atom that is ignored
    Terms terms = {b, i, 0, (int)atoms.n_types, 0};
    if (atoms.index != nullptr) {
        const int k = (int)channel_of(atoms, i);
        terms.k_begin = k < 0 ? 0 : k;
        terms.k_end = k + 1;
    }
    return terms;
}

__device__ __forceinline__ Terms sharing_radius(const Atoms &atoms, const real *v_weights, const Terms &terms,
                                                int k_begin, int k_end, real radius_scale)
{
    // those of channels [k_begin, k_end), which share a radius; a bad one is reported if they count
    real radius = atoms.radii[radius_slot(atoms, terms.b, terms.i, k_begin)];
    if (radius <= 0 && has_weight(atoms, v_weights, terms.i, k_begin, k_end))
        radius = good_radius(atoms, radius);
    return {terms.b, terms.i, k_begin, k_end, radius * radius_scale};
}

__device__ __forceinline__ const real *weights_of(const real *weights, const Atoms &atoms, long long i, long long k)
{
    // those (N, T), or their cotangents, of atom i from channel k on; absent for index types
    if (atoms.weights == nullptr || weights == nullptr)
        return nullptr;
    return weights + i * atoms.n_types + k;
}

__device__ __forceinline__ bool is_known(const Tangents &v, const Atoms &atoms, const Terms &terms)
{
    // not: v at the atom is not finite, and its second order NaN
    for (int axis = 0; axis < 3; ++axis)
        if (v.coords != nullptr && !is_finite(v.coords[3 * terms.i + axis]))
            return false;
    return v.radii == nullptr || is_finite(v.radii[radius_slot(atoms, terms.b, terms.i, terms.k_begin)]);
}

__device__ __forceinline__ real minus_two(real v)
{
    // -2 v; NaN for an infinite v, since no zero hides a NaN
    return -2 * (v + (v - v));
}

__device__ __forceinline__ Direction direction_of(const Tangents &v, const Atoms &atoms, const Terms &terms,
                                                  real radius_scale)
{
    Direction along = {};
    if (v.coords != nullptr)
        for (int axis = 0; axis < 3; ++axis)
            along.coords[axis] = minus_two(v.coords[3 * terms.i + axis]);
    if (v.radii != nullptr)
        along.radius = minus_two(radius_scale * v.radii[radius_slot(atoms, terms.b, terms.i, terms.k_begin)]);
    return along;
}
