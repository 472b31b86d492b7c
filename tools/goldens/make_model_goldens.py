"""Makes the tiny checkpoints and the reference logits of tests/model.

    python3 tools/goldens/make_model_goldens.py                          # tests/goldens/models
    python3 tools/goldens/make_model_goldens.py --smollm2 FILE.gguf      # and the figures of SmolLM2-135M-Instruct

Needs torch, transformers >= 5, tokenizers, safetensors, gguf and llama-cpp-python. Everything follows from fixed seeds:
running it again changes nothing unless one of those libraries computes differently.

What it writes into tests/goldens/models:
  NAME/                 Hugging Face directories: config, generation_config, tokenizer, safetensors
  NAME.gguf             the same in GGUF, in several tensor types
  cases.json            for each case: path, tokens, which reference, versions
  logits.safetensors    "CASE/transformers" [40, vocabulary]: transformers in double precision on the stored (dequantised)
                        weights; "CASE/llama.cpp" [10, vocabulary]: llama.cpp, the last 10 positions, f32 KV cache
  smollm2.json          with --smollm2
"""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

FORMAT_VERSION = 1
TOKENS = 40
LLAMA_CPP_POSITIONS = 10
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = (
    "t h|th e|Ġ the|i n|e r|a n|o n|r e|Ġ a|Ġ t|an d|Ġ and|in g|o r|e n|a t|i t|o u|i s|e d|a l|a r|Ġ w|Ġ s|e s|l e|"
    "s t|o m|Ġ o"
).split("|")


def byte_characters():
    """The printable character that byte-level BPE writes for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in kept:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return [table[byte] for byte in range(256)]


VOCABULARY = SPECIALS + byte_characters() + [merge.replace(" ", "") for merge in MERGES]
BOS, EOS, END_OF_TEXT = 1, 2, 0


def write_tokenizer(directory):
    tokenizer = Tokenizer(
        models.BPE({text: i for i, text in enumerate(VOCABULARY)}, [tuple(merge.split(" ")) for merge in MERGES])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[BOS],
        "eos_token": SPECIALS[EOS],
        "add_bos_token": False,
        "chat_template": CHATML,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def tiny(config_class, **changes):
    values = dict(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    return config_class(**{**values, **changes})


def random_model(config, dtype, seed):
    """Weights large enough that attention is far from uniform, as `dtype` stores them; the model itself is f32."""
    cls = LlamaForCausalLM if isinstance(config, LlamaConfig) else Qwen2ForCausalLM
    model = cls(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                value = 1 + 0.2 * noise
            elif name.endswith("bias"):
                value = 0.3 * noise
            elif "embed_tokens" in name:
                value = noise
            else:
                value = 1.5 * noise / parameter.shape[1] ** 0.5
            parameter.copy_(value.to(dtype).float())
    model.tie_weights()
    return model


def random_tokens(seed):
    return [int(token) for token in np.random.default_rng(seed).integers(0, len(VOCABULARY), TOKENS)]


def transformers_logits(model, tokens):
    with torch.no_grad():
        return model.double()(torch.tensor([tokens])).logits[0].float().numpy()


def llama_cpp_model(path):
    return llama_cpp.Llama(
        str(path), n_ctx=256, n_batch=256, logits_all=True, n_threads=2, verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, flash_attn=False,
    )


def llama_cpp_logits(path, tokens):
    model = llama_cpp_model(path)
    model.eval(tokens)
    return np.array(model.scores[: len(tokens)], dtype=np.float32)


# Hugging Face directories


def legacy_rope(config):
    """The fields that transformers wrote until version 4."""
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = {"type": parameters.pop("rope_type"), **parameters}
    return config


def write_huggingface(directory, model, dtype, legacy=False, shard="1GB"):
    """Leaves the model useless: its rotary frequencies are rounded to `dtype` too."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    model.to(dtype).save_pretrained(directory, max_shard_size=shard)
    config = json.loads((directory / "config.json").read_text())
    if legacy:
        config = legacy_rope(config)
    config.pop("transformers_version", None)
    (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    generation = {"bos_token_id": BOS, "eos_token_id": [EOS, END_OF_TEXT]}
    (directory / "generation_config.json").write_text(json.dumps(generation) + "\n")
    write_tokenizer(directory)


def huggingface_models():
    llama3 = dict(
        rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32,
    )
    linear = dict(rope_type="linear", rope_theta=5000.0, factor=4.0)
    plain = dict(rope_type="default", rope_theta=10000.0)
    qwen = dict(rope_type="default", rope_theta=1000000.0)
    return {
        "llama-tied": dict(config=tiny(LlamaConfig, tie_word_embeddings=True, rope_parameters=plain), dtype=torch.float32),
        "llama-llama3-rope": dict(config=tiny(LlamaConfig, head_dim=16, rope_parameters=llama3), dtype=torch.bfloat16),
        "llama-linear-rope": dict(
            config=tiny(LlamaConfig, num_key_value_heads=4, rope_parameters=linear), dtype=torch.float16, legacy=True),
        "llama-biases-sharded": dict(
            config=tiny(LlamaConfig, attention_bias=True, mlp_bias=True, num_key_value_heads=1, rope_parameters=plain),
            dtype=torch.bfloat16, shard="20KB"),
        "qwen2": dict(config=tiny(Qwen2Config, tie_word_embeddings=True, rope_parameters=qwen), dtype=torch.float16),
    }


# GGUF


def permute(weight, heads):
    """As the GGUF converter does for Llama: rows of half-split pairs become rows of interleaved pairs."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def unpermute(weight, heads):
    rows = weight.shape[0]
    return weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


GGUF_STEMS = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    stem, suffix = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        layer, stem = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{layer}.{GGUF_STEMS[stem]}.{suffix}"
    return f"{GGUF_STEMS[stem]}.{suffix}"


def heads_of(name, config):
    if config.model_type != "llama":
        return None
    return {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])


def write_gguf_header(writer, config, rope):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(VOCABULARY) - len(SPECIALS)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def llama3_divisors(rope, head_dim):
    """The rope_freqs tensor of the converter: by how much each frequency of Llama 3.1 is divided."""
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - kept) / rope["factor"] + kept)).astype(np.float32)


def write_gguf(path, model, quantisation, rope):
    """Writes the model and puts the weights as stored (dequantised) back into it."""
    config = model.config
    writer = gguf.GGUFWriter(str(path), config.model_type)
    write_gguf_header(writer, config, rope)
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, config.head_dim))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            stored_name = gguf_name(name)
            heads = heads_of(stored_name, config)
            values = parameter.numpy()
            if heads is not None:
                values = permute(values, heads)
            kind = quantisation if values.ndim == 2 else gguf.GGMLQuantizationType.F32
            stored = gguf.quants.quantize(np.ascontiguousarray(values), kind)
            writer.add_tensor(stored_name, stored, raw_dtype=kind)
            values = gguf.quants.dequantize(stored, kind)
            parameter.copy_(torch.from_numpy(unpermute(values, heads) if heads is not None else values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_models():
    types = gguf.GGMLQuantizationType
    models_of = huggingface_models()
    cases = {}
    for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]:
        cases[f"llama-{kind.lower()}"] = dict(config=models_of["llama-tied"]["config"], kind=types[kind])
    cases["llama-rope-freqs"] = dict(config=models_of["llama-llama3-rope"]["config"], kind=types.Q8_0)
    cases["llama-linear-rope"] = dict(config=models_of["llama-linear-rope"]["config"], kind=types.Q4_1)
    cases["qwen2-f32"] = dict(config=models_of["qwen2"]["config"], kind=types.F32)
    cases["qwen2-q8_0"] = dict(config=models_of["qwen2"]["config"], kind=types.Q8_0)
    return cases


# SmolLM2


def smollm2_transformers(path, tokens):
    """Last-position logits of transformers in f32 on the dequantised tensors of the GGUF."""
    reader = gguf.GGUFReader(str(path))
    fields = {name: field.contents() for name, field in reader.fields.items() if name.startswith("llama.")}
    config = LlamaConfig(
        vocab_size=fields["llama.vocab_size"], hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"], num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"], tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=fields["llama.rope.freq_base"]),
    )
    model = LlamaForCausalLM(config).float().eval()
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = tensors[gguf_name(name)]
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            heads = heads_of(tensor.name, config)
            parameter.copy_(torch.tensor(unpermute(values, heads) if heads is not None else values))
        return model(torch.tensor([tokens])).logits[0, -1].numpy()


def write_smollm2(path, folder):
    prompt = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nName the capital of France and say one sentence about its river.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    model = llama_cpp_model(path)
    tokens = model.tokenize(prompt.encode(), add_bos=False, special=True)
    model.eval(tokens)
    scores = np.array(model.scores[len(tokens) - 1], dtype=np.float64)
    greedy = []
    for _ in range(32):
        token = int(np.argmax(model.scores[model.n_tokens - 1]))
        greedy.append(token)
        model.eval([token])
    reference = smollm2_transformers(path, tokens)
    sample = list(range(0, len(reference), 64))
    top = [int(token) for token in np.argsort(-scores)[:20]]
    content = {
        "version": FORMAT_VERSION,
        "versions": versions(),
        "prompt": prompt,
        "tokens": tokens,
        "llama_cpp": {"greedy": greedy, "top_tokens": top, "top_logits": [float(scores[token]) for token in top]},
        "transformers": {"sample_tokens": sample, "sample_logits": [float(reference[token]) for token in sample],
                         "top_tokens": [int(token) for token in np.argsort(-reference)[:20]]},
        "sample_of_llama_cpp": [float(scores[token]) for token in sample],
    }
    (folder / "smollm2.json").write_text(json.dumps(content) + "\n")
    print("smollm2: greedy:", model.detokenize(greedy).decode())


def versions():
    return {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
            "llama-cpp-python": llama_cpp.__version__, "gguf": "0.19"}


def relative_error(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[2] / "tests/goldens/models")
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments = parser.parse_args()
    folder = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    cases, logits = [], {}

    for seed, (name, spec) in enumerate(huggingface_models().items()):
        model = random_model(spec["config"], spec["dtype"], seed)
        write_huggingface(folder / name, model, spec["dtype"], spec.get("legacy", False), spec.get("shard", "1GB"))
        tokens = random_tokens(100 + seed)
        stored = type(model).from_pretrained(folder / name, dtype=torch.float32)
        logits[f"{name}/transformers"] = transformers_logits(stored, tokens)
        cases.append({"name": name, "path": name, "tokens": tokens})

    for seed, (name, spec) in enumerate(gguf_models().items()):
        name = "gguf-" + name
        path = folder / f"{name}.gguf"
        model = random_model(spec["config"], torch.float32, 50 + seed)
        write_gguf(path, model, spec["kind"], spec["config"].rope_parameters)
        tokens = random_tokens(150 + seed)
        logits[f"{name}/transformers"] = transformers_logits(model, tokens)
        found = llama_cpp_logits(path, tokens)
        print(f"{name}: llama.cpp against transformers: {relative_error(found, logits[f'{name}/transformers']):.2e}")
        logits[f"{name}/llama.cpp"] = found[-LLAMA_CPP_POSITIONS:]
        cases.append({"name": name, "path": path.name, "tokens": tokens})

    save_file(logits, folder / "logits.safetensors", metadata={"version": str(FORMAT_VERSION)})
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    (folder / "cases.json").write_text(
        json.dumps({"version": FORMAT_VERSION, "versions": versions(), "cases": cases}, indent=1) + "\n")
    if arguments.smollm2:
        write_smollm2(arguments.smollm2, folder)


if __name__ == "__main__":
    main()
