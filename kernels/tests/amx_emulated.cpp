#define UNITVEC_TARGET amx_emulated
#include "lanes_amx_emulated.h"
#include "../src/targets/lanes_x86.h"
#include "../src/generic/encoder.h"

namespace unitvec {
std::unique_ptr<Encoder> make_amx_emulated(Model model) {
    return amx_emulated::make_encoder(std::move(model));
}
}  // namespace unitvec
