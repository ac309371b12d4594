# The profile of one atom as a function of s, the squared scaled distance: phi, phi_s, phi_ss.
# One text serves every tail; the coefficients come from gridgrad/grid/profile.py. Mirror: cuda/profile.cuh.

cdef extern from *:
    """
    #include <float.h>
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    #ifndef REAL
    #define REAL double
    #endif
    typedef REAL real;
    #define REAL_MAX (sizeof(real) == 4 ? FLT_MAX : DBL_MAX)
    static inline real real_sqrt(real x) { return sizeof(real) == 4 ? (real)sqrtf((float)x) : (real)sqrt((double)x); }
    static inline uint64_t bits_of(double x) { uint64_t i; memcpy(&i, &x, 8); return i; }
    static inline double double_of(uint64_t i) { double x; memcpy(&x, &i, 8); return x; }
    """
    ctypedef double real
    real REAL_MAX
    real real_sqrt(real x) nogil
    unsigned long long bits_of(double x) nogil
    double double_of(unsigned long long i) nogil


cdef struct Profile:
    real core_rate      # e^{-core_rate s}
    real core_end       # s <= core_end: the core
    real cutoff         # x_f
    real cutoff_s       # s > cutoff_s: nothing
    real tail[4]        # t^2 (tail[0] + tail[1] t + tail[2] t^2 + tail[3] t^3), t = x_f - sqrt(s)


cdef inline double exp_nonpositive(double x) noexcept nogil:
    # e^x = 2^k e^r, |r| <= ln(2)/2, Taylor to r^13 (truncation 4e-18); branch-free, so that tables of it vectorise
    cdef double shifted, k, r, p
    cdef unsigned long long scale
    x = x if x > -708.0 else -708.0
    shifted = x * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = x - k * 6.93147180369123816490e-01 - k * 1.90821492927058770002e-10
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    scale = (bits_of(shifted) << 52) + bits_of(1.0)
    return p * double_of(scale)


cdef inline bint has_slope(const Profile* c) noexcept nogil:
    # not: binary, whose derivatives in coordinates and radii are zero, whatever the cotangents
    return c.core_rate != 0


# A NaN s compares false with cutoff_s and core_end, and so reaches the result through the tail.

cdef inline real profile(real s, real core, Profile* c) noexcept nogil:
    # phi
    cdef real t = c.cutoff - real_sqrt(s)
    cdef real tail = t * t * (c.tail[0] + t * (c.tail[1] + t * (c.tail[2] + t * c.tail[3])))
    cdef real value = core if s <= c.core_end else tail
    return value if not s > c.cutoff_s else <real>0


cdef inline real profile_slope(real s, real core, Profile* c) noexcept nogil:
    # phi_s = phi_u / (2u) in the tail, u = sqrt(s); slope and curvature share one division
    cdef real u = real_sqrt(s)
    cdef real t = c.cutoff - u
    cdef real per_2u = <real>0.5 / u
    cdef real phi_u = -t * (<real>2 * c.tail[0]
                            + t * (<real>3 * c.tail[1] + t * (<real>4 * c.tail[2] + t * (<real>5 * c.tail[3]))))
    cdef real tail = phi_u * per_2u
    cdef real value = -c.core_rate * core if s <= c.core_end else tail
    return value if not s > c.cutoff_s else <real>0


cdef inline real profile_curvature(real s, real core, Profile* c) noexcept nogil:
    # phi_ss = (phi_uu - phi_u / u) / (4s) in the tail, u = sqrt(s)
    cdef real u = real_sqrt(s)
    cdef real t = c.cutoff - u
    cdef real per_2u = <real>0.5 / u
    cdef real phi_u = -t * (<real>2 * c.tail[0]
                            + t * (<real>3 * c.tail[1] + t * (<real>4 * c.tail[2] + t * (<real>5 * c.tail[3]))))
    cdef real phi_uu = (<real>2 * c.tail[0]
                        + t * (<real>6 * c.tail[1] + t * (<real>12 * c.tail[2] + t * (<real>20 * c.tail[3]))))
    cdef real tail = (phi_uu - <real>2 * phi_u * per_2u) * (per_2u * per_2u)
    cdef real value = c.core_rate * c.core_rate * core if s <= c.core_end else tail
    return value if not s > c.cutoff_s else <real>0
