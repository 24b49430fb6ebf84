#define UNITVEC_TARGET avx2
#include "lanes_avx2.h"
#include "lanes_x86.h"
#include "../generic/encoder.h"

namespace unitvec {
std::unique_ptr<Encoder> make_avx2(Model model) { return avx2::make_encoder(std::move(model)); }
}  // namespace unitvec
