// Class probabilities of a grid to labels of a scan.

#include <algorithm>
#include <cmath>
#include <mutex>
#include <vector>

#include "mixpriv/kernels.h"
#include "sampling.h"
#include "spread.h"

namespace mixpriv {
namespace {

constexpr uint8_t mixed = 0xFF;

// Arg-max of every voxel, class 0 outside the mask.
std::vector<uint8_t> corner_labels(const RowKernels& rows, const ClassMaps& maps, int threads) {
    constexpr int64_t block = 1024;
    const int64_t count = maps.shape.count();
    std::vector<uint8_t> labels(static_cast<size_t>(count));
    parallel_for(count, voxel_grain, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t from = begin; from < end; from += block) {
            const int64_t to = std::min(from + block, end);
            const uint8_t* const mask = maps.mask == nullptr ? nullptr : maps.mask + from;
            if (mask != nullptr && std::all_of(mask, mask + (to - from), [](uint8_t m) { return m == 0; })) continue;
            rows.argmax({maps.probabilities + from, count, maps.classes, labels.data() + from}, to - from);
            for (int64_t i = 0; mask != nullptr && i < to - from; ++i)
                labels[static_cast<size_t>(from + i)] =
                    mask[i] != 0 ? labels[static_cast<size_t>(from + i)] : uint8_t{0};
        }
    });
    return labels;
}

// For every lower corner the label that all eight corners share, or `mixed`. Interpolation keeps the order of two
// classes that is the same at every corner, so only mixed cells need their probabilities.
struct KnownCells {
    std::vector<uint8_t> label;
    Box box;  // of those that are not background
};

void cell_row(const uint8_t* corner, const int64_t* next, int64_t count, uint8_t* cell) {
    const uint8_t *const p = corner, *const q = p + next[1], *const r = p + next[0], *const s = r + next[1];
    const int64_t up = next[2];
    for (int64_t k = 0; k < count; ++k) {
        const uint8_t first = p[k];
        const auto differ =
            static_cast<uint8_t>((p[k + up] ^ first) | (q[k] ^ first) | (q[k + up] ^ first) | (r[k] ^ first) |
                                 (r[k + up] ^ first) | (s[k] ^ first) | (s[k + up] ^ first));
        cell[k] = differ != 0 ? mixed : first;
    }
}

struct IndexBox {
    int64_t lo[3], hi[3];  // empty if lo > hi

    void add(int axis, int64_t index) {
        lo[axis] = std::min(lo[axis], index);
        hi[axis] = std::max(hi[axis], index);
    }
};

void grow(const uint8_t* cell, int64_t i, int64_t j, int64_t count, IndexBox* box) {
    const uint8_t* const end = cell + count;
    const auto is_other = [](uint8_t label) { return label != 0; };
    const uint8_t* const first = std::find_if(cell, end, is_other);
    if (first == end) return;
    int64_t last = count - 1;
    while (cell[last] == 0) --last;
    box->add(0, i);
    box->add(1, j);
    box->add(2, first - cell);
    box->add(2, last);
}

// Positions in those cells; the outermost cells reach half a voxel further.
Box positions_in(const IndexBox& cells, const Lattice& lattice) {
    Box box;
    for (int a = 0; a < 3; ++a) {
        const int64_t last_cell = std::max<int64_t>(lattice.size[a] - 2, 0);
        const auto lo = static_cast<double>(cells.lo[a]), hi = static_cast<double>(cells.hi[a] + 1);
        box.lo[a] = cells.lo[a] == 0 ? -0.5 : lo;
        box.hi[a] = cells.hi[a] >= last_cell ? static_cast<double>(lattice.size[a]) - 0.5 : hi;
        if (cells.lo[a] > cells.hi[a]) box = {{1, 1, 1}, {0, 0, 0}};
    }
    return box;
}

KnownCells known_cells(const RowKernels& rows, const ClassMaps& maps, const Lattice& lattice, int threads) {
    const std::vector<uint8_t> corner = corner_labels(rows, maps, threads);
    KnownCells known{std::vector<uint8_t>(corner.size(), mixed), {}};
    int64_t cells[3];
    IndexBox box;
    for (int a = 0; a < 3; ++a) {
        cells[a] = std::max<int64_t>(lattice.size[a] - 1, 1);
        box.lo[a] = INT64_MAX;
        box.hi[a] = -1;
    }
    std::mutex joining;
    parallel_for(cells[0], 1, threads, [&](int64_t begin, int64_t end, int) {
        IndexBox own{{INT64_MAX, INT64_MAX, INT64_MAX}, {-1, -1, -1}};
        for (int64_t i = begin; i < end; ++i)
            for (int64_t j = 0; j < cells[1]; ++j) {
                const int64_t offset = i * lattice.stride[0] + j * lattice.stride[1];
                cell_row(corner.data() + offset, lattice.next, cells[2], known.label.data() + offset);
                grow(known.label.data() + offset, i, j, cells[2], &own);
            }
        const std::lock_guard<std::mutex> lock(joining);
        for (int a = 0; a < 3; ++a) {
            box.lo[a] = std::min(box.lo[a], own.lo[a]);
            box.hi[a] = std::max(box.hi[a], own.hi[a]);
        }
    });
    known.box = positions_in(box, lattice);
    return known;
}

// Which of a block's voxels lie in mixed cells, and those cells side by side.
struct MixedVoxels {
    int64_t voxel[cell_block], count;
    Cells cells;
};

void find_mixed(const uint8_t* labels, const Cells& cells, int64_t count, MixedVoxels* found) {
    found->count = 0;
    for (int64_t k = 0; k < count; ++k) {
        if (labels[k] != mixed) continue;
        const int64_t n = found->count++;
        found->voxel[n] = k;
        found->cells.corner[n] = cells.corner[k];
        for (int a = 0; a < 3; ++a) found->cells.fraction[a][n] = cells.fraction[a][k];
    }
}

class Restoring {
  public:
    Restoring(const RowKernels& rows, const ClassMaps& maps, const Lattice& lattice)
        : rows_(rows), maps_(maps), lattice_(lattice), channel_(maps.shape.count()) {
        for (int c = 0; c < 8; ++c)
            corner_[c] = (c & 4 ? lattice.next[0] : 0) + (c & 2 ? lattice.next[1] : 0) + (c & 1 ? lattice.next[2] : 0);
    }

    // The strongest class of cells, `labels` side by side.
    void label(const Cells& cells, int64_t count, uint8_t* labels) const {
        float best[cell_block], value[cell_block];
        std::fill_n(labels, count, uint8_t{0});
        for (int64_t c = 0; c < maps_.classes; ++c) {
            float* const out = c == 0 ? best : value;
            rows_.blend(maps_.probabilities + c * channel_, lattice_, cells, count, out);
            if (c > 0) rows_.pick(value, best, labels, static_cast<uint8_t>(c), count);
        }
        for (int64_t k = 0; maps_.mask != nullptr && k < count; ++k)
            if (crosses_mask(cells.corner[k])) labels[k] = label_at_mask(cells, k);
    }

  private:
    bool crosses_mask(int64_t corner) const {
        return std::any_of(corner_, corner_ + 8, [&](int64_t offset) { return maps_.mask[corner + offset] == 0; });
    }

    float share(int64_t c, int64_t voxel) const { return maps_.probabilities[c * channel_ + voxel]; }

    float masked_share(int64_t c, int64_t voxel) const {
        if (maps_.mask[voxel] != 0) return share(c, voxel);
        if (c > 0) return 0.0f;
        float sum = 0.0f;
        for (int64_t other = 0; other < maps_.classes; ++other) sum += share(other, voxel);
        return sum;
    }

    uint8_t label_at_mask(const Cells& cells, int64_t k) const {
        float best = 0.0f;
        int64_t label = 0;
        for (int64_t c = 0; c < maps_.classes; ++c) {
            float v[8];
            for (int n = 0; n < 8; ++n) v[n] = masked_share(c, cells.corner[k] + corner_[n]);
            const float x = cells.fraction[0][k], y = cells.fraction[1][k], z = cells.fraction[2][k];
            for (int half = 4; half > 0; half /= 2) {
                const float fraction = half == 4 ? x : half == 2 ? y : z;
                for (int n = 0; n < half; ++n) v[n] = v[n] + (v[n + half] - v[n]) * fraction;
            }
            if (c == 0 || v[0] > best) {
                best = v[0];
                label = c;
            }
        }
        return static_cast<uint8_t>(label);
    }

    const RowKernels& rows_;
    const ClassMaps& maps_;
    const Lattice& lattice_;
    int64_t channel_, corner_[8];
};

}  // namespace

void restore_labels(const ClassMaps& maps, const Matrix& matrix, Shape3 shape, uint8_t* labels, Isa isa, int threads) {
    const Lattice lattice = lattice_of({maps.shape, {}});
    check_geometry(lattice, matrix);
    const RowKernels& rows = rows_for(isa);
    const KnownCells known = known_cells(rows, maps, lattice, threads);
    const Restoring restoring(rows, maps, lattice);
    const auto visit = [&](const Line& line, Interval where, int64_t length, uint8_t* out) {
        std::fill(out, out + length, uint8_t{0});
        Cells cells;
        MixedVoxels open;
        uint8_t settled[cell_block];
        for (int64_t begin = where.begin; begin < where.end; begin += cell_block) {
            const int64_t count = std::min(cell_block, where.end - begin);
            rows.locate(line, lattice, begin, count, &cells);
            for (int64_t k = 0; k < count; ++k) out[begin + k] = known.label[static_cast<size_t>(cells.corner[k])];
            find_mixed(out + begin, cells, count, &open);
            if (open.count == 0) continue;
            restoring.label(open.cells, open.count, settled);
            for (int64_t n = 0; n < open.count; ++n) out[begin + open.voxel[n]] = settled[n];
        }
    };
    for_rows(matrix, known.box, shape, threads, labels, visit);
}

}  // namespace mixpriv
