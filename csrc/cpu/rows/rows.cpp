// The row kernels, compiled once for every instruction set: MIXPRIV_ROWS is the name of its table.

#include "rows/cells.h"
#include "rows/tally.h"
#include "rows/vectors.h"
#include "rows/voxels.h"

namespace mixpriv {

const RowKernels MIXPRIV_ROWS{mix,          unmix,   unmix_background, one_hot,   fill_weight, argmax,
                              tally,        softmax, accumulate,       pick,      locate,      bend,
                              bend_nearest, blend,   blend_voxels,     mix_exact, finish};

}  // namespace mixpriv
