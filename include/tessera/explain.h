// What drove a black box, from logged inputs and outputs alone: everything of the wing in one header.
//
//   #include "tessera/explain.h"
//   tessera::explain::Explainer explainer(inputs, outputs, features, {});
//   const tessera::explain::Explanation answer = explainer.explain_row(26);
//
// Link tessera_explain: it needs Eigen and the floor `base`, nothing else of tessera, and no GPU.
// examples/explain_table.cpp is a whole program.
#pragma once

#include "tessera/explain/explain.h"
#include "tessera/explain/report.h"
#include "tessera/explain/summary.h"
#include "tessera/explain/table.h"
#include "tessera/explain/table_index.h"
#include "tessera/explain/tune.h"
