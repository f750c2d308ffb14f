/* Opens the libraries one by one, as programs do that load CANN at run time, and looks symbols up through each handle. */
#include <dlfcn.h>
#include <stdio.h>

static const char *const names[] = {
    "libascendcl.so", "libnnopbase.so", "libopapi.so",         "libopapi_math.so", "libopapi_nn.so", "libhccl.so",
    "libacl_rt.so",   "libruntime.so",  "libopapi_transformer.so", "libge_runner.so", "libgraph.so",
    "libacl_op_compiler.so", "libacl_tdt_channel.so", "libmsprofiler.so",
};

int main(void)
{
    void *(*first)(void) = NULL;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL) {
            fprintf(stderr, "%s: %s\n", names[i], dlerror());
            return 1;
        }
        /* The operator library must lead to the handles of its arguments. */
        void *(*create)(void) = NULL;
        *(void **)&create = dlsym(handle, "aclCreateTensor");
        if (create == NULL || (first != NULL && create != first)) {
            fprintf(stderr, "%s: another aclCreateTensor\n", names[i]);
            return 2;
        }
        first = create;
        if (dlsym(handle, "aclnnAddGetWorkspaceSize") == NULL || dlsym(handle, "aclInit") == NULL ||
            dlsym(handle, "MsprofReportApi") == NULL || dlsym(handle, "InitHugeMemThreadLocal") == NULL) {
            fprintf(stderr, "%s: a symbol is missing\n", names[i]);
            return 3;
        }
    }
    puts("names: one library");
    return 0;
}
