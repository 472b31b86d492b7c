"""Writes tokenizer.json and its companions for the bundled model: byte-level BPE whose vocabulary is looked up whole
(`ignore_merges`), with no merges at all. A piece that is not in the vocabulary falls apart into bytes, so every
UTF-8 text survives the round trip.

    python tools/nano/make_tokenizer.py --out models/nano
"""
import argparse
import json
from pathlib import Path

import vocab


def byte_alphabet() -> dict:
    """GPT-2's printable stand-in for each byte."""
    keep = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return table


def tokenizer_json() -> dict:
    alphabet = byte_alphabet()
    ids = {}
    for i, piece in enumerate(vocab.pieces()):
        special = i < vocab.BYTE0
        raw = piece if isinstance(piece, bytes) else piece.encode()
        ids[piece if special else "".join(alphabet[b] for b in raw)] = i
    assert len(ids) == vocab.SIZE
    begin = vocab.SPECIAL[vocab.BEGIN]
    first = {"SpecialToken": {"id": begin, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, s in enumerate(vocab.SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {begin: {"id": begin, "ids": [vocab.BEGIN], "tokens": [begin]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": ids, "merges": []},
    }


def write(out: Path, longest: int) -> None:
    def dump(name, obj):
        (out / name).write_text(json.dumps(obj, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    names = {"bos_token": vocab.SPECIAL[vocab.BEGIN], "eos_token": vocab.SPECIAL[vocab.END],
             "pad_token": vocab.SPECIAL[vocab.PAD]}
    out.mkdir(parents=True, exist_ok=True)
    dump("tokenizer.json", tokenizer_json())
    dump("special_tokens_map.json", names)
    dump("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
                                   "add_prefix_space": False, "model_max_length": longest, **names})


def check(out: Path) -> None:
    """Each piece is one token, the grammar splits as docs/tasks.md says, and odd texts survive the round trip."""
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(str(out / "tokenizer.json"))
    for i, piece in enumerate(vocab.pieces()):
        if not isinstance(piece, bytes):
            got = tok.encode(piece, add_special_tokens=False).ids
            assert got == [i], (piece, i, got)
    w = [" " + vocab.word(i) for i in range(6)]
    ids = tok.encode(f" pairs\n{w[0]}{w[1]} ={w[2]}{w[3]}\n?{w[4]} ..{w[5]} = 17\n? second largest =").ids
    W, n, q, eq = vocab.WORD0, vocab.NEWLINE, vocab.QUESTION, vocab.EQUALS
    g = vocab.grammar
    assert ids == [vocab.BEGIN, g(" pairs"), n, W, W + 1, eq, W + 2, W + 3, n, q, W + 4, g(" .."), W + 5, eq,
                   vocab.NUMBER0 + 17, n, q, g(" second"), g(" largest"), eq], ids
    for text in ["", "a", "Grüße, 世界 🌍\r\n\t  x", "line\n\n  two  \n", "\u0000\u007f\u00a0\ufeff", " 1000 badabada's",
                 "".join(chr(c) for c in range(1, 0x2FFF) if not 0xD800 <= c < 0xE000), "👩‍👩‍👧‍👦 e\u0301"]:
        assert tok.decode(tok.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text, text


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", type=Path, required=True, help="model directory to write into")
    ap.add_argument("--longest", type=int, default=8704, help="longest trained length in tokens")
    args = ap.parse_args()
    write(args.out, args.longest)
    check(args.out)
    print(f"wrote {args.out}/tokenizer.json: {vocab.SIZE} pieces, checked")
