"""CUDA decode of tessera over a paged KV cache, on tensors that speak DLPack.

    import tessera_cuda, tessera_cuda_decode as decode
    library = decode.Library("libtessera_cuda.so")
    key_bytes, value_bytes, bounds_bytes = library.page_bytes("int8", 128)
    cache = decode.Cache("int8", kv_heads=8, head_dim=128, keys=k_pool, values=v_pool, table=table, lengths=lengths, bounds=bounds)
    library.write_pages(k, v, cache, stream=stream)                # k, v: [sequences, rows, kv_heads, head_dim] bf16
    library.decode(q, out, lse, cache, scratch=scratch, stream=stream, selected_pages=128)

q, out: [sequences, query_heads, head_dim], bf16 (out also f32); lse: [sequences, query_heads] f32; pools: byte tensors; table:
[sequences, 1 or kv_heads, pages] and lengths: [sequences], int32. See tessera/attention/cuda_decode.h for the layouts.
"""

import ctypes
from ctypes import c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p

from tessera_cuda import TesseraError, _Borrowed, _launch, _View

FORMATS = {"bf16": 0, "fp8": 1, "int8": 2, "int4": 3}


class _Cache(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("keys", "values", "bounds", "table", "lengths")] + [
        (name, c_int32) for name in ("format", "kv_heads", "head_dim", "table_heads", "table_stride")]


class _Decode(ctypes.Structure):
    _fields_ = [(name, _View) for name in ("queries", "out", "lse")] + [("cache", _Cache), ("selected", c_void_p)] + [
        (name, c_int32) for name in ("selected_pages", "first_pages", "last_pages")] + [("scale", c_float)]


class _Write(ctypes.Structure):
    _fields_ = [("keys", _View), ("values", _View), ("cache", _Cache), ("first_page", c_void_p)]


class Cache:
    """Pools and tables of a cache; keeps the tensors alive."""

    def __init__(self, format, *, kv_heads, head_dim, keys, values, table, lengths, bounds=None):
        if format not in FORMATS:
            raise TesseraError(f"the page format must be one of {', '.join(FORMATS)}, found {format}")
        self._kept = {"keys": _Borrowed(keys, "keys"), "values": _Borrowed(values, "values")}
        if bounds is not None:
            self._kept["bounds"] = _Borrowed(bounds, "bounds")
        borrowed_table, borrowed_lengths = _Borrowed(table, "table"), _Borrowed(lengths, "lengths")
        shape = borrowed_table.shape
        if len(shape) != 3 or borrowed_lengths.shape != [shape[0]]:
            raise TesseraError(f"table must be [sequences, heads, pages] and lengths [sequences], found {shape} and "
                               f"{borrowed_lengths.shape}")
        self.sequences = shape[0]
        self.c = _Cache(format=FORMATS[format], kv_heads=kv_heads, head_dim=head_dim, table_heads=shape[1],
                        table_stride=shape[2], table=borrowed_table.integers("table"),
                        lengths=borrowed_lengths.integers("lengths"))
        for name, borrowed in self._kept.items():
            setattr(self.c, name, borrowed.data)
        self._tables = (borrowed_table, borrowed_lengths)


class Library:
    def __init__(self, path):
        self._c = ctypes.CDLL(path)
        self._c.tessera_cuda_decode_last_error.restype = c_char_p

    def _check(self, status):
        if status:
            raise TesseraError(self._c.tessera_cuda_decode_last_error().decode())

    def page_bytes(self, format, head_dim):
        """Bytes of a page of keys, of values and of bounds."""
        sizes = [c_int64() for _ in range(3)]
        self._check(self._c.tessera_cuda_page_bytes(FORMATS[format], head_dim, *[ctypes.byref(s) for s in sizes]))
        return tuple(s.value for s in sizes)

    def _arguments(self, q, out, lse, cache, selected_pages, first_pages, last_pages, selected, scale):
        borrowed = {name: _Borrowed(t, name) for name, t in (("queries", q), ("out", out), ("lse", lse))}
        if borrowed["queries"].shape[0] != cache.sequences:
            raise TesseraError(f"queries must have one row per sequence of the cache, {cache.sequences}, found "
                               f"{borrowed['queries'].shape}")
        arguments = _Decode(cache=cache.c, selected_pages=selected_pages, first_pages=first_pages, last_pages=last_pages,
                            scale=scale)
        for name, b in borrowed.items():
            setattr(arguments, name, b.view(name))
        if selected is not None:
            borrowed["selected"] = _Borrowed(selected, "selected")
            arguments.selected = borrowed["selected"].integers("selected")
        return arguments, borrowed

    def workspace_bytes(self, q, out, lse, cache, *, selected_pages=0, first_pages=1, last_pages=2):
        arguments, _kept = self._arguments(q, out, lse, cache, selected_pages, first_pages, last_pages, None, 0.0)
        size = c_size_t()
        self._check(self._c.tessera_cuda_decode_workspace_bytes(ctypes.byref(arguments), ctypes.byref(size)))
        return size.value

    def decode(self, q, out, lse, cache, *, scratch, stream, selected_pages=0, first_pages=1, last_pages=2, selected=None,
               scale=0.0):
        arguments, _kept = self._arguments(q, out, lse, cache, selected_pages, first_pages, last_pages, selected, scale)
        launch = _launch(scratch, stream, "automatic")
        self._check(self._c.tessera_cuda_decode(ctypes.byref(arguments), ctypes.byref(launch)))

    def write_pages(self, keys, values, cache, *, stream, first_page=None):
        borrowed = [_Borrowed(keys, "keys"), _Borrowed(values, "values")]
        write = _Write(keys=borrowed[0].view("keys"), values=borrowed[1].view("values"), cache=cache.c)
        if first_page is not None:
            borrowed.append(_Borrowed(first_page, "first_page"))
            write.first_page = borrowed[2].integers("first_page")
        self._check(self._c.tessera_cuda_write_pages(ctypes.byref(write), c_void_p(stream)))
