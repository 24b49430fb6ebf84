#define UNITVEC_TARGET amx
#include "lanes_amx.h"
#include "lanes_x86.h"
#include "../generic/encoder.h"

namespace unitvec {
/// For int8 alone: to all else AMX is AVX-512.
std::unique_ptr<Encoder> make_amx(Model model) {
    return amx::make_for_head_size<amx::Int8>(std::move(model));
}
}  // namespace unitvec
