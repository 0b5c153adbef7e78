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

/* Three samples a pixel to three planes. Without the wider instructions it is as slow as numpy; the linker's choice among
 * both is one of the GNU C library. */
#if defined(__GNUC__) && defined(__x86_64__) && defined(__GLIBC__)
__attribute__((target_clones("avx2", "default")))
#endif
LOOP void split_three(const uint8_t *restrict from, uint8_t *restrict first, uint8_t *restrict second,
                      uint8_t *restrict third, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        first[i] = from[3 * i];
        second[i] = from[3 * i + 1];
        third[i] = from[3 * i + 2];
    }
}

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

/* Fill two pieces of memory, one after the other, from a place in a file; 0 where it is shorter or cannot be read. */
static int fill(int file, size_t offset, char *first, size_t first_bytes, char *second, size_t second_bytes)
{
    struct iovec parts[2] = {{first, first_bytes}, {second, second_bytes}};
    size_t done = 0, total = first_bytes + second_bytes;
    while (done < total) {
        if (done < first_bytes) {
            parts[0].iov_base = first + done;
            parts[0].iov_len = first_bytes - done;
        } else {
            parts[0].iov_len = 0;
            parts[1].iov_base = second + (done - first_bytes);
            parts[1].iov_len = total - done;
        }
        ssize_t count = preadv(file, parts, 2, (off_t)(offset + done));
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

/* Open the very file that was scanned; -1 where it is not that. */
static int open_scanned(const char *path, int64_t size, int64_t mtime_ns)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe is not waited for */
    if (file < 0) return -1;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == size &&
        is_time(&status.st_mtim, mtime_ns))
        return file;
    close(file);
    return -1;
}

/* Read one frame; 0 where anything is not as expected. */
static int read_frame(const char *path, char *header, char *pixels, size_t frame_bytes, const Frame *frame)
{
    int file = open_scanned(path, frame->size, frame->mtime_ns);
    if (file < 0) return 0;
    int ok = fill(file, 0, header, (size_t)frame->header_bytes, pixels, frame_bytes) &&
             finish(pixels, frame_bytes, frame);
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

/* ------------------------------------------------------------------ one compressed frame */

#define ITEM 0xE000FFFEu      /* (FFFE,E000), as a little endian number */
#define DELIMITER 0xE0DDFFFEu /* (FFFE,E0DD) */
#define ITEM_BYTES 8
#define PREFIX_BYTES 20       /* of an offset table with one entry or none, and of the item behind it */

static uint32_t number_at(const char *at)
{
    const unsigned char *from = (const unsigned char *)at;
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* Find the first fragment by what the pixel value begins with; 0 bytes where that does not tell. */
static size_t find_fragment(const char *prefix, size_t *start)
{
    uint32_t table_bytes = number_at(prefix + 4);
    if (number_at(prefix) != ITEM || (table_bytes != 0 && table_bytes != 4)) return 0;
    const char *item = prefix + ITEM_BYTES + table_bytes;
    *start += ITEM_BYTES + table_bytes + ITEM_BYTES;
    return number_at(item) == ITEM && number_at(item + 4) != UINT32_MAX ? number_at(item + 4) : 0;
}

typedef struct {
    PyObject *header, *memory;
    size_t size, header_bytes;
} Fragment;

/* Read header and fragment of an open file of a size; 0 where this is not the only one, and where an error is set. */
static int read_into_memory(int file, const Fragment *wanted)
{
    char prefix[PREFIX_BYTES], behind[ITEM_BYTES];
    size_t start = wanted->header_bytes, bytes = 0, tail = 0;
    char *header = PyBytes_AsString(wanted->header);
    int ok;
    Py_BEGIN_ALLOW_THREADS
    ok = fill(file, 0, header, wanted->header_bytes, prefix, PREFIX_BYTES) && (bytes = find_fragment(prefix, &start));
    Py_END_ALLOW_THREADS
    if (!ok || bytes > wanted->size - start) return 0;
    if (PyByteArray_Resize(wanted->memory, (Py_ssize_t)bytes) < 0) return 0;
    tail = wanted->size - start - bytes < ITEM_BYTES ? 0 : ITEM_BYTES;
    char *data = PyByteArray_AsString(wanted->memory);
    Py_BEGIN_ALLOW_THREADS
    ok = fill(file, start, data, bytes, behind, tail) && (!tail || number_at(behind) == DELIMITER);
    Py_END_ALLOW_THREADS
    return ok;
}

static PyObject *read_fragment(PyObject *self, PyObject *args)
{
    PyObject *path, *name = NULL;
    Fragment wanted = {NULL, NULL, 0, 0};
    long long size, mtime_ns;
    Py_ssize_t header_bytes;
    int file = -1, done = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "OLLnO", &path, &size, &mtime_ns, &header_bytes, &wanted.memory)) return NULL;
    if (!PyByteArray_Check(wanted.memory) || header_bytes < 0 || size < header_bytes + PREFIX_BYTES) {
        PyErr_SetString(PyExc_ValueError, "memory, and a header that is shorter than its file, are wanted");
        return NULL;
    }
    wanted.size = (size_t)size;
    wanted.header_bytes = (size_t)header_bytes;
    if (!PyUnicode_FSConverter(path, &name)) return NULL;
    const char *to_open = PyBytes_AsString(name);
    Py_BEGIN_ALLOW_THREADS
    file = open_scanned(to_open, size, mtime_ns);
    Py_END_ALLOW_THREADS
    if (file >= 0) {
        wanted.header = PyBytes_FromStringAndSize(NULL, header_bytes);
        done = wanted.header && read_into_memory(file, &wanted);
        close(file);
    }
    Py_DECREF(name);
    if (!done) {
        Py_XDECREF(wanted.header);
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    return wanted.header;
}

static PyObject *finish_values(PyObject *self, PyObject *args)
{
    Py_buffer values;
    long long width, low_bit, mask, sign, least, span, slope, intercept;
    int fit = 1;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*LLLLLLLL", &values, &width, &low_bit, &mask, &sign, &least, &span, &slope, &intercept))
        return NULL;
    const Frame frame = {.width = width, .low_bit = low_bit, .mask = mask, .sign = sign, .least = least, .span = span,
                         .slope = slope, .intercept = intercept};
    if (!fits(&frame, values.len, values.len) || (uintptr_t)values.buf % (width ? (size_t)width : 1)) {
        PyErr_SetString(PyExc_ValueError, "these values cannot be finished so");
    } else {
        Py_BEGIN_ALLOW_THREADS
        fit = finish(values.buf, (size_t)values.len, &frame);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&values);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(fit);
}

static PyObject *split_samples(PyObject *self, PyObject *args)
{
    Py_buffer from, to;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*", &from, &to)) return NULL;
    int ok = from.len == to.len && from.len % 3 == 0;
    if (ok) {
        size_t count = (size_t)from.len / 3;
        uint8_t *planes = to.buf;
        Py_BEGIN_ALLOW_THREADS
        split_three(from.buf, planes, planes + count, planes + 2 * count, count);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    if (!ok) {
        PyErr_SetString(PyExc_ValueError, "these samples do not fit these planes");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"read_fragment", read_fragment, METH_VARARGS,
     "(path, size, mtime_ns, header_bytes, memory) -> header, the fragment in memory; None: not done"},
    {"split_samples", split_samples, METH_VARARGS, "(three bytes a pixel, three planes)"},
    {"finish_values", finish_values, METH_VARARGS, "(values, *Finish) -> whether all fit"},
    {"read_frames", read_frames, METH_VARARGS, "(paths, plan, block, frame_bytes) -> headers, None: not done"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_frames", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__frames(void)
{
    return PyModule_Create(&module);
}
