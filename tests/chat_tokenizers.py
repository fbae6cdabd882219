"""The small tokenizer with a chat template, and with a token that it puts before every text, as the template does."""

from copy import deepcopy

from small_records import small_tokenizer
from tokenizers.processors import TemplateProcessing

# As ChatML: a system turn of its own, every turn ended by a token and a line end.
TURNS = """{{ bos_token }}{% for turn in messages %}{% if loop.first and turn.role != 'system' %}[system]
Be kind.{{ eos_token }}
{% endif %}[{{ turn.role }}]
{{ turn.content }}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}[assistant]
{% endif %}"""
# As Mistral's: no token before the answer, only a space, and no system turn.
INST = (
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'user' %}[INST] {{ turn.content }} [/INST]"
    "{% elif turn.role == 'assistant' %} {{ turn.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no system role') }}{% endif %}{% endfor %}"
)
# As those of models that think: the prompt ends with what an answer in the past has lost.
THINKS = "{% for turn in messages %}[{{ turn.content }}]{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"


def chat_tokenizer(template=TURNS):
    """Of the small tokenizer's vocabulary."""
    tokenizer = deepcopy(small_tokenizer())
    tokenizer.bos_token = tokenizer.pad_token
    first = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{first[0]} $A", special_tokens=[first])
    tokenizer.chat_template = template
    return tokenizer
