// One step of Adam in one pass over memory, as `adam` in train/optimiser.rs except for the rounding of fused products.
//
// `layers`, unless null, becomes the weights in bf16, rounded to nearest even. `norm` is the gradient's.
extern "C" __global__ void adam(float *weights, float *first, float *second, const float *gradient,
                                unsigned short *layers, const double *norm, double clip, float rate,
                                float inverse, float beta1, float beta2, float rest1, float rest2, float epsilon,
                                long long count) {
    const float factor = (float)fmin(clip / *norm, 1.0);
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        const float g = gradient[i] * factor;
        const float m = beta1 * first[i] + rest1 * g;
        const float v = beta2 * second[i] + rest2 * g * g;
        const float w = weights[i] - rate * m / (sqrtf(v) * inverse + epsilon);
        first[i] = m;
        second[i] = v;
        weights[i] = w;
        if (layers) {
            const unsigned bits = __float_as_uint(w);
            layers[i] = (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
        }
    }
}

// Parameters that share a scale in an exact sum, as in comm/gradient.rs. A block of 256 threads has four each.
#define PER_SCALE 1024
#define INFINITE 0x7f800000

// largest[b] becomes the larger of itself and the largest magnitude in block b of `gradient`; infinite if a value is not
// finite. Without their signs, floats are ordered as their bits are, NaN above infinity.
extern "C" __global__ void largest_of(const float *gradient, int *largest, long long blocks) {
    __shared__ int found;
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        if (threadIdx.x == 0)
            found = 0;
        __syncthreads();
        int own = 0;
        for (int i = threadIdx.x; i < PER_SCALE; i += blockDim.x)
            own = max(own, __float_as_int(gradient[b * PER_SCALE + i]) & 0x7fffffff);
        atomicMax(&found, min(own, INFINITE));
        __syncthreads();
        if (threadIdx.x == 0)
            largest[b] = max(largest[b], found);
        __syncthreads();
    }
}

// The exponent of the largest power of two with which `micro_batches` values of at most `largest` add up below 2^30.
__device__ int exponent_of(float largest, int micro_batches) {
    int bits;
    const double mantissa = frexp((double)largest * micro_batches, &bits);
    const int exponent = 30 - (mantissa == 0.5 ? bits - 1 : bits);
    return largest == 0.0f ? 0 : max(-126, min(126, exponent));
}

// integers += gradient, rounded to nearest even in the scale of its block.
extern "C" __global__ void add_rounded(const float *gradient, const float *largest, int micro_batches, int *integers,
                                       long long blocks) {
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        const float scale = ldexpf(1.0f, exponent_of(largest[b], micro_batches));
        for (int i = threadIdx.x; i < PER_SCALE; i += blockDim.x)
            integers[b * PER_SCALE + i] += __float2int_rn(gradient[b * PER_SCALE + i] * scale);
    }
}

// The sums that the integers stand for; NaN in a block in which a value was not finite.
extern "C" __global__ void scale_back(const int *integers, const float *largest, int micro_batches, float *total,
                                      long long blocks) {
    for (long long b = blockIdx.x; b < blocks; b += gridDim.x) {
        const float inverse = ldexpf(1.0f, -exponent_of(largest[b], micro_batches)) + 0.0f * largest[b];
        for (int i = threadIdx.x; i < PER_SCALE; i += blockDim.x)
            total[b * PER_SCALE + i] = (float)integers[b * PER_SCALE + i] * inverse;
    }
}
