"""Writes tests/goldens/tokenizers/: small tokenizers of every supported kind, awkward strings, and what the reference
libraries make of them.

    pip install tokenizers==0.23.3 llama-cpp-python==0.3.36 gguf==0.19.0
    python tools/goldens/make_tokenizer_goldens.py --out tests/goldens/tokenizers [--smollm2 SmolLM2-135M-Instruct.Q4_1.gguf]

Files:
    strings.json       {"magic", "version", "strings": [text | [text, repeats]]}
    <name>.json        a tokenizer.json as the library writes it, layout apart
    expected.json      per tokenizer.json: digests of the ids of every string with and without parsed control tokens, the
                       ids themselves of the first strings, and digests of the bytes of decoded texts that differ
    expected_gguf.json the same from llama.cpp, for the vocabularies as a GGUF file holds them
The digest of ids is the low 48 bits of FNV-1a (64 bits) over each id as four little-endian bytes, in hexadecimal.
"""
import argparse
import json
import random
import tempfile
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

MAGIC, VERSION, SEED, STRINGS, SHOWN = "tessera-tokenizer-goldens", 1, 20240601, 1000, 40

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind; it's been there before.",
    "She said that they'll be there by 10:45, but we've heard 1,234 excuses since 1999. I'm sure you'd agree!",
    "for (int i = 0; i < 100; ++i) {\n    total += values[i] * weights[i];\n}\n\nreturn total / count;\n",
    "def main(argv):\n\tif not argv:\n\t\treturn 2\n\tprint('hello, world')\n",
    "Der schnelle braune Fuchs springt über den faulen Hund. Größe, Maße, Übung, Straße.",
    "Le cœur a ses raisons que la raison ne connaît point. L'été, déjà, à côté.",
    "Быстрая коричневая лиса прыгает через ленивую собаку. Это не так просто.",
    "敏捷的棕色狐狸跳过懒狗。今天天气很好，我们去公园散步吧。中文分词测试。",
    "素早い茶色の狐がのろまな犬を飛び越える。カタカナとひらがな。",
    "الثعلب البني السريع يقفز فوق الكلب الكسول. שלום עולם, מה שלומך היום?",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है। สวัสดีชาวโลก",
    "Tokens, pages, prefixes and sessions: attention over a long context is a sum over many small tiles.",
    "https://example.org/path?query=value&other=1#fragment  <tag attr=\"x\">text</tag>",
]
PIECES = {
    "words": ["the", "fox", "Hello", "doesn", "über", "cœur", "собака", "狐狸", "かな", "שלום", "الكلب", "कुत्ते", "สวัสดี",
              "return", "values", "naïve", "Å", "ﬁn", "ǅ", "İi", "ẞß"],
    "contractions": ["'s", "'S", "'\u017f", "\u2019s", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'m", "'M", "'ll", "'LL",
                     "'lL", "'d", "'D", "it's", "IT'S", "x'\u017f y", "''s", "'", "’ll", "'\u212a"],
    "space": [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\t\t ", "\u00a0", "\u3000", "\u2003", "\u2028",
              "\u2029", "\u0085", "\u180e", "\u200b", "\ufeff", "\x0b", "\x0c", "\x1c", "\x1f", "\u1680", "\u202f", "\u205f"],
    "digits": ["0", "7", "42", "123", "1234", "12345", "1999", "٣٤", "४५", "½", "Ⅷ", "²", "𝟙𝟚", "１２３", "㉚", "1.5e-3", "0x1F"],
    "marks": ["e\u0301", "\u00e9", "a\u0323\u0302", "a\u0302\u0323", "\u1ead", "\u0301", "\u0316\u0301\u0315", "o\u0308\u0304", "\uac00",
              "\u1100\u1161", "\u1100\u1161\u11a8", "\u2126", "\u212b", "\u0958", "\u0915\u093c", "\ufb1d", "\u0344", "\u0f73",
              "q\u0307\u0323", "\u1e9b\u0323", "\u1e69", "s\u0323\u0307"],
    "emoji": ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "❤️", "☺", "👨🏿‍🚀", "🧑‍⚕️", "1️⃣"],
    "punctuation": ["!", "...", "--", "—", "“”", "«»", "$", "€", "+=", "<>", "^~|", "`", "#@", "()[]{}", "、。", "؟", "¿", "\\", "/*", "_",
                    "∑∫", "→", "\u2581", "\u2581\u2581", "\u0120", "\u010a", "§", "°", "©"],
    "controls": ["\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\u0080", "\u009f", "\u00ad", "\u200d", "\u202e", "\u2066", "\ufffe", "\uffff",
                 "\U0010ffff", "\ue000", "\U000f0000", "\ufffd"],
    "specials": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start", "im_end|>", "<s>", "</s>", "<unk>", "<tool_call>",
                 "<tool_call", "<|im_start|><|im_end|>", " <|im_end|> ", "<<s>>", "<0x0A>", "<0xff>", "<mask>", "  <mask>  ",
                 "<mask>\n\t", "norm é", "norm e\u0301", "[EMPTY]"],
}


def awkward_strings() -> list:
    rng = random.Random(SEED)
    assigned = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    by_plane = [[c for c in assigned if lo <= c < hi] for lo, hi in
                ((0, 0x80), (0x80, 0x800), (0x800, 0x3000), (0x3000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000))]
    kinds = list(PIECES)
    strings = ["", " ", "\n", "a", "Ġ", "▁", *CORPUS, "".join(chr(c) for c in range(0x180)), ["ab", 25000], ["x", 50000],
               [" ", 3000], ["\n", 3000], ["é", 4000], ["世", 4000], ["1", 3000], ["e\u0301\u0316", 1500], ["'", 3000], ["aA1 \n", 1200]]
    strings += [piece for kind in kinds for piece in PIECES[kind]]
    while len(strings) < STRINGS:
        choice = rng.random()
        if choice < 0.2:  # any characters of one plane
            plane = rng.choice(by_plane)
            text = "".join(chr(rng.choice(plane)) for _ in range(rng.randint(1, 12)))
        elif choice < 0.35:  # any characters of all planes
            text = "".join(chr(rng.choice(rng.choice(by_plane))) for _ in range(rng.randint(1, 12)))
        elif choice < 0.45:  # a cut of the corpus
            line = rng.choice(CORPUS)
            start = rng.randrange(len(line))
            text = line[start:start + rng.randint(1, 40)]
        elif choice < 0.6:  # one kind, many
            kind = rng.choice(kinds)
            text = "".join(rng.choice(PIECES[kind]) for _ in range(rng.randint(2, 6)))
        else:  # kinds mixed
            text = "".join(rng.choice(PIECES[rng.choice(kinds)]) for _ in range(rng.randint(2, 9)))
        strings.append(text)
    return strings


def expand(entry) -> str:
    return entry if isinstance(entry, str) else entry[0] * entry[1]


def digest(ids) -> str:
    value = 0xCBF29CE484222325
    for i in ids:
        for byte in int(i).to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value & 0xFFFFFFFFFFFF:012x}"


def special(*texts):
    return [AddedToken(t, special=True, normalized=False) for t in texts]


def byte_level(pre, specials, *, normalizer=None, post=None, size=640) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = post or processors.ByteLevel(trim_offsets=False)
    return tokenizer


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sentencepiece(pre, normalizer) -> dict:
    """Trained on words, so that no token spans two, then given the pre-tokenizer and normaliser asked for."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    controls = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=controls + byte_tokens, show_progress=False,
                                  limit_alphabet=150)
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in controls]
    data["pre_tokenizer"], data["normalizer"] = pre, normalizer
    data["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for i, t in enumerate(controls)}}
    return data


def begin_template(token, token_id):
    return processors.TemplateProcessing(single=f"{token} $A", special_tokens=[(token, token_id)])


def with_whole_words(data: dict) -> dict:
    """Adds tokens that no merge makes: with ignore_merges they are taken whole all the same."""
    vocabulary = data["model"]["vocab"]
    for word in ("Ġtessera", "Hello", "Ġpages", "Ġ...", "ĊĊĊ", "Ġ\u00cd\u0142", "123"):
        vocabulary.setdefault(word, len(vocabulary))
    data["model"]["ignore_merges"] = True
    return data


def without_merges(data: dict) -> dict:
    return {**data, "model": {**data["model"], "ignore_merges": True, "merges": []}}


def string_merges(data: dict) -> dict:
    return {**data, "model": {**data["model"], "merges": [" ".join(m) for m in data["model"]["merges"]]}}


def make_tokenizers() -> dict:
    chat = special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    made = {}
    gpt2 = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), chat)
    made["gpt2"] = string_merges(json.loads(gpt2.to_str()))
    roberta = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), chat, size=500)
    made["prefix_space"] = json.loads(roberta.to_str())
    smollm = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)]), chat)
    made["smollm"] = json.loads(smollm.to_str())
    llama3 = byte_level(split_then_bytes(LLAMA3), special("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
                        post=processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                  begin_template("<|im_start|>", 1)]))
    made["llama3"] = with_whole_words(json.loads(llama3.to_str()))
    qwen2 = byte_level(split_then_bytes(QWEN2), chat, normalizer=normalizers.NFC())
    qwen2.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    made["qwen2"] = json.loads(qwen2.to_str())
    qwen35 = byte_level(split_then_bytes(QWEN35), chat, normalizer=normalizers.NFC(), size=500)
    made["qwen35"] = json.loads(qwen35.to_str())
    flags = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), chat, normalizer=normalizers.NFC(), size=500)
    flags.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, special=True, normalized=False),
                              AddedToken("<s>", lstrip=True, special=True, normalized=False)])
    flags.add_tokens([AddedToken("norm e\u0301", special=False, normalized=True),
                      AddedToken("</s>", rstrip=True, special=False, normalized=False),
                      AddedToken("</s></s>", special=False, normalized=False)])
    made["added_flags"] = json.loads(flags.to_str())
    made["no_merges"] = without_merges(made["gpt2"])
    prefix_and_mark = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    made["llama2"] = sentencepiece(None, prefix_and_mark)
    for scheme, split in (("first", False), ("always", True)):
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
        made[f"metaspace_{scheme}"] = sentencepiece(metaspace, None)
    return made


def record(strings, encode, decode=None) -> dict:
    """`encode(text, parse_special)`; `decode(ids)`."""
    result = {"parsed": [], "plain": {}, "ids": []}
    if decode:
        result["decoded"] = {}
    for i, entry in enumerate(strings):
        text = expand(entry)
        ids, plain = encode(text, True), encode(text, False)
        result["parsed"].append(digest(ids))
        if plain != ids:
            result["plain"][str(i)] = digest(plain)
        if len(result["ids"]) < SHOWN:
            result["ids"].append(ids if len(ids) <= 200 else None)
        if decode and (back := decode(plain)) != text:
            result["decoded"][str(i)] = digest(back.encode())
    return result


def from_tokenizers(data: dict, strings) -> dict:
    tokenizer = Tokenizer.from_str(json.dumps(data))

    def encode(text, parse):
        tokenizer.encode_special_tokens = not parse
        return tokenizer.encode(text, add_special_tokens=False).ids

    result = record(strings, encode, lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    tokenizer.encode_special_tokens = True
    result["surrounded"] = [tokenizer.encode(t, add_special_tokens=True).ids for t in ("", "Hello fox", "<s>")]
    return result


def gguf_metadata(data: dict, model: str, pre: str) -> dict:
    ids = dict(data["model"]["vocab"])
    controls = {t["content"]: t["special"] for t in data["added_tokens"]}
    ids.update({t["content"]: t["id"] for t in data["added_tokens"]})
    tokens = sorted(ids, key=ids.get)
    merges = [m.split(" ") if isinstance(m, str) else m for m in data["model"]["merges"]]
    made_by = {}
    for rank, (left, right) in enumerate(merges):
        made_by.setdefault(left + right, rank)

    def kind(token):
        if token in controls:
            return 3 if controls[token] else 4
        return 6 if model == "llama" and token.startswith("<0x") and len(token) == 6 else 1

    return {"model": model, "pre": pre, "tokens": tokens, "types": [kind(t) for t in tokens],
            "merges": [" ".join(m) for m in merges] if model == "gpt2" else [],
            "scores": [-float(made_by.get(t, len(merges))) for t in tokens] if model == "llama" else []}


def from_llama_cpp(metadata: dict, strings) -> dict:
    import gguf
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        for add in (writer.add_context_length, writer.add_embedding_length, writer.add_block_count,
                    writer.add_feed_forward_length, writer.add_head_count, writer.add_rope_dimension_count):
            add(32)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model(metadata["model"])
        if metadata["pre"]:
            writer.add_tokenizer_pre(metadata["pre"])
        writer.add_token_list(metadata["tokens"])
        writer.add_token_types(metadata["types"])
        if metadata["scores"]:
            writer.add_token_scores(metadata["scores"])
        if metadata["merges"]:
            writer.add_token_merges(metadata["merges"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return from_llama_cpp_file(path, strings)


def from_llama_cpp_file(path, strings) -> dict:
    from llama_cpp import Llama
    model = Llama(str(path), vocab_only=True, verbose=False)

    def encode(text, parse):
        return model.tokenize(text.encode(), add_bos=False, special=parse)

    result = record(strings, encode)
    result["surrounded"] = [model.tokenize(t.encode(), add_bos=True, special=False) for t in ("", "Hello fox", "<s>")]
    return result


def dump(path: Path, value, indent=None) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M-Instruct GGUF file; without it its entry is kept")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    strings = awkward_strings()
    head = {"magic": MAGIC, "version": VERSION}
    dump(args.out / "strings.json", {**head, "strings": strings})
    tokenizers = make_tokenizers()
    expected = {}
    for name, data in tokenizers.items():
        dump(args.out / f"{name}.json", data)
        expected[name] = from_tokenizers(data, strings)
    dump(args.out / "expected.json", {**head, "tokenizers": expected})
    gguf_path = args.out / "expected_gguf.json"
    expected_gguf = {}
    for name, source, model, pre in (("llama", "llama2", "llama", ""), ("gpt-2", "gpt2", "gpt2", "gpt-2"),
                                     ("smollm", "smollm", "gpt2", "smollm"), ("default", "gpt2", "gpt2", "default"),
                                     ("llama-bpe", "llama3", "gpt2", "llama-bpe"), ("qwen2", "qwen2", "gpt2", "qwen2")):
        metadata = gguf_metadata(tokenizers[source], model, pre)
        expected_gguf[name] = {"source": source, "model": model, "pre": pre, "scores": metadata["scores"],
                               **from_llama_cpp(metadata, strings)}
    if args.smollm2:
        expected_gguf["smollm2"] = from_llama_cpp_file(args.smollm2, strings)
    elif gguf_path.exists():
        kept = json.loads(gguf_path.read_text(encoding="utf-8"))["tokenizers"]
        expected_gguf["smollm2"] = kept["smollm2"]
    dump(gguf_path, {**head, "tokenizers": expected_gguf})


if __name__ == "__main__":
    main()
