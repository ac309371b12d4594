// The atoms of a call: who belongs to which example, their channels, weights and radii. Mirror: pyx/atoms.pxd.
#pragma once
#include "profile.cuh"

#define REAL_NAN ((real)__int_as_float(0x7fffffff))

struct Atoms {
    const real *__restrict__ coords;        // (N, 3) relative to the centre of the grid
    const long long *__restrict__ index;    // (N,) channel, negative: ignored; or
    const real *__restrict__ weights;       // (N, T)
    const real *__restrict__ radii;         // (N,), or (T,) or (B, T) by type
    const long long *__restrict__ offsets;  // (B + 1,), or absent: N / B atoms each
    long long n_examples;
    long long n_atoms;
    long long n_types;
    long long radius_example_stride;
    bool radius_by_type;
    int *fault;                             // words FAULT_INDEX: an index >= T was seen; FAULT_RADIUS: a radius <= 0
};

__device__ __forceinline__ long long first_atom(const Atoms &atoms, long long b)
{
    if (atoms.offsets != nullptr)
        return atoms.offsets[b];
    return b * (atoms.n_atoms / atoms.n_examples);
}

__device__ __forceinline__ long long example_of(const Atoms &atoms, long long i)
{
    long long low = 0, high = atoms.n_examples;
    if (atoms.offsets == nullptr)
        return i / (atoms.n_atoms / atoms.n_examples);
    while (high - low > 1) {
        const long long middle = (low + high) / 2;
        if (atoms.offsets[middle] <= i)
            low = middle;
        else
            high = middle;
    }
    return low;
}

__device__ __forceinline__ long long radius_slot(const Atoms &atoms, long long b, long long i, long long k)
{
    return atoms.radius_by_type ? b * atoms.radius_example_stride + k : i;
}

__device__ __forceinline__ bool is_nan(const real *r, real radius)
{
    return r[0] != r[0] || r[1] != r[1] || r[2] != r[2] || radius != radius;
}

__device__ __forceinline__ bool has_weight(const Atoms &atoms, const real *v_weights, long long i, int k_begin,
                                           int k_end)
{
    // some weight (or its cotangent) of the channels is not zero
    for (long long k = i * atoms.n_types + k_begin; k < i * atoms.n_types + k_end; ++k)
        if (atoms.weights[k] != 0 || (v_weights != nullptr && v_weights[k] != 0))
            return true;
    return false;
}

__device__ __forceinline__ bool bad_index(const Atoms &atoms, long long i)
{
    // reported, never followed
    const bool bad = atoms.index[i] >= atoms.n_types;
    if (bad)
        atoms.fault[FAULT_INDEX] = 1;
    return bad;
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
