"""The harness's model class on tokenizers that have no token to begin or end a text with."""

from __future__ import annotations

from typing import Any

from lm_eval.models.huggingface import HFLM


class BareTokensLM(HFLM):
    """`HFLM`, which needs such a token only where a context is empty."""

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context.

        Raises:
            ValueError: if the tokenizer has none to begin or end a text with, and none was given.
        """
        if not self._has_prefix:
            raise ValueError("the tokenizer has no token that begins or ends a text; give prefix_token_id=N")
        return super().prefix_token_id

    @property
    def _has_prefix(self) -> bool:
        known = (self.custom_prefix_token_id, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        return any(token is not None for token in known)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **options
    ) -> list[int]:
        """Token ids of a text, at most the last `left_truncate_len`; without a token that could begin it, as it is."""
        if self._has_prefix:
            return super().tok_encode(string, add_special_tokens, left_truncate_len, **options)
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, **special)[-left_truncate_len if left_truncate_len else None :]

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str | None:
        """Text of token ids; None for the end of a text where the tokenizer has none."""
        return None if tokens is None else super().tok_decode(tokens, skip_special_tokens)
