// The lanes of AVX-512, and for products of int8 the matrix instructions of AMX (Sapphire Rapids).
//
// TDPBUSD multiplies 16 rows of 16 dwords by 16 dwords of 16 columns in 16 cycles: 1,024 products a
// cycle, 16 times VPDPBUSD on Zen 4. It takes unsigned by signed bytes in groups of four, as
// VPDPBUSD does, so rows and panels lie in memory as for AVX-512.
#pragma once
#define UNITVEC_MATRIX_TILES
#include "lanes_avx512.h"
