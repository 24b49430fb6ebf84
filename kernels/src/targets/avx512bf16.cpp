#define UNITVEC_TARGET avx512bf16
#include "lanes_avx512.h"
#include "lanes_x86.h"
#include "../generic/encoder.h"

namespace unitvec {
/// For bf16 alone: all else is AVX-512.
std::unique_ptr<Encoder> make_avx512bf16(Model model) {
    return avx512bf16::make_for_head_size<avx512bf16::Bf16>(std::move(model));
}
}  // namespace unitvec
