// What this program was built from and where it runs; every benchmark stores it with its figures.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tessera {

std::string version();      // for example "0.1.0"
std::string commit();       // abbreviated hash, "-dirty" when the tree had changes
std::string compiler();     // name and version
std::string build_type();   // Release, Debug, ...
std::string processor();    // model name of the CPU

// All of the above, the number of usable CPUs and the time, as an object.
nlohmann::json machine_description();

}  // namespace tessera
