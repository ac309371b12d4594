// The profile of one atom as a function of s, the squared scaled distance: phi, phi_s, phi_ss.
// One text serves every tail; the coefficients come from gridgrad/grid/profile.py. Mirror: pyx/profile.pxd.
#pragma once
#ifndef REAL
#define REAL double
#endif
typedef REAL real;
#define LOG2_E ((real)1.4426950408889634)
#define REAL_MAX ((real)(sizeof(real) == 4 ? 3.402823466e38 : 1.7976931348623157e308))

struct Profile {
    real core_rate;     // e^{-core_rate s}
    real core_end;      // s <= core_end: the core
    real cutoff;        // x_f
    real cutoff_s;      // s > cutoff_s: nothing
    real tail[4];       // t^2 (tail[0] + tail[1] t + tail[2] t^2 + tail[3] t^3), t = x_f - sqrt(s)
};

__device__ __forceinline__ float real_sqrt(float x) { return sqrtf(x); }
__device__ __forceinline__ double real_sqrt(double x) { return sqrt(x); }
__device__ __forceinline__ float real_rsqrt(float x)
{
    // for the tail: what becomes of a subnormal x, which belongs to the core, is not asked
#ifdef __CUDA_ARCH__
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1 / sqrtf(x);
#endif
}
__device__ __forceinline__ double real_rsqrt(double x) { return rsqrt(x); }
__device__ __forceinline__ float real_exp2(float x) { return exp2f(x); }
__device__ __forceinline__ double real_exp2(double x) { return exp2(x); }
__device__ __forceinline__ float real_fma(float x, float y, float z) { return fmaf(x, y, z); }
__device__ __forceinline__ double real_fma(double x, double y, double z) { return fma(x, y, z); }
__device__ __forceinline__ float real_max(float x, float y) { return fmaxf(x, y); }
__device__ __forceinline__ double real_max(double x, double y) { return fmax(x, y); }
__device__ __forceinline__ float real_min(float x, float y) { return fminf(x, y); }
__device__ __forceinline__ double real_min(double x, double y) { return fmin(x, y); }
__device__ __forceinline__ float real_abs(float x) { return fabsf(x); }
__device__ __forceinline__ double real_abs(double x) { return fabs(x); }
__device__ __forceinline__ float real_floor(float x) { return floorf(x); }
__device__ __forceinline__ double real_floor(double x) { return floor(x); }
__device__ __forceinline__ float real_ceil(float x) { return ceilf(x); }
__device__ __forceinline__ double real_ceil(double x) { return ceil(x); }

__device__ __forceinline__ bool has_slope(const Profile &c)
{
    // not: binary, whose derivatives in coordinates and radii are zero, whatever the cotangents
    return c.core_rate != 0;
}

// A NaN s compares false with cutoff_s and core_end, and so reaches the result through the tail. core is e^{-core_rate s}
// as a power of two, 1 / u one reciprocal root: infinite or NaN at s = 0, which the core is chosen for.

__device__ __forceinline__ real profile(real s, real core, const Profile &c)
{
    // phi
    const real t = c.cutoff - s * real_rsqrt(s);
    const real tail = t * t * (c.tail[0] + t * (c.tail[1] + t * (c.tail[2] + t * c.tail[3])));
    const real value = s <= c.core_end ? core : tail;
    return s > c.cutoff_s ? (real)0 : value;
}

__device__ __forceinline__ real profile_slope(real s, real core, const Profile &c)
{
    // phi_s = phi_u / (2u) in the tail, u = sqrt(s)
    const real per_u = real_rsqrt(s);
    const real t = c.cutoff - s * per_u;
    const real phi_u = -t * (2 * c.tail[0] + t * (3 * c.tail[1] + t * (4 * c.tail[2] + t * (5 * c.tail[3]))));
    const real tail = (real)0.5 * phi_u * per_u;
    const real value = s <= c.core_end ? -c.core_rate * core : tail;
    return s > c.cutoff_s ? (real)0 : value;
}

__device__ __forceinline__ real profile_curvature(real s, real core, const Profile &c)
{
    // phi_ss = (phi_uu - phi_u / u) / (4s) in the tail, u = sqrt(s)
    const real per_u = real_rsqrt(s);
    const real t = c.cutoff - s * per_u;
    const real phi_u = -t * (2 * c.tail[0] + t * (3 * c.tail[1] + t * (4 * c.tail[2] + t * (5 * c.tail[3]))));
    const real phi_uu = 2 * c.tail[0] + t * (6 * c.tail[1] + t * (12 * c.tail[2] + t * (20 * c.tail[3])));
    const real tail = (phi_uu - phi_u * per_u) * ((real)0.5 * per_u * ((real)0.5 * per_u));
    const real value = s <= c.core_end ? c.core_rate * c.core_rate * core : tail;
    return s > c.cutoff_s ? (real)0 : value;
}
