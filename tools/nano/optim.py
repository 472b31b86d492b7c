"""Optimisers for training: AdamW for everything, or Muon for the layers' matrices with AdamW for the rest."""
import torch


def _orthogonal(g, steps=5):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrices; g [N, r, c] with r <= c."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        m = x @ x.mT
        x = a * x + (b * m + c * (m @ m)) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, then an orthogonal update. `cuts` tells where a fused matrix is taken apart by rows."""

    def __init__(self, params, cuts, lr=0.02, momentum=0.95):
        super().__init__([{"params": list(params)}], dict(lr=lr, momentum=momentum))
        self.cuts = cuts

    @torch.no_grad()
    def step(self):
        group = self.param_groups[0]
        params = group["params"]
        grads = [p.grad for p in params]
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        bufs = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(bufs, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, bufs, group["momentum"])
        pieces = {}                                                       # by shape: targets and updates
        for p, u in zip(params, updates):
            cut = self.cuts.get(p, [p.shape[0]])
            for target, part in zip(p.split(cut), u.split(cut)):
                pieces.setdefault(tuple(part.shape), []).append((target, part))
        for (r, c), pairs in pieces.items():
            g = torch.stack([u for _, u in pairs])
            g = g.bfloat16() if g.is_cuda else g.float()
            g = _orthogonal(g.mT).mT if r > c else _orthogonal(g)
            scale = -group["lr"] * max(1.0, r / c) ** 0.5
            torch._foreach_add_([t for t, _ in pairs], list(g.to(pairs[0][0].dtype).unbind(0)), alpha=scale)


def build(model, name: str, lr: float, muon_lr: float):
    """A list of optimisers; each group's own learning rate is kept under "base" for the schedule."""
    matrices = [p for layer in model.layers for p in (layer.qkv, layer.o, layer.gate_up, layer.down)]
    adam = dict(lr=lr, betas=(0.9, 0.98), eps=1e-9, fused=model.embed.is_cuda)
    if name == "adamw":
        rest = [p for p in model.parameters() if p.dim() == 1]
        out = [torch.optim.AdamW([{"params": matrices, "weight_decay": 0.03},
                                  {"params": [model.embed] + rest, "weight_decay": 0.0}], **adam)]
    else:
        s = model.s
        q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
        cuts = {}
        for layer in model.layers:
            cuts[layer.qkv], cuts[layer.gate_up] = [q, kv, kv], [s.ff, s.ff]
        rest = [p for p in model.parameters() if p.dim() == 1]
        out = [Muon(matrices, cuts, lr=muon_lr),
               torch.optim.AdamW([{"params": [model.embed] + rest, "weight_decay": 0.0}], **adam)]
    for opt in out:
        for group in opt.param_groups:
            group["base"] = group["lr"]
    return out
