// Normal and Student quantiles.
#pragma once

namespace tessera::explain {

double normal_probability(double z);
// Inverse of the above for p in (0, 1).
double normal_quantile(double p);
// Student's t with `freedom` > 0 degrees (exact for 1 and 2, else Cornish and Fisher's expansion).
double student_quantile(double p, double freedom);

}  // namespace tessera::explain
