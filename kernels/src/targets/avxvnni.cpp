#define UNITVEC_TARGET avxvnni
#include "lanes_avx2.h"
#include "lanes_x86.h"
#include "../generic/encoder.h"

namespace unitvec {
std::unique_ptr<Encoder> make_avxvnni(Model model) { return avxvnni::make_encoder(std::move(model)); }
}  // namespace unitvec
