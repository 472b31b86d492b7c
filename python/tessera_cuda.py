"""CUDA attention of tessera on any tensors that speak DLPack (PyTorch, CuPy, JAX), without a build against them.

    import tessera_cuda
    library = tessera_cuda.Library("libtessera_cuda.so")
    library.attend_dense(q, k, v, out, lse, scratch=scratch, stream=torch.cuda.current_stream().cuda_stream)

q, out: [query_rows, query_heads, head_dim]; k, v: [key_rows, kv_heads, head_dim], bf16 or f16; lse: [query_rows, query_heads]
f32. Outputs are written in place. `sequences`: tuples (query_begin, query_rows, key_begin, key_rows, first_position); the
default is one sequence whose last query sees the last key. `scratch`: a byte tensor of workspace_bytes(). Calls are
asynchronous on `stream`. Errors are raised as TesseraError with the library's sentence.
"""

import ctypes
from ctypes import c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint64, c_void_p


class TesseraError(RuntimeError):
    pass


class _View(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("type", c_int32), ("rank", c_int32), ("shape", c_int64 * 4), ("strides", c_int64 * 4),
                ("device", c_int32)]


class _Sequence(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in ("query_begin", "query_rows", "key_begin", "key_rows", "first_position")]


class _Attention(ctypes.Structure):
    _fields_ = [(name, _View) for name in ("queries", "keys", "values", "out", "lse")] + [
        ("sequences", ctypes.POINTER(_Sequence)), ("sequence_count", c_int32), ("scale", c_float)]


class _WorkList(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("tile_begin", "tiles", "columns", "column_count", "column_cut")] + [
        ("tile_capacity", c_int64)] + [
        (name, c_int32) for name in ("key_tile", "list_heads", "query_tiles", "column_stride", "correction_levels")] + [
        (name, c_void_p) for name in ("overflow", "bands", "band_cut")] + [("band_stride", c_int32)]


class _Launch(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("bytes", c_size_t), ("stream", c_void_p), ("kernel", c_int32)]


METHODS = {name: i for i, name in enumerate(
    ("dense", "a_shape", "vertical_slash", "recall", "tiles", "block_mean", "block_lse", "automatic"))}


class Options(ctypes.Structure):
    """How to choose what is computed: fields and defaults of tessera/attention/cuda_select.h, SelectOptions. Made by
    Library.options(method="recall", recall=0.95)."""
    _fields_ = [(name, c_int32) for name in ("method", "vertical", "slash", "sinks", "local", "window", "dense_rows", "top_k",
                                             "most_columns", "crossover")] + [
        (name, c_float) for name in ("recall", "share", "threshold")] + [("most_entries", c_int64)] + [
        (name, c_int32) for name in ("correction_levels", "exact", "bands")]


class _Selected(ctypes.Structure):
    _fields_ = [("dense", c_int32), ("work", _WorkList)] + [
        (name, c_void_p) for name in ("overflow", "report", "column_mass", "diagonal_mass")]


class Selected:
    """Lists of a call, which live in its scratch memory: `dense`, the C structure `c`, and where an array starts in the
    scratch memory, in bytes: offset("tiles"), or None."""

    def __init__(self, c, scratch):
        self.c, self.scratch, self.dense = c, scratch, bool(c.dense)

    def offset(self, name):
        pointer = getattr(self.c, name) if hasattr(self.c, name) else getattr(self.c.work, name)
        return pointer - _Borrowed(self.scratch, "scratch").data if pointer else None


class _DLTensor(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
                ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16), ("shape", ctypes.POINTER(c_int64)),
                ("strides", ctypes.POINTER(c_int64)), ("byte_offset", c_uint64)]


_CUDA_DEVICES = (2, 13)  # kDLCUDA, kDLCUDAManaged
_TYPES = {(4, 16): 0, (2, 16): 1, (2, 32): 2}  # (DLPack code, bits) of bf16, f16, f32
KERNELS = {"automatic": 0, "wgmma": 1, "mma_sync": 2}


class _Borrowed:
    """A tensor's DLPack view; the capsule keeps the memory alive and is never consumed, so its owner frees it."""

    def __init__(self, tensor, name):
        self.capsule = tensor.__dlpack__(stream=-1)  # -1: no synchronisation, the caller's stream orders the work
        get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
        get_pointer.restype = c_void_p
        get_pointer.argtypes = [ctypes.py_object, c_char_p]
        dl = ctypes.cast(get_pointer(self.capsule, b"dltensor"), ctypes.POINTER(_DLTensor)).contents
        if dl.device_type not in _CUDA_DEVICES:
            raise TesseraError(f"{name} must lie on a GPU, found DLPack device type {dl.device_type}; move it there first")
        self.data = (dl.data or 0) + dl.byte_offset
        self.device = dl.device_id
        self.kind = (dl.code, dl.bits)
        self.shape = [dl.shape[i] for i in range(dl.ndim)]
        self.elements = 1
        for size in self.shape:
            self.elements *= size
        if dl.strides:
            self.strides = [dl.strides[i] for i in range(dl.ndim)]
        else:
            self.strides = [1] * dl.ndim
            for axis in range(dl.ndim - 2, -1, -1):
                self.strides[axis] = self.strides[axis + 1] * self.shape[axis + 1]

    def view(self, name):
        if self.kind not in _TYPES or len(self.shape) > 4:
            raise TesseraError(f"{name} must be bf16, f16 or f32 with at most 4 dimensions")
        view = _View(data=self.data, type=_TYPES[self.kind], rank=len(self.shape), device=self.device)
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides)):
            view.shape[axis], view.strides[axis] = size, stride
        return view

    def integers(self, name):
        if self.kind not in ((0, 32), (1, 32)) or self.strides != _packed(self.shape):
            raise TesseraError(f"{name} must be contiguous 32-bit integers")
        return self.data


def _packed(shape):
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


class WorkList:
    """Fields as in tessera/attention/cuda.h, DeviceWorkList; tensors of 32-bit integers on the GPU."""

    def __init__(self, tile_begin=None, tiles=None, *, list_heads, query_tiles, key_tile=128, columns=None, column_count=None,
                 column_cut=None, column_stride=0, overflow=None, correction_levels=0, bands=None, band_cut=None, band_stride=0):
        self._kept = {"tile_begin": tile_begin, "tiles": tiles, "columns": columns, "column_count": column_count,
                      "column_cut": column_cut, "overflow": overflow, "bands": bands, "band_cut": band_cut}
        self._borrowed = {name: _Borrowed(t, name) for name, t in self._kept.items() if t is not None}
        capacity = self._borrowed["tiles"].elements if tiles is not None else 0
        self.c = _WorkList(tile_capacity=capacity, key_tile=key_tile, list_heads=list_heads, query_tiles=query_tiles,
                           column_stride=column_stride, correction_levels=correction_levels, band_stride=band_stride)
        for name, borrowed in self._borrowed.items():
            setattr(self.c, name, borrowed.integers(name))


class Library:
    def __init__(self, path):
        self._c = ctypes.CDLL(path)
        self._c.tessera_cuda_last_error.restype = c_char_p

    def _check(self, status):
        if status:
            raise TesseraError(self._c.tessera_cuda_last_error().decode())

    def compute_capability(self):
        value = c_int32()
        self._check(self._c.tessera_cuda_compute_capability(ctypes.byref(value)))
        return value.value

    def _attention(self, q, k, v, out, lse, sequences, scale):
        borrowed = {name: _Borrowed(t, name)
                    for name, t in zip(("queries", "keys", "values", "out", "lse"), (q, k, v, out, lse))}
        if sequences is None:
            rows, key_rows = borrowed["queries"].shape[0], borrowed["keys"].shape[0]
            sequences = [(0, rows, 0, key_rows, max(0, key_rows - rows))]
        array = (_Sequence * len(sequences))(*[_Sequence(*s) for s in sequences])
        attention = _Attention(sequences=array, sequence_count=len(sequences), scale=scale)
        for name, b in borrowed.items():
            setattr(attention, name, b.view(name))
        return attention, (borrowed, array)

    def workspace_bytes(self, q, k, v, out, lse, *, work=None, sequences=None):
        attention, _kept = self._attention(q, k, v, out, lse, sequences, 0.0)
        size = c_size_t()
        self._check(self._c.tessera_cuda_workspace_bytes(ctypes.byref(attention),
                                                         ctypes.byref(work.c) if work else None, ctypes.byref(size)))
        return size.value

    def attend_dense(self, q, k, v, out, lse, *, scratch, stream, sequences=None, scale=0.0, kernel="automatic"):
        attention, _kept = self._attention(q, k, v, out, lse, sequences, scale)
        self._check(self._c.tessera_cuda_attend_dense(ctypes.byref(attention),
                                                      ctypes.byref(_launch(scratch, stream, kernel))))

    def attend(self, q, k, v, out, lse, work, *, scratch, stream, sequences=None, scale=0.0, kernel="automatic"):
        attention, _kept = self._attention(q, k, v, out, lse, sequences, scale)
        self._check(self._c.tessera_cuda_attend(ctypes.byref(attention), ctypes.byref(work.c),
                                                ctypes.byref(_launch(scratch, stream, kernel))))

    def options(self, method="automatic", **fields):
        options = Options()
        self._c.tessera_cuda_default_options(ctypes.byref(options))
        options.method = METHODS[method]
        for name, value in fields.items():
            if name not in dict(Options._fields_):
                raise TesseraError(f"there is no option {name}")
            setattr(options, name, value)
        return options

    def selection_bytes(self, q, k, v, out, lse, options, *, attend=True, sequences=None):
        attention, _kept = self._attention(q, k, v, out, lse, sequences, 0.0)
        size = c_size_t()
        self._check(self._c.tessera_cuda_selection_bytes(ctypes.byref(attention), ctypes.byref(options), int(attend),
                                                         ctypes.byref(size)))
        return size.value

    def select(self, q, k, v, out, lse, options, *, scratch, stream, sequences=None, scale=0.0):
        """The lists alone; out and lse are not written."""
        return self._selected(self._c.tessera_cuda_select, (q, k, v, out, lse, sequences, scale), options,
                              (scratch, stream, "automatic"))

    def attend_selected(self, q, k, v, out, lse, options, *, scratch, stream, sequences=None, scale=0.0, kernel="automatic"):
        """Chooses, makes the lists and attends, without waiting for the device."""
        return self._selected(self._c.tessera_cuda_attend_selected, (q, k, v, out, lse, sequences, scale), options,
                              (scratch, stream, kernel))

    def _selected(self, function, attention, options, launch):
        attention, _kept = self._attention(*attention)
        selected = _Selected()
        self._check(function(ctypes.byref(attention), ctypes.byref(options), ctypes.byref(_launch(*launch)),
                             ctypes.byref(selected)))
        return Selected(selected, launch[0])

    def measure_crossover(self, query_heads, kv_heads, head_dim=128, dtype="bf16"):
        """Key rows from which `automatic` should choose on this GPU: times it, so call it once and pass options(crossover=...)."""
        rows = c_int32()
        self._check(self._c.tessera_cuda_measure_crossover(query_heads, kv_heads, head_dim, {"bf16": 0, "f16": 1}[dtype],
                                                           ctypes.byref(rows)))
        return rows.value

    def finish(self, *, scratch, stream):
        """Waits for the stream; raises TesseraError when the lists of the last attend() with this scratch did not fit."""
        self._check(self._c.tessera_cuda_finish(ctypes.byref(_launch(scratch, stream, "automatic"))))


def _launch(scratch, stream, kernel):
    borrowed = _Borrowed(scratch, "scratch")
    return _Launch(data=borrowed.data, bytes=borrowed.elements * borrowed.kind[1] // 8, stream=stream, kernel=KERNELS[kernel])
