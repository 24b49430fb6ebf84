#define UNITVEC_TARGET neon
#include "lanes_neon.h"
#include "../generic/encoder.h"

namespace unitvec {
std::unique_ptr<Encoder> make_neon(Model model) { return neon::make_encoder(std::move(model)); }
}  // namespace unitvec
