// Products of one target by themselves, for tests/kernels/test_products.py.
//
// Compiled once for each target, with UNITVEC_TARGET and UNITVEC_LANES, the file of its lanes.
#include UNITVEC_LANES
#if defined(__x86_64__)
#include "../src/targets/lanes_x86.h"
#endif
#include "../src/generic/encoder.h"

#include <vector>

namespace UNITVEC_TARGET {

/// Sums of left (rows, k) @ panel (k, 32), as floats; `starts` is what sums of int8 begin with.
template <class P, class Number>
static void multiply(const Number* left, int rows, int k, const uint32_t* panel,
                     const int32_t* starts, float* out) {
    constexpr int kPerLine = kLineDwords * P::kPerDword;
    std::vector<Number> lines((size_t)rows * k);
    for (int row = 0; row < rows; row++) {
        for (int i = 0; i < k; i++) {
            const size_t line = (size_t)(i / kPerLine) * rows + row;
            const Number flip = P::kPerDword == 4 ? (Number)kByteFlip : (Number)0;
            lines[line * kPerLine + i % kPerLine] = left[(size_t)row * k + i] ^ flip;
        }
    }
    uint32_t* dwords = reinterpret_cast<uint32_t*>(lines.data());
#ifdef UNITVEC_MATRIX_TILES
    const TilesInUse tiles;
    if constexpr (std::is_same_v<P, Int16>) {
        for (int row = 0; row < rows; row++) {
            cut_left_row(dwords + row * kLineDwords, k / kPerLine, (long)rows * kLineDwords);
        }
    }
#endif
    const Left blocks{dwords, (long)rows * kLineDwords, k / kPerLine, kLineDwords};
    rows_times_panel<P, kLineDwords>(
        blocks, rows, Panel{panel, starts, panel},
        [=](int row, int column, Floats sums) { store(out + row * kPanelColumns + column, sums); });
}

}  // namespace UNITVEC_TARGET

#define UNITVEC_JOIN(a, b) a##b
#define UNITVEC_NAME(a, b) UNITVEC_JOIN(a, b)

extern "C" void UNITVEC_NAME(UNITVEC_TARGET, _int8)(const int8_t* left, int rows, int k,
                                                    const uint32_t* panel, const int32_t* starts,
                                                    float* out) {
    UNITVEC_TARGET::multiply<UNITVEC_TARGET::Int8>(left, rows, k, panel, starts, out);
}
extern "C" void UNITVEC_NAME(UNITVEC_TARGET, _int16)(const int16_t* left, int rows, int k,
                                                     const uint32_t* panel, const int32_t* starts,
                                                     float* out) {
    UNITVEC_TARGET::multiply<UNITVEC_TARGET::Int16>(left, rows, k, panel, starts, out);
}
extern "C" void UNITVEC_NAME(UNITVEC_TARGET, _bf16)(const uint16_t* left, int rows, int k,
                                                    const uint32_t* panel, float* out) {
    UNITVEC_TARGET::multiply<UNITVEC_TARGET::Bf16>(left, rows, k, panel, nullptr, out);
}
/// What rounding makes of n floats, a multiple of 32, as they lie in one row of a left side.
extern "C" void UNITVEC_NAME(UNITVEC_TARGET, _round_bf16)(const float* numbers, int n, uint32_t* out) {
    UNITVEC_TARGET::write_left_row<UNITVEC_TARGET::Bf16>(numbers, nullptr, n, out, 0, 1);
}
