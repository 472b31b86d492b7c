"""The bundled model as a small PyTorch module (Llama's arithmetic), and its Hugging Face names."""
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

import guide as guiding
import rest as resting
import vocab


@dataclass
class Shape:
    vocab: int = vocab.SIZE
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ff: int = 768
    rope_theta: float = 1e8
    eps: float = 1e-5


class Layer(nn.Module):
    """Weights are kept fused (query, key, value; gate, up); `to_hf` takes them apart."""

    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        qkv = (s.heads + 2 * s.kv_heads) * s.head_dim
        self.norm1 = nn.Parameter(torch.ones(s.width))
        self.norm2 = nn.Parameter(torch.ones(s.width))
        self.qkv = nn.Parameter(torch.empty(qkv, s.width))
        self.o = nn.Parameter(torch.empty(s.width, s.heads * s.head_dim))
        self.gate_up = nn.Parameter(torch.empty(2 * s.ff, s.width))
        self.down = nn.Parameter(torch.empty(s.width, s.ff))

    def forward(self, x, cos, sin):
        """x [B, T, width]; cos, sin [T, head_dim / 2]. Returns the new x, and queries and keys [B, heads, T, head_dim]."""
        s, (b, t, _) = self.s, x.shape
        y = F.linear(F.rms_norm(x, (s.width,), self.norm1, s.eps), self.qkv)
        q, k, v = y.view(b, t, -1, s.head_dim).split((s.heads, s.kv_heads, s.kv_heads), 2)

        def turn(z):
            lo, hi = z.float().chunk(2, -1)
            c, d = cos[:, None], sin[:, None]
            return torch.cat((lo * c - hi * d, hi * c + lo * d), -1).to(z.dtype).transpose(1, 2)

        q, k = turn(q), turn(k)
        y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True)
        x = x + F.linear(y.transpose(1, 2).reshape(b, t, -1), self.o)
        gate, up = F.linear(F.rms_norm(x, (s.width,), self.norm2, s.eps), self.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down), q, k


class Nano(nn.Module):
    def __init__(self, s: Shape = Shape()):
        super().__init__()
        self.s = s
        self.embed = nn.Parameter(torch.empty(s.vocab, s.width))
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = nn.Parameter(torch.ones(s.width))

    def init(self, embed_std: float = 0.05):
        nn.init.normal_(self.embed, std=embed_std)
        for layer in self.layers:
            for name in ("qkv", "gate_up"):
                nn.init.normal_(getattr(layer, name), std=self.s.width ** -0.5)
            nn.init.normal_(layer.o, std=0.02)
            nn.init.normal_(layer.down, std=0.02)
        return self

    def forward(self, ids, rest=None, guides=()):
        """ids [B, T] -> [B, T, width], normalised. With `rest` [R] also what these rows miss (rest.py), [layers, heads],
        and what the guides miss (guide.py), one number each."""
        s, half = self.s, self.s.head_dim // 2
        freq = s.rope_theta ** (-torch.arange(half, device=ids.device, dtype=torch.float32) / half)
        angle = torch.arange(ids.shape[1], device=ids.device, dtype=torch.float32)[:, None] * freq
        cos, sin = angle.cos(), angle.sin()
        x = F.embedding(ids, self.embed)
        missed, astray = [], []
        for i, layer in enumerate(self.layers):
            x, q, k = layer(x, cos, sin)
            if rest is not None:
                missed.append(resting.missing(q, k, rest))
                astray += [guiding.astray(q, k, guide) for guide in guides if guide.layer == i]
        x = F.rms_norm(x, (s.width,), self.norm, s.eps)
        return x if rest is None else (x, torch.stack(missed), astray)

    def logits(self, h):
        return F.linear(h, self.embed)


def to_hf(model: Nano) -> dict:
    """Weights by Hugging Face's names, in the model's own dtype."""
    s = model.s
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    for i, layer in enumerate(model.layers):
        p = f"model.layers.{i}."
        parts = layer.qkv.split((q, kv, kv))
        out |= {p + f"self_attn.{n}_proj.weight": w for n, w in zip("qkv", parts)}
        gate, up = layer.gate_up.chunk(2)
        out |= {p + "self_attn.o_proj.weight": layer.o, p + "mlp.gate_proj.weight": gate, p + "mlp.up_proj.weight": up,
                p + "mlp.down_proj.weight": layer.down, p + "input_layernorm.weight": layer.norm1,
                p + "post_attention_layernorm.weight": layer.norm2}
    return {k: w.detach().contiguous() for k, w in out.items()}


def from_hf(weights: dict, s: Shape = Shape()) -> Nano:
    model = Nano(s)
    state = {"embed": weights["model.embed_tokens.weight"], "norm": weights["model.norm.weight"]}
    for i in range(s.layers):
        p, q = f"model.layers.{i}.", f"layers.{i}."
        cat = lambda *names: torch.cat([weights[p + n + ".weight"] for n in names])
        state |= {q + "qkv": cat("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                  q + "o": cat("self_attn.o_proj"), q + "gate_up": cat("mlp.gate_proj", "mlp.up_proj"),
                  q + "down": cat("mlp.down_proj"), q + "norm1": cat("input_layernorm"),
                  q + "norm2": cat("post_attention_layernorm")}
    model.load_state_dict(state)
    return model


def hf_config(s: Shape, longest: int) -> dict:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": s.vocab,
            "hidden_size": s.width, "intermediate_size": s.ff, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
            "max_position_embeddings": longest, "rms_norm_eps": s.eps, "rope_theta": s.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": s.rope_theta}, "hidden_act": "silu",
            "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True,
            "initializer_range": 0.02, "use_cache": True, "dtype": "bfloat16", "torch_dtype": "bfloat16",
            "bos_token_id": vocab.BEGIN, "eos_token_id": [vocab.END, vocab.NEWLINE], "pad_token_id": vocab.PAD}


def shape_of(config: dict) -> Shape:
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    return Shape(config["vocab_size"], config["hidden_size"], config["num_hidden_layers"],
                 config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"],
                 config["intermediate_size"], theta, config["rms_norm_eps"])


def shape_dict(s: Shape) -> dict:
    return asdict(s)
