// The GPU that a call runs on, as the host code of this folder asks for it.
#pragma once

namespace tessera::attention::cuda {

// Of the current device. Throws Error when there is none.
int multiprocessors();

}  // namespace tessera::attention::cuda
