"""Rivals from PyPI that PyTorch does not bring; nothing of them is part of this repository.

    minference(directory)   directory: the unpacked source archive of `minference`. Its index kernel is compiled by PyTorch's
                            extension builder (nvcc, ninja), its attention kernel by Triton.
    flashinfer_decode(...)  package `flashinfer-python`, which compiles its kernels at first use (nvcc, ninja).
"""

import importlib.util
import os
import sys
import types

import torch


def minference(directory):
    """vertical_slash_sparse_attention(q, k, v, columns, distances): tensors [1, heads, rows, head_dim], [1, heads, number]."""
    from torch.utils import cpp_extension
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0")
    source = os.path.join(directory, "csrc")
    extension = cpp_extension.load("minference_cuda", [os.path.join(source, name) for name in
                                                       ("kernels.cpp", "vertical_slash_index.cu")])
    # The package's own __init__ asks for libraries that the kernel does not need.
    for name in ("minference", "minference.ops"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [os.path.join(directory, *name.split("."))]
    sys.modules["minference.cuda"] = extension
    name = "minference.ops.pit_sparse_flash_attention_v2"
    path = os.path.join(directory, *name.split(".")) + ".py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.vertical_slash_sparse_attention


def flashinfer_decode(q, k_pages, v_pages, order, length):
    """A call of one decode step: q [1, heads, head_dim], pages [number, rows, kv_heads, head_dim], their order int32."""
    import flashinfer
    page = k_pages.shape[1]
    device = q.device
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(torch.zeros(128 << 20, dtype=torch.uint8, device=device), "NHD",
                                                            use_tensor_cores=True)
    ends = torch.tensor([0, order.numel()], dtype=torch.int32, device=device)
    last = torch.tensor([(length - 1) % page + 1], dtype=torch.int32, device=device)
    wrapper.plan(ends, order, last, q.shape[1], k_pages.shape[2], q.shape[2], page, pos_encoding_mode="NONE",
                 q_data_type=q.dtype, kv_data_type=q.dtype)
    return lambda: wrapper.run(q, (k_pages, v_pages))
