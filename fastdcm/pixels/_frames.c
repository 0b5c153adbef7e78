/* Frames of many files into one block, without the GIL. batch.py says what is meant; read.py has the same in Python,
 * and reads again whatever is not done here. */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef __APPLE__
#define st_mtim st_mtimespec
#endif

/* One frame: the columns of batch.py's plan. */
typedef struct {
    int64_t size, mtime_ns;    /* of the file when it was scanned */
    int64_t header_bytes;      /* the frame follows them */
    int64_t place;             /* of the frame in the block, in bytes */
    int64_t width;             /* bytes of a value; 0: values are left as they are */
    int64_t low_bit, mask;     /* of the bits stored; no mask: all are */
    int64_t sign;              /* the highest bit stored, once it is moved; 0: there is no sign */
    int64_t least, span;       /* stored values from the least on fit the type of the block, once they are finished */
    int64_t slope, intercept;  /* modulo the size of the type, which is exact because the results fit */
} Frame;

/* ------------------------------------------------------------------ values */

#define VALUES_AT_A_TIME 4096 /* they stay in the first cache from one loop to the next */

/* Each loop is a function of its own that is not inlined: only so GCC makes vector instructions of it. */
#if defined(__GNUC__)
#define LOOP __attribute__((noinline)) static
#else
#define LOOP static
#endif

#define DEFINE_FINISH(S, T, U)                                                                                        \
LOOP void keep_##S(U *values, size_t n, int low, U mask, U sign)                                                      \
{                                                                                                                     \
    if (low)                                                                                                          \
        for (size_t i = 0; i < n; i++) values[i] = (U)(values[i] >> low);                                             \
    for (size_t i = 0; i < n; i++) values[i] = (U)(((values[i] & mask) ^ sign) - sign);                               \
}                                                                                                                     \
                                                                                                                      \
/* Add the intercept; 0 where a value was more than ``span`` above ``least``, counted around the type's end. */       \
LOOP int add_##S(U *values, size_t n, U least, U span, U intercept)                                                   \
{                                                                                                                     \
    const U half = (U)((U)1 << (8 * sizeof(U) - 1)), zero = (U)(least + half);                                        \
    T most = (T)half; /* differences less one half of the range: vectors are compared with a sign */                  \
    for (size_t i = 0; i < n; i++) {                                                                                  \
        T above = (T)(U)(values[i] - zero);                                                                           \
        most = above > most ? above : most;                                                                           \
        values[i] = (U)(values[i] + intercept);                                                                       \
    }                                                                                                                 \
    return (U)((U)most + half) <= span;                                                                               \
}                                                                                                                     \
                                                                                                                      \
LOOP void scale_##S(U *values, size_t n, U slope, U intercept)                                                        \
{                                                                                                                     \
    for (size_t i = 0; i < n; i++) values[i] = (U)((U)(values[i] * (uint32_t)slope) + intercept);                     \
}                                                                                                                     \
                                                                                                                      \
static int finish_##S(void *frame_values, size_t count, const Frame *frame)                                           \
{                                                                                                                     \
    U *values = frame_values;                                                                                         \
    const U least = (U)frame->least, span = (U)frame->span, slope = (U)frame->slope, intercept = (U)frame->intercept; \
    for (size_t start = 0; start < count; start += VALUES_AT_A_TIME, values += VALUES_AT_A_TIME) {                    \
        size_t n = count - start < VALUES_AT_A_TIME ? count - start : VALUES_AT_A_TIME;                               \
        if (frame->mask) keep_##S(values, n, (int)frame->low_bit, (U)frame->mask, (U)frame->sign);                    \
        if (!add_##S(values, n, least, span, slope == 1 ? intercept : 0)) return 0;                                   \
        if (slope != 1) scale_##S(values, n, slope, intercept);                                                       \
    }                                                                                                                 \
    return 1;                                                                                                         \
}

DEFINE_FINISH(8, int8_t, uint8_t)
DEFINE_FINISH(16, int16_t, uint16_t)
DEFINE_FINISH(32, int32_t, uint32_t)

/* Stored values to output values where they are; 0 where one does not fit. */
static int finish(void *values, size_t bytes, const Frame *frame)
{
    switch (frame->width) {
    case 1: return finish_8(values, bytes, frame);
    case 2: return finish_16(values, bytes / 2, frame);
    case 4: return finish_32(values, bytes / 4, frame);
    default: return 1;
    }
}

/* ------------------------------------------------------------------ files */

/* Fill header and frame from the start of a file; 0 where the file is shorter or cannot be read. */
static int fill(int file, char *header, size_t header_bytes, char *pixels, size_t frame_bytes)
{
    struct iovec parts[2] = {{header, header_bytes}, {pixels, frame_bytes}};
    size_t done = 0, total = header_bytes + frame_bytes;
    while (done < total) {
        if (done < header_bytes) {
            parts[0].iov_base = header + done;
            parts[0].iov_len = header_bytes - done;
        } else {
            parts[0].iov_len = 0;
            parts[1].iov_base = pixels + (done - header_bytes);
            parts[1].iov_len = total - done;
        }
        ssize_t count = preadv(file, parts, 2, (off_t)done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return 0;
        done += (size_t)count;
    }
    return 1;
}

static int is_time(const struct timespec *time, int64_t ns)
{
    const int64_t second = 1000000000, rest = (ns % second + second) % second;
    return time->tv_nsec == rest && time->tv_sec == (ns - rest) / second;
}

/* Read one frame of the very file that was scanned; 0 where anything is not as expected. */
static int read_frame(const char *path, char *header, char *pixels, size_t frame_bytes, const Frame *frame)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe is not waited for */
    if (file < 0) return 0;
    int ok = fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == frame->size &&
             is_time(&status.st_mtim, frame->mtime_ns) &&
             fill(file, header, (size_t)frame->header_bytes, pixels, frame_bytes) && finish(pixels, frame_bytes, frame);
    close(file);
    return ok;
}

/* ------------------------------------------------------------------ for Python */

/* Refuse what batch.py never asks for, rather than write where nothing is. */
static int fits(const Frame *frame, Py_ssize_t block_bytes, Py_ssize_t frame_bytes)
{
    const int64_t width = frame->width ? frame->width : 1;
    if (width != 1 && width != 2 && width != 4) return 0;
    return frame->header_bytes >= 0 && frame->header_bytes <= INT32_MAX && frame->place >= 0 &&
           frame->place <= block_bytes - frame_bytes && frame->low_bit >= 0 && frame->low_bit < 8 * width &&
           frame->place % width == 0 && frame_bytes % width == 0;
}

typedef struct {
    PyObject *path, *header; /* bytes; path is NULL where the system has no such names */
    const char *name;
    char *to;
    int done;
} Wanted;

static int prepare(Wanted *wanted, PyObject *path, const Frame *frame)
{
    wanted->header = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)frame->header_bytes);
    if (!wanted->header) return -1;
    wanted->to = PyBytes_AsString(wanted->header);
    if (PyUnicode_FSConverter(path, &wanted->path))
        wanted->name = PyBytes_AsString(wanted->path);
    else
        PyErr_Clear();
    return 0;
}

static PyObject *headers_of(const Wanted *wanted, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++)
        PyList_SetItem(list, i, Py_NewRef(wanted[i].done ? wanted[i].header : Py_None));
    return list;
}

static PyObject *read_all(PyObject *paths, const Frame *frames, const Py_buffer *block, Py_ssize_t frame_bytes)
{
    Py_ssize_t count = PyList_Size(paths);
    PyObject *headers = NULL;
    Wanted *wanted = PyMem_Calloc((size_t)count + 1, sizeof(Wanted));
    if (!wanted) return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!fits(&frames[i], block->len, frame_bytes)) {
            PyErr_SetString(PyExc_ValueError, "these frames do not fit this block");
            goto end;
        }
        if (prepare(&wanted[i], PyList_GetItem(paths, i), &frames[i]) < 0) goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count; i++) {
        char *pixels = (char *)block->buf + frames[i].place;
        wanted[i].done = wanted[i].name && read_frame(wanted[i].name, wanted[i].to, pixels, (size_t)frame_bytes, &frames[i]);
    }
    Py_END_ALLOW_THREADS
    headers = headers_of(wanted, count);
end:
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(wanted[i].path);
        Py_XDECREF(wanted[i].header);
    }
    PyMem_Free(wanted);
    return headers;
}

static PyObject *read_frames(PyObject *self, PyObject *args)
{
    PyObject *paths, *out, *headers = NULL;
    Py_buffer plan, block;
    Py_ssize_t frame_bytes;
    (void)self;
    if (!PyArg_ParseTuple(args, "Oy*On", &paths, &plan, &out, &frame_bytes)) return NULL;
    if (PyObject_GetBuffer(out, &block, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) == 0) {
        if (!PyList_Check(paths) || plan.len != PyList_Size(paths) * (Py_ssize_t)sizeof(Frame) || frame_bytes < 0)
            PyErr_SetString(PyExc_ValueError, "a list of paths, and a row of the plan for each, are wanted");
        else
            headers = read_all(paths, plan.buf, &block, frame_bytes);
        PyBuffer_Release(&block);
    }
    PyBuffer_Release(&plan);
    return headers;
}

static PyMethodDef functions[] = {
    {"read_frames", read_frames, METH_VARARGS, "(paths, plan, block, frame_bytes) -> headers, None: not done"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_frames", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__frames(void)
{
    return PyModule_Create(&module);
}
