#define UNITVEC_TARGET avx512
#include "lanes_avx512.h"
#include "lanes_x86.h"
#include "../generic/encoder.h"

namespace unitvec {
std::unique_ptr<Encoder> make_avx512(Model model) { return avx512::make_encoder(std::move(model)); }
}  // namespace unitvec
