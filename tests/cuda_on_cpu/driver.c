// A stand-in for libcuda.so.1 with two devices: contexts, streams, events, modules and launches, checked as the driver
// checks them. A module image "SHIM:<path>" is a library of kernels compiled for the CPU, and a launch really runs them.
// Work is done when it is submitted. What happened is kept in a journal that tests read through ctypes.
//
// Settings: STANDIN_NO_DEVICE=1 (cuInit fails), STANDIN_CAPABILITY=130 (of both devices; default 90),
// STANDIN_OUT_OF_MEMORY=1 (modules do not load), STANDIN_LAUNCH_FAILS=1.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int CUresult;
enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NOT_SUPPORTED = 801, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500,
    LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900
};
enum { DEVICES = 2, DEPTH = 64, JOURNAL = 4096 };

typedef struct { int device, references; } Context;
typedef struct { Context *context; long capture; } Stream;      // capture: number of the graph it records into, or 0
typedef struct { Stream *stream; long capture; } Event;
typedef struct { Context *context; void *library; } Module;
typedef void (*Kernel)(const unsigned *, const unsigned *, const void *, size_t);
typedef struct { Context *context; char name[64]; Kernel kernel; } Function;
typedef struct {                                                // read by tests: keep in step with standin.py
    char what[16], name[64];
    void *stream, *other;
    int device;
    long thread, capture;
    unsigned grid, block;
    size_t bytes;
} Entry;

Entry standin_journal[JOURNAL];
long standin_entries;
int standin_skip;                       // launches are noted and not run: for timing the host
int standin_stack_depth(void);

static int initialized;
static long captures, open_capture;
static Context primary[DEVICES] = {{0, 0}, {1, 0}};
static Stream *const LEGACY = (Stream *)1;                     // CU_STREAM_LEGACY: the default stream, by name
static __thread Context *stack[DEPTH];
static __thread int depth;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int standin_stack_depth(void) { return depth; }

static long capture_of(const Stream *stream)
{
    return stream && stream->capture == open_capture ? open_capture : 0;
}

static CUresult refuse(const char *name)
{
    fprintf(stderr, "stand-in driver: %s is not implemented\n", name);
    return NOT_SUPPORTED;
}

static Entry *note(const char *what, void *stream, void *other, long capture)
{
    pthread_mutex_lock(&lock);
    Entry *entry = &standin_journal[standin_entries++ % JOURNAL];
    pthread_mutex_unlock(&lock);
    memset(entry, 0, sizeof *entry);
    strncpy(entry->what, what, sizeof entry->what - 1);
    entry->stream = stream;
    entry->other = other;
    entry->device = depth ? stack[depth - 1]->device : -1;
    entry->thread = (long)gettid();
    entry->capture = capture;
    return entry;
}

#define NEED_CONTEXT if (!initialized) return NOT_INITIALIZED; if (!depth) return INVALID_CONTEXT

CUresult cuInit(unsigned flags)
{
    if (getenv("STANDIN_NO_DEVICE"))
        return NO_DEVICE;
    initialized = 1;
    return flags ? INVALID_VALUE : SUCCESS;
}
CUresult cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **text)
{
    static __thread char buffer[64];
    snprintf(buffer, sizeof buffer, "stand-in driver: error %d", error);
    *text = buffer;
    return SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char **text) { return cuGetErrorString(error, text); }

// ---- devices and contexts

CUresult cuDeviceGetCount(int *count) { *count = DEVICES; return initialized ? SUCCESS : NOT_INITIALIZED; }
CUresult cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return !initialized ? NOT_INITIALIZED : ordinal < 0 || ordinal >= DEVICES ? INVALID_DEVICE : SUCCESS;
}
CUresult cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "stand-in %d", device); return SUCCESS; }
CUresult cuDeviceComputeCapability(int *major, int *minor, int device)
{
    const char *setting = getenv("STANDIN_CAPABILITY");
    const int capability = setting ? atoi(setting) : 90;
    *major = capability / 10;
    *minor = capability % 10;
    return SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, int attribute, int device)
{
    if (attribute == 75)
        return cuDeviceComputeCapability(value, &attribute, device);
    if (attribute == 76)
        return cuDeviceComputeCapability(&attribute, value, device);
    *value = 1;
    return SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(Context **context, int device)
{
    primary[device].references++;
    *context = &primary[device];
    return initialized ? SUCCESS : NOT_INITIALIZED;
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) { primary[device].references--; return SUCCESS; }
CUresult cuCtxPushCurrent_v2(Context *context)
{
    if (depth == DEPTH)
        return OUT_OF_MEMORY;
    stack[depth++] = context;
    return SUCCESS;
}
CUresult cuCtxPopCurrent_v2(Context **context)
{
    if (!depth)
        return INVALID_CONTEXT;
    depth--;
    if (context)
        *context = stack[depth];
    return SUCCESS;
}
CUresult cuCtxGetCurrent(Context **context) { *context = depth ? stack[depth - 1] : NULL; return SUCCESS; }
CUresult cuCtxGetDevice(int *device) { NEED_CONTEXT; *device = stack[depth - 1]->device; return SUCCESS; }
CUresult cuCtxSynchronize(void) { NEED_CONTEXT; note("synchronize", NULL, NULL, 0); return SUCCESS; }

// ---- streams and events

CUresult cuStreamCreate(Stream **stream, unsigned flags)
{
    NEED_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    (*stream)->context = stack[depth - 1];
    note("stream", *stream, (void *)(uintptr_t)flags, 0);
    return SUCCESS;
}
CUresult cuStreamDestroy_v2(Stream *stream) { note("destroy", stream, NULL, 0); free(stream); return SUCCESS; }
CUresult cuStreamSynchronize(Stream *stream) { NEED_CONTEXT; return SUCCESS; }
CUresult cuStreamQuery(Stream *stream) { NEED_CONTEXT; return SUCCESS; }
CUresult cuEventCreate(Event **event, unsigned flags) { NEED_CONTEXT; *event = calloc(1, sizeof **event); return SUCCESS; }
CUresult cuEventDestroy_v2(Event *event) { free(event); return SUCCESS; }
CUresult cuEventRecord(Event *event, Stream *stream)
{
    NEED_CONTEXT;
    event->stream = stream;
    event->capture = capture_of(stream);
    note("record", stream, event, event->capture);
    return SUCCESS;
}
CUresult cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags)
{
    NEED_CONTEXT;
    if (stream && event->capture && event->capture == open_capture)
        stream->capture = event->capture;       // the stream joins the graph
    note("wait", stream, event->stream, event->capture);
    return SUCCESS;
}
CUresult cuStreamBeginCapture_v2(Stream *stream, int mode) { stream->capture = open_capture = ++captures; return SUCCESS; }
CUresult cuStreamEndCapture(Stream *stream, void **graph) { open_capture = 0; *graph = NULL; return SUCCESS; }

// ---- memory: the host's

CUresult cuMemAlloc_v2(void **pointer, size_t bytes) { NEED_CONTEXT; *pointer = malloc(bytes); return SUCCESS; }
CUresult cuMemFree_v2(void *pointer) { free(pointer); return SUCCESS; }
CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { NEED_CONTEXT; *pointer = malloc(bytes); return SUCCESS; }
CUresult cuMemFreeHost(void *pointer) { free(pointer); return SUCCESS; }
CUresult cuMemHostGetDevicePointer_v2(void **device, void *host, unsigned flags) { NEED_CONTEXT; *device = host; return SUCCESS; }
CUresult cuMemcpyDtoH_v2(void *target, const void *source, size_t bytes) { NEED_CONTEXT; memcpy(target, source, bytes); return SUCCESS; }
CUresult cuMemcpyHtoD_v2(void *target, const void *source, size_t bytes) { NEED_CONTEXT; memcpy(target, source, bytes); return SUCCESS; }

// ---- modules and launches

CUresult cuModuleLoadDataEx(Module **module, const char *image, unsigned count, void *options, void *values)
{
    NEED_CONTEXT;
    if (getenv("STANDIN_OUT_OF_MEMORY"))
        return OUT_OF_MEMORY;
    if (strncmp(image, "SHIM:", 5))
        return INVALID_IMAGE;
    *module = calloc(1, sizeof **module);
    (*module)->context = stack[depth - 1];
    (*module)->library = dlopen(image + 5, RTLD_NOW | RTLD_LOCAL);
    note("load", NULL, NULL, 0);
    return (*module)->library ? SUCCESS : INVALID_IMAGE;
}
CUresult cuModuleLoadData(Module **module, const char *image) { return cuModuleLoadDataEx(module, image, 0, NULL, NULL); }
CUresult cuModuleUnload(Module *module) { free(module); return SUCCESS; }
CUresult cuModuleGetFunction(Function **function, Module *module, const char *name)
{
    char symbol[128];
    snprintf(symbol, sizeof symbol, "shim_launch_%s", name);
    *function = calloc(1, sizeof **function);
    (*function)->context = module->context;
    (*function)->kernel = (Kernel)dlsym(module->library, symbol);
    strncpy((*function)->name, name, sizeof (*function)->name - 1);
    return (*function)->kernel ? SUCCESS : NOT_FOUND;
}
CUresult cuModuleGetGlobal_v2(void **pointer, size_t *bytes, Module *module, const char *name)
{
    char symbol[128];
    snprintf(symbol, sizeof symbol, "shim_global_%s", name);
    void *(*find)(size_t *) = (void *(*)(size_t *))dlsym(module->library, symbol);
    if (!find)
        return NOT_FOUND;
    *pointer = find(bytes);
    return SUCCESS;
}
CUresult cuFuncSetBlockShape(Function *function, int x, int y, int z) { return SUCCESS; }
CUresult cuFuncGetAttribute(int *value, int attribute, Function *function) { *value = 0; return SUCCESS; }
CUresult cuLaunchKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, Stream *stream, void **parameters, void **extra)
{
    NEED_CONTEXT;
    if (stream == LEGACY)
        stream = NULL;
    if (function->context != stack[depth - 1] || (stream && stream->context != function->context))
        return INVALID_HANDLE;
    if (!grid_x || !grid_y || !grid_z || !block_x || parameters || !extra)
        return INVALID_VALUE;
    if (!stream && open_capture)
        return CAPTURE_UNSUPPORTED;
    if (getenv("STANDIN_LAUNCH_FAILS"))
        return LAUNCH_FAILED;
    const unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
    Entry *entry = note("launch", stream, NULL, capture_of(stream));
    strncpy(entry->name, function->name, sizeof entry->name - 1);
    entry->grid = grid_x;
    entry->block = block_x;
    entry->bytes = *(size_t *)extra[3];
    if (!standin_skip)
        function->kernel(grid, block, extra[1], entry->bytes);
    return SUCCESS;
}

CUresult cuGetProcAddress_v2(const char *name, void **pointer, int version, unsigned long long flags, int *status)
{
    static const char *const suffixes[] = {"", "_v2", "_v3"};   // the plain name is declared only where it is asked for
    void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    *pointer = NULL;
    for (int i = 0; i < 3 && !*pointer; i++) {
        char symbol[200];
        snprintf(symbol, sizeof symbol, "%s%s", name, suffixes[i]);
        *pointer = dlsym(self, symbol);
    }
    if (status)
        *status = *pointer ? 0 : 1;
    return *pointer ? SUCCESS : NOT_FOUND;
}

#include "driver_stubs.h"
