// Products of int8 and bf16 by matrix instructions: a panel of 32 columns times up to 32 rows at a time.
//
//                     tile 6   tile 7       16 dwords of K of 16 columns each
//          tile 4     tile 0   tile 1       16 rows, a cache line (16 dwords of K) of each;
//          tile 5     tile 2   tile 3       and their sums
//
// Each step loads a line of every row and 16 dwords of the panel, and multiplies each with each.
// Without a second group of rows tiles 2, 3 and 5 stay out of use. Sums of integers are exact in any
// order, so the result has the bits of every other target. That of bf16 has not: TDPBF16PS sums the
// lower and the upper numbers of 16 dwords by themselves, and adds both sums to what is there.
#pragma once

namespace UNITVEC_TARGET {

constexpr int kMatrixRows = 16;
constexpr int kPanelRowBytes = kPanelColumns * 4;

/// The shapes of all tiles as LDTILECFG reads them: tiles 0 to 5 have `height` rows, 6 and 7 have 16.
struct alignas(64) TileShapes {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    explicit TileShapes(int height) {
        for (int tile = 0; tile < 8; tile++) {
            row_bytes[tile] = 64, rows[tile] = (uint8_t)(tile < 6 ? height : kMatrixRows);
        }
    }
};

static thread_local int tile_height = 0;  // of this thread's tiles; 0 while it has none

/// Gives tiles their shapes, which takes as long as many products; hence only where they change.
static inline void shape_tiles(int height) {
    if (height == tile_height) return;
    const TileShapes shapes(height);
    // GCC does not know that tiles and their shapes are read from memory: now all has to be there.
    __asm__ volatile("" ::"r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
    tile_height = height;
}

/// Held by whoever uses tiles. Without an end, every switch to another thread saves 8 KiB of them.
struct TilesInUse {
    ~TilesInUse() {
        if (tile_height) _tile_release();
        tile_height = 0;
    }
};

/// A tile's rows of a left side. All tiles have one height: the last begins before the others end,
/// and makes sums again that were there.
struct TileRows {
    int first, made_before;

    TileRows(int row, int count, int height)
        : first(std::min(row, count - height)), made_before(row - first) {}
};

/// Adds products of the upper rows to tiles 0 and 1. GCC wants literals for tiles.
template <class P>
static inline void multiply_upper() {
    if constexpr (std::is_same_v<P, Bf16>) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
    } else {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
    }
}
/// Adds those of the lower rows to tiles 2 and 3.
template <class P>
static inline void multiply_lower() {
    if constexpr (std::is_same_v<P, Bf16>) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    } else {
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
}

/// What a sum is as a float.
template <class P>
static inline Floats value_of(const int32_t* sums) {
    if constexpr (std::is_same_v<P, Bf16>) return load(reinterpret_cast<const float*>(sums));
    else return to_floats(load_ints(sums));
}

/// The sums of two groups of rows, of which the second may be null. Fetches a share of the panel
/// that comes next.
template <class P, int kRowStride>
static void sum_in_tiles(const Left& left, const uint32_t* upper, const uint32_t* lower,
                         const Panel& panel, Ahead ahead,
                         int32_t (*sums)[kMatrixRows][kPanelColumns]) {
    const uint32_t* weights = panel.weights;
    __asm__ volatile("" ::: "memory");  // As above.
    // Without a stride all rows are the same: what the sums of each column start at.
    static constexpr int32_t kZeros[kPanelColumns] = {};
    const int32_t* starts = std::is_same_v<P, Bf16> ? kZeros : panel.starts;
    _tile_loadd(0, starts, 0);
    _tile_loadd(1, starts + 16, 0);
    if (lower) {
        _tile_loadd(2, starts, 0);
        _tile_loadd(3, starts + 16, 0);
    }
    for (int n = 0; n < left.blocks; n++) {
        for (long at = 0; at < ahead.step_bytes; at += 64) prefetch(ahead.at + at);
        ahead.at += ahead.step_bytes;
        _tile_loadd(6, weights, kPanelRowBytes);
        _tile_loadd(7, weights + 16, kPanelRowBytes);
        _tile_loadd(4, upper, kRowStride * 4);
        multiply_upper<P>();
        if (lower) {
            _tile_loadd(5, lower, kRowStride * 4);
            multiply_lower<P>();
            lower += left.block_stride;
        }
        upper += left.block_stride, weights += kMatrixRows * kPanelColumns;
    }
    _tile_stored(0, sums[0], kPanelRowBytes);
    _tile_stored(1, sums[0][0] + 16, kPanelRowBytes);
    if (lower) {
        _tile_stored(2, sums[1], kPanelRowBytes);
        _tile_stored(3, sums[1][0] + 16, kPanelRowBytes);
    }
}

/// Rows [0, count) times a panel: `rows_times_panel` for int8 and bf16.
template <class P, int kRowStride, class Done>
static void rows_times_panel_in_tiles(const Left& left, int count, const Panel& panel,
                                      const Done& done) {
    alignas(64) int32_t sums[2][kMatrixRows][kPanelColumns];
    const int height = std::min(count, kMatrixRows);
    const int step = 2 * kMatrixRows, steps = (count + step - 1) / step;
    const long step_bytes = (long)kMatrixRows * kPanelRowBytes / steps;
    const char* upcoming = reinterpret_cast<const char*>(panel.upcoming);
    shape_tiles(height);
    for (int row = 0; row < count; row += step, upcoming += left.blocks * step_bytes) {
        const TileRows groups[2] = {{row, count, height}, {row + kMatrixRows, count, height}};
        const bool has_lower = row + kMatrixRows < count;
        const uint32_t* upper = left.data + (long)groups[0].first * kRowStride;
        const uint32_t* lower = has_lower ? left.data + (long)groups[1].first * kRowStride : nullptr;
        sum_in_tiles<P, kRowStride>(left, upper, lower, panel, {upcoming, step_bytes}, sums);
        for (int g = 0; g <= has_lower; g++) {
            for (int i = groups[g].made_before; i < height; i++) {
                for (int c = 0; c < kPanelColumns; c += 16) {
                    done(groups[g].first + i, c, value_of<P>(sums[g][i] + c));
                }
            }
        }
    }
}

}  // namespace UNITVEC_TARGET
