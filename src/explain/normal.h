// Quantiles: normal, Student, and of conformal scores.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera::explain {

double normal_probability(double z);
// Inverse of the above for p in (0, 1).
double normal_quantile(double p);
// Student's t with `freedom` > 0 degrees (exact for 1 and 2, else Cornish and Fisher's expansion).
double student_quantile(double p, double freedom);
// Order statistic of rank ceil(level (N + 1)), the split conformal quantile (Vovk et al. 2005). With fewer scores than
// that rank the largest, which covers N / (N + 1), is stretched as a normal tail would be; without any, normal.
double conformal_quantile(std::vector<double> scores, double level);
// Scores from which the order statistic above exists: 19 at a level of 0.95.
int64_t records_for(double level);

}  // namespace tessera::explain
