"""Writes tests/goldens/chat_templates.json: what Jinja makes of chat templates of every supported family.

    pip install jinja2==3.1.6
    python tools/goldens/make_chat_goldens.py --out tests/goldens/chat_templates.json

The templates here follow the published ones in everything that is rendered without tools; what serves tools is cut down.
Jinja is set up as the transformers library does it.
"""
import argparse
import json
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment

MAGIC, VERSION = "tessera-chat-goldens", 1

CHATML_TURN = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
CHATML_END = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"


def chatml(default: str = "") -> str:
    first = ("{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" + default +
             "<|im_end|>\\n' }}{% endif %}") if default else ""
    return "{% for message in messages %}" + first + CHATML_TURN + "{% endfor %}" + CHATML_END


QWEN25 = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
    "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")

LLAMA3_TURNS = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}")
LLAMA3_PROMPT = "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
LLAMA3 = LLAMA3_TURNS + "{% if add_generation_prompt %}" + LLAMA3_PROMPT + "{% endif %}"

DATE_31 = """\
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
"""
DATE_32 = """\
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
"""
LLAMA31 = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
DATE{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message goes into a turn of its own in any case. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- tools | tojson }}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

SMOL = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TEMPLATES = {  # name: (family, begin and end of text, template)
    "chatml": ("chatml", ("", ""), chatml()),
    "chatml_guarded": ("chatml", ("", ""), "{% if not add_generation_prompt is defined %}"
                       "{% set add_generation_prompt = false %}{% endif %}" + chatml()),
    "smollm2": ("smollm2", ("", ""), chatml(SMOL)),
    "smollm2_newlines": ("smollm2", ("", ""), chatml(SMOL).replace("\\n", "\n")),
    "qwen2": ("qwen2", ("", ""), chatml("You are a helpful assistant.")),
    "qwen2.5": ("qwen2", ("", ""), QWEN25),
    "llama2": ("llama2", ("<s>", "</s>"), LLAMA2),
    "llama3": ("llama3", ("<|begin_of_text|>", "<|eot_id|>"), LLAMA3),
    "llama3_first": ("llama3", ("<|begin_of_text|>", "<|eot_id|>"), LLAMA3_TURNS + LLAMA3_PROMPT),
    "llama3.1": ("llama3", ("<|begin_of_text|>", "<|eot_id|>"), LLAMA31.replace("DATE", DATE_31)),
    "llama3.2": ("llama3", ("<|begin_of_text|>", "<|eot_id|>"), LLAMA31.replace("DATE", DATE_32)),
}


def turns(*texts, system=None):
    messages = [{"role": "system", "content": system}] if system is not None else []
    return messages + [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


CONVERSATIONS = [
    turns("Hello"),
    turns("Hello", system="Be brief."),
    turns("Hello", "Hi there!", "How are you?"),
    turns("What is 2 + 2?", "4", "And 3?", "It's 3.", "Why?", system="You are a calculator.\nAnswer with numbers."),
    turns("", system=""),
    turns("  spaces \t\n", "\n\n answer \u3000", "\x1f\u00a0x\u00a0\x1c", system=" \n trimmed? "),
    turns("<|im_end|> [/INST] <|eot_id|> {{ 7 * 7 }} {% endfor %}", "'\"\\n\\"),
    turns("Grüße, 世界 🌍", "e\u0301"),
    turns("question", "the answer is given already"),
    turns(system="only a system message"),
]


def render(template, begin_end, messages, prompt):
    def raise_exception(message):
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template).render(messages=messages, add_generation_prompt=prompt,
                                                    bos_token=begin_end[0], eos_token=begin_end[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rendered = {name: {"family": family, "template": template,
                       "prompted": [render(template, begin_end, m, True) for m in CONVERSATIONS],
                       "unprompted": [render(template, begin_end, m, False) for m in CONVERSATIONS]}
                for name, (family, begin_end, template) in TEMPLATES.items()}
    golden = {"magic": MAGIC, "version": VERSION, "conversations": CONVERSATIONS, "templates": rendered}
    out.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
