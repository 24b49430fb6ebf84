// Products of int16 by matrix instructions, which know bytes alone: each number is cut in two.
//
//     x = 256 x' + x"    w = 256 w' + w"           x' and w' are signed, x" and w" from 0 to 255
//     sum of x w = 65536 sum of x' w' + 256 (sum of x' w" + sum of x" w') + sum of x" w"
//
//                                         tile 6: low    tile 7: high      64 rows of W, 16 columns
//     16 rows of X, 64 numbers of each:
//                         tile 4: low       tile 0         tile 1
//                         tile 5: high      tile 2         tile 3          four sums of one place
//
// Anything here may wrap around at 32 bits. The whole sum fits in them, so its 32 bits are right, and
// the result has the bits of every other target.
//
// Two lines of 32 numbers, a and b, become a line of low bytes and one of high bytes, both in the
// order a0 b0 a1 b1 a2 b2 ... A left side is cut where it lies, as soon as a row is written; a panel
// is cut into a place of its own, each time that rows meet it.
#pragma once

namespace UNITVEC_TARGET {

/// Left sides of so few rows stay whole, for the instructions of AVX-512: cutting a panel takes as
/// long as these take to multiply it. README.md has the reckoning.
constexpr int kFewRows = 8;
constexpr int kCutLines = 2;  // cut at a time: one of low bytes, one of high bytes

static inline bool is_cut(long block_stride) { return block_stride > kFewRows * kLineDwords; }

/// Two lines -> one of low bytes and one of high bytes.
static inline void cut_lines(const uint32_t* a, const uint32_t* b, uint32_t* low, uint32_t* high) {
    const Ints first = load_ints(a), second = load_ints(b);
    store_ints(low, low_bytes(first, second));
    store_ints(high, high_bytes(first, second));
}

/// Cuts a row of a left side, which has a line in each block.
static inline void cut_left_row(uint32_t* line, int blocks, long block_stride) {
    if (!is_cut(block_stride)) return;
    for (int n = 0; n < blocks; n += kCutLines, line += kCutLines * block_stride) {
        cut_lines(line, line + block_stride, line, line + block_stride);
    }
}

constexpr long kPlaneDwords = (long)kMatrixRows * kPanelColumns;

/// Cuts a panel: [64 rows of W][low bytes, high bytes][16 dwords][32 columns].
static inline const uint32_t* cut_panel(const uint32_t* panel, int blocks) {
    static thread_local Buffer<uint32_t> cut;
    cut.reserve(blocks * kPlaneDwords);
    uint32_t* to = cut.get();
    for (int n = 0; n < blocks; n += kCutLines, panel += kPlaneDwords, to += kPlaneDwords) {
        for (const uint32_t* end = panel + kPlaneDwords; panel != end; panel += 16, to += 16) {
            cut_lines(panel, panel + kPlaneDwords, to, to + kPlaneDwords);
        }
    }
    return cut.get();
}

/// The four sums of a group of rows with 16 columns: [low and high of X][low and high of W].
/// Fetches a share of the panel that comes next.
template <int kRowStride>
static void sum_bytes(const Left& left, const uint32_t* rows, const uint32_t* columns, Ahead ahead,
                      int32_t (*sums)[2][kMatrixRows][16]) {
    __asm__ volatile("" ::: "memory");  // GCC does not know that tiles are read from memory.
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int n = 0; n < left.blocks; n += kCutLines) {
        for (long at = 0; at < ahead.step_bytes; at += 64) prefetch(ahead.at + at);
        ahead.at += ahead.step_bytes;
        _tile_loadd(4, rows, kRowStride * 4);
        _tile_loadd(5, rows + left.block_stride, kRowStride * 4);
        _tile_loadd(6, columns, kPanelRowBytes);
        _tile_loadd(7, columns + kPlaneDwords, kPanelRowBytes);
        _tile_dpbuud(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
        rows += kCutLines * left.block_stride, columns += kCutLines * kPlaneDwords;
    }
    _tile_stored(0, sums[0][0], 64);
    _tile_stored(1, sums[0][1], 64);
    _tile_stored(2, sums[1][0], 64);
    _tile_stored(3, sums[1][1], 64);
}

/// Rows [0, count) times a panel: `rows_times_panel` for int16, of a left side that is cut.
template <int kRowStride, class Done>
static void rows_times_panel_in_bytes(const Left& left, int count, const Panel& panel,
                                      const Done& done) {
    alignas(64) int32_t sums[2][2][kMatrixRows][16];
    const int height = std::min(count, kMatrixRows);
    const int parts = (count + height - 1) / height * (kPanelColumns / 16);
    const long step_bytes = kCutLines * kPlaneDwords * 4 / parts;
    const char* upcoming = reinterpret_cast<const char*>(panel.upcoming);
    const uint32_t* columns = cut_panel(panel.weights, left.blocks);
    shape_tiles(height);
    for (int row = 0; row < count; row += height) {
        const TileRows group(row, count, height);
        const uint32_t* rows = left.data + (long)group.first * kRowStride;
        for (int c = 0; c < kPanelColumns; c += 16) {
            sum_bytes<kRowStride>(left, rows, columns + c, {upcoming, step_bytes}, sums);
            upcoming += left.blocks / kCutLines * step_bytes;
            for (int i = group.made_before; i < height; i++) {
                const Ints sum = join_sums(load_ints(sums[0][0][i]), load_ints(sums[0][1][i]),
                                           load_ints(sums[1][0][i]), load_ints(sums[1][1][i]));
                done(group.first + i, c, to_floats(sum));
            }
        }
    }
}

}  // namespace UNITVEC_TARGET
