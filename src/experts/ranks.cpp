#ifdef TESSERA_HAS_MPI
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#endif

#include <cstdlib>
#include <exception>
#include <numeric>
#include <string>

#include "tessera/base/error.h"
#include "tessera/experts/distributed.h"

namespace tessera::experts {

#ifdef TESSERA_HAS_MPI
namespace {

class MpiRanks : public Ranks {
 public:
  MpiRanks() {
    MPI_Init(nullptr, nullptr);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  // After an error on this rank alone the others may be waiting; leaving without goodbye ends them too.
  ~MpiRanks() override {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::vector<std::string> gather(const std::string& bytes) override {
    const int length = static_cast<int>(bytes.size());
    std::vector<int> lengths(static_cast<size_t>(size_)), starts(static_cast<size_t>(size_));
    MPI_Gather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, 0, MPI_COMM_WORLD);
    std::exclusive_scan(lengths.begin(), lengths.end(), starts.begin(), 0);
    std::string all(rank_ == 0 ? static_cast<size_t>(starts.back() + lengths.back()) : 0, '\0');
    MPI_Gatherv(bytes.data(), length, MPI_CHAR, all.data(), lengths.data(), starts.data(), MPI_CHAR, 0, MPI_COMM_WORLD);
    std::vector<std::string> result;
    for (size_t r = 0; rank_ == 0 && r < lengths.size(); ++r) {
      result.push_back(all.substr(static_cast<size_t>(starts[r]), static_cast<size_t>(lengths[r])));
    }
    return result;
  }

  std::string broadcast(const std::string& bytes) override {
    int length = static_cast<int>(bytes.size());
    MPI_Bcast(&length, 1, MPI_INT, 0, MPI_COMM_WORLD);
    std::string result = rank_ == 0 ? bytes : std::string(static_cast<size_t>(length), '\0');
    MPI_Bcast(result.data(), length, MPI_CHAR, 0, MPI_COMM_WORLD);
    return result;
  }

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace

bool built_with_mpi() { return true; }
std::unique_ptr<Ranks> start_ranks() { return std::make_unique<MpiRanks>(); }

#else

bool built_with_mpi() { return false; }
std::unique_ptr<Ranks> start_ranks() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* size = std::getenv(variable);
    if (size != nullptr && std::atoi(size) > 1) {
      throw Error(ErrorCode::unsupported,
                  "this program was built without MPI and cannot share work with the other {} processes; install "
                  "libopenmpi-dev and build again, or run one process",
                  std::atoi(size) - 1);
    }
  }
  return std::make_unique<Ranks>();
}

#endif

}  // namespace tessera::experts
