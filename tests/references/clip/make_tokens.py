"""Make the reference of CLIP's tokens with open_clip.

In an environment of its own: pip install open_clip_torch==3.3.0 ftfy==6.3.1. Then, from the repository's root:
python -m tests.references.clip.make_tokens
"""

import json
from itertools import cycle, islice
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "tokens.json"
ODD = (
    "",
    "Dog",
    "a photo of a cat, a type of pet.",
    "dog's don't we'll I've they're I'm he'd 'tis!!'s",
    "!!'s ...'t ''ll",
    "naïve café",
    "naive cafe\u0301",
    "東京 日本語 北京",
    "Москва ночью",
    "عربي हिन्दी ไทย",
    "½ ² Ⅷ 12345 3.14",
    "\U0001f600\U0001f600 \U0001f44d\U0001f3fd ok",
    "tab\tand\nline  end ",
    "A_B c-d e/f (g) [h]",
    "\u2019s \u201cquoted\u201d \u2018it\u2019s\u2019",
    "<|endoftext|> <b>",
    "x" * 40,
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "\u00a0nbsp\u2003em",
    "$5.00 #tag @me 50% & more",
    "ß ÄÖÜ Ça Ñandú",
    "http://example.com/a?b=c",
)
ADJECTIVES = ("red", "wooden", "joyful", "Striped", "enormous", "translucent", "19th-century", "half-eaten", "blurry")
NOUNS = (
    "spider",
    "skyscraper",
    "jack-o'-lantern",
    "microscope",
    "Eiffel Tower",
    "zebra crossing",
    "teapots",
    "sadness",
)
FORMS = ("{1} and {0}", "{0} {1}", "a photo of a {0} {1}", "{1}, {0}", "the {1}'s {0} edge")


def texts() -> list[str]:
    """Two hundred: odd ones, and plain ones in some forms."""
    each = zip(cycle(ADJECTIVES), cycle(NOUNS), cycle(FORMS), strict=False)
    return [*ODD, *(form.format(adjective, noun) for adjective, noun, form in islice(each, 200 - len(ODD)))]


class Noting(dict[Any, Any]):
    """The ranks of pairs, which notes those that are asked for and are there."""

    def __init__(self, pairs: dict[Any, int]):
        super().__init__(pairs)
        self.asked: set[Any] = set()

    def get(self, pair: Any, default: Any = None) -> Any:
        if pair in self:
            self.asked.add(pair)
        return super().get(pair, default)


def main() -> None:
    from open_clip import tokenizer

    theirs = tokenizer.SimpleTokenizer()
    theirs.bpe_ranks = ranks = Noting(theirs.bpe_ranks)
    tokens = {text: [theirs.sot_token_id, *theirs.encode(text), theirs.eot_token_id] for text in texts()}
    merges = {" ".join(pair): ranks[pair] for pair in sorted(ranks.asked, key=ranks.__getitem__)}
    FILE.write_text(json.dumps({"merges": merges, "tokens": tokens}, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
