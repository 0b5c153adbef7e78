/* Planes to chunks, without the GIL. cut.py says what is meant, and has the same in numpy. */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

typedef struct {
    const char *from;
    Py_ssize_t from_plane, from_row;
    char *to;
    Py_ssize_t to_chunk, to_plane, to_row;
    Py_ssize_t planes, rows, chunks, chunk_bytes, last_bytes;
} Cut;

/* Sources are read in the order in which they lie in memory: cut chunk by chunk, the short pieces of rows, one page
 * after the other, are three times slower. */
static void cut_rows(const Cut *cut)
{
    for (Py_ssize_t z = 0; z < cut->planes; z++) {
        for (Py_ssize_t y = 0; y < cut->rows; y++) {
            const char *from = cut->from + z * cut->from_plane + y * cut->from_row;
            char *to = cut->to + z * cut->to_plane + y * cut->to_row;
            for (Py_ssize_t k = 0; k < cut->chunks - 1; k++)
                memcpy(to + k * cut->to_chunk, from + k * cut->chunk_bytes, (size_t)cut->chunk_bytes);
            memcpy(to + (cut->chunks - 1) * cut->to_chunk, from + (cut->chunks - 1) * cut->chunk_bytes,
                   (size_t)cut->last_bytes);
        }
    }
}

/* Refuse what cut.py never asks for, rather than write where nothing is. */
static int fits(const Py_buffer *from, const Py_buffer *to)
{
    if (from->ndim != 3 || to->ndim != 4 || from->itemsize != to->itemsize)
        return 0;
    if (from->strides[2] != from->itemsize || to->strides[3] != to->itemsize)
        return 0;
    if (from->shape[0] > to->shape[1] || from->shape[1] > to->shape[2] || to->shape[3] < 1)
        return 0;
    return from->shape[2] > (to->shape[0] - 1) * to->shape[3] && from->shape[2] <= to->shape[0] * to->shape[3];
}

static PyObject *cut(PyObject *self, PyObject *args)
{
    PyObject *source, *target;
    Py_buffer from, to;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &source, &target))
        return NULL;
    if (PyObject_GetBuffer(source, &from, PyBUF_STRIDES) < 0)
        return NULL;
    if (PyObject_GetBuffer(target, &to, PyBUF_STRIDES | PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&from);
        return NULL;
    }
    int ok = fits(&from, &to);
    if (ok) {
        Py_ssize_t chunk = to.shape[3], item = to.itemsize;
        Cut all = {
            .from = from.buf, .from_plane = from.strides[0], .from_row = from.strides[1],
            .to = to.buf, .to_chunk = to.strides[0], .to_plane = to.strides[1], .to_row = to.strides[2],
            .planes = from.shape[0], .rows = from.shape[1], .chunks = to.shape[0],
            .chunk_bytes = chunk * item, .last_bytes = (from.shape[2] - (to.shape[0] - 1) * chunk) * item,
        };
        Py_BEGIN_ALLOW_THREADS
        cut_rows(&all);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    if (!ok) {
        PyErr_SetString(PyExc_ValueError, "these planes cannot be cut into these chunks");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"cut", cut, METH_VARARGS, "See fastdcm.store.cut.cut."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_cut", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__cut(void)
{
    return PyModule_Create(&module);
}
