// The matrix instructions of AMX in plain C++, for machines without. It refuses what a CPU refuses.
//
// Included before matrix_tiles.h, whose `_tile_` functions then are these.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulated {

struct Shapes {
    uint8_t palette, first_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(Shapes) == 64);

inline thread_local Shapes shapes = {};
inline thread_local uint8_t tiles[8][16][64];

/// What would be a fault of the CPU.
inline void need(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "emulated AMX: %s\n", what);
    std::abort();
}

inline void configure(const void* from) {
    std::memcpy(&shapes, from, sizeof shapes);
    std::memset(tiles, 0, sizeof tiles);
    need(shapes.palette == 1 && shapes.first_row == 0, "palette");
    for (uint8_t byte : shapes.reserved) need(byte == 0, "reserved bytes");
    for (int i = 0; i < 16; i++) {
        need(shapes.rows[i] <= 16 && shapes.row_bytes[i] <= 64, "a tile is too large");
        need((shapes.rows[i] == 0) == (shapes.row_bytes[i] == 0), "a tile has one size of two");
        need(i < 8 || shapes.rows[i] == 0, "there are 8 tiles");
    }
}

inline void check(int tile) { need(shapes.palette && shapes.rows[tile], "a tile without a shape"); }

inline void load(int tile, const void* from, long stride) {
    check(tile);
    std::memset(tiles[tile], 0, sizeof tiles[tile]);
    for (int row = 0; row < shapes.rows[tile]; row++) {
        const char* at = static_cast<const char*>(from) + row * stride;
        std::memcpy(tiles[tile][row], at, shapes.row_bytes[tile]);
    }
}

inline void store(int tile, void* to, long stride) {
    check(tile);
    for (int row = 0; row < shapes.rows[tile]; row++) {
        std::memcpy(static_cast<char*>(to) + row * stride, tiles[tile][row],
                    shapes.row_bytes[tile]);
    }
}

inline void zero(int tile) {
    check(tile);
    std::memset(tiles[tile], 0, sizeof tiles[tile]);
}

inline void check_shapes(int sum, int left, int right) {
    check(sum), check(left), check(right);
    need(shapes.rows[sum] == shapes.rows[left], "rows of the sum");
    need(shapes.row_bytes[sum] == shapes.row_bytes[right], "columns of the sum");
    need(shapes.row_bytes[left] == 4 * shapes.rows[right], "what is summed over");
}

/// sum += left @ right, of bytes that Left and Right say the signs of.
template <class Left, class Right>
inline void multiply(int sum, int left, int right) {
    check_shapes(sum, left, right);
    for (int row = 0; row < shapes.rows[sum]; row++) {
        for (int column = 0; column < shapes.row_bytes[sum]; column += 4) {
            uint32_t total;
            std::memcpy(&total, tiles[sum][row] + column, 4);
            for (int k = 0; k < shapes.row_bytes[left]; k++) {
                const Left number = (Left)tiles[left][row][k];
                const Right weight = (Right)tiles[right][k / 4][column + k % 4];
                total += (uint32_t)(number * weight);
            }
            std::memcpy(tiles[sum][row] + column, &total, 4);
        }
    }
}

inline float read_float(const uint8_t* from) {
    float x;
    std::memcpy(&x, from, 4);
    return x;
}

/// The lower (0) or the upper (1) bf16 of a dword.
inline float read_bf16(const uint8_t* dword, int half) {
    const uint8_t bytes[4] = {0, 0, dword[2 * half], dword[2 * half + 1]};
    return read_float(bytes);
}

/// sum += left @ right, of bf16, in the order of Intel's manual. There, numbers below 2^-126 count as
/// 0; here they are refused, as the operator promises that there are none.
inline void multiply_bf16(int sum, int left, int right) {
    check_shapes(sum, left, right);
    for (int row = 0; row < shapes.rows[sum]; row++) {
        for (int column = 0; column < shapes.row_bytes[sum]; column += 4) {
            float halves[2] = {0, 0};
            for (int k = 0; k < shapes.rows[right]; k++) {
                for (int half = 0; half < 2; half++) {
                    const float a = read_bf16(tiles[left][row] + 4 * k, half);
                    const float b = read_bf16(tiles[right][k] + column, half);
                    halves[half] = std::fma(a, b, halves[half]);
                    need(halves[half] == 0 || std::isnormal(halves[half]), "a sum of bf16");
                }
            }
            const float total = read_float(tiles[sum][row] + column) + (halves[0] + halves[1]);
            std::memcpy(tiles[sum][row] + column, &total, 4);
        }
    }
}

inline void release() { shapes = {}; }

}  // namespace emulated

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbuud
#undef _tile_dpbusd
#undef _tile_dpbsud
#undef _tile_dpbssd
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated::configure
#define _tile_loadd emulated::load
#define _tile_stored emulated::store
#define _tile_zero emulated::zero
#define _tile_dpbuud emulated::multiply<uint8_t, uint8_t>
#define _tile_dpbusd emulated::multiply<uint8_t, int8_t>
#define _tile_dpbsud emulated::multiply<int8_t, uint8_t>
#define _tile_dpbssd emulated::multiply<int8_t, int8_t>
#define _tile_dpbf16ps emulated::multiply_bf16
#define _tile_release emulated::release
