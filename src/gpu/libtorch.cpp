// What coreloss needs of libtorch and tch does not offer.
//
// No exception leaves these functions: each returns null, or libtorch's message, which is valid until the same thread
// calls one of them again.

#include <dlfcn.h>

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include <ATen/Context.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>

namespace {

thread_local std::string message;

template <typename Work>
const char *caught(Work work) {
    try {
        work();
        return nullptr;
    } catch (const c10::Error &error) {
        message = error.what_without_backtrace();
    } catch (const std::exception &error) {
        message = error.what();
    } catch (...) {
        message = "an exception that says nothing";
    }
    return message.c_str();
}

// A function of libtorch's CUDA half, by its mangled name: that half is loaded at run time, so there is nothing to link,
// and its headers include CUDA's own, which a machine without GPUs need not have.
template <typename Function>
Function *cuda_function(const char *name) {
    void *address = dlsym(RTLD_DEFAULT, name);
    TORCH_CHECK(address, "this libtorch has no ", name);
    return reinterpret_cast<Function *>(address);
}

// Memory for an at::cuda::CUDAGraph, which takes less.
struct Graph {
    alignas(std::max_align_t) unsigned char object[1024];
};

} // namespace

extern "C" {

// How cuDNN chooses its algorithms. `limit` is how many it tries where it benchmarks them.
const char *coreloss_set_cudnn(bool deterministic, int limit) {
    return caught([&] {
        at::Context &context = at::globalContext();
        context.setBenchmarkCuDNN(!deterministic);
        context.setDeterministicCuDNN(deterministic);
        if (!deterministic)
            context.setBenchmarkLimitCuDNN(limit);
    });
}

// Makes a stream of libtorch's pool on GPU `index` this thread's current one; `stream` becomes its cudaStream_t.
const char *coreloss_set_stream(int index, void **stream) {
    return caught([&] {
        const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
        const c10::impl::DeviceGuardImplInterface *cuda = c10::impl::getDeviceGuardImpl(c10::kCUDA);
        const c10::Stream taken = cuda->getStreamFromGlobalPool(device);
        cuda->exchangeStream(taken);
        *stream = cuda->getStreamNativeHandle(taken);
    });
}

// Begins to record what this thread starts on its current stream. `graph` is the caller's to end, replay and delete.
const char *coreloss_begin_graph(Graph **graph) {
    return caught([&] {
        using Pool = std::pair<unsigned long long, unsigned long long>;
        auto construct = cuda_function<void(Graph *, bool)>("_ZN2at4cuda9CUDAGraphC1Eb");
        auto begin = cuda_function<void(Graph *, Pool, int)>(
            "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
        auto memory = std::make_unique<Graph>();
        construct(memory.get(), false);
        *graph = memory.release();
        // {0, 0} is a memory pool of its own; 1 is cudaStreamCaptureModeThreadLocal: other threads may use CUDA meanwhile.
        begin(*graph, {0, 0}, 1);
    });
}

const char *coreloss_end_graph(Graph *graph) {
    return caught([&] { cuda_function<void(Graph *)>("_ZN2at4cuda9CUDAGraph11capture_endEv")(graph); });
}

const char *coreloss_replay_graph(Graph *graph) {
    return caught([&] { cuda_function<void(Graph *)>("_ZN2at4cuda9CUDAGraph6replayEv")(graph); });
}

const char *coreloss_delete_graph(Graph *graph) {
    return caught([&] {
        cuda_function<void(Graph *)>("_ZN2at4cuda9CUDAGraphD1Ev")(graph);
        delete graph;
    });
}
}
