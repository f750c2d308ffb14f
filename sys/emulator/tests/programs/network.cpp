// A small layer in C++: a pinned buffer, asynchronous copies, a matrix product with bias and activation, an event as a time
// stamp, a dynamic output whose shape the library reports, and errors that come with a text.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <acl/acl.h>
#include <aclnn/opdev/op_errno.h>
#include <aclnnop/aclnn_addmm.h>
#include <aclnnop/aclnn_matmul.h>
#include <aclnnop/aclnn_nonzero.h>
#include <aclnnop/aclnn_relu.h>

namespace {

void check(int code, const std::string &what)
{
    if (code != 0) {
        const char *text = aclGetRecentErrMsg();
        throw std::runtime_error(what + " gave " + std::to_string(code) + ": " + (text ? text : "no text"));
    }
}

struct DeviceFree {
    void operator()(void *pointer) const { aclrtFree(pointer); }
};
using Memory = std::unique_ptr<void, DeviceFree>;

Memory device_memory(size_t size)
{
    void *pointer = nullptr;
    check(aclrtMalloc(&pointer, size, ACL_MEM_MALLOC_HUGE_FIRST), "aclrtMalloc");
    return Memory(pointer);
}

struct Tensor {
    Memory memory;
    std::vector<int64_t> shape;
    std::unique_ptr<aclTensor, decltype(&aclDestroyTensor)> handle{nullptr, &aclDestroyTensor};

    Tensor(std::vector<int64_t> dims, aclDataType type, size_t width) : shape(std::move(dims))
    {
        size_t count = 1;
        for (int64_t dim : shape) {
            count *= static_cast<size_t>(dim);
        }
        memory = device_memory(count * width + 32);
        handle.reset(aclCreateTensor(shape.data(), shape.size(), type, nullptr, 0, ACL_FORMAT_ND, shape.data(),
                                     shape.size(), memory.get()));
    }
};

template <typename First, typename Second, typename... Arguments>
void run(const char *name, aclrtStream stream, First first, Second second, Arguments... arguments)
{
    uint64_t size = 0;
    aclOpExecutor *executor = nullptr;
    check(first(arguments..., &size, &executor), std::string(name) + "GetWorkspaceSize");
    Memory workspace = size > 0 ? device_memory(size) : Memory();
    check(second(workspace.get(), size, executor, stream), name);
    check(aclrtSynchronizeStream(stream), "aclrtSynchronizeStream");
}

void work(aclrtStream stream)
{
    // relu([1 2; 3 4] [1 -1; 1 -2] + [0.5 0.5]) = [3.5 0; 7.5 0]
    const float inputs[10] = {1, 2, 3, 4, 1, -1, 1, -2, 0.5F, 0.5F};
    void *pinned = nullptr;
    check(aclrtMallocHost(&pinned, sizeof inputs), "aclrtMallocHost");
    std::copy(std::begin(inputs), std::end(inputs), static_cast<float *>(pinned));
    Tensor x({2, 2}, ACL_FLOAT, 4), w({2, 2}, ACL_FLOAT, 4), bias({2}, ACL_FLOAT, 4), y({2, 2}, ACL_FLOAT, 4);
    auto *source = static_cast<char *>(pinned);
    check(aclrtMemcpyAsync(x.memory.get(), 16, source, 16, ACL_MEMCPY_HOST_TO_DEVICE, stream), "copy of x");
    check(aclrtMemcpyAsync(w.memory.get(), 16, source + 16, 16, ACL_MEMCPY_HOST_TO_DEVICE, stream), "copy of w");
    check(aclrtMemcpyAsync(bias.memory.get(), 8, source + 32, 8, ACL_MEMCPY_HOST_TO_DEVICE, stream), "copy of bias");

    aclrtEvent start = nullptr, end = nullptr;
    check(aclrtCreateEventExWithFlag(&start, ACL_EVENT_TIME_LINE | ACL_EVENT_SYNC), "event");
    check(aclrtCreateEventExWithFlag(&end, ACL_EVENT_TIME_LINE | ACL_EVENT_SYNC), "event");
    check(aclrtRecordEvent(start, stream), "aclrtRecordEvent");
    float one = 1;
    aclScalar *scale = aclCreateScalar(&one, ACL_FLOAT);
    const int8_t keep = 0;
    run("aclnnAddmm", stream, aclnnAddmmGetWorkspaceSize, aclnnAddmm, bias.handle.get(), x.handle.get(),
        w.handle.get(), scale, scale, y.handle.get(), keep);
    run("aclnnInplaceRelu", stream, aclnnInplaceReluGetWorkspaceSize, aclnnInplaceRelu, y.handle.get());
    check(aclrtRecordEvent(end, stream), "aclrtRecordEvent");
    check(aclrtSynchronizeEvent(end), "aclrtSynchronizeEvent");
    float milliseconds = -1;
    check(aclrtEventElapsedTime(&milliseconds, start, end), "aclrtEventElapsedTime");
    if (milliseconds < 0) {
        throw std::runtime_error("time runs backwards");
    }
    float got[4] = {};
    check(aclrtMemcpy(got, 16, y.memory.get(), 16, ACL_MEMCPY_DEVICE_TO_HOST), "copy back");
    const float wanted[4] = {3.5F, 0, 7.5F, 0};
    for (int i = 0; i < 4; ++i) {
        if (got[i] != wanted[i]) {
            throw std::runtime_error("element " + std::to_string(i) + " is " + std::to_string(got[i]));
        }
    }

    Tensor places({4, 2}, ACL_INT64, 8);
    run("aclnnNonzero", stream, aclnnNonzeroGetWorkspaceSize, aclnnNonzero, y.handle.get(), places.handle.get());
    int64_t *found = nullptr;
    uint64_t rank = 0;
    check(aclGetViewShape(places.handle.get(), &found, &rank), "aclGetViewShape");
    if (rank != 2 || found[0] != 2 || found[1] != 2) {
        throw std::runtime_error("nonzero found another number of elements");
    }
    delete[] found;

    uint64_t size = 0;
    aclOpExecutor *executor = nullptr;
    Tensor wide({2, 3}, ACL_FLOAT, 4);
    if (aclnnMatmulGetWorkspaceSize(wide.handle.get(), wide.handle.get(), y.handle.get(), 0, &size, &executor) !=
            ACLNN_ERR_PARAM_INVALID ||
        std::string(aclGetRecentErrMsg()).find("aclnnMatmul") == std::string::npos) {
        throw std::runtime_error("a product of 2x3 and 2x3 was not refused");
    }
    check(aclDestroyScalar(scale), "aclDestroyScalar");
    check(aclrtDestroyEvent(start), "aclrtDestroyEvent");
    check(aclrtDestroyEvent(end), "aclrtDestroyEvent");
    check(aclrtFreeHost(pinned), "aclrtFreeHost");
}

} // namespace

int main()
{
    try {
        check(aclInit(nullptr), "aclInit");
        check(aclrtSetDevice(0), "aclrtSetDevice");
        aclrtStream stream = nullptr;
        check(aclrtCreateStreamWithConfig(&stream, 0, ACL_STREAM_FAST_LAUNCH | ACL_STREAM_FAST_SYNC), "stream");
        work(stream);
        check(aclrtDestroyStream(stream), "aclrtDestroyStream");
        check(aclrtResetDevice(0), "aclrtResetDevice");
        check(aclFinalize(), "aclFinalize");
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    std::puts("network: right");
    return 0;
}
