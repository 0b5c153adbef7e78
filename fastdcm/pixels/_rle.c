/* RLE frames (PS3.5 Annex G), without the GIL. rle.py says what is meant, and decodes by imagecodecs what is not done
 * here. */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SEGMENTS_MAX 15        /* PS3.5 G.5: the header has room for no more offsets */
#define HEADER_BYTES 64
#define VALUES_AT_A_TIME 4096  /* planes of so many bytes stay in the first cache until they are put together */
#define RUN_BYTES_MAX 128      /* short runs are copied as a whole, and overrun the plane by fewer bytes than that */
#define SAMPLE_BYTES_MAX 8

/* A segment, and how far it is decoded. */
typedef struct {
    const uint8_t *at, *end;
    size_t left;               /* bytes that its current run still gives */
    int literal;               /* they are those that follow; else ``value`` so many times */
    uint8_t value;
} Segment;

/* Begin the next run; 0 where the segment ends. */
static int next_run(Segment *segment)
{
    while (segment->at < segment->end) {
        uint8_t code = *segment->at++;
        if (code == 128) continue;
        segment->literal = code < 128;
        segment->left = segment->literal ? code + 1u : 257u - code;
        size_t there = (size_t)(segment->end - segment->at);
        if (there < (segment->literal ? segment->left : 1)) return 0;
        if (!segment->literal) segment->value = *segment->at++;
        return 1;
    }
    return 0;
}

/* Give the next ``count`` bytes of a plane, into memory with room for RUN_BYTES_MAX more; 0 where there are fewer. */
static int unpack(Segment *segment, uint8_t *to, size_t count)
{
    while (count) {
        if (!segment->left && !next_run(segment)) return 0;
        size_t n = segment->left < count ? segment->left : count;
        if (!segment->literal) {
            if (n <= 32) memset(to, segment->value, 32);
            else memset(to, segment->value, RUN_BYTES_MAX);
        } else {
            if (n <= 32 && segment->end - segment->at >= 32) memcpy(to, segment->at, 32);
            else memcpy(to, segment->at, n);
            segment->at += n;
        }
        segment->left -= n;
        count -= n;
        to += n;
    }
    return 1;
}

/* Nothing is left but the byte that makes the length even. */
static int is_done(const Segment *segment)
{
    ptrdiff_t rest = segment->end - segment->at;
    return !segment->left && (rest == 0 || (rest == 1 && *segment->at == 0));
}

/* Planes, the most significant first, to little endian values. */
#if defined(__GNUC__)
__attribute__((noinline))
#endif
static void join_two(const uint8_t *high, const uint8_t *low, uint8_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[2 * i] = low[i];
        to[2 * i + 1] = high[i];
    }
}

static void join(uint8_t planes[][VALUES_AT_A_TIME + RUN_BYTES_MAX], size_t width, uint8_t *to, size_t count)
{
    if (width == 1)
        memcpy(to, planes[0], count);
    else if (width == 2)
        join_two(planes[0], planes[1], to, count);
    else
        for (size_t plane = 0; plane < width; plane++)
            for (size_t i = 0; i < count; i++) to[width * i + width - 1 - plane] = planes[plane][i];
}

static int decode_sample(Segment *segments, size_t width, uint8_t *to, size_t count)
{
    uint8_t planes[SAMPLE_BYTES_MAX][VALUES_AT_A_TIME + RUN_BYTES_MAX];
    while (count) {
        size_t n = count < VALUES_AT_A_TIME ? count : VALUES_AT_A_TIME;
        for (size_t plane = 0; plane < width; plane++)
            if (!unpack(&segments[plane], planes[plane], n)) return 0;
        join(planes, width, to, n);
        to += n * width;
        count -= n;
    }
    for (size_t plane = 0; plane < width; plane++)
        if (!is_done(&segments[plane])) return 0;
    return 1;
}

static size_t number_at(const uint8_t *at)
{
    return at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
}

/* Find the segments; 0 where the header is not one of so many, in order and inside the data. */
static int find_segments(const uint8_t *data, size_t size, size_t count, Segment *segments)
{
    if (size < HEADER_BYTES || number_at(data) != count || number_at(data + 4) != HEADER_BYTES) return 0;
    for (size_t i = 0; i < count; i++) {
        size_t start = number_at(data + 4 + 4 * i);
        size_t end = i + 1 < count ? number_at(data + 8 + 4 * i) : size;
        if (start > end || end > size) return 0;
        segments[i] = (Segment){data + start, data + end, 0, 0, 0};
    }
    return 1;
}

static int decode(const Py_buffer *data, size_t width, const Py_buffer *out)
{
    Segment segments[SEGMENTS_MAX];
    size_t samples = 0, count = 0, size = (size_t)out->len;
    while (width * samples < SEGMENTS_MAX && (size_t)data->len >= 4 && width * samples < number_at(data->buf)) samples++;
    if (!samples || size % (width * samples)) return 0;
    if (!find_segments(data->buf, (size_t)data->len, width * samples, segments)) return 0;
    count = size / (width * samples);
    for (size_t sample = 0; sample < samples; sample++)
        if (!decode_sample(&segments[sample * width], width, (uint8_t *)out->buf + sample * count * width, count))
            return 0;
    return 1;
}

static PyObject *decode_rle(PyObject *self, PyObject *args)
{
    Py_buffer data, out;
    Py_ssize_t width;
    int done = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*nw*", &data, &width, &out)) return NULL;
    if (width < 1 || width > SAMPLE_BYTES_MAX) {
        PyErr_SetString(PyExc_ValueError, "a sample has 1 to 8 bytes");
    } else {
        Py_BEGIN_ALLOW_THREADS
        done = decode(&data, (size_t)width, &out);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(done);
}

static PyMethodDef functions[] = {
    {"decode_rle", decode_rle, METH_VARARGS, "(data, bytes of a sample, out) -> whether it was done"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rle", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__rle(void)
{
    return PyModule_Create(&module);
}
