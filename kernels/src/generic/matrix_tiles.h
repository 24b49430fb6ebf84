// Products of int8 by matrix instructions: a panel of 32 columns times up to 32 rows at a time.
//
//                     tile 6   tile 7       16 dwords of K of 16 columns each
//          tile 4     tile 0   tile 1       16 rows, a cache line (16 dwords of K) of each;
//          tile 5     tile 2   tile 3       and their sums
//
// Each step loads a line of every row and 16 dwords of the panel, and multiplies each with each. The
// rows at the end may be fewer than 16: a tile has as many as its shape says, and without a second
// group of rows tiles 2, 3 and 5 stay out of use. Sums of integers are exact in any order, so the
// result has the bits of every other target.
#pragma once

namespace UNITVEC_TARGET {

constexpr int kMatrixRows = 16;
constexpr int kPanelRowBytes = kPanelColumns * 4;

/// The shapes of all tiles as LDTILECFG reads them.
struct alignas(64) TileShapes {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    void set(int tile, int height) { row_bytes[tile] = 64, rows[tile] = (uint8_t)height; }
};

/// Shapes for two groups of rows, of which the second may have none.
static inline TileShapes shapes_for(int upper, int lower) {
    TileShapes shapes;
    for (int tile : {0, 1, 4}) shapes.set(tile, upper);
    for (int tile : {2, 3, 5}) {
        if (lower) shapes.set(tile, lower);
    }
    for (int tile : {6, 7}) shapes.set(tile, kMatrixRows);
    return shapes;
}

/// The sums of up to 32 rows, and fetches a share of the panel that comes next.
template <int kRowStride>
static void sum_in_tiles(const Left& left, int row, int rows, const Panel& panel, Ahead ahead,
                         int32_t (*sums)[kPanelColumns]) {
    const int upper = std::min(rows, kMatrixRows), lower = rows - upper;
    const TileShapes shapes = shapes_for(upper, lower);
    const uint32_t *numbers = left.data + (long)row * kRowStride, *weights = panel.weights;
    // GCC does not know that tiles and their shapes are read from memory: now all has to be there.
    __asm__ volatile("" ::"r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
    // Without a stride all rows are the same: what the sums of each column start at.
    _tile_loadd(0, panel.starts, 0);
    _tile_loadd(1, panel.starts + 16, 0);
    if (lower) {
        _tile_loadd(2, panel.starts, 0);
        _tile_loadd(3, panel.starts + 16, 0);
    }
    for (int n = 0; n < left.blocks; n++) {
        for (long at = 0; at < ahead.step_bytes; at += 64) prefetch(ahead.at + at);
        ahead.at += ahead.step_bytes;
        _tile_loadd(6, weights, kPanelRowBytes);
        _tile_loadd(7, weights + 16, kPanelRowBytes);
        _tile_loadd(4, numbers, kRowStride * 4);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if (lower) {
            _tile_loadd(5, numbers + kMatrixRows * kRowStride, kRowStride * 4);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
        numbers += left.block_stride, weights += kMatrixRows * kPanelColumns;
    }
    _tile_stored(0, sums[0], kPanelRowBytes);
    _tile_stored(1, sums[0] + 16, kPanelRowBytes);
    if (lower) {
        _tile_stored(2, sums[kMatrixRows], kPanelRowBytes);
        _tile_stored(3, sums[kMatrixRows] + 16, kPanelRowBytes);
    }
}

/// Rows [0, count) times a panel: `rows_times_panel` for int8.
template <int kRowStride, class Done>
static void rows_times_panel_in_tiles(const Left& left, int count, const Panel& panel,
                                      const Done& done) {
    alignas(64) int32_t sums[2 * kMatrixRows][kPanelColumns];
    const int height = 2 * kMatrixRows, tiles = (count + height - 1) / height;
    const long step_bytes = (long)kMatrixRows * kPanelRowBytes / tiles;
    const char* upcoming = reinterpret_cast<const char*>(panel.upcoming);
    for (int row = 0; row < count; row += height, upcoming += left.blocks * step_bytes) {
        const int rows = std::min(height, count - row);
        sum_in_tiles<kRowStride>(left, row, rows, panel, {upcoming, step_bytes}, sums);
        for (int i = 0; i < rows; i++) {
            for (int c = 0; c < kPanelColumns; c += 16) {
                done(row + i, c, to_floats(load_ints(sums[i] + c)));
            }
        }
    }
    _tile_release();  // else every switch to another thread saves 8 KiB of tiles
}

}  // namespace UNITVEC_TARGET
