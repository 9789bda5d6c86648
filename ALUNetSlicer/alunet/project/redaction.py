"""Take every mention of a case out of texts, JSON and folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from alunet.imaging.reading import KEPT_ENDINGS

_NAMES = ("case", "cases", "name", "tests")
"""Under these keys stand names of cases, or lists of them; "name" is that of an import."""
_BY_CASE = ("cases", "dataset")
"""Under these keys lies something by the names of cases."""
_ENDINGS = (*KEPT_ENDINGS, ".properties.json", ".pkl", ".b2nd", ".npz", ".npy", ".lock")
_SHORTEST = 8


class Redaction:
    """What is replaced by what.

    A name may be any word, such as "random" or "1", so that it is not replaced everywhere: of JSON
    only where names of cases are, in texts for people, and in paths.

    Args:
        name: of the case.
        neutral: what stands there afterwards.
        secrets: other texts that tell which case it was: paths, UIDs, hashes. They are replaced
            wherever they occur; texts below eight characters are left out.
        others: names of the other cases. Where one of them contains `name`, it stays.
    """

    def __init__(
        self, name: str, neutral: str, secrets: Iterable[str], others: Iterable[str]
    ) -> None:
        self.name, self.neutral, self._others = name, neutral, set(others) - {name}
        self.secrets = sorted({text for text in secrets if len(text) >= _SHORTEST}, key=len)[::-1]
        longer = sorted((own for own in self._others if name in own), key=len)[::-1]
        kept = "|".join(re.escape(own) for own in longer) or r"(?!)"
        word = rf"(?<![\w-]){re.escape(name)}(?=(?:_\d{{4}}|_seg)?(?![\w-]))"
        self._pattern = re.compile(rf"(?P<kept>{kept})|{word}")

    def text(self, text: str) -> str:
        """Return a text for people without the name and the secrets."""
        found = self._without_secrets(text)
        return self._pattern.sub(lambda match: match["kept"] or self.neutral, found)

    def document(self, text: str) -> str:
        """Return JSON without the name and the secrets; what is no JSON, as a text."""
        try:
            content = json.loads(text)
        except ValueError:
            return self.text(text)
        redacted = self._value(content, "")
        return text if redacted == content else json.dumps(redacted, ensure_ascii=False, indent=1)

    def owns(self, file: str) -> bool:
        """Return whether a file is the case's by its name."""
        rest = file[len(self.name) :] if file.startswith(self.name) else ""
        beside = rest.startswith("_seg") and f"{self.name}_seg" not in self._others
        return (rest.removeprefix("_seg") if beside else rest) in _ENDINGS

    def _without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            for form in (secret, json.dumps(secret)[1:-1]):
                text = text.replace(form, self.neutral)
        return text

    def _value(self, value: Any, key: str) -> Any:
        if isinstance(value, str):
            if key in _NAMES and value == self.name:
                return self.neutral
            return (
                self.text(value) if re.search(r"[\s/\\]", value) else self._without_secrets(value)
            )
        if isinstance(value, list):
            return [self._value(item, key) for item in value]
        if isinstance(value, dict):
            return {
                self._without_secrets(own): self._value(item, own)
                for own, item in value.items()
                if not (key in _BY_CASE and own == self.name)
            }
        return value
