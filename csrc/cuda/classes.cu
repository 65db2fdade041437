// The server's answer to the unmixer's input; sums and arg-max over class probabilities.

#include "cuda/launch.h"
#include "mixpriv/error.h"

namespace mixpriv::cuda {
namespace {

struct Unpacking {
    const uint8_t *answer, *reference_labels;
    float* unmixer_input;
    float weight, rest;
    int64_t classes, count;
};

__device__ float unmixed(int bytes, float known, float weight) {
    const float share = (static_cast<float>(bytes) / 255.0f - known) / weight;
    const float above = share > -1.0f ? share : -1.0f;
    return above < 2.0f ? above : 2.0f;
}

// All channels of `width` neighbouring voxels. Writes 1 to `too_large` if a label is no class.
template <int width>
__global__ void unpack_kernel(Unpacking all, int* too_large) {
    const int64_t groups = all.count / width;
    for_each(groups, [&](int64_t index) {
        const auto labels = load<width>(all.reference_labels, index);
        int sum[width] = {};
        for (int n = 0; n < width; ++n)
            if (labels.at[n] >= all.classes) *too_large = 1;
        for (int64_t c = all.classes - 1; c >= 0; --c) {
            Vector<uint8_t, width> answer{};
            if (c > 0) answer = load<width>(all.answer + (c - 1) * all.count, index);
            Vector<float, width> linear, one_hot;
            for (int n = 0; n < width; ++n) {
                const bool here = labels.at[n] == c;
                const int bytes = c > 0 ? answer.at[n] : (sum[n] < 255 ? 255 - sum[n] : 0);
                sum[n] += answer.at[n];
                linear.at[n] = unmixed(bytes, here ? all.rest : 0.0f, all.weight);
                one_hot.at[n] = here ? 1.0f : 0.0f;
            }
            store(all.unmixer_input + c * all.count, index, linear);
            store(all.unmixer_input + (all.classes + c) * all.count, index, one_hot);
        }
        Vector<float, width> weight;
        for (int n = 0; n < width; ++n) weight.at[n] = all.weight;
        store(all.unmixer_input + 2 * all.classes * all.count, index, weight);
    });
}

template <int width>
__global__ void accumulate_kernel(float* total, const float* more, int64_t count) {
    for_each(count / width, [&](int64_t index) {
        auto sum = load<width>(total, index);
        const auto x = load<width>(more, index);
        for (int n = 0; n < width; ++n) sum.at[n] += x.at[n];
        store(total, index, sum);
    });
}

template <int width>
__global__ void argmax_kernel(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels) {
    for_each(count / width, [&](int64_t index) {
        auto best = load<width>(probabilities, index);
        Vector<uint8_t, width> label{};
        for (int64_t c = 1; c < classes; ++c) {
            const auto p = load<width>(probabilities + c * count, index);
            for (int n = 0; n < width; ++n)
                if (p.at[n] > best.at[n]) {
                    best.at[n] = p.at[n];
                    label.at[n] = static_cast<uint8_t>(c);
                }
        }
        store(labels, index, label);
    });
}

}  // namespace

void unpack(const uint8_t* answer, const uint8_t* reference_labels, double weight, int64_t classes, int64_t count,
            float* unmixer_input, cudaStream_t stream) {
    const auto share = static_cast<float>(weight);
    if (!(share > 0.0f && weight <= 1.0)) throw InputError("weight: expected a number above 0, at most 1");
    const Unpacking all{answer, reference_labels, unmixer_input, share, 1.0f - share, classes, count};
    int device = 0, found = 0;
    SAFE_CALL(cudaGetDevice(&device));
    Buffer too_large(sizeof found, device, stream);
    SAFE_CALL(cudaMemsetAsync(too_large.data(), 0, sizeof found, stream));
    auto* flag = static_cast<int*>(too_large.data());
    if (count % wide == 0 && aligned(answer) && aligned(reference_labels) && aligned(unmixer_input))
        launch(unpack_kernel<wide>, grid_for(count / wide), dim3(block_size), stream, all, flag);
    else
        launch(unpack_kernel<1>, grid_for(count), dim3(block_size), stream, all, flag);
    too_large.after_use(stream);
    download(&found, flag, sizeof found, stream);
    if (found != 0)
        throw InputError("reference_labels: expected labels below the number of classes, " + std::to_string(classes) +
                         ", got larger ones");
}

void accumulate(float* total, const float* probabilities, int64_t count, cudaStream_t stream) {
    const int64_t head = aligned(total) && aligned(probabilities) ? count / wide * wide : 0;
    if (head > 0)
        launch(accumulate_kernel<wide>, grid_for(head / wide), dim3(block_size), stream, total, probabilities, head);
    if (count > head)
        launch(accumulate_kernel<1>, grid_for(count - head), dim3(block_size), stream, total + head,
               probabilities + head, count - head);
}

void argmax(const float* probabilities, int64_t classes, int64_t count, uint8_t* labels, cudaStream_t stream) {
    if (count % wide == 0 && aligned(probabilities) && aligned(labels))
        launch(argmax_kernel<wide>, grid_for(count / wide), dim3(block_size), stream, probabilities, classes, count,
               labels);
    else
        launch(argmax_kernel<1>, grid_for(count), dim3(block_size), stream, probabilities, classes, count, labels);
}

}  // namespace mixpriv::cuda
