/* The older interface: operators by type with descriptions, buffers and attributes; handles; casts; products of matrices. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "acl/acl.h"
#include "acl/acl_op_compiler.h"
#include "acl/ops/acl_cblas.h"

#define CHECK(call)                                                                                        \
    do {                                                                                                   \
        int code = (int)(call);                                                                            \
        if (code != 0) {                                                                                   \
            const char *text = aclGetRecentErrMsg();                                                       \
            fprintf(stderr, "line %d: %s gave %d: %s\n", __LINE__, #call, code, text ? text : "no text"); \
            return 1;                                                                                      \
        }                                                                                                  \
    } while (0)

static aclrtStream stream;

struct operand {
    aclTensorDesc *desc;
    aclDataBuffer *buffer;
    void *data;
    size_t size;
};

static struct operand make(aclDataType type, int rank, const int64_t *dims, const void *values)
{
    struct operand made = {aclCreateTensorDesc(type, rank, dims, ACL_FORMAT_ND), NULL, NULL, 0};
    made.size = aclGetTensorDescSize(made.desc);
    if (aclrtMalloc(&made.data, made.size, ACL_MEM_MALLOC_HUGE_FIRST) == 0 && values != NULL) {
        aclrtMemcpy(made.data, made.size, values, made.size, ACL_MEMCPY_HOST_TO_DEVICE);
    }
    made.buffer = aclCreateDataBuffer(made.data, made.size);
    return made;
}

/* 0 where the result has the wanted floats, to a part in ten thousand. */
static int differs(struct operand *out, const float *wanted)
{
    float got[64];
    if (aclrtSynchronizeStream(stream) != 0 || aclrtMemcpy(got, sizeof got, out->data, out->size, ACL_MEMCPY_DEVICE_TO_HOST) != 0) {
        return 1;
    }
    for (size_t at = 0; at < out->size / sizeof(float); at++) {
        if (!(fabsf(got[at] - wanted[at]) <= 1e-4f * (1.0f + fabsf(wanted[at])))) {
            fprintf(stderr, "element %zu is %g, wanted %g\n", at, got[at], wanted[at]);
            return 1;
        }
    }
    return 0;
}

static int run(const char *op, int inputs, struct operand *in, struct operand *out, aclopAttr *attr)
{
    aclTensorDesc *descs[4], *out_desc[1] = {out->desc};
    aclDataBuffer *buffers[4], *out_buffer[1] = {out->buffer};
    for (int at = 0; at < inputs; at++) {
        descs[at] = in[at].desc;
        buffers[at] = in[at].buffer;
    }
    return aclopCompileAndExecuteV2(op, inputs, descs, buffers, 1, out_desc, out_buffer, attr, ACL_ENGINE_SYS, ACL_COMPILE_SYS, NULL, stream);
}

int main(void)
{
    const int64_t two_three[2] = {2, 3}, three_two[2] = {3, 2}, two_two[2] = {2, 2}, two[1] = {2}, one[1] = {1};
    const float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {10, 20, 30, 40, 50, 60}, c[4] = {1, 1, 1, 1};
    const float added[6] = {11, 22, 33, 44, 55, 66}, turned[6] = {1, 4, 2, 5, 3, 6}, sums[2] = {6, 15};
    const float products[4] = {140, 320, 320, 770}; /* a b^T */
    const float mixed[4] = {283, 643, 643, 1543};   /* 2 a b^T + 3 c */
    const float soft[6] = {0.09003057f, 0.24472847f, 0.66524096f, 0.09003057f, 0.24472847f, 0.66524096f};
    const int32_t axis[1] = {1};
    const int64_t order[2] = {1, 0};

    CHECK(aclInit(NULL));
    CHECK(aclrtSetDevice(0));
    CHECK(aclrtCreateStream(&stream));
    struct operand in[4] = {make(ACL_FLOAT, 2, two_three, a), make(ACL_FLOAT, 2, two_three, b)};
    struct operand out = make(ACL_FLOAT, 2, two_three, NULL);
    CHECK(run("Add", 2, in, &out, NULL));
    CHECK(differs(&out, added));
    aclopAttr *attr = aclopCreateAttr();
    const int64_t last[1] = {-1};
    CHECK(aclopSetAttrListInt(attr, "axes", 1, last));
    CHECK(run("SoftmaxV2", 1, in, &out, attr));
    CHECK(differs(&out, soft));
    aclopDestroyAttr(attr);

    struct operand turn = make(ACL_FLOAT, 2, three_two, NULL);
    struct operand perm = make(ACL_INT64, 1, two, order);
    CHECK(aclSetTensorConst(perm.desc, (void *)order, sizeof order));
    struct operand pair[2] = {in[0], perm};
    CHECK(run("Transpose", 2, pair, &turn, NULL));
    CHECK(differs(&turn, turned));

    /* The axis of a sum lies in host memory. */
    struct operand sum = make(ACL_FLOAT, 1, two, NULL);
    struct operand axes = make(ACL_INT32, 1, one, NULL);
    aclTensorDesc *axis_desc = axes.desc;
    CHECK(aclSetTensorPlaceMent(axis_desc, ACL_MEMTYPE_HOST));
    CHECK(aclUpdateDataBuffer(axes.buffer, (void *)axis, sizeof axis));
    pair[1] = axes;
    CHECK(run("ReduceSum", 2, pair, &sum, NULL));
    CHECK(differs(&sum, sums));

    struct operand square = make(ACL_FLOAT, 2, two_two, NULL);
    attr = aclopCreateAttr();
    CHECK(aclopSetAttrBool(attr, "transpose_x2", 1));
    CHECK(run("MatMulV2", 2, in, &square, attr));
    CHECK(differs(&square, products));
    aclopDestroyAttr(attr);

    /* A norm of order 0.5 in its two parts. */
    attr = aclopCreateAttr();
    CHECK(aclopSetAttrFloat(attr, "p", 0.5f));
    CHECK(aclopSetAttrListInt(attr, "axes", 1, last));
    CHECK(aclopSetAttrBool(attr, "keepdim", 0));
    CHECK(run("LpNormReduceV2", 1, in, &sum, attr));
    struct operand part[1] = {sum}, root = make(ACL_FLOAT, 1, two, NULL);
    CHECK(run("LpNormUpdateV2", 1, part, &root, attr));
    /* (1 + sqrt 2 + sqrt 3)^2 and (2 + sqrt 5 + sqrt 6)^2 */
    const float wanted[2] = {17.191508f, 44.696682f};
    CHECK(differs(&root, wanted));
    aclopDestroyAttr(attr);

    /* By a handle. */
    aclopHandle *handle = NULL;
    const aclTensorDesc *descs[2] = {in[0].desc, in[1].desc}, *out_desc[1] = {out.desc};
    const aclDataBuffer *buffers[2] = {in[0].buffer, in[1].buffer};
    aclDataBuffer *results[1] = {out.buffer};
    CHECK(aclopCreateHandle("Add", 2, descs, 1, out_desc, NULL, &handle));
    CHECK(aclrtMemset(out.data, out.size, 0, out.size));
    CHECK(aclopExecWithHandle(handle, 2, buffers, 1, results, stream));
    CHECK(differs(&out, added));
    aclopDestroyHandle(handle);

    /* To whole numbers and back, and a product as BLAS has it. */
    struct operand whole = make(ACL_INT32, 2, two_three, NULL);
    CHECK(aclopCast(in[0].desc, in[0].buffer, whole.desc, whole.buffer, 0, stream));
    CHECK(aclopCast(whole.desc, whole.buffer, out.desc, out.buffer, 0, stream));
    CHECK(differs(&out, a));
    const float factors[2] = {2, 3};
    struct operand alpha = make(ACL_FLOAT, 1, one, &factors[0]), beta = make(ACL_FLOAT, 1, one, &factors[1]);
    struct operand target = make(ACL_FLOAT, 2, two_two, c);
    CHECK(aclblasGemmEx(ACL_TRANS_N, ACL_TRANS_T, ACL_TRANS_N, 2, 2, 3, alpha.data, in[0].data, -1, ACL_FLOAT, in[1].data, -1, ACL_FLOAT,
                        beta.data, target.data, -1, ACL_FLOAT, ACL_COMPUTE_HIGH_PRECISION, stream));
    CHECK(differs(&target, mixed));

    /* What is not there is refused by name. */
    if (run("NoSuchOperator", 1, in, &out, NULL) == 0 || strstr(aclGetRecentErrMsg(), "NoSuchOperator") == NULL) {
        fprintf(stderr, "an unknown operator was not refused by name\n");
        return 4;
    }
    if (run("Add", 1, in, &out, NULL) == 0) {
        fprintf(stderr, "an addition of one operand was not refused\n");
        return 5;
    }
    CHECK(aclrtDestroyStream(stream));
    CHECK(aclrtResetDevice(0));
    CHECK(aclFinalize());
    puts("single: right");
    return 0;
}
