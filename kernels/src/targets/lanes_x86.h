// What AVX2 and AVX-512 share: sums and maxima over the lanes of a vector.
//
// Both add lanes 8 apart, then 4, then 2, then 1, so that a sum has the same bits on either. Every
// target has to keep this order.
#pragma once
#include <immintrin.h>

namespace UNITVEC_TARGET {

static inline float sum_of_lanes(Floats a) {
    const __m256 eight = _mm256_add_ps(low_half(a), high_half(a));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
static inline float largest_lane(Floats a) {
    const __m256 eight = _mm256_max_ps(low_half(a), high_half(a));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

}  // namespace UNITVEC_TARGET
