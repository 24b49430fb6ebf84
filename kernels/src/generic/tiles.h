// Products, tile by tile. README.md draws the layouts.
//
// A tile is up to kTileRows rows of the left side times one panel of weights, or half of one where
// registers are few. All its sums stay in registers over the whole of K; each step takes one dword
// of K: a row of the panel, and for every row of the left side one dword spread over all lanes.
//
// A row of the result depends on that row of the left side alone, with K always in the same order,
// whatever the height of the tile. That is why a text has the same vector in any company.
#pragma once

namespace UNITVEC_TARGET {

constexpr int kLineDwords = 16;  // dwords of a row in one block of an encoder's left side

/// The left side: `blocks` blocks of `steps` dwords of each row. Within a block, rows are a fixed
/// number of dwords apart, which is a parameter of the tile so that offsets become constants.
struct Left {
    const uint32_t* data;
    long block_stride;  // in dwords
    int blocks, steps;
    int total_steps() const { return blocks * steps; }
};

/// A panel of weights, the sums that its columns start at, and what is needed after it.
struct Panel {
    const uint32_t* weights;
    const int32_t* starts;
    const uint32_t* upcoming;  // the panel that comes next
};

/// Weights to fetch into the second level of cache while a tile runs: `step_bytes` in each step.
/// So they are there when their turn comes, even if a lone text has too few rows to hide the wait.
struct Ahead {
    const char* at;
    long step_bytes;
};

template <class P, int kRows, int kRowStride, bool kFetch, class Done>
[[gnu::noinline]] static void tile(const Left& left, int row, const uint32_t* weights,
                                   const int32_t* starts, Ahead ahead, const Done& done) {
    typename P::Sum sums[kRows][kTileVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; v++) sums[i][v] = P::start(starts, 16 * v);
    }
    const uint32_t* block = left.data + (long)row * kRowStride;
    for (int n = 0; n < left.blocks; n++, block += left.block_stride) {
        const uint32_t* a = block;
        for (const uint32_t* end = a + left.steps; a != end; a++, weights += kPanelColumns) {
            if constexpr (kFetch) {
                prefetch(ahead.at), prefetch(ahead.at + 64);
                ahead.at += ahead.step_bytes;
            }
#pragma GCC unroll 2
            for (int part = 0; part < P::kParts; part++) {
                // Else GCC keeps the numbers of all rows for the next part: there is no room for them.
                if (part > 0) __asm__ volatile("" ::: "memory");
                typename P::Right right[kTileVectors];
#pragma GCC unroll 2
                for (int v = 0; v < kTileVectors; v++) right[v] = P::right(weights + 16 * v, part);
#pragma GCC unroll 16
                for (int i = 0; i < kRows; i++) {
                    const auto number = P::left(a + i * kRowStride, part);
#pragma GCC unroll 2
                    for (int v = 0; v < kTileVectors; v++) {
                        sums[i][v] = P::dot(sums[i][v], number, right[v]);
                    }
                }
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; v++) done(row + i, 16 * v, P::value(sums[i][v]));
    }
}

/// Calls the tile of this height.
template <class P, int kRows, int kRowStride, bool kFetch, class Done>
static inline void tile_of_height(int rows, const Left& left, int row, const uint32_t* weights,
                                  const int32_t* starts, Ahead ahead, const Done& done) {
    if (rows == kRows) {
        tile<P, kRows, kRowStride, kFetch>(left, row, weights, starts, ahead, done);
    } else if constexpr (kRows > 1) {
        tile_of_height<P, kRows - 1, kRowStride, kFetch>(rows, left, row, weights, starts, ahead,
                                                         done);
    }
}

/// Rows [0, count) in tiles of nearly equal height: body(number of the tile, first row, rows).
template <class Body>
static inline void in_tiles(int count, const Body& body) {
    const int tiles = (count + kTileRows - 1) / kTileRows;
    for (int t = 0, row = 0; t < tiles; t++) {
        const int rows = count / tiles + (t < count % tiles);
        body(t, row, rows);
        row += rows;
    }
}

/// One tile's rows times a whole panel: `done(row, column of the panel, 16 numbers)`.
template <class P, int kRowStride, class Done>
static inline void tile_times_panel(int rows, const Left& left, const uint32_t* weights,
                                    const Done& done) {
    for (int c = 0; c < kPanelColumns; c += 16 * kTileVectors) {
        const auto shifted = [&](int row, int v, Floats x) { done(row, c + v, x); };
        tile_of_height<P, kTileRows, kRowStride, false>(rows, left, 0, weights + c, nullptr, {},
                                                        shifted);
    }
}

}  // namespace UNITVEC_TARGET

#ifdef UNITVEC_MATRIX_TILES
#include "matrix_tiles.h"
#include "matrix_tiles_int16.h"
#endif

namespace UNITVEC_TARGET {

/// Rows [0, count) times a panel, in tiles that together fetch the upcoming one.
template <class P, int kRowStride, class Done>
static inline void rows_times_panel(const Left& left, int count, const Panel& panel,
                                    const Done& done) {
#ifdef UNITVEC_MATRIX_TILES
    if (count == 0) return;
    if constexpr (std::is_same_v<P, Int8> || std::is_same_v<P, Bf16>) {
        return rows_times_panel_in_tiles<P, kRowStride>(left, count, panel, done);
    }
    if constexpr (std::is_same_v<P, Int16>) {
        if (is_cut(left.block_stride)) {
            return rows_times_panel_in_bytes<kRowStride>(left, count, panel, done);
        }
    }
#endif
    const int tiles = (count + kTileRows - 1) / kTileRows;
    const long row_bytes = kPanelColumns * 4;
    in_tiles(count, [&](int number, int row, int rows) {
        for (int c = 0; c < kPanelColumns; c += 16 * kTileVectors) {
            const int share = number * (kPanelColumns / 16 / kTileVectors) + c / 16 / kTileVectors;
            const int shares = tiles * (kPanelColumns / 16 / kTileVectors);
            const char* from = reinterpret_cast<const char*>(panel.upcoming);
            const Ahead ahead{from + left.total_steps() * row_bytes / shares * share,
                              row_bytes / shares};
            const auto shifted = [&](int r, int v, Floats x) { done(r, c + v, x); };
            tile_of_height<P, kTileRows, kRowStride, true>(rows, left, row, panel.weights + c,
                                                           panel.starts + c, ahead, shifted);
        }
    });
}

}  // namespace UNITVEC_TARGET
