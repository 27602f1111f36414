/* The custom operator quantfleet::Tap: counts the float32 tensor that passes by, for calibration. Not an engine.
 *
 * One node observes one tensor right behind its producer, while it is in the cache, and writes into memory of the
 * caller's: a table over the float32 line (bin = bits >> 15, see quantfleet_domain/calibration/statistic.py) and the
 * extremes of the run. Attributes: `collector`, a handle of quantfleet_tap_open; `slot`, the tap in it; `channels` and
 * `block`, where the tensor is channel-blocked (N, C/block, ..., block): how many of its channels are real, and the
 * block; 0 and 1 elsewhere. Only real channels are counted.
 */
#include "counting.h"
#include "onnxruntime_abi.h"

#define MOST_COLLECTORS 64
#define MOST_DIMENSIONS 8

static struct {
    struct tap *taps;
    int64_t count;
} collectors[MOST_COLLECTORS];

/* A handle for `count` taps, or -1 where there are too many. Not for two threads at once. */
int64_t quantfleet_tap_open(struct tap *taps, int64_t count)
{
    for (int64_t handle = 0; handle < MOST_COLLECTORS; handle++) {
        if (!collectors[handle].taps) {
            collectors[handle].taps = taps;
            collectors[handle].count = count;
            return handle;
        }
    }
    return -1;
}

/* Sessions made with the handle go on counting; they must end before the taps do. */
void quantfleet_tap_close(int64_t handle)
{
    collectors[handle].taps = NULL;
}

/* What this library was compiled from. */
const char *quantfleet_tap_source(void)
{
    return SOURCE_DIGEST;
}

struct kernel {
    const OrtFunction *api;
    struct tap *tap;
    int64_t channels, block;
};

static OrtStatus *create(const struct OrtCustomOp *op, const OrtFunction *api, const OrtKernelInfo *info, void **made)
{
    (void)op;
    OrtStatus *status;
    int64_t collector, slot;
    struct kernel kernel = {.api = api};
    if ((status = INTEGER_ATTRIBUTE(info, "collector", &collector)) || (status = INTEGER_ATTRIBUTE(info, "slot", &slot))
        || (status = INTEGER_ATTRIBUTE(info, "channels", &kernel.channels))
        || (status = INTEGER_ATTRIBUTE(info, "block", &kernel.block)))
        return status;
    if (collector < 0 || collector >= MOST_COLLECTORS || !collectors[collector].taps || slot < 0
        || slot >= collectors[collector].count || kernel.channels < 0 || kernel.block < 1 || kernel.block > GATHERED)
        return CREATE_STATUS(ORT_INVALID_ARGUMENT, "Tap: attributes out of range");
    kernel.tap = collectors[collector].taps + slot;
    if (!(*made = malloc(sizeof kernel)))
        return CREATE_STATUS(ORT_INVALID_ARGUMENT, "Tap: out of memory");
    memcpy(*made, &kernel, sizeof kernel);
    return NULL;
}

static OrtStatus *run(const struct kernel *kernel, const OrtValue *input, const OrtShape *shape)
{
    const OrtFunction *api = kernel->api;
    OrtStatus *status;
    size_t size, rank;
    int64_t dimensions[MOST_DIMENSIONS];
    void *data;
    if ((status = ELEMENT_COUNT(shape, &size)) || (status = TENSOR_DATA(input, &data)))
        return status;
    if (!kernel->channels || !size) {
        observe(kernel->tap, data, size);
        settle(kernel->tap);
        return NULL;
    }
    if ((status = DIMENSION_COUNT(shape, &rank)))
        return status;
    if (rank < 2 || rank > MOST_DIMENSIONS)
        return CREATE_STATUS(ORT_INVALID_ARGUMENT, "Tap: a blocked tensor has between 2 and 8 dimensions");
    if ((status = DIMENSIONS(shape, dimensions, rank)))
        return status;
    size_t batch = (size_t)dimensions[0], padded = (size_t)dimensions[1];
    if (dimensions[1] % kernel->block || dimensions[1] < kernel->channels
        || dimensions[1] - kernel->channels >= kernel->block)
        return CREATE_STATUS(ORT_INVALID_ARGUMENT, "Tap: the channels are not blocked as its attributes say");
    observe_blocked(kernel->tap, data, batch, padded, size / batch / padded, (size_t)kernel->channels,
                    (size_t)kernel->block);
    settle(kernel->tap);
    return NULL;
}

static OrtStatus *compute(void *made, OrtKernelContext *context)
{
    const OrtFunction *api = ((struct kernel *)made)->api;
    const OrtValue *input;
    OrtShape *shape;
    OrtStatus *status;
    if ((status = KERNEL_INPUT(context, 0, &input)) || (status = TENSOR_SHAPE(input, &shape)))
        return status;
    status = run(made, input, shape);
    RELEASE_SHAPE(shape);
    return status;
}

static const char *name(const struct OrtCustomOp *op)
{
    (void)op;
    return "Tap";
}

static const char *any_provider(const struct OrtCustomOp *op)
{
    (void)op;
    return NULL; /* the CPU's */
}

static int float_type(const struct OrtCustomOp *op, size_t index)
{
    (void)op, (void)index;
    return ONNX_FLOAT;
}

static size_t one_input(const struct OrtCustomOp *op)
{
    (void)op;
    return 1;
}

static size_t no_output(const struct OrtCustomOp *op)
{
    (void)op;
    return 0;
}

static int usual(const struct OrtCustomOp *op, size_t index)
{
    (void)op, (void)index;
    return 0; /* required; in the default memory */
}

static int first_version(const struct OrtCustomOp *op)
{
    (void)op;
    return 1;
}

static int last_version(const struct OrtCustomOp *op)
{
    (void)op;
    return INT32_MAX;
}

static const struct OrtCustomOp TAP = {
    .version = ORT_VERSION,
    .GetName = name,
    .GetExecutionProviderType = any_provider,
    .GetInputType = float_type,
    .GetInputTypeCount = one_input,
    .GetOutputType = float_type,
    .GetOutputTypeCount = no_output,
    .KernelDestroy = free,
    .GetInputCharacteristic = usual,
    .GetOutputCharacteristic = usual,
    .GetInputMemoryType = usual,
    .GetVariadicInputMinArity = first_version,
    .GetVariadicInputHomogeneity = first_version,
    .GetVariadicOutputMinArity = first_version,
    .GetVariadicOutputHomogeneity = first_version,
    .CreateKernelV2 = create,
    .KernelComputeV2 = compute,
    .GetStartVersion = first_version,
    .GetEndVersion = last_version,
};

/* What ONNX Runtime calls by this name when the library is registered with a session. */
OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base)
{
    const OrtFunction *api = base->GetApi(ORT_VERSION);
    OrtCustomOpDomain *domain;
    OrtStatus *status;
    if (!api) {
        api = base->GetApi(1);
        return CREATE_STATUS(ORT_INVALID_ARGUMENT, "Tap: this ONNX Runtime is older than 1.18");
    }
    if ((status = CREATE_DOMAIN("quantfleet", &domain)) || (status = ADD_TO_DOMAIN(domain, &TAP)))
        return status;
    return ADD_DOMAIN(options, domain);
}
