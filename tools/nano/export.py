"""Writes a training checkpoint as a Hugging Face model directory: bf16 weights, config, tokenizer.

    python tools/nano/export.py /tmp/nano/ckpt --out models/nano
"""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import checkpoint
import make_tokenizer
import vocab
from model import Nano, Shape, hf_config, to_hf


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("checkpoint", type=Path)
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--longest", type=int, default=8704, help="longest trained length in tokens")
    args = ap.parse_args()
    model = Nano(Shape(**json.loads((args.checkpoint / "meta.json").read_text())["shape"]))
    checkpoint.load(args.checkpoint, model)
    make_tokenizer.write(args.out, args.longest)

    def dump(name, obj):
        (args.out / name).write_text(json.dumps(obj, indent=2) + "\n")

    config = hf_config(model.s, args.longest)
    dump("config.json", config)
    dump("generation_config.json", {k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
         | {"do_sample": False})
    save_file({k: w.to(torch.bfloat16) for k, w in to_hf(model).items()}, args.out / "model.safetensors",
              metadata={"format": "pt"})
    print(f"wrote {args.out}: {sum(p.numel() for p in model.parameters())} parameters, vocabulary {vocab.SIZE}")


if __name__ == "__main__":
    main()
