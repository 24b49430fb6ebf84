// The instruction sets there is code for, and which of them this machine has.
#pragma once
#include "model.h"

#include <memory>
#include <string>

namespace unitvec {

/// Code for one instruction set.
struct Backend {
    const char* name;
    const char* needs;  // features of the CPU, separated by spaces
    bool (*is_supported)();
    std::unique_ptr<Encoder> (*make)(Model);
};

/// All that this library was built with, those to be chosen first, ended by one without a name.
const Backend* all_backends();

/// The backend called `name`, or the fastest one here if it is empty.
///
/// Throws std::runtime_error with a reason: there is none of this name, or this CPU cannot run it.
const Backend& choose_backend(const std::string& name);

/// A line for each backend: name, "yes" or "no" for whether this CPU has it, and what it needs;
/// between tabs.
const char* describe_backends();

}  // namespace unitvec
