// The lanes of AVX-512, and for products the matrix instructions of AMX, but for those of floats.
//
//   instruction                     Sapphire Rapids    what follows
//   TDPBUSD and its like (int8)     1 in 16 cycles     16 rows x 16 columns x 64: 1,024 products a cycle
//   four of them (int16)            1 in 64 cycles     the same in int16: 256 products a cycle
//   TDPBF16PS (bf16)                1 in 16 cycles     16 rows x 16 columns x 32: 512 products a cycle
//   VPDPBUSD (int8)                 2 a cycle          128 products a cycle
//   VPDPWSSD (int16)                2 a cycle          64 products a cycle
//
// They take dwords of numbers along K, as VPDPBUSD and VDPBF16PS do, so rows and panels lie in memory as
// for AVX-512.
#pragma once
#define UNITVEC_MATRIX_TILES
#include "lanes_avx512.h"

namespace UNITVEC_TARGET {

constexpr uint64_t kOddBytes = 0xaaaaaaaaaaaaaaaa;

/// Of numbers of 16 bits, low bytes: those of a in even places, those of b in odd ones.
static inline Ints low_bytes(Ints a, Ints b) {
    return ints(_mm512_mask_blend_epi8(kOddBytes, raw(a), _mm512_slli_epi16(raw(b), 8)));
}
/// High bytes likewise.
static inline Ints high_bytes(Ints a, Ints b) {
    return ints(_mm512_mask_blend_epi8(kOddBytes, _mm512_srli_epi16(raw(a), 8), raw(b)));
}
/// low + 256 (low_high + high_low) + 65536 high, modulo 2^32.
static inline Ints join_sums(Ints low, Ints low_high, Ints high_low, Ints high) {
    const __m512i crossed = _mm512_add_epi32(raw(low_high), raw(high_low));
    const __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(raw(high), 8), crossed);
    return ints(_mm512_add_epi32(raw(low), _mm512_slli_epi32(upper, 8)));
}

}  // namespace UNITVEC_TARGET
