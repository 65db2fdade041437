#pragma once

#include <stdexcept>

namespace mixpriv {

// Bad input from the caller; becomes mixpriv.errors.InputError in Python. Messages never hold voxel values or weights.
class InputError : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

}  // namespace mixpriv
