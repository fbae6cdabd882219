"""GGUF files, the form that models for llama.cpp come in: what they hold is checked, and dequantised by transformers.

transformers reads many families without an error, but not all of them rightly: Gemma 3 270M repeats one word, Llama
models get another's tokenizer, rotary positions are never scaled. So families are taken by name alone (`CHECKED`),
their tokenizers are built here, and every model must make sense of a text that is known by heart.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from .gguf_tokenizer import tokenizer_of
from .model_files import attention_for, first_line, fit_tokenizer

# As GGUF calls them. Small random models of each come back as they were written; of trained ones SmolLM2-135M-Instruct
# (llama) and Qwen2.5-Coder-0.5B-Instruct (qwen2) answer questions rightly.
CHECKED = ("llama", "qwen2", "qwen3")
REMEDY = "give the folder of the safetensors weights that it was made from"
# Article 1 and the beginning of article 2 of the Universal Declaration of Human Rights.
KNOWN_TEXT = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood. Everyone is entitled to all the rights and freedoms "
    "set forth in this Declaration, without distinction of any kind, such as race, colour, sex, language, religion, "
    "political or other opinion, national or social origin, property, birth or other status."
)


class GGUFFile:
    """A model in one GGUF file.

    Raises:
        ValueError: if it is damaged or cut short, of a family or with a setting that is not read rightly, or its
            tokenizer is not known.
    """

    def __init__(self, path: Path):
        self.path = path
        fields, shapes = self._read()
        family = fields.get("general.architecture")
        if family not in CHECKED:
            self._refuse(f"is of the family {family!r}; read are {', '.join(CHECKED)}; {REMEDY}")
        scaling = fields.get(f"{family}.rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in shapes:
            self._refuse(f"scales its rotary positions, which is not read; {REMEDY}")
        if fields.get(f"{family}.expert_count", 0):
            self._refuse(f"is a mixture of experts, which is not read; {REMEDY}")
        try:
            vocabulary = int(shapes["token_embd.weight"][1])
            self.tokenizer = fit_tokenizer(tokenizer_of(fields), path, vocabulary)
        except Exception as error:  # a vocabulary from anywhere brings about anything
            self._refuse(f"cannot be used: {first_line(error)}; {REMEDY}")

    def model(self) -> PreTrainedModel:
        """The causal language model, dequantised to float32, on the CPU, in eval mode.

        Raises:
            ValueError: if weights are missing, or it makes no sense of plain English.
        """
        where = dict(gguf_file=self.path.name, local_files_only=True)
        try:
            config = AutoConfig.from_pretrained(self.path.parent, **where)
            model, info = AutoModelForCausalLM.from_pretrained(
                self.path.parent, config=config, dtype=torch.float32, attn_implementation=attention_for(config),
                output_loading_info=True, **where,
            )  # fmt: skip
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            self._refuse(f"does not load: {first_line(error)}")
        if lacking := sorted(info["missing_keys"]):  # transformers would fill them with random numbers and go on
            self._refuse(f"lacks {lacking[0]}; several files of one model are put together by llama-gguf-split --merge")
        if quantizer := getattr(model, "hf_quantizer", None):  # newer transformers go on calling it quantised
            quantizer.remove_quantization_config(model)
        self._check_makes_sense(model.eval())
        return model

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Field -> value, and tensor -> shape, the other way round than torch has it."""
        from gguf import GGUFReader

        try:
            reader = GGUFReader(self.path)
            fields = {name: field.contents() for name, field in reader.fields.items()}
            return fields, {tensor.name: tensor.shape for tensor in reader.tensors}
        except OSError:
            raise
        except Exception as error:  # whatever stands where a number, a name or the weights should be
            self._refuse(f"is damaged or cut short: {first_line(error)}; copy it again")

    @torch.no_grad()
    def _check_makes_sense(self, model: PreTrainedModel) -> None:
        """Its perplexity on a known text must be below the square root of its vocabulary, which chance is far above."""
        ids = self.tokenizer(KNOWN_TEXT, return_tensors="pt").input_ids
        loss, most = model(input_ids=ids, labels=ids).loss.item(), math.log(model.config.vocab_size) / 2
        if not loss < most:  # nor NaN
            self._refuse(f"makes no sense of plain English (NLL {loss:.1f} per token, over {most:.1f}); {REMEDY}")

    def _refuse(self, what: str) -> None:
        raise ValueError(f"GGUF file {self.path} {what}") from None
