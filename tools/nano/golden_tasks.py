"""Writes tests/goldens/nano_tasks.json: examples of every task as text and token ids, tokenizer cases, and what
`transformers` computes with the shipped weights in float32 on a CPU.

    python tools/nano/golden_tasks.py --model models/nano --out tests/goldens/nano_tasks.json
"""
import argparse
import json
from pathlib import Path

import torch

import tasks
import vocab

SIZES = ((0, 120, 2), (1, 300, 3), (2, 600, 5))          # seed, context tokens, turns
TEXTS = ["", " pairs\n", "\n? largest =", " 0 999 1000 007", "hello  world\t\tTabs\r\n", "Grüße, 世界 🌍 e\u0301",
         "don't we'll I'M", " is.. =?\n\n  \n x", "a<|end|>b<|begin|>", "\u00a0\u2003x\u0000\u007f", "x\n", "   "]
PROMPTS = (("kv", 300), ("vt", 300), ("passkey", 310))


def split_turns(batch, row):
    """[(input ids, answer ids)] of one row."""
    tail = batch.tail[row].tolist()
    return [(tail[s:s + i], tail[s + i:s + i + a]) for s, i, a in batch.spans]


def examples(tokenizer):
    out = []
    for task in tasks.TASKS:
        for seed, length, turns in SIZES:
            batch = tasks.make(task, torch.Generator().manual_seed(seed), 1, length, turns)
            context = batch.ctx[0].tolist()
            text = vocab.render(context)
            assert tokenizer.encode(text).ids == context
            rows = []
            for ask, answer in split_turns(batch, 0):
                rows.append({"input": vocab.render(ask), "answer": vocab.render(answer), "input_ids": ask,
                             "answer_ids": answer})
                for part in ("input", "answer"):
                    assert tokenizer.encode(rows[-1][part], add_special_tokens=False).ids == rows[-1][part + "_ids"]
            out.append({"task": task, "seed": seed, "length": length, "context": text, "context_ids": context,
                        "turns": rows})
    return out


def forwards(folder):
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    out = []
    for task, length in PROMPTS:
        batch = tasks.make(task, torch.Generator().manual_seed(7), 1, length, 3)
        ask, answer = split_turns(batch, 0)[0]
        prompt = batch.ctx[0].tolist() + ask
        ids = torch.tensor([prompt])
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
            made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        out.append({"task": task, "prompt_ids": prompt, "answer_ids": answer,
                    "greedy_ids": made[0, len(prompt):].tolist(), "argmax": int(logits.argmax()),
                    "max_logit": float(logits.max()), "last_logits_first16": [float(x) for x in logits[:16]],
                    "last_logits_norm": float(logits.norm())})
    return out


def main():
    from tokenizers import Tokenizer
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--model", type=Path, required=True)
    ap.add_argument("--out", type=Path, required=True)
    args = ap.parse_args()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    golden = {"about": "Written by tools/nano/golden_tasks.py; ids of a context begin with <|begin|>.",
              "words": {str(i): vocab.word(i) for i in (0, 1, 2, 70, 1399, 2799)},
              "tokenizer": [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in TEXTS],
              "examples": examples(tokenizer), "forward_float32": forwards(args.model)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")).replace("},{", "},\n{") + "\n",
                        encoding="utf-8")
    print(f"wrote {args.out}: {args.out.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
