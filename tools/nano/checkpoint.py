"""Checkpoints in parts of a bounded size: fp32 weights, optimiser state in bf16, the rest as JSON."""
import json
import os
import shutil
from pathlib import Path

import torch

PART = 15 << 20


def _parts(tensors: dict) -> list:
    out, size = [{}], 0
    for name, t in tensors.items():
        n = t.numel() * t.element_size()
        if size + n > PART and out[-1]:
            out.append({})
            size = 0
        out[-1][name] = t
        size += n
    return out


def save(folder: Path, model, optimizers, meta: dict) -> None:
    """Written beside `folder` first and renamed, so a reader never meets half a checkpoint."""
    tensors = {f"w.{k}": p.detach().cpu() for k, p in model.state_dict().items()}
    names = {p: k for k, p in model.named_parameters()}
    for opt in optimizers:
        for p, state in opt.state.items():
            for key, t in state.items():
                if key == "step":
                    meta["adam_step"] = int(t)
                else:
                    tensors[f"s.{key}.{names[p]}"] = t.detach().to("cpu", torch.bfloat16)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for i, part in enumerate(_parts(tensors)):
        torch.save(part, new / f"part{i}.pt")
    (new / "meta.json").write_text(json.dumps(meta))
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)


def load(folder: Path, model, optimizers=()) -> dict:
    """Fills the model and, where the checkpoint holds their state, the optimisers; returns the JSON."""
    tensors = {}
    for part in sorted(folder.glob("part*.pt")):
        tensors |= torch.load(part, map_location="cpu", weights_only=True)
    meta = json.loads((folder / "meta.json").read_text())
    model.load_state_dict({k[2:]: t for k, t in tensors.items() if k.startswith("w.")})
    names = {p: k for k, p in model.named_parameters()}
    for opt in optimizers:
        for group in opt.param_groups:
            for p in group["params"]:
                for key in ("momentum", "exp_avg", "exp_avg_sq"):
                    t = tensors.get(f"s.{key}.{names[p]}")
                    if t is not None:
                        opt.state[p][key] = t.to(p.device, p.dtype)
                        if key == "exp_avg":
                            opt.state[p]["step"] = torch.tensor(float(meta["adam_step"]), device=p.device)
    return meta
