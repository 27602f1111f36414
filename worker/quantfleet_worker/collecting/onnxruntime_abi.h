/* What tap.c needs of ONNX Runtime's C interface. Not a copy of its header, of which its packages bring none.
 *
 * This is the binary interface that onnxruntime_c_api.h promises: OrtApi is an array of functions and OrtCustomOp a
 * struct, and both are only ever appended to. OrtCustomOp is declared whole as it was in ORT_VERSION, because a struct
 * that is shorter than its version says is read past its end.
 */
#ifndef QUANTFLEET_ONNXRUNTIME_ABI_H
#define QUANTFLEET_ONNXRUNTIME_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_VERSION 18u

typedef struct OrtStatus OrtStatus;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtShapeInferContext OrtShapeInferContext;
typedef struct OrtValue OrtValue;
typedef struct OrtShape OrtShape;
typedef void (*OrtFunction)(void);

typedef struct {
    const OrtFunction *(*GetApi)(uint32_t version); /* NULL where this version is not offered */
    const char *(*GetVersionString)(void);
} OrtApiBase;

/* Function `index` of OrtApi, of the type `result (*)(...)`. */
#define CALL(index, result, ...) ((result(*)(__VA_ARGS__))api[index])
#define CREATE_STATUS CALL(0, OrtStatus *, int, const char *)
#define CREATE_DOMAIN CALL(26, OrtStatus *, const char *, OrtCustomOpDomain **)
#define ADD_TO_DOMAIN CALL(27, OrtStatus *, OrtCustomOpDomain *, const struct OrtCustomOp *)
#define ADD_DOMAIN CALL(28, OrtStatus *, OrtSessionOptions *, OrtCustomOpDomain *)
#define TENSOR_DATA CALL(51, OrtStatus *, const OrtValue *, void **)
#define DIMENSION_COUNT CALL(61, OrtStatus *, const OrtShape *, size_t *)
#define DIMENSIONS CALL(62, OrtStatus *, const OrtShape *, int64_t *, size_t)
#define ELEMENT_COUNT CALL(64, OrtStatus *, const OrtShape *, size_t *)
#define TENSOR_SHAPE CALL(65, OrtStatus *, const OrtValue *, OrtShape **)
#define INTEGER_ATTRIBUTE CALL(86, OrtStatus *, const OrtKernelInfo *, const char *, int64_t *)
#define KERNEL_INPUT CALL(90, OrtStatus *, const OrtKernelContext *, size_t, const OrtValue **)
#define RELEASE_SHAPE CALL(99, void, OrtShape *)

enum { ORT_INVALID_ARGUMENT = 2, ONNX_FLOAT = 1 };

struct OrtCustomOp {
    uint32_t version;
    void *(*CreateKernel)(const struct OrtCustomOp *, const OrtFunction *, const OrtKernelInfo *);
    const char *(*GetName)(const struct OrtCustomOp *);
    const char *(*GetExecutionProviderType)(const struct OrtCustomOp *);
    int (*GetInputType)(const struct OrtCustomOp *, size_t);
    size_t (*GetInputTypeCount)(const struct OrtCustomOp *);
    int (*GetOutputType)(const struct OrtCustomOp *, size_t);
    size_t (*GetOutputTypeCount)(const struct OrtCustomOp *);
    void (*KernelCompute)(void *, OrtKernelContext *);
    void (*KernelDestroy)(void *);
    int (*GetInputCharacteristic)(const struct OrtCustomOp *, size_t);
    int (*GetOutputCharacteristic)(const struct OrtCustomOp *, size_t);
    int (*GetInputMemoryType)(const struct OrtCustomOp *, size_t);
    int (*GetVariadicInputMinArity)(const struct OrtCustomOp *);
    int (*GetVariadicInputHomogeneity)(const struct OrtCustomOp *);
    int (*GetVariadicOutputMinArity)(const struct OrtCustomOp *);
    int (*GetVariadicOutputHomogeneity)(const struct OrtCustomOp *);
    OrtStatus *(*CreateKernelV2)(const struct OrtCustomOp *, const OrtFunction *, const OrtKernelInfo *, void **);
    OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
    OrtStatus *(*InferOutputShape)(const struct OrtCustomOp *, OrtShapeInferContext *);
    int (*GetStartVersion)(const struct OrtCustomOp *);
    int (*GetEndVersion)(const struct OrtCustomOp *);
    size_t (*GetMayInplace)(int **, int **);
    void (*ReleaseMayInplace)(int *, int *);
    size_t (*GetAliasMap)(int **, int **);
    void (*ReleaseAliasMap)(int *, int *);
};

#endif
