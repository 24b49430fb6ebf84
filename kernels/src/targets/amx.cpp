#define UNITVEC_TARGET amx
#include "lanes_amx.h"
#include "lanes_x86.h"
#include "../generic/encoder.h"

namespace unitvec {
std::unique_ptr<Encoder> make_amx(Model model) { return amx::make_encoder(std::move(model)); }
}  // namespace unitvec
